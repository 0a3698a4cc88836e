"""Changes a log as somebody does who has a SQLite shell."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
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


def put_endless_view(path: Path, table: str) -> None:
    """In the place of a table, as somebody does who wants no check to come to an end: SQLite looks for a first row."""
    with closing(opened(path)) as conn:
        columns = [row[1] for row in conn.execute(f"PRAGMA table_info({table})")]
        numbers = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
        values = ", ".join(f"x AS {column}" for column in columns) or "x"
        conn.execute(f"DROP TABLE IF EXISTS {table}")
        conn.execute(f"CREATE VIEW {table.upper()} AS {numbers} SELECT {values} FROM c WHERE x < 0")


def forged_envelopes(genuine: str) -> list[str]:
    """Envelopes that say nothing, in forms that nobody writes; the last has one letter changed, and the same bytes."""
    said = json.loads(genuine)
    (signature,) = said["signatures"]
    last = signature["sig"][-3]
    assert signature["sig"].endswith("==")
    assert last in "AQgw"  # the last four bits of that letter stand for nothing
    other = {**signature, "sig": f"{signature['sig'][:-3]}{chr(ord(last) + 1)}=="}
    changed: list[dict[str, object]] = [
        {"signatures": {"a": 1}},
        {"payload": 5},
        {"signatures": [{**signature, "sig": 5}]},
    ]
    return [
        "[]",
        "null",
        "[" * 100_000,
        "{}",
        *(json.dumps({**said, **change}) for change in changed),
        genuine.replace('{"', '{"payload": "e30=", "', 1),  # readers differ on which of the two counts
        json.dumps({**said, "signatures": [other]}),
    ]
