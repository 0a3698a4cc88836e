"""Kills at random moments under a stream of attempts: each has one end, and nothing is left."""

import os
import random
import signal
from pathlib import Path

import pytest
from inline_executor import Reports

from tasktrail.actors.workers.local_executor import LocalExecutor
from tasktrail.actors.workers.slot import SlotRules
from tasktrail.actors.workers.worker_process import wait_for_orphans
from tasktrail.events.reports import AttemptEnded, Run, Stop

SUPPORT = Path(__file__).parent.parent / "support"
TYPES = ("noop", "hog", "patient", "parent", "leave")


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_attempt_ends_once_whoever_is_killed(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    lock = tmp_path / "workers.lock"
    executor = LocalExecutor(
        slots=2,
        homes={name: f"sample_handlers:{name}" for name in TYPES},
        lock_path=lock,
        pythonpath=[str(SUPPORT)],
        rules=SlotRules(backoff=0.001, backoff_max=0.01, recycle_after=5, recycle_age=0.0),
    )
    reports = Reports(executor)
    reports.capacity(2)

    running: list[int] = []
    for task_id in range(1, 61):
        options = {"shape": dice.choice(["plain", "session", "grandchild", "daemon"])}
        executor.do([Run(task_id, 1, dice.choice(TYPES), "", "", options, None, str(tmp_path), grace=0.02)])
        reports.until(lambda report, n=task_id: getattr(report, "task_id", 0) == n)  # type: ignore[misc] # a default
        running.append(task_id)
        if dice.random() < 0.7:
            kill_one_of(dice, lock)
        while len(running) > 1:
            executor.do([Stop(running[0], 1)])
            reports.end(running.pop(0))
    executor.do([Stop(running[0], 1)])

    for task_id in range(1, 61):
        reports.end(task_id)
    executor.close(10.0)
    ends = sorted(report.task_id for report in reports.all if isinstance(report, AttemptEnded))
    assert ends == list(range(1, 61))
    assert wait_for_orphans(lock, 0.0)


def kill_one_of(dice: random.Random, lock: Path) -> None:
    """Send SIGKILL to any reaper, worker or child of this executor."""
    mark = f"TASKTRAIL_WORKER={lock.stat().st_dev:x}-{lock.stat().st_ino:x}:".encode()
    marked = []
    for entry in Path("/proc").glob("[1-9]*"):
        try:
            if mark in (entry / "environ").read_bytes():
                marked.append(int(entry.name))
        except OSError:
            continue
    if marked:
        try:
            os.kill(dice.choice(marked), signal.SIGKILL)
        except ProcessLookupError:
            return
