"""Processes answer long questions, few at once, at no cost to commands."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import httpx
import msgspec
import psutil
import pytest
from owner import AUTH

from tasktrail.api import reader_process as apart_module
from tasktrail.api.reader import Questions
from tasktrail.api.reader_process import ListQuestion, ReaderProcess, VerifyQuestion, answered
from tasktrail.api.service import TaskService
from tasktrail.events.errors import NotReady, TooCostly
from tasktrail.http import backend as backend_module
from tasktrail.http.server import HttpServer
from tasktrail.projections import TaskFilters
from tasktrail.projections.errors import BeyondTheLog, ViewsFailed
from tasktrail.projections.rebuilding import beside_of

Serve = Callable[..., HttpServer]
Wish = Callable[..., dict[str, Any]]
NOW = ListQuestion(TaskFilters(as_of=1))


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the views unable to answer about the past, so that the service has the log folded."""

    def fail(*_asked: object) -> NoReturn:
        raise ViewsFailed("no views")

    monkeypatch.setattr(Questions, "at_once", fail)


@pytest.fixture
def apart(service: TaskService) -> Iterator[ReaderProcess]:
    one = ReaderProcess(service.paths, os.environ)
    yield one
    one.close()
    one._end()


def helpers() -> set[int]:
    """Return process ids, including those of zombies."""
    found = set()
    for child in psutil.Process().children():
        try:
            if any("api.reader_process" in word for word in child.cmdline()):
                found.add(child.pid)
        except psutil.ZombieProcess:
            found.add(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.slow
def test_the_answer_is_that_of_the_service(apart: ReaderProcess, service: TaskService, wish: Wish) -> None:
    service.create_task(**wish())
    filters = TaskFilters(as_of=service.watermark.position, limit=3)
    answer = msgspec.json.decode(apart.ask(ListQuestion(filters)))
    tasks, total = service.list_tasks(filters)
    assert (answer["total"], [one["id"] for one in answer["tasks"]]) == (total, [task.id for task in tasks])
    assert msgspec.json.decode(apart.ask(VerifyQuestion()))["position"] > 0
    assert apart._process is not None
    assert apart._process.pid in helpers()


def test_the_past_is_told_without_a_process_as_the_process_tells_it(
    serve: Serve, apart: ReaderProcess, service: TaskService, wish: Wish
) -> None:
    server = serve()
    service.create_task(**wish())
    position, before = service.watermark.position, helpers()
    url = f"{server.address}/v1/tasks?as_of={position}"
    answered_at_once = httpx.get(url, headers=AUTH, trust_env=False, timeout=60).json()
    assert helpers() == before
    assert answered_at_once == msgspec.json.decode(apart.ask(ListQuestion(TaskFilters(as_of=position))))


def test_its_errors_are_those_of_the_service(apart: ReaderProcess) -> None:
    with pytest.raises(BeyondTheLog) as refused:
        apart.ask(ListQuestion(TaskFilters(as_of=10**9)))
    assert refused.value.field == "as_of"


def test_a_process_that_has_ended_is_followed_by_another(apart: ReaderProcess) -> None:
    apart.ask(NOW)
    first = apart._process
    assert first is not None
    first.terminate()
    first.wait()
    assert apart.ask(NOW)
    assert apart._process is not first


class Announcing:
    """A pipe that announces when a question was sent."""

    def __init__(self, pipe: Connection, sent: threading.Event) -> None:
        self._pipe, self._sent = pipe, sent

    def send_bytes(self, asked: bytes) -> None:
        self._pipe.send_bytes(asked)
        self._sent.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)


def test_a_process_that_is_killed_in_the_middle_is_told_and_not_tried_again(
    apart: ReaderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart.ask(NOW)
    process, pipe = apart._process, apart._pipe
    assert process is not None
    assert pipe is not None
    sent = threading.Event()
    monkeypatch.setattr(apart, "_pipe", Announcing(pipe, sent))
    process.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(apart.ask, NOW)
        assert sent.wait(30)
        process.kill()
        with pytest.raises(TooCostly, match="killed"):
            asked.result(30)


def test_of_a_rebuild_whose_process_is_killed_nothing_is_left_beside(
    serve: Serve, service: TaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = beside_of(service.paths.views)

    def killed(_self: ReaderProcess, *_asked: Any) -> bytes:
        beside.write_bytes(b"half")
        raise TooCostly("killed")

    monkeypatch.setattr(ReaderProcess, "ask", killed)
    assert httpx.post(f"{serve().address}/v1/rebuild", headers=AUTH, trust_env=False, timeout=60).status_code == 503
    assert not beside.exists()


@pytest.mark.slow
def test_what_takes_too_long_is_ended(apart: ReaderProcess) -> None:
    apart.ask(NOW)
    process = apart._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(TooCostly, match=r"more than 0\.1 s"):
        apart.ask(NOW, within=0.1)
    assert process.poll() is not None
    assert apart.ask(NOW)


def test_once_closed_nothing_is_asked_and_nothing_runs(apart: ReaderProcess) -> None:
    apart.ask(NOW)
    process = apart._process
    assert process is not None
    apart.close()
    with pytest.raises(NotReady):
        apart.ask(NOW)
    assert process.wait(30) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.usefixtures("untold")
def test_where_the_views_cannot_tell_the_log_is_folded(serve: Serve, service: TaskService, wish: Wish) -> None:
    server = serve()
    task_id = service.create_task(**wish())
    then = {"as_of": service.watermark.position}
    for path in ("/v1/tasks", f"/v1/tasks/{task_id}", "/tasks", "/"):
        answer = httpx.get(f"{server.address}{path}", params=then, headers=AUTH, trust_env=False, timeout=60)
        assert answer.status_code == 200, path
        assert f"{task_id}" in answer.text.replace(",", ""), path


def test_memory_that_runs_out_is_a_typed_error_and_the_end_of_the_process(
    service: TaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(_reading: Questions, *_asked: Any) -> bytes:
        raise MemoryError

    monkeypatch.setattr(apart_module, "answer", greedy)
    monkeypatch.setattr(apart_module, "_allow", lambda _bytes: None)
    told, fit = answered(service, msgspec.json.encode(NOW))
    assert told.error
    assert not fit


@pytest.mark.usefixtures("untold")
def test_lists_of_the_past_are_not_built_in_memory(tmp_path: Path) -> None:
    with TaskService.open(tmp_path) as service:
        service.source.scratch = str(tmp_path / "scratch.db")
        service.list_tasks(TaskFilters(as_of=1))
        assert (tmp_path / "scratch.db").stat().st_size > 0


def held_up(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Semaphore]:
    """Make long questions wait for the event, and count those being answered."""
    hold, asked = threading.Event(), threading.Semaphore(0)

    def slow(_self: ReaderProcess, *_asked: Any) -> bytes:
        asked.release()
        assert hold.wait(60)
        return b'{"tasks": [], "total": 0}'

    monkeypatch.setattr(ReaderProcess, "ask", slow)
    return hold, asked


@pytest.mark.usefixtures("untold")
def test_beyond_the_bound_long_questions_are_refused_and_the_rest_is_answered(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, wish: Wish
) -> None:
    hold, asked = held_up(monkeypatch)
    monkeypatch.setattr(backend_module, "_WAITING", 1)
    server = serve()

    def ask(_number: int) -> httpx.Response:
        return httpx.get(f"{server.address}/v1/tasks?as_of=1", headers=AUTH, trust_env=False, timeout=60)

    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(ask, number) for number in range(12)]
        assert asked.acquire(timeout=30)
        assert asked.acquire(timeout=30)
        for path in ("/healthz", "/v1/stats", "/v1/tasks", "/v1/queue"):
            assert httpx.get(f"{server.address}{path}", headers=AUTH, trust_env=False).status_code == 200
        assert httpx.post(f"{server.address}/v1/tasks", json=wish(), headers=AUTH, trust_env=False).status_code == 202
        refusals = [one.result() for one in islice(as_completed(waiting, timeout=60), 9)]
        assert {answer.status_code for answer in refusals} == {503}
        hold.set()
        answers = [one.result(60) for one in waiting]
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [503] * 9
    assert {(answer.json()["code"], int(answer.headers["retry-after"]) > 0) for answer in refusals} == {("busy", True)}


@pytest.mark.usefixtures("untold")
def test_a_token_that_asks_much_leaves_room_for_others(
    service: TaskService, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, _asked = held_up(monkeypatch)
    tokens = [service.add_token(f"asks-{number}", "auditor") for number in range(2)]
    server = serve()

    def ask(token: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"}
        return httpx.get(f"{server.address}/v1/tasks?as_of=1", headers=headers, trust_env=False, timeout=60)

    with ThreadPoolExecutor(9) as pool:
        many = [pool.submit(ask, tokens[0]) for _ in range(8)]
        refused = [one.result() for one in islice(as_completed(many, timeout=60), 3)]
        assert {answer.status_code for answer in refused} == {503}
        assert "of this token" in refused[0].json()["detail"]
        other = pool.submit(ask, tokens[1])
        hold.set()
        assert other.result(60).status_code == 200
        assert sorted(one.result(60).status_code for one in many) == [200] * 5 + [503] * 3
    for number in range(2):
        service.revoke_token(f"asks-{number}")


@pytest.mark.usefixtures("untold")
def test_a_process_that_has_ended_by_itself_leaves_no_zombie(
    serve: Serve, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    server = serve()
    before = helpers()
    assert httpx.get(f"{server.address}/v1/tasks?as_of=1", headers=AUTH, trust_env=False, timeout=60).status_code == 200
    (made,) = helpers() - before
    psutil.Process(made).terminate()
    assert eventually(lambda: made not in helpers())


@pytest.mark.usefixtures("untold")
def test_the_processes_end_with_the_server(serve: Serve, eventually: Callable[[Callable[[], bool]], bool]) -> None:
    server = serve()
    before = helpers()
    assert httpx.get(f"{server.address}/v1/tasks?as_of=1", headers=AUTH, trust_env=False, timeout=60).status_code == 200
    made = helpers() - before
    assert made
    assert server.stop()
    assert eventually(lambda: not made & helpers())


def test_what_was_freed_is_given_back_now_and_then(service: TaskService, monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed = threading.Semaphore(0)
    monkeypatch.setattr(backend_module, "malloc_trim", lambda _kept: trimmed.release())
    backend = backend_module.Backend(service)
    try:
        for now in (100.0, 101.0, 129.0, 130.0):
            backend.tidy(now)
        assert trimmed.acquire(timeout=30)
        assert trimmed.acquire(timeout=30)
    finally:
        backend._bulk.shutdown()
        backend.close()
    assert not trimmed.acquire(blocking=False)
