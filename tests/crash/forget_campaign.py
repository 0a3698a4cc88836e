"""Kill a process that forgets tasks at each system call that changes a file, and check what is left.

PYTHONPATH=tests/support python tests/crash/forget_campaign.py --most 1000 --seed 7 [--calls fsync,…] [--part 2/8]

The child forgets most of the tasks of a folder. After the kill the log has to verify, and has either all of the tasks
or none of them. The next start has to clean up: nothing of a forgotten task in any file, log and views sound, and every
other task as it was. Everything acknowledged is done.
"""

import sys
from contextlib import closing
from pathlib import Path

from call_by_call import CANARY, Begin, Campaign, complete_tasks, main

from tasktrail import TaskFilters, TaskService
from tasktrail.config.settings import Config
from tasktrail.events.errors import TaskForgotten
from tasktrail.events.log import sqlite
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections.verification import verify

GONE, KEPT = 12, 3
CONFIG = Config(workers=1, handlers=("sample_handlers",), snapshot_every=20)


def prepare(data: Path) -> None:
    """Complete tasks that have printed something, with snapshots and views."""
    with TaskService.open(data, config=CONFIG) as service:
        complete_tasks(service, [*GONE * [0], *KEPT * [7]])
    (data / "output" / "1").mkdir(parents=True, exist_ok=True)
    (data / "output" / "1" / "1.0").write_text(CANARY)


def forget(data: Path, begin: Begin) -> None:
    """Do the child's work."""
    sqlite._CHECKPOINT_PAGES = 40  # or nearly all of its calls would only make room in the write-ahead log
    with TaskService.open(data, config=CONFIG, own_only=True) as service:
        begin()
        assert service.forget(0, user_id=0).tasks == GONE
        print("forgotten", flush=True)


def check(data: Path, said: str) -> str:
    """Return whether it was forgotten, in words, after a kill and the start after it. Raises AssertionError."""
    with closing(SqliteLogReader(data / "log.db")) as log:
        found = verify(log)
        assert not found.findings, found.findings
        gone = bool(log.drops())
        positions = [record.position for record in log.read()]
    assert positions == list(range(1, found.position + 1))
    assert bool(found.stubs) == gone
    assert gone or not said, "what was acknowledged is lost"
    with TaskService.open(data, config=CONFIG, own_only=True) as service:
        if gone:
            assert service._system.cleared.wait(1, 60), "nothing was cleared up"
        assert service.verify().findings == ()
        tasks, total = service.list_tasks(TaskFilters(user_id=7))
        assert (total, {task.label for task in tasks}) == (KEPT, {"kept"})
        assert service.list_tasks(TaskFilters(user_id=0))[1] == (0 if gone else GONE)
        for task_id in range(1, GONE + 1):
            try:
                assert service.get_task(task_id).label == CANARY
            except TaskForgotten:
                assert gone
        if not gone:
            assert service.forget(0, user_id=0).tasks == GONE
        assert service.create_task(type="noop", held=True) > GONE + KEPT
    left = [path.name for path in data.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert not left, left
    return "forgotten" if gone else "all there"


if __name__ == "__main__":
    sys.exit(main(Campaign(prepare, forget, check), __doc__))
