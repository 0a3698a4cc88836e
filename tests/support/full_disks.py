"""What a first start leaves behind that finds no room for a log."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tasktrail.events.log.migrations import apply


def leave_unbegun(log: Path, size: str) -> None:
    """A file with `no byte`; or a database with `no table` in it, or with a list of migrations that has `no entry`."""
    log.touch()
    if size == "no byte":
        return
    with closing(sqlite3.connect(log, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        if size == "no entry":
            apply(conn, 0)
