"""A service takes snapshots by itself, and starts from them in the same state as from the whole log."""

from collections.abc import Callable
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import pytest
from structlog.testing import capture_logs

from tasktrail import TaskService
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.messages import StateQuery
from tasktrail.actors.snapshot_file import SnapshotUnusable, header_of
from tasktrail.actors.snapshots import SCHEDULER_SNAPSHOT

WITHIN = 30.0
Opener = Callable[..., TaskService]


def position_of(path: Path) -> int:
    try:
        return header_of(path).position
    except SnapshotUnusable:
        return 0


def wait_for_snapshot(service: TaskService, position: int) -> None:
    """Wait until both snapshots reach that position."""
    deadline, pause = monotonic() + WITHIN, Event()
    while any(position_of(service.paths.snapshots / kind) < position for kind in ("scheduler", "outbox")):
        assert monotonic() < deadline, "no snapshot came"
        pause.wait(0.02)


def memory(service: TaskService) -> dict[str, Any]:
    """Return the Scheduler's memory of the tasks, without the parts that every start changes."""
    tasks, queue, blocked = service._system.scheduler.ask(
        StateQuery(lambda state: (dict(state.tasks), state.queue.first(100), dict(state.blocked))), timeout=WITHIN
    )
    return {"tasks": tasks, "queue": queue, "blocked": blocked}


def busy(service: TaskService) -> int:
    """Create finished and waiting tasks; return the last position."""
    done = service.create_task(type="echo")
    service.wait(done, timeout=WITHIN)
    for priority in (3, 9, 5):
        service.create_task(type="echo", priority=priority, held=True)
    service.create_task(type="echo", depends_on=(done, 2))
    service.adjust_task(3, priority=1)
    return service._system.consumers.committed.position


def test_a_snapshot_is_taken_and_the_next_start_goes_on_from_it(
    open_service: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_service(snapshot_every=5) as service:
        wait_for_snapshot(service, busy(service) - 5)
        before = memory(service)
    used: list[SchedulerState | None] = []
    recalled = SCHEDULER_SNAPSHOT.recalled

    def noted(*args: Any) -> SchedulerState | None:
        used.append(recalled(*args))
        return used[-1]

    monkeypatch.setattr(SCHEDULER_SNAPSHOT, "recalled", noted)
    with open_service(snapshot_every=5) as again:
        assert memory(again) == before
        assert again.verify().ok
    assert used[0] is not None


def test_a_damaged_snapshot_is_found_by_verify_and_changes_nothing(open_service: Opener) -> None:
    with open_service(snapshot_every=5) as service:
        wait_for_snapshot(service, busy(service) - 5)
        before = memory(service)
    path = service.paths.snapshots / "scheduler"
    path.write_bytes(path.read_bytes()[:-100])
    with capture_logs() as lines, open_service(snapshot_every=10**6) as again:
        assert memory(again) == before
        assert [finding.code for finding in again.verify().findings] == ["snapshot"]
    assert "a snapshot is not used, the whole log is folded" in [line["event"] for line in lines]


def test_no_snapshot_is_taken_when_none_is_wanted(open_service: Opener) -> None:
    with open_service(snapshot_every=0) as service:
        busy(service)
        paths = service.paths
    assert not paths.snapshots.exists()
