"""Executors on real processes, and checks of which processes still exist."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from inline_executor import Reports

from tasktrail.actors.workers.local_executor import LocalExecutor
from tasktrail.actors.workers.slot import SlotRules
from tasktrail.events.reports import AttemptProgressed, Run

SUPPORT = Path(__file__).parent.parent / "support"
TYPES = (
    "abandons",
    "noop",
    "echo",
    "die",
    "deaf",
    "hang",
    "garbage",
    "parent",
    "leave",
    "late",
    "flood",
    "hog",
    "environment",
    "tool",
    "fork",
)


def is_alive(pid: int) -> bool:
    """Return whether the process still has memory, without which it runs no code.

    A process that ends gives up its memory first, then its locks, and only later becomes a zombie.
    """
    try:
        return Path(f"/proc/{pid}/statm").read_text().split()[0] != "0"
    except OSError:
        return False


@pytest.fixture
def wait_gone() -> Callable[[list[int], float], float]:
    """Wait until none of the processes is alive; return the seconds it took, or fail after the limit."""

    def wait(pids: list[int], limit: float) -> float:
        begun = time.monotonic()
        while left := [pid for pid in pids if is_alive(pid)]:
            if time.monotonic() - begun > limit:
                pytest.fail(f"still there after {limit} s: {left}")
            Event().wait(0.005)  # not a busy loop: the service needs the CPU
        return time.monotonic() - begun

    return wait


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Make a `Run` of a sample type."""

    def make(task_type: str, task_id: int = 1, *, grace: float = 0.2, **options: Any) -> Run:
        return Run(task_id, 1, task_type, "", "", options, None, str(tmp_path / str(task_id)), grace=grace)

    return make


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[LocalExecutor]:
    """An executor with one slot, which recovers quickly."""
    made = LocalExecutor(
        slots=1,
        homes={name: f"sample_handlers:{name}" for name in TYPES},
        lock_path=tmp_path / "workers.lock",
        pythonpath=[str(SUPPORT)],
        rules=SlotRules(backoff=0.01, backoff_max=0.05),
    )
    yield made
    made.close(5.0)


@pytest.fixture
def reports(executor: LocalExecutor) -> Reports:
    """The open executor's reports."""
    return Reports(executor)


@pytest.fixture
def pids(reports: Reports) -> Callable[[], list[int]]:
    """Return the first report of the attempt `parent`: worker, reaper, children."""

    def said() -> list[int]:
        report = reports.until(lambda report: isinstance(report, AttemptProgressed))
        assert isinstance(report, AttemptProgressed)
        numbers: list[int] = json.loads(report.message)
        assert all(map(is_alive, numbers))
        return numbers

    return said
