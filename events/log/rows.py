"""Events ↔ rows of the table `events`: the only file that knows the stored form.

The payload is JSON, so that an auditor can read it with any SQLite tool; the tag has its own column. New fields have
defaults; any other change of an event's form makes a new event (CONTRIBUTING.md). The hash chain covers the columns in
the order of `COLUMNS`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from ..errors import LogCorrupt, LogTooNew
from ..recorded import EVENT_TAGS, Event, Fact, Recorded, timestamp
from ..task_events import is_terminal
from .personal import BEGINS, erased

_CLASSES: dict[str, type[Any]] = {tag: cls for cls, tag in EVENT_TAGS.items()}
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {tag: msgspec.json.Decoder(cls) for tag, cls in _CLASSES.items()}
_NEWER_OR_CHANGED = (
    f"{LogTooNew.remedy} If no newer version has worked on the log, the record was changed: run `tasktrail verify`."
)
_ENCODER = msgspec.json.Encoder(order="deterministic")


def encode(event: Event) -> tuple[str, str]:
    """The event's tag and its JSON, as they are stored."""
    return EVENT_TAGS[type(event)], _ENCODER.encode(event).decode()


def decode(tag: str, data: str | bytes, position: int = 0) -> Event:
    """The event back. Raises `LogTooNew` for an unknown tag or field, `LogCorrupt` for bytes that do not fit.

    An unknown field may mean anything: an event that is read without it would be another event.
    """
    decoder = _DECODERS.get(tag)
    if decoder is None:
        reason = f"Position {position} holds an event `{tag}` that this version does not know"
        raise LogTooNew(reason, remedy=_NEWER_OR_CHANGED)
    try:
        event: Event = decoder.decode(data)
    except msgspec.ValidationError as error:
        if "unknown field" in str(error):
            reason = f"Position {position} holds a `{tag}` of a form that this version does not know: {error}"
            raise LogTooNew(reason, remedy=_NEWER_OR_CHANGED) from error
        raise LogCorrupt(f"Position {position} holds a `{tag}` that cannot be read: {error}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError, TypeError) as error:  # TypeError: it is a number
        raise LogCorrupt(f"Position {position} holds a `{tag}` that cannot be read: {error}") from error
    return event


COLUMNS = (
    "position",
    "task_id",
    "version",
    "event",
    "recorded_at",
    "actor",
    "reason",
    "command_id",
    "correlation_id",
    "causation_id",
    "attempt",
    "life",
    "terminal",
    "data",
)

_COUNTED = {"position", "task_id", "version", "attempt", "life", "terminal"}
_USUAL_LENGTHS = {"recorded_at": 27, "attempt": 1, "life": 1, "terminal": 1}


def _covered() -> str:
    form, values = "", []
    for column in COLUMNS:
        usual = _USUAL_LENGTHS.get(column)
        form += f"{usual or '%d'}:{'%d' if column in _COUNTED else '%s'}"
        if usual is None:
            values.append(f"length({column if column in _COUNTED else f'CAST({column} AS BLOB)'})")
        values.append(column)
    return f"printf('{form}', {', '.join(values)})"


COVERED = _covered()
"""The text, in SQL, that the chain covers for most records. It saves most of the work of `chain.link`.

It is wrong for records with a NUL in a text, or a value of an unusual length: computing each length would cost time.
"""

Decrypt: TypeAlias = Callable[[Any], Any]
"""A stored row → the row as it was before anything in it was encrypted."""
StoredRow: TypeAlias = tuple[int, int, int, str, str, str, str, str, str, str, int, int, int, str]


def to_row(fact: Fact, position: int) -> StoredRow:
    """The stored values of a fact at a position, hash excluded."""
    tag, data = encode(fact.event)
    return (
        position,
        fact.task_id,
        fact.version,
        tag,
        timestamp(fact.recorded_at),
        fact.actor,
        fact.reason,
        fact.command_id,
        fact.correlation_id,
        fact.causation_id,
        fact.attempt,
        fact.life,
        1 if is_terminal(fact.event) else 0,
        data,
    )


def from_row(row: StoredRow, digest: bytes, decrypt: Decrypt | None = None) -> Recorded:
    """The record that a row holds. Without `decrypt`, fixed values take the place of encrypted data."""
    if isinstance(row[13], str) and row[13].startswith(BEGINS):  # one bit of a damaged file may change the type
        row = erased(row) if decrypt is None else decrypt(row)
    position, task_id, version, tag, at, actor, reason, command, correlation, causation, attempt, life, _, data = row
    event, time = decode(tag, data, position), moment(at, position)
    return Recorded(
        task_id, version, event, time, actor, reason, command, correlation, causation, attempt, life, position, digest
    )


def moment(recorded_at: str, position: int) -> datetime:
    """The time of a record. Raises `LogCorrupt` if the text is not a time."""
    try:
        return datetime.fromisoformat(recorded_at)
    except (TypeError, ValueError) as error:
        raise LogCorrupt(f"Position {position} has no readable time: {recorded_at!r}") from error
