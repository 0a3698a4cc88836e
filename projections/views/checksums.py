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
    """The rows of a table in `KEYS`, without their checksum. Raises `ViewsDamaged` when one does not fit."""
    for row in rows:
        if row_sum(*row[:-1]) != row[-1]:
            raise ViewsDamaged(f"A row has changed since it was written: {row[:2]}")
        yield row[:-1]


def is_damage(error: sqlite3.Error) -> bool:
    """Whether what stands in the file is at fault; also text that is no UTF-8, which has no name of its own."""
    name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")
    told = ("no such table", "no such column", "no such index", "malformed", "user-defined function raised")
    return name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")) or str(error).startswith(told)


_TASKS = f"SELECT {', '.join((*SPEC, *STATE))}, spec_sum, state_sum FROM tasks"  # noqa: S608 - our own names
"""Summed up here: Ctrl-C in a function that SQLite calls would look like damage."""

_MISCOUNTED = """
    SELECT type, status FROM (
        SELECT type, status, count(*) AS number FROM tasks GROUP BY type, status
        UNION ALL SELECT type, status, -number FROM counts
    ) GROUP BY type, status HAVING sum(number) != 0 LIMIT 1
"""
"""In one statement, as the writer may go on between two."""


_UNTOLD = """
    SELECT id FROM tasks WHERE status != 'running' AND NOT EXISTS (SELECT 1 FROM versions WHERE since = tasks.changed)
    LIMIT 1
"""


def find_damage(conn: sqlite3.Connection) -> str:
    """What is wrong with the file, by SQLite's own check, the checksums and the kept numbers; empty: nothing.

    It reads everything. What a word of the text index became is found only by `verify`. Raises `sqlite3.Error` when
    the file cannot be read just now.
    """
    try:
        wrong = conn.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if wrong != "ok":
            return str(wrong)
        for table in (*KEYS, *WRITTEN):
            for _row in sound(conn.execute(f"SELECT * FROM {table}")):  # noqa: S608 - our own names
                pass
        for *values, of_spec, of_state in conn.execute(_TASKS):
            if row_sum(*values[: len(SPEC)]) != of_spec or row_sum(*values[len(SPEC) :]) != of_state:
                return f"task {values[0]} has changed since it was written"
        untold = conn.execute(_UNTOLD).fetchone()
        if untold is not None:
            return f"where task {untold[0]} stands is not told of the past"
        miscounted = conn.execute(_MISCOUNTED).fetchone()
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return str(error)
    except (ViewsDamaged, UnicodeError) as error:
        return str(error)
    return "" if miscounted is None else "the number of tasks is not what was kept"
