"""A checksum with every row of views.db: what a failing disk has changed is noticed when it is read, and not served.

A task's row carries two, computed where it is written: one over what is written once, one over what changes. Most other
tables have theirs set by triggers, so a connection that writes to the file needs `row_sum` as a function of SQL.
"""

import sqlite3
from binascii import crc32
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from ..errors import ViewsDamaged

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
}
"""Tables with one checksum a row, in their last column, that a trigger sets; and what tells the rows apart."""
WRITTEN = ("versions", "zones", "tallies", "shares", "texts")
"""Tables whose rows are written with such a checksum: there are very many of them."""
SPEC = ("id", "type", "user_id", "document_id", "parent_task_id", "label", "batch", "spec")
STATE = ("id", "status", "priority", "queue_key", "updated_at", "changed", "state")
"""What the two checksums of a task cover."""
OF_TASKS = f"spec_sum IS NOT row_sum({', '.join(SPEC)}) OR state_sum IS NOT row_sum({', '.join(STATE)})"
"""True of a task's row that is damaged."""


def row_sum(*values: Any) -> int:
    """The checksum of a row's values, in the order of its columns."""
    return crc32(_PACK(values))


def with_sums(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The rows, each with its checksum behind it."""
    return ((*row, crc32(_PACK(row))) for row in rows)


def teach(conn: sqlite3.Connection) -> sqlite3.Connection:
    """Give a connection the function."""
    conn.create_function("row_sum", -1, row_sum, deterministic=True)
    return conn


def create_triggers(conn: sqlite3.Connection) -> None:
    """Have every row of the tables in `KEYS` carry its checksum.

    `verify` compares the text with that in the file: whoever changes it raises `FOLD`.
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
    """The rows of a table, without their checksum. Raises `ViewsDamaged` when one does not fit.

    It says nothing of the row: that may be personal, and what is damaged is logged.
    """
    for row in rows:
        if row_sum(*row[:-1]) != row[-1]:
            raise ViewsDamaged("A row has changed since it was written")
        yield row[:-1]


def is_damage(error: sqlite3.Error) -> bool:
    """Whether what stands in the file is at fault; also text that is no UTF-8, which has no name of its own."""
    name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")
    told = ("no such table", "no such column", "no such index", "malformed", "user-defined function raised")
    return name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")) or str(error).startswith(told)
