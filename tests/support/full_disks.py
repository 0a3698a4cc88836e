"""The files that a first start leaves when it finds no room for a log."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tasktrail.events.log.migrations import apply


def leave_unbegun(log: Path, size: str) -> None:
    """Leave a file with `no byte`, or a database with `no table`, or one whose list of migrations has `no entry`."""
    log.touch()
    if size == "no byte":
        return
    with closing(sqlite3.connect(log, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        if size == "no entry":
            apply(conn, 0)
