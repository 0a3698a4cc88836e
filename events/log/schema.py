"""The schema of log.db. The migrations that make it are in a module of their own, imported only when needed."""

import sqlite3
from collections.abc import Collection
from functools import cache
from hashlib import sha256
from typing import Any, TypeAlias

import msgspec

from .chain import checksum

IS_ADJUSTMENT = "event = 'adjusted'"
ADJUSTED_TASK = "CASE WHEN json_valid(data) THEN json_extract(data, '$.task_id') END"
"""SQLite uses the index only if a query has exactly this text."""

SET = "tasktrail.log"
APPLIED = 'SELECT "id", "migration_set", "name", "applied_at" FROM "_sqlite_migrations" ORDER BY "id"'

TABLES = ("_sqlite_migrations", "answers", "archived_kinds", "archived_tasks", "archives", "epochs", "events")

Objects: TypeAlias = dict[tuple[str, str], tuple[str, str | None]]
"""(type, name) → (table, statement) of everything in a schema."""

NAMES = ("create_log", "find_adjustments", "sum_rows", "drop_records", "archive_records", "find_in_archives")
"""All migrations, in order."""


_SUMMED = NAMES.index("sum_rows") + 1


def sums_rows(applied: int) -> bool:
    """Whether a log after `applied` migrations has sums in the rows outside the chain."""
    return applied >= _SUMMED


def epoch_sum(row: tuple[Any, ...], applied: list[tuple[Any, ...]]) -> bytes:
    """The sum of an epoch's row. It also covers the list of migrations, as it was when the epoch was taken."""
    return checksum((*row, *(value for migration in applied for value in migration)))


_NEWEST = "6cf0592a807e8c4ff0df3805c88536595f4b351cab5f7be542105857945ea3fc"
"""The hash of the schema that all migrations make, so that a start with nothing to migrate need not run them."""


def is_newest(schema_objects: Objects) -> bool:
    """Whether a schema is exactly the one that all migrations make."""
    if not all(isinstance(part, str) for key in schema_objects for part in key):  # damage may make bytes of a name
        return False
    return sha256(msgspec.json.encode(sorted(schema_objects.items()))).hexdigest() == _NEWEST


def migrate(conn: sqlite3.Connection) -> None:
    """Bring the schema of a log, or of an empty file, up to date."""
    if not is_newest(objects(conn)):
        from .migrations import apply  # noqa: PLC0415 - its import takes as long as half of the others

        apply(conn)


@cache
def expected(number: int) -> Objects:
    """The schema of a log after the first `number` migrations."""
    from .migrations import made_by  # noqa: PLC0415 - as above

    return made_by(number)


def objects(conn: sqlite3.Connection) -> Objects:
    """The schema of a database."""
    rows = conn.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    return {(kind, name): (table, statement) for kind, name, table, statement in rows}


def refuse_masked(conn: sqlite3.Connection, tables: Collection[str]) -> None:
    """Raise `sqlite3.OperationalError` if a view has the name of one of these tables: reading it may never end."""
    if name := masked_in(objects(conn), tables):
        error = sqlite3.OperationalError(f"no such table: {name}, a view has its name")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_ERROR, "SQLITE_ERROR"  # as SQLite's own
        raise error


def masked_in(schema_objects: Objects, tables: Collection[str]) -> str:
    """The first of these tables whose name a view has; empty: there is none. SQLite ignores the case of names."""
    return min((name.lower() for kind, name in schema_objects if kind == "view" and name.lower() in tables), default="")
