"""A service whose disk, log or views fail: what it refuses, what it still answers, and that it recovers by itself."""

import fcntl
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasktrail import system
from tasktrail.actors.core.messages import Intake
from tasktrail.api.client import Client
from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config
from tasktrail.doctor.rules import examine
from tasktrail.events import CancelTask, CreateTask, Recorded
from tasktrail.events.errors import LogFull, LogGone, LogLocked, NotReady, WaitTimeout
from tasktrail.events.log.lock import DataLock
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.http.server import HttpServer
from tasktrail.projections import TaskViews, ViewsFailed
from tasktrail.projections.views import schema

WITHIN = 20.0
ONCE = {"connection": "close"}


def comes_true(condition: Callable[[], bool]) -> bool:
    pause = threading.Event()
    return any(condition() or pause.wait(0.02) for _ in range(int(WITHIN / 0.02)))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def service(data: Path) -> Iterator[TaskService]:
    with TaskService.open(data, config=Config(workers=1)) as running:
        yield running


@pytest.fixture
def web(service: TaskService) -> Iterator[httpx.Client]:
    server = HttpServer(service, socket_path=service.paths.socket)
    server.start()
    transport = httpx.HTTPTransport(uds=str(service.paths.socket))
    with httpx.Client(base_url="http://localhost", transport=transport, timeout=WITHIN, headers=ONCE) as client:
        yield client
    assert server.stop()


def held(command_id: str) -> CreateTask:
    return CreateTask(type="image_thumbnail", command_id=command_id, held=True)


@pytest.fixture(autouse=True)
def any_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands need no files."""
    monkeypatch.setattr(
        "tasktrail.intake.examination.CommandIntake.examine",
        lambda _self, _command: Intake(),
    )


def test_a_foreign_lock_is_named_and_told_by_readyz_and_all_goes_on_when_it_is_gone(
    service: TaskService, web: httpx.Client
) -> None:
    assert web.get("/readyz").status_code == 200
    with closing(sqlite3.connect(service.paths.log, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogLocked):
            service.send(held("c"))
        answer = web.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "log_locked")
        assert web.get("/v1/queue").status_code == 200
        assert web.get("/healthz").status_code == 200
        found = {finding.name: finding for finding in examine(service.paths.data)}
        assert "locked" in found["service"].message
        assert "backup" not in found["service"].remedy
        other.execute("ROLLBACK")
    assert comes_true(lambda: service.ready)
    assert service.send(held("c")).task_id == 1
    assert web.get("/readyz").status_code == 200


def test_whoever_waits_for_a_task_goes_on_waiting_while_commands_are_refused(
    service: TaskService, web: httpx.Client
) -> None:
    service.send(held("c"))
    with closing(sqlite3.connect(service.paths.log, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogLocked):
            service.send(CancelTask(task_id=1, command_id="x"))
        assert web.get("/readyz").status_code == 503
        with Client.connect(service.paths.data) as client:
            with pytest.raises(WaitTimeout, match="locked"):
                client.wait(1, timeout=0.1)
            other.execute("ROLLBACK")
            assert client.wait(1, timeout=WITHIN).status == "cancelled"


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_log_that_is_gone_is_told_although_no_command_comes(
    service: TaskService, web: httpx.Client, how: str
) -> None:
    service.send(held("c"))
    if how == "deleted":
        service.paths.log.unlink()
    else:
        service.paths.log.rename(service.paths.data / "aside")
        service.paths.log.write_bytes(b"")
    assert service.failed.wait(WITHIN)
    assert isinstance(service.fatal, LogGone)
    answer = web.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "log_gone")
    with pytest.raises((NotReady, LogGone)):
        service.send(held("d"))


@pytest.mark.slow
def test_views_that_cannot_be_written_refuse_whoever_needs_them_and_nobody_else(
    service: TaskService, web: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service.send(held("first")).task_id == 1
    assert service.get_task(1).id == 1

    def no_room(_self: TaskViews, records: Sequence[Recorded]) -> None:
        if records:
            raise ViewsFailed("views.db failed: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(TaskViews, "apply", no_room)
        assert service.send(held("second")).task_id == 2, "commands need no views"
        with pytest.raises(ViewsFailed, match="have not reached") as failed:
            service.get_task(2)
        assert failed.value.advice not in failed.value.message  # reported once
        assert len(service.events(2)) == 1
        answer = web.get("/readyz")
        assert answer.status_code == 200
        assert "views lag behind" in answer.json()["degraded"][0]
        refused = web.get(f"/v1/tasks/2?min_position={service.watermark.position}")
        assert (refused.status_code, refused.json()["code"]) == (503, "views_failed")
        assert web.get("/v1/tasks/2/events").status_code == 200
        with pytest.raises(ViewsFailed, match="have not reached position 3"):
            service.forget(0)  # not after a minute of silence
    assert comes_true(lambda: not service.degraded)
    assert service.get_task(2).id == 2


def test_views_that_could_not_be_made_yet_are_not_damaged(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room = threading.Event()
    create_tables = schema.create_tables

    def create(conn: sqlite3.Connection) -> None:
        if not room.is_set():
            raise sqlite3.OperationalError("database or disk is full")
        create_tables(conn)

    monkeypatch.setattr(schema, "create_tables", create)
    with TaskService.open(data, config=Config(workers=1)) as service:
        assert comes_true(lambda: bool(service.degraded))
        room.set()
        assert service.send(held("first")).task_id == 1
        assert service.get_task(1).id == 1
        assert comes_true(lambda: not service.degraded)
    assert "damaged" not in caplog.text


@pytest.mark.slow
def test_a_start_that_cannot_write_answers_reads_and_takes_commands_when_it_can(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TaskService.open(data, config=Config(workers=1)) as before:
        before.send(held("before"))
        before.get_task(1)

    def no_room(*_: Any, **__: Any) -> SqliteEventLog:
        raise LogFull("log.db cannot grow")

    with monkeypatch.context() as patch:
        patch.setattr(system, "open_log", no_room)
        service = TaskService.open(data, config=Config(workers=1))
        assert isinstance(service.obstacle, LogFull)
        assert service.get_task(1).id == 1
        assert len(service.events(1)) == 1
        assert service.queue().running == ()
        with pytest.raises(LogFull):
            service.send(held("c"))
    assert comes_true(lambda: service.ready)
    assert service.send(held("c")).task_id == 2
    service.close()


def test_a_start_that_can_write_neither_the_log_nor_the_views_gives_no_old_answers(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any, **__: Any) -> Any:
        raise LogFull("log.db cannot grow")

    def no_room_either(_self: TaskViews, records: Sequence[Recorded]) -> None:
        if records:
            raise ViewsFailed("views.db failed: database or disk is full")

    with TaskService.open(data, config=Config(workers=1)) as before:
        before.send(held("in the views"))
        before.get_task(1)
        monkeypatch.setattr(TaskViews, "apply", no_room_either)
        before.send(held("not in the views"))

    monkeypatch.setattr(system, "open_log", no_room)
    with TaskService.open(data, config=Config(workers=1)) as service:
        with pytest.raises(ViewsFailed, match="have not reached position"):
            service.list_tasks()
        assert len(service.events(2)) == 1
        monkeypatch.undo()
        assert comes_true(lambda: service.ready)
        assert service.list_tasks()[1] == 2


def test_a_service_whose_lock_file_was_deleted_stays_the_only_one_and_is_to_be_stopped(
    service: TaskService, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "_ORPHANS_WITHIN", 0.0)
    service.paths.lock.unlink()
    with service.paths.workers_lock.open() as reaper:
        fcntl.flock(reaper, fcntl.LOCK_SH)  # as each of its reapers does after its start
        with pytest.raises(NotReady, match="cannot be killed") as refused:
            TaskService.open(data, config=Config(workers=1))
    assert "stop that one" in refused.value.advice
    assert service.send(held("c")).task_id == 1


def test_a_lock_file_is_taken_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", no_room)
    DataLock(tmp_path / "lock").release()


@pytest.mark.slow
def test_a_service_whose_standard_error_is_a_full_disk_takes_commands(data: Path) -> None:
    """Its messages are lost; its work is not, and the exit code shows it, also where Python buffers."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("wb", buffering=0) as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasktrail", "--data", str(data), "serve", "--port", "0"],
            stdout=subprocess.DEVNULL,
            stderr=full,
            env=environment,
        )
    try:

        def is_ready() -> bool:
            """Ask by hand: httpx leaves a socket open when nothing listens."""
            assert process.poll() is None
            with closing(socket.socket(socket.AF_UNIX)) as one, suppress(OSError):
                one.settimeout(WITHIN)
                one.connect(str(data / "tasktrail.sock"))
                one.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return one.recv(100).startswith(b"HTTP/1.1 200")
            return False

        assert comes_true(is_ready)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN) == 0
