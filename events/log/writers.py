"""The versions that have written a log, and whether one of them knew more than this one.

A service says in its first record which forms it may write (`events/forms.py`). It names only those that came after
`first_forms.json`, whose forms every version knows.
"""

import sqlite3
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..forms import Forms, known_forms, lacking
from .archives import Archives

_FIRST = Path(__file__).with_name("first_forms.json")
_NEWEST_START = """
    SELECT position, data FROM events
    WHERE task_id = 0 AND event = 'service_started' ORDER BY version DESC LIMIT 1
"""
_MOST_NAMED = 10


class Writer(NamedTuple):
    """A service that has written a log from `position` on."""

    position: int
    version: str
    schema: str
    """The fingerprint of its forms; empty for a version that did not record one."""
    lacks: tuple[str, ...] = ()
    """In words, what it may have recorded and this version cannot read."""

    @property
    def fault(self) -> str:
        """Why this version must not go on with its log; empty when it may."""
        if not self.lacks:
            return ""
        more = f" and {len(self.lacks) - _MOST_NAMED} more" if self.lacks[_MOST_NAMED:] else ""
        what = f"{', '.join(self.lacks[:_MOST_NAMED])}{more}"
        return f"tasktrail {self.version} has worked on this log, and may record what this version lacks: {what}"


class _Start(msgspec.Struct):
    """The fields read from a service's first record, whatever a later version has added to it."""

    version: str = ""
    schema: str = ""
    forms: Forms = {}


_DECODER = msgspec.json.Decoder(_Start)


def added_forms() -> Forms:
    """The forms of this version that the first one did not have."""
    first = _first_forms()
    added = {
        tag: {path: form for path, form in fields.items() if first.get(tag, {}).get(path) != form}
        for tag, fields in known_forms().items()
    }
    return {tag: fields for tag, fields in added.items() if fields or tag not in first}


@cache
def _first_forms() -> Forms:
    return msgspec.json.decode(_FIRST.read_bytes(), type=Forms)


def writer_of(position: int, data: str) -> Writer | None:
    """The writer that the stored payload of a `service_started` names; None if the payload is damaged."""
    try:
        start = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return Writer(position, start.version, start.schema, tuple(lacking(start.forms, known_forms())))


def newest_writer(conn: sqlite3.Connection) -> Writer | None:
    """The service that started last; None if there is none. Raises `sqlite3.Error`."""
    row = conn.execute(_NEWEST_START).fetchone()
    if row is None:
        row = next(((row[0], row[13]) for row in Archives(conn).of_kind_backwards("service_started")), None)
    return writer_of(*row) if row else None
