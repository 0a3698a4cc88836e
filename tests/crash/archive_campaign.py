"""Kill a process that archives the log at each system call that changes a file, and check what is left.

PYTHONPATH=tests/support python tests/crash/archive_campaign.py --most 1000 --seed 7 [--calls fsync,…] [--part 2/8]

The child archives what it can, and then forgets tasks with archived records. After the kill the log has to verify, with
every earlier record, each once; everything acknowledged is in it. The next start has to finish what was begun: no
archived row is left in the table, no file that no record names, and nothing in any file of what was forgotten. Then the
rest is archived and forgotten.
"""

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from call_by_call import CANARY, WITHIN, Begin, Campaign, complete_tasks, main, records_of

from tasktrail import TaskService
from tasktrail.actors.archiver import Archiver
from tasktrail.config.settings import Config
from tasktrail.events import Recorded
from tasktrail.events.log import sqlite
from tasktrail.events.log.archive_file import ArchiveFile
from tasktrail.events.log.archives import folder_of
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.recorded import Stub

GONE = 6
SIZE = 16
CONFIG = Config(workers=1, handlers=("sample_handlers",), snapshot_every=20)


def prepare(data: Path) -> None:
    """Complete tasks: those of no user, which are to be forgotten, between those of a user."""
    with TaskService.open(data, config=CONFIG) as service:
        complete_tasks(service, GONE * (0, 7))


def archive(data: Path, begin: Begin) -> None:
    """Do the child's work."""
    Archiver.size = SIZE
    sqlite._CHECKPOINT_PAGES = 40  # or nearly all of its calls would only make room in the write-ahead log
    with TaskService.open(data, config=CONFIG, own_only=True) as service:
        begin()
        assert service.archive().archives > 1
        print("archived", flush=True)
        assert service.forget(0, user_id=0).tasks == GONE
        print("forgotten", flush=True)


def check(data: Path, said: str) -> str:
    """Return how far it had come, in words, after a kill and the start after it. Raises AssertionError."""
    Archiver.size = SIZE
    before, records = records_of(data.parent / "origin"), records_of(data)
    until, forgotten = _archived_until(data), any(record.name == "tasks_forgotten" for record in records)
    _same(before, records, dropped=forgotten)
    assert until >= SIZE * 2 or "archived" not in said, "what was acknowledged is lost"
    assert forgotten or "forgotten" not in said, "what was acknowledged is lost"
    with TaskService.open(data, config=CONFIG, own_only=True) as service:
        if forgotten:
            assert service._system.cleared.wait(1, WITHIN), "nothing was cleared up"
        service.archive(1)  # it finishes what was begun, and archives nothing more
        with closing(SqliteLogReader(data / "log.db")) as log:
            (first,) = log._conn.execute("SELECT min(position) FROM events").fetchone()
        assert first == until + 1
        assert _files(data) == _named(data)
        assert service.verify().findings == ()
        assert service.archive().until >= until
        assert service.forget(0, user_id=0).tasks == (0 if forgotten else GONE)
        assert service.verify().findings == ()
        assert service.rebuild().differences == ()
        assert {task.label for task in service.list_tasks()[0]} == {"kept"}
        _same(before, list(service.log()), dropped=True)
    assert _files(data) == _named(data)
    left = [path.name for path in data.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert not left, left
    assert not any(CANARY in row[13] for row in _archived(data))
    return "forgotten" if forgotten else "archived" if until >= SIZE * 2 else "in part" if until else "nothing archived"


def _same(before: list[Recorded], after: list[Recorded], *, dropped: bool) -> None:
    """Check that everything is still there, except for stubs in place of what was forgotten."""
    stubs = 0
    for one, other in zip(before, after, strict=False):
        assert one.hash == other.hash
        stubs += isinstance(other.event, Stub)
        assert one == other or isinstance(other.event, Stub)
    assert len(after) >= len(before)
    assert bool(stubs) == dropped
    kept = {record.task_id for record in before if record.task_id and "kept" in str(record.event)}
    assert not any(isinstance(record.event, Stub) and record.task_id in kept for record in after)


def _archived_until(data: Path) -> int:
    with closing(SqliteLogReader(data / "log.db")) as log:
        return max((segment.last for segment in log.segments()), default=0)


def _files(data: Path) -> set[str]:
    folder = folder_of(data / "log.db")
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def _named(data: Path) -> set[str]:
    with closing(SqliteLogReader(data / "log.db")) as log:
        return {segment.name for segment in log.segments()}


def _archived(data: Path) -> list[tuple[Any, ...]]:
    with closing(SqliteLogReader(data / "log.db")) as log:
        files = [ArchiveFile(folder_of(data / "log.db") / one.name, one.first, one.last) for one in log.segments()]
    return [row for file in files for row in file.rows()]


if __name__ == "__main__":
    sys.exit(main(Campaign(prepare, archive, check), __doc__))
