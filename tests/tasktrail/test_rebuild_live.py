"""A service rebuilds its views while it works: errors are found, nothing is lost, and nothing is sent again."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing

import pytest

from tasktrail import TaskFilters, TaskService
from tasktrail.actors.messages import PutInPlace
from tasktrail.events.errors import NotReady
from tasktrail.projections.rebuilding import beside_of
from tasktrail.projections.views.checksums import teach

Opener = Callable[..., TaskService]

GHOST = """
    INSERT INTO tasks SELECT 999, status, type, user_id, document_id, parent_task_id, label, batch, priority, queue_key,
    updated_at, changed, spec, state,
    row_sum(999, type, user_id, document_id, parent_task_id, label, batch, spec),
    row_sum(999, status, priority, queue_key, updated_at, changed, state) FROM tasks WHERE id = 1
"""


def plant_a_ghost(service: TaskService) -> None:
    """Insert a row that no event has made, with checksums that fit, as a bug of ours would leave it."""
    with closing(teach(sqlite3.connect(service.paths.views, isolation_level=None))) as conn:
        conn.execute(GHOST)
        conn.execute("UPDATE counts SET number = number + 1 WHERE status = 'pending'")


def test_a_ghost_is_found_and_gone_while_commands_go_on(open_service: Opener) -> None:
    service = open_service()
    for _ in range(20):
        service.create_task(type="echo", held=True)
    service.list_tasks()  # the views have them all
    plant_a_ghost(service)
    assert service.list_tasks()[1] == 21
    grown = threading.Event()

    def go_on(_reached: int, _goal: int) -> None:
        service.create_task(type="echo", held=True)
        grown.set()

    built = service.rebuild(go_on)
    assert grown.is_set()
    assert "task 999 is there and should not be" in [one.message for one in built.differences]
    tasks, total = service.list_tasks(TaskFilters(limit=100))
    assert total == len(tasks) == service.stats().counts["pending"]
    assert 999 not in [task.id for task in tasks]
    assert service.verify().findings == ()
    assert service.rebuild().differences == ()


def test_commands_that_pour_in_during_it_are_all_in_the_views_afterwards(open_service: Opener) -> None:
    service = open_service()
    first = service.create_task(type="echo", held=True)
    done, created = threading.Event(), [first]

    def pour() -> None:
        while not done.is_set():
            created.append(service.create_task(type="echo", held=True))

    pouring = threading.Thread(target=pour)
    pouring.start()
    try:
        for _ in range(3):
            before = len(created)
            assert service.rebuild().differences == ()
            assert len(created) > before
    finally:
        done.set()
        pouring.join()
    assert service.list_tasks(TaskFilters(limit=1))[1] == len(created)
    assert service.verify().findings == ()


def test_a_drifted_snapshot_is_deleted(open_service: Opener) -> None:
    with open_service() as service:
        service.create_task(type="echo", held=True)
        service.paths.snapshots.mkdir(exist_ok=True)
        (service.paths.snapshots / "scheduler").write_bytes(b"no snapshot\n")
        built = service.rebuild()
        assert [one.code for one in built.differences] == ["snapshot"]
        assert not (service.paths.snapshots / "scheduler").exists()


def test_two_at_once_are_refused(open_service: Opener) -> None:
    service = open_service()
    with service.rebuilding(), pytest.raises(NotReady, match="Another rebuild"):
        service.rebuild()
    assert service.rebuild().position >= 1


def test_a_rebuild_that_cannot_be_put_in_place_leaves_the_views_in_use(
    open_service: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = open_service()
    task = service.create_task(type="echo", held=True)

    def refused(*_: object) -> int:
        raise NotReady("not now")

    monkeypatch.setattr("tasktrail.actors.projector.put_in_place", refused)
    with pytest.raises(NotReady, match="not now"):
        service.rebuild()
    assert service.get_task(task).status == "pending"
    another = service.create_task(type="echo", held=True)
    assert service.list_tasks()[1] == another


def test_a_rebuild_that_is_broken_off_leaves_nothing_beside(open_service: Opener) -> None:
    """It may be as large as the views, and no room may have been why."""
    service = open_service()
    service.create_task(type="echo", held=True)

    def break_off(_reached: int, _goal: int) -> None:
        assert beside_of(service.paths.views).exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        service.rebuild(break_off)
    assert list(service.paths.data.glob("views.db.*")) == []
    assert service.rebuild().differences == ()


def test_what_a_killed_rebuild_left_is_removed_by_the_next_start(open_service: Opener) -> None:
    with open_service() as service:
        beside = beside_of(service.paths.views)
        beside.write_bytes(b"half")
    with open_service() as service:
        service.create_task(type="echo", held=True)
        service.list_tasks()
        assert not beside.exists()
        assert isinstance(service._system.projector.ask(PutInPlace(), timeout=20), int)  # even without a difference
        assert service.list_tasks()[1] == 1
