"""Finds damage in a views.db by reading all of it."""

import sqlite3

import msgspec

from ..errors import ViewsDamaged
from .batches import number_in_batches
from .checksums import KEYS, SPEC, STATE, WRITTEN, is_damage, row_sum, sound
from .shares import lost_share

_TASKS = f"SELECT {', '.join((*SPEC, *STATE))}, spec_sum, state_sum FROM tasks"  # noqa: S608 - our own names
"""The checksums are computed in Python: Ctrl-C in a function that SQLite calls would look like damage."""

_MISCOUNTED = """
    SELECT type, status FROM (
        SELECT type, status, count(*) AS number FROM tasks GROUP BY type, status
        UNION ALL SELECT type, status, -number FROM counts
    ) GROUP BY type, status HAVING sum(number) != 0 LIMIT 1
"""
"""In one statement, because the writer may commit between two."""


_OF_BATCHES = "SELECT status, count(*) FROM tasks WHERE batch > '' GROUP BY status"
_WITHOUT_VERSION = """
    SELECT id FROM tasks WHERE status != 'running' AND NOT EXISTS (SELECT 1 FROM versions WHERE since = tasks.changed)
    LIMIT 1
"""


def find_damage(conn: sqlite3.Connection) -> str:
    """The damage of the file in words, by SQLite's own check, the checksums and the kept numbers; empty: none.

    It reads everything. Only `verify` finds an altered word of the text index. Raises `sqlite3.Error` if the file
    cannot be read at the moment.
    """
    try:
        wrong = conn.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if wrong != "ok":
            return str(wrong)
        if conn.execute("SELECT 1 FROM progress").fetchone() is None:
            return "it does not say how far it has come"
        for table in (*KEYS, *WRITTEN):
            try:
                for _row in sound(conn.execute(f"SELECT * FROM {table}")):  # noqa: S608 - our own names
                    pass
            except ViewsDamaged:
                return f"a row of {table} has changed since it was written"
        for *values, of_spec, of_state in conn.execute(_TASKS):
            if row_sum(*values[: len(SPEC)]) != of_spec or row_sum(*values[len(SPEC) :]) != of_state:
                return f"task {values[0]} has changed since it was written"
        without_version = conn.execute(_WITHOUT_VERSION).fetchone()
        if without_version is not None:
            return f"task {without_version[0]} has no row in `versions`"
        miscounted = conn.execute(_MISCOUNTED).fetchone()
        lost = _lost(conn)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return str(error)
    except (ViewsDamaged, UnicodeError) as error:
        return str(error)
    return lost if miscounted is None else "the number of tasks is not what was kept"


def _lost(conn: sqlite3.Connection) -> str:
    begins = not conn.in_transaction
    if begins:
        conn.execute("BEGIN")
    try:
        if number_in_batches(conn) != dict(conn.execute(_OF_BATCHES)):
            return "the number of tasks in batches is not what was kept"
        return lost_share(conn)
    except (LookupError, ValueError, msgspec.DecodeError):  # its checksum matches, so it was altered on purpose
        return "a row of the numbers of groups cannot be read"
    finally:
        if begins:
            conn.execute("COMMIT")
