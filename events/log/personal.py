"""The personal data in a record, and the stored form of a record in which that is encrypted.

Such a record has the personal parts of its event, its actor and its reason in one text at the beginning of its payload,
`{"personal":"KEY:…",…`. Everything else stays readable. Without the key the same event is read, with fixed values in
place of the personal ones: all folds of it agree, and each value has the right type.
"""

from typing import Any

import msgspec

from ..errors import LogCorrupt
from ..recorded import SERVICE_ACTORS
from ..task_events import ERASED

BEGINS = '{"personal":"'
KEY_LENGTH = 16
"""Characters of a key's name."""
_BOX_AT = len(BEGINS) + KEY_LENGTH + 1
_HIDDEN = "[personal]"
"""Stands in the columns of actor and reason if there is one."""

_CREATED: dict[str, Any] = {
    "input_file": ERASED,
    "output_file": ERASED,
    "output_real": "",
    "options": {},
    "dependency_names": {},
    "notify_email": "",
    "notify_webhook": "",
    "callback_url": "",
    "notify_targets": (),
    "user_id": 0,
    "document_id": 0,
    "label": "",
    "original_folder": "",
    "batch": "",
    "unique": "",
    "estimate_basis": {},
    "traceparent": "",
}
PERSONAL: dict[str, dict[str, Any]] = {
    "created": _CREATED,
    "progressed": {"message": ERASED},
    "checkpointed": {"checkpoint": {}, "message": ERASED},
    "failed": {"error": ERASED, "input_read": None, "estimate.basis": {}},
    "retried": {"estimate.basis": {}},
    "completed": {
        "result": {},
        "message": ERASED,
        "input_read": None,
        "estimate.basis": {},
        "output_sha256": "",
    },
    "deduplicated": {"name": ""},
    "delivery_attempted": {"target": ERASED, "detail": ""},
    "delivery_postponed": {"target": ERASED},
    "redelivery_requested": {"target": ERASED},
    "schedule_added": {f"task.{field}": value for field, value in _CREATED.items()},
    "source_added": {"inputs": (), "to": ERASED, "task": {}},
}
"""Tag of an event → its personal fields, each with the value that replaces it. A dot leads into a part of the event."""


class PersonalFields(msgspec.Struct, frozen=True, omit_defaults=True):
    """The personal data of one record."""

    fields: dict[str, msgspec.Raw] = {}
    actor: str = ""
    reason: str = ""


_ENCODER = msgspec.json.Encoder(order="deterministic")
_SECRETS = msgspec.json.Decoder(PersonalFields)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])

_Row = tuple[Any, ...]
_TAG, _ACTOR, _REASON, _DATA = 3, 5, 6, 13


def divided(row: _Row) -> tuple[_Row, bytes]:
    """The row without its personal data, and that data, encoded."""
    tag, actor, reason, data = row[_TAG], row[_ACTOR], row[_REASON], row[_DATA]
    rest, taken = _FIELDS.decode(data), {}
    for path in PERSONAL.get(tag, ()):
        part, _, field = path.rpartition(".")
        if not part:
            if field in rest:
                taken[path] = rest.pop(field)
        elif part in rest and rest[part] != b"null":
            inside = _FIELDS.decode(rest[part])
            if field in inside:
                taken[path] = inside.pop(field)
                rest[part] = msgspec.Raw(_ENCODER.encode(inside))
    keeps = actor in SERVICE_ACTORS or actor.startswith("schedule:")
    secret = PersonalFields(taken, "" if keeps else actor, reason)
    bare = list(row)
    bare[_ACTOR] = actor if keeps or not actor else _HIDDEN
    bare[_REASON] = _HIDDEN if reason else ""
    bare[_DATA] = _ENCODER.encode(rest).decode()
    return tuple(bare), _ENCODER.encode(secret)


def stored(bare: _Row, key: str, box: str) -> _Row:
    """The row as it is stored: without personal data, with the name of its key and the encrypted text."""
    data: str = bare[_DATA]
    return (*bare[:_DATA], f'{BEGINS}{key}:{box}"{"" if data == "{}" else ","}{data[1:]}')


def is_lost(row: _Row) -> bool:
    """Whether the key was gone already when the record was stored, so that its personal data could never be read."""
    data: str = row[_DATA]
    return data.startswith(BEGINS) and data.startswith('"', _BOX_AT)


def box_of(row: _Row) -> tuple[str, str]:
    """The name of the key of a row in the stored form, and the encrypted text."""
    data: str = row[_DATA]
    return data[len(BEGINS) : _BOX_AT - 1], data[_BOX_AT : data.index('"', _BOX_AT)]


def bound_to(row: _Row) -> bytes:
    """The identity of the record to which the encrypted text is bound: it cannot be moved to another one."""
    return b"%d %d %d %b" % (row[0], row[1], row[2], row[_TAG].encode())


def readable_row(row: _Row, secret: bytes | None) -> _Row:
    """The row as it was before encryption; without the secret, with fixed values instead.

    Raises `msgspec.MsgspecError` and `ValueError` for a row that is not of this form.
    """
    rest = _FIELDS.decode(row[_DATA])
    del rest["personal"]
    if secret is not None:
        found = _SECRETS.decode(secret)
        fields, actor, reason = found.fields, found.actor, found.reason
    else:
        fields = {path: msgspec.Raw(_ENCODER.encode(value)) for path, value in PERSONAL.get(row[_TAG], {}).items()}
        actor = reason = ERASED
    inside: dict[str, dict[str, msgspec.Raw]] = {}
    for path, value in fields.items():
        part, _, field = path.rpartition(".")
        if not part:
            rest[field] = value
        elif part in rest and rest[part] != b"null":
            inside.setdefault(part, _FIELDS.decode(rest[part]))[field] = value
    rest |= {part: msgspec.Raw(_ENCODER.encode(values)) for part, values in inside.items()}
    back = list(row)
    back[_ACTOR] = actor if row[_ACTOR] == _HIDDEN else row[_ACTOR]
    back[_REASON] = reason if row[_REASON] == _HIDDEN else ""
    back[_DATA] = _ENCODER.encode(rest).decode()
    return tuple(back)


def erased(row: _Row) -> _Row:
    """The row with fixed values in place of encrypted data. Raises `LogCorrupt`."""
    try:
        return readable_row(row, None)
    except (msgspec.MsgspecError, ValueError, KeyError) as error:
        raise LogCorrupt(f"Position {row[0]} holds personal data of a form that cannot be read: {error!r}") from error
