"""Axis S: a start with a million tasks waiting, from the snapshot and by folding the whole log."""

import atexit
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from harness import Goal, Table
from storage import fill, started

from tasktrail.actors.snapshots import take_snapshots
from tasktrail.events.log.sqlite import LogReader

_EVERY = 10**9
"""Records until the next snapshot: none is taken while it is measured."""


def tables(*, quick: bool) -> Iterator[Table]:
    """Seconds from exec until ready, and bytes of memory for each task that waits."""
    number = 2_000 if quick else 1_000_000
    start = Table("S1", f"Process start until ready, {number:,} waiting tasks", "s")
    start.add("from the snapshot", lambda: started(_folder(number), snapshot_every=_EVERY)[0], Goal(at_most=10))
    start.add("by the whole log", lambda: started(_folder(number))[0])
    yield start
    memory = Table("S2", f"Resident memory of a waiting task, {number:,} of them", "bytes")
    memory.add("from the snapshot", lambda: _memory(number))
    yield memory


def _memory(number: int) -> float:
    """What a service with so many tasks has more than one with a single task."""
    full = started(_folder(number), snapshot_every=_EVERY)[1]
    return (full - started(_folder(1), snapshot_every=_EVERY)[1]) / number


@cache
def _folder(number: int) -> Path:
    """A data folder with so many waiting tasks, its views brought up, its snapshots taken."""
    folder = Path(mkdtemp(prefix="tasktrail-bench-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    fill(folder / "log.db", number, ended=False)
    started(folder)
    log = LogReader(folder / "log.db")
    take_snapshots(log, folder / "snapshots")
    log.close()
    return folder
