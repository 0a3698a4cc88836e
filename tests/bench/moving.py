"""Move a log of N tasks from its file into PostgreSQL and back: hashes, answers and views must be equal at each end.

PYTHONPATH=tests/support python tests/bench/moving.py --tasks 1000000

Prints how long each step took. Every tenth task has run to its end; the others wait. It exits with 1 if anything
differs.
"""

import argparse
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

from harness import scratch
from postgresql_server import new_database
from storage import NOW, created

from tasktrail.backups.migration import migrate
from tasktrail.events import Completed, Fact, Started
from tasktrail.events.log.address import NAME
from tasktrail.events.log.event_log import Answer
from tasktrail.events.log.opening import read_log
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.projections import rebuild_views

T = TypeVar("T")
_AT_ONCE = 1000
_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
"""Text indexes are virtual; tables beside them hold their content."""


class Content(NamedTuple):
    """The content of a log and of its views."""

    records: int
    head: str
    hashes: str
    """SHA-256 of position, task, version and hash of all records."""
    answers: str
    """SHA-256 of the answers to commands."""
    views: str
    """SHA-256 of all rows of all tables of the views."""


def timed(what: str, function: Callable[[], T]) -> T:
    """Do it, and print how long it took."""
    begun = time.perf_counter()
    found = function()
    print(f"{what:<58} {time.perf_counter() - begun:8.1f} s", flush=True)
    return found


def fill(path: Path, tasks: int) -> int:
    """Write a log of that many tasks; return its last position."""
    position = 0
    with closing(SqliteEventLog(path, now=NOW)) as log:
        for start in range(0, tasks, _AT_ONCE):
            facts = [created(task_id) for task_id in range(start + 1, min(start + _AT_ONCE, tasks) + 1)]
            answers = [Answer(one.command_id, b"", one.task_id, at) for at, one in enumerate(facts, position + 1)]
            ids = [fact.task_id for fact in facts[::10]]
            facts += [Fact(one, 2, Started(effective_priority=5.0), NOW, attempt=1, life=1) for one in ids]
            facts += [Fact(one, 3, Completed(result={"n": 1}), NOW, attempt=1, life=1) for one in ids]
            log.append(facts, answers, expected=position)
            position += len(facts)
    return position


def content(place: Path, scratch_folder: Path) -> Content:
    """Read all of a log, and build views of it."""
    hashes, answers = sha256(), sha256()
    with closing(read_log(place)) as log:
        head = log.head()
        for row in log.hashes():
            hashes.update(repr(row).encode())
        for answer in sorted(log.answered()):
            answers.update(repr(answer).encode())
        views = scratch_folder / "views.db"
        rebuild_views(log, views)
    found = Content(head.position, head.hash.hex(), hashes.hexdigest(), answers.hexdigest(), _rows(views))
    for file in scratch_folder.glob("views.db*"):
        file.unlink()
    return found


def _rows(views: Path) -> str:
    digest = sha256()
    with closing(sqlite3.connect(views)) as conn:
        for (table,) in conn.execute(_TABLES).fetchall():
            rows = conn.execute(f'SELECT * FROM "{table}"')
            while page := rows.fetchmany(5000):
                digest.update(repr((table, page)).encode())
    return digest.hexdigest()


def quiet(_reached: int, _goal: int) -> None:
    """Report no progress."""


def main(tasks: int) -> int:
    """Move it both ways. Returns the exit code."""
    with scratch() as folder, new_database() as where:
        data, back, views = folder / "data", folder / "back", folder / "views"
        for one in (data, views):
            one.mkdir()
        records = timed(f"a log of {tasks:,} tasks", lambda: fill(data / "log.db", tasks))
        print(f"{records:,} records, {(data / 'log.db').stat().st_size / 2**20:,.0f} MiB", flush=True)
        first = timed("all of it read, and views built", lambda: content(data / "log.db", views))
        timed("moved into PostgreSQL, with all checks", lambda: migrate(data, where, progress=quiet))
        there = timed("all of it read there, and views built", lambda: content(data / NAME, views))
        timed("moved back into a file, with all checks", lambda: migrate(where, back, progress=quiet))
        again = timed("all of it read, and views built", lambda: content(back / "log.db", views))
    differ = [
        f"{name} differ {where_}: {one} and {other}"
        for where_, found in (("on PostgreSQL", there), ("after the way back", again))
        for name, one, other in zip(Content._fields, first, found, strict=True)
        if one != other
    ]
    print("\n".join(differ) or f"equal at each end: {first.records:,} records, head {first.head[:16]}…")
    return 1 if differ else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, default=1_000_000)
    sys.exit(main(parser.parse_args().tasks))
