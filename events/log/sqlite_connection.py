"""Connections to SQLite files, and above all those that cannot write."""

import os
import sqlite3
import sys
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from ..existence import exists
from .files import refuse_non_files
from .schema import APPLIED, refuse_masked

_PAGES_UNBEGUN = 3  # the schema, the list of migrations and its index


def connect_read_only(path: Path, probe: str, tables: Collection[str] = ()) -> tuple[sqlite3.Connection, bool]:
    """A connection that cannot write, on which `probe` succeeded; and whether it is frozen.

    A full disk or a read-only folder has no room for the index file that SQLite makes beside a database in WAL mode.
    If there is no write-ahead log, nobody writes and the file alone is complete. Then it is read as it is, frozen,
    until `is_written`. `tables`: the tables to be read, none of which may be a view. Raises `sqlite3.Error`.
    """
    refuse_non_files(path)
    try:
        return _connect_read_only(path, "mode=ro", probe, tables), False
    except sqlite3.OperationalError:
        if not exists(path) or is_written(path):
            raise
        return _connect_read_only(path, "mode=ro&immutable=1", probe, tables), True


def is_begun(path: Path) -> bool:
    """Whether a log was begun in that file; an unreadable file counts as begun.

    A first start on a full disk leaves an empty file, a database without tables, or one with only an empty list of
    migrations. A file with more pages had tables once.
    """
    if not exists(path) or not path.stat().st_size:
        return False
    try:
        with closing(connect_read_only(path, "SELECT 1 FROM sqlite_schema LIMIT 1")[0]) as conn:
            tables = {name for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if tables - {"_sqlite_migrations"} or conn.execute("PRAGMA page_count").fetchone()[0] > _PAGES_UNBEGUN:
                return True
            return bool(tables and conn.execute(APPLIED).fetchone())
    except (sqlite3.Error, UnicodeDecodeError):
        return True


def is_written(path: Path) -> bool:
    """Whether a database in WAL mode is open, or was left with a write-ahead log."""
    return os.path.exists(f"{path}-wal")  # noqa: PTH110 - asked before every look at a frozen file


def _connect_read_only(path: Path, how: str, probe: str, tables: Collection[str]) -> sqlite3.Connection:
    # Used by one thread at a time, but maybe closed by another when the first is gone.
    address = f"{path.absolute().as_uri()}?{how}"
    conn = with_stable_plans(sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False))
    try:
        refuse_masked(conn, tables)
        conn.execute(probe).fetchall()
    except BaseException:
        conn.close()
        raise
    return conn


def with_stable_plans(conn: sqlite3.Connection) -> sqlite3.Connection:
    """Make SQLite plan a statement without the values of its parameters, so that it compiles the statement only once.

    SQLite 3.53, unlike 3.46, looks at the number after LIMIT and compiles the statement anew for each. Before Python
    3.12 this cannot be prevented.
    """
    if sys.version_info >= (3, 12):
        conn.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_QPSG)
    return conn
