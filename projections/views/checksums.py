"""A checksum in every row of views.db, so that a row altered by a failing disk is noticed when it is read.

A task's row has two, computed when it is written: one over its fixed columns, one over its changing columns. In most
other tables triggers set the checksum, so a connection that writes to the file needs `row_sum` as a function of SQL.
"""

import sqlite3
from binascii import crc32
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from ..errors import ViewsDamaged
from .words import has_words

_PACK = msgspec.msgpack.Encoder().encode

KEYS: dict[str, tuple[str, ...]] = {
    "progress": ("one",),
    "counts": ("type", "status"),
    "totals": ("type",),
    "durations": ("type", "bucket"),
    "ends": ("minute", "status"),
    "minutes": ("minute",),
    "batches": ("batch", "user_id"),
    "notices": ("task_id", "version", "channel", "target"),
    "notes": ("task_id", "position"),
    "dependants": ("depends_on", "task_id"),
    "disabled": ("target",),
    "forgotten": ("first",),
    "missing_keys": ("key",),
}
"""Tables whose last column is a checksum that a trigger sets → the key of their rows."""
WRITTEN = ("versions", "zones", "tallies", "shares", "texts")
"""Tables whose rows are inserted with their checksum, without a trigger: they have very many rows."""
SPEC = ("id", "type", "user_id", "document_id", "parent_task_id", "label", "batch", "spec")
STATE = ("id", "status", "priority", "queue_key", "updated_at", "changed", "state")
"""The columns that the two checksums of a task cover."""
OF_TASKS = f"spec_sum IS NOT row_sum({', '.join(SPEC)}) OR state_sum IS NOT row_sum({', '.join(STATE)})"
"""The condition that is true for a damaged row of a task."""


def row_sum(*values: Any) -> int:
    """The checksum of a row's values, in the order of its columns."""
    return crc32(_PACK(values))


def with_sums(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The rows, each with its checksum appended."""
    return ((*row, crc32(_PACK(row))) for row in rows)


def teach(conn: sqlite3.Connection) -> sqlite3.Connection:
    """Define the functions `row_sum` and `has_words` on a connection, and return the connection."""
    conn.create_function("row_sum", -1, row_sum, deterministic=True)
    conn.create_function("has_words", 3, has_words, deterministic=True)
    return conn


def create_triggers(conn: sqlite3.Connection) -> None:
    """Make the triggers that set the checksums in the tables of `KEYS`.

    `verify` compares their text with that in the file, so a change of the text requires raising `FOLD`.
    """
    for table, key in KEYS.items():
        columns = [row[1] for row in conn.execute(f"PRAGMA table_info({table})")]
        values = ", ".join(f"NEW.{column}" for column in columns[:-1])
        where = " AND ".join(f"{column} = NEW.{column}" for column in key)
        for name, event in (("added", "INSERT"), ("changed", f"UPDATE OF {', '.join(columns[:-1])}")):
            conn.execute(
                f"CREATE TRIGGER {table}_{name} AFTER {event} ON {table}"  # noqa: S608 - our own names
                f" BEGIN UPDATE {table} SET checksum = row_sum({values}) WHERE {where}; END"
            )


def sound(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The rows of a table, without their checksum. Raises `ViewsDamaged` if a checksum does not match.

    The error does not show the row, because it is logged and the row may be personal.
    """
    for row in rows:
        if row_sum(*row[:-1]) != row[-1]:
            raise ViewsDamaged("A row has changed since it was written")
        yield row[:-1]


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the error is due to the file's content; also for invalid UTF-8, for which SQLite has no error name.

    A short read shows that a file was cut, or that its write-ahead log was deleted.
    """
    name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")
    messages = ("no such table", "no such column", "no such index", "malformed", "user-defined function raised")
    damage = ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_IOERR_SHORT_READ")
    return name.startswith(damage) or str(error).startswith(messages)
