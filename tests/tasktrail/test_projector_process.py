"""A process folds the views while very many records come: whatever becomes of it, the views are those of the log."""

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from random import Random
from threading import Thread
from typing import cast

import pytest
from log_services import wait_for
from projector_processes import note_processes
from structlog.testing import capture_logs

from tasktrail import TaskFilters, TaskService
from tasktrail.actors import projector, projector_process
from tasktrail.actors.projector_process import Folded, FoldEnded, ProjectorProcess
from tasktrail.events import CreateTask
from tasktrail.events.clock import SystemClock
from tasktrail.projections import TaskQueries, TaskViews

Open = Callable[..., TaskService]
HELD = CreateTask(type="echo", held=True)
WITHIN = 20.0
FAILED = "the views are folded without a process of their own"


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    return note_processes(monkeypatch)


def number_of_tasks(service: TaskService) -> int:
    return service.list_tasks(TaskFilters(limit=1))[1]


def test_the_views_are_those_of_the_log(open_service: Open, processes: list[subprocess.Popen[str]]) -> None:
    service = open_service()
    for number in range(1, 6):
        service.send_many([HELD] * 50)
        assert number_of_tasks(service) == 50 * number
    assert len(processes) == 1
    assert service.verify().findings == ()
    service.close()
    assert processes[0].poll() is not None


def test_a_stop_leaves_no_record_behind(
    open_service: Open, tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    service = open_service()
    service.send_many([HELD] * 200)
    wait_for(lambda: processes)
    service.send_many([HELD] * 200)
    service.close()
    assert processes[0].poll() is not None
    with closing(TaskQueries.open(tmp_path / "data" / "views.db")) as views:
        assert views.list(TaskFilters(limit=1), datetime.now(UTC))[1] == 400


def test_the_actor_folds_again_when_fewer_records_come(
    open_service: Open, processes: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = open_service()
    service.send_many([HELD] * 50)
    assert number_of_tasks(service) == 50
    monkeypatch.setattr(projector, "BUSY", 10**9)
    monkeypatch.setattr(projector, "CALM", 10**9)
    number = 50

    def is_ended_by_one_more() -> bool:  # not by the next one, if it comes before the process has answered
        nonlocal number
        service.send_many([HELD])
        number += 1
        assert number_of_tasks(service) == number
        return processes[0].poll() is not None

    wait_for(is_ended_by_one_more)
    assert [process.returncode for process in processes] == [-signal.SIGKILL]
    assert service.verify().findings == ()


def test_a_process_that_is_killed_is_replaced(
    open_service: Open, processes: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector_process, "_AGAIN", 0.0)
    service = open_service()
    with capture_logs() as lines:

        def is_known_to_have_ended(times: int) -> bool:
            return [one["event"] for one in lines].count(FAILED) == times

        for number in range(1, 4):
            service.send_many([HELD] * 50)
            assert number_of_tasks(service) == 50 * number
            processes[-1].kill()
            wait_for(partial(is_known_to_have_ended, number))
    assert len(processes) == 3
    assert service.verify().findings == ()


def test_a_process_that_fails_is_not_started_again_at_once(
    open_service: Open, processes: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector_process, "MODULE", "tasktrail.no_such_module")
    service = open_service()
    with capture_logs() as lines:
        for number in range(1, 4):
            service.send_many([HELD] * 50)
            assert number_of_tasks(service) == 50 * number
    assert len(processes) == 1
    (warning,) = [one for one in lines if one["event"] == FAILED]
    assert "No module named tasktrail.no_such_module" in warning["error"]


def test_without_a_process_the_actor_folds(
    open_service: Open, processes: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: str, **_options: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(projector_process, "start_side_process", refuse)
    service = open_service()
    service.send_many([HELD] * 50)
    assert number_of_tasks(service) == 50
    assert processes == []


def test_a_request_to_a_process_that_has_just_died_is_refused(open_service: Open) -> None:
    service = open_service()
    service.close()
    answers = SimpleQueue[Folded | FoldEnded]()
    process = ProjectorProcess(service.paths.log, service.paths.views, SystemClock(), answers.put)
    assert process.request()
    assert not process.note_folded(cast("Folded", answers.get(timeout=WITHIN)))
    assert process._process is not None
    process._process.kill()
    process._process.wait()
    assert not process.request()
    assert not process.running


def test_a_process_that_nobody_can_listen_to_is_ended(open_service: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    service = open_service()
    service.close()
    process = ProjectorProcess(service.paths.log, service.paths.views, SystemClock(), lambda _: None)
    started = note_processes(monkeypatch)

    def refuse(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", refuse)
    assert not process.request()
    assert not process.running
    assert [one.returncode for one in started] == [-signal.SIGKILL]


def test_records_that_came_before_an_error_are_not_missed(
    open_service: Open, processes: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is committed after it, so that no gap shows them."""
    errors = [OSError("the folder cannot be looked into")]

    def look(_: TaskViews) -> bool:
        if errors:
            raise errors.pop()
        return True

    service = open_service()
    assert number_of_tasks(service) == 0
    monkeypatch.setattr(TaskViews, "in_place", property(look))
    service.send_many([HELD] * 50)
    monkeypatch.setattr(projector, "BUSY", 10**9)
    assert number_of_tasks(service) == 50
    assert (errors, processes) == ([], [])


def test_one_processor_has_no_use_for_a_process(
    open_service: Open, processes: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasktrail.system.usable_cpus", lambda: 1)
    service = open_service()
    service.send_many([HELD] * 50)
    assert number_of_tasks(service) == 50
    assert processes == []


def test_a_request_to_a_process_that_ends_because_it_is_idle_is_not_lost(
    open_service: Open, processes: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector_process, "_IDLE", 0.0)
    service = open_service()
    with capture_logs() as lines:
        for number in range(1, 6):
            service.send_many([HELD] * 50)
            assert number_of_tasks(service) == 50 * number
            wait_for(lambda: processes[-1].poll() is not None)
    assert {one["event"] for one in lines if one["log_level"] in ("warning", "error")} <= {FAILED}
    assert service.verify().findings == ()


def test_a_process_that_hangs_is_not_waited_for_nor_replaced_at_once(
    open_service: Open, processes: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = open_service()
    service.send_many([HELD] * 50)
    assert number_of_tasks(service) == 50
    os.kill(processes[-1].pid, signal.SIGSTOP)
    monkeypatch.setattr(projector_process, "_SILENT", 0.1)
    for number in range(2, 5):
        service.send_many([HELD] * 50)
        assert number_of_tasks(service) == 50 * number
    assert [process.poll() for process in processes] == [-signal.SIGKILL]


def test_a_late_answer_of_a_process_that_was_killed_is_not_that_of_the_next(open_service: Open) -> None:
    service = open_service()
    service.close()
    process = ProjectorProcess(service.paths.log, service.paths.views, SystemClock(), lambda _: None)
    assert process.request()
    assert process._process is not None
    process.note_folded(Folded(process._process.pid + 1, 1, done=True))
    assert process.at_work
    process.kill()


def test_damage_that_it_meets_is_repaired(open_service: Open, processes: list[subprocess.Popen[str]]) -> None:
    service = open_service()
    service.send_many([HELD] * 50)
    assert number_of_tasks(service) == 50
    with closing(sqlite3.connect(service.paths.views, isolation_level=None)) as conn:
        conn.execute("DELETE FROM tasks WHERE id = 7")
        conn.execute("UPDATE tasks SET state = 'nothing' WHERE id = 8")
    service.send_many([HELD] * 50)
    service.cancel_task(7)
    service.cancel_task(8)
    assert number_of_tasks(service) == 100
    assert service.get_task(8).status == "cancelled"
    assert processes
    assert service.verify().findings == ()


@pytest.mark.parametrize(
    "names", [("views.db",), ("views.db-wal", "views.db-shm"), ("views.db-wal",), ("views.db-shm",)]
)
def test_a_file_that_is_deleted_beside_it_is_noticed(
    open_service: Open, processes: list[subprocess.Popen[str]], names: tuple[str, ...]
) -> None:
    """The process itself would go on with a new file, which others do not have open."""
    service = open_service()
    service.send_many([HELD] * 50)
    assert number_of_tasks(service) == 50
    for name in names:
        service.paths.views.with_name(name).unlink()
    generation = service._system.health.views.generation
    service.send_many([HELD] * 50)
    wait_for(lambda: service._system.health.views.generation > generation)
    assert number_of_tasks(service) == 100
    assert processes
    assert service.verify().findings == ()


def test_views_are_built_anew_while_it_works(open_service: Open, processes: list[subprocess.Popen[str]]) -> None:
    service = open_service()
    service.send_many([HELD] * 50)
    assert number_of_tasks(service) == 50

    def send_more(_reached: int, _goal: int) -> None:
        service.send_many([HELD] * 50)

    service.rebuild(send_more)
    service.send_many([HELD] * 50)
    assert number_of_tasks(service) >= 150
    assert len(processes) > 1
    assert service.verify().findings == ()


@pytest.mark.slow
def test_kills_at_any_time_lose_and_double_nothing(
    open_service: Open, processes: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector_process, "_AGAIN", 0.0)
    chance = Random(3)
    service = open_service()
    for number in range(1, 301):
        service.send_many([HELD] * 100)
        if chance.random() < 0.2 and processes:
            processes[-1].kill()
        if chance.random() < 0.2:
            assert number_of_tasks(service) == 100 * number
    assert number_of_tasks(service) == 30_000
    assert len(processes) > 20
    assert service.verify().findings == ()
