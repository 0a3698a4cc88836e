"""Changes a log as somebody does who has a SQLite shell."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def opened(path: Path) -> sqlite3.Connection:
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA synchronous = OFF")  # tests need not survive a power cut
    return conn


@contextmanager
def forging(path: Path) -> Iterator[sqlite3.Connection]:
    """What somebody with a SQLite shell does who knows about the triggers, and covers his traces."""
    conn = opened(path)
    kept = conn.execute("SELECT type, name, sql FROM sqlite_schema WHERE type IN ('trigger', 'index')").fetchall()
    try:
        for kind, name, _ in kept:
            if kind == "trigger":
                conn.execute(f"DROP TRIGGER {name}")
        yield conn
        for _, name, made_by in kept:
            if not conn.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)).fetchone():
                with suppress(sqlite3.Error):  # an index cannot be put back over what breaks its promise
                    conn.execute(made_by)
    finally:
        conn.close()
