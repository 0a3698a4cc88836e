"""Changes a log as somebody with a SQLite shell does."""

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
    """Within the context, change a log as an attacker who knows about the triggers and covers the traces."""
    conn = opened(path)
    kept = conn.execute("SELECT type, name, sql FROM sqlite_schema WHERE type IN ('trigger', 'index')").fetchall()
    try:
        for kind, name, _ in kept:
            if kind == "trigger":
                conn.execute(f"DROP TRIGGER {name}")
        yield conn
        for _, name, made_by in kept:
            if not conn.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)).fetchone():
                with suppress(sqlite3.Error):  # an index cannot be restored over rows that violate it
                    conn.execute(made_by)
    finally:
        conn.close()


def put_endless_view(path: Path, table: str) -> None:
    """Replace a table by an endless view, so that no check ends: SQLite looks for a first row."""
    with closing(opened(path)) as conn:
        columns = [row[1] for row in conn.execute(f"PRAGMA table_info({table})")]
        numbers = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
        values = ", ".join(f"x AS {column}" for column in columns) or "x"
        conn.execute(f"DROP TABLE IF EXISTS {table}")
        conn.execute(f"CREATE VIEW {table.upper()} AS {numbers} SELECT {values} FROM c WHERE x < 0")


def forged_envelopes(genuine: str) -> list[str]:
    """Return envelopes without content, in unusual forms; the last has one letter changed, and the same bytes."""
    said = json.loads(genuine)
    (signature,) = said["signatures"]
    last = signature["sig"][-3]
    assert signature["sig"].endswith("==")
    assert last in "AQgw"  # the last four bits of that letter have no meaning
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
