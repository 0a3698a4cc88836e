"""`GET /v1/tasks/{id}?wait=…` answers when the task has ended, and waiting costs no thread."""

import asyncio
import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasktrail.api.service import TaskService
from tasktrail.events import Task
from tasktrail.http.connections import ConnectionRoom
from tasktrail.http.server import HttpServer

Wish = Callable[..., dict[str, Any]]
Eventually = Callable[[Callable[[], bool]], bool]


def room_of(server: HttpServer) -> ConnectionRoom:
    assert server._server is not None
    return server._server._rooms.unix


def test_it_answers_when_the_task_has_ended(web: httpx.Client, service: TaskService, wish: Wish) -> None:
    task_id = service.create_task(**wish())
    timer = threading.Timer(0.2, service.cancel_task, (task_id,))
    timer.start()
    assert web.get(f"/v1/tasks/{task_id}?wait=60", timeout=30).json()["status"] == "cancelled"
    timer.join()
    assert web.get(f"/v1/tasks/{task_id}?wait=60").json()["status"] == "cancelled"


def test_nobody_looks_into_the_views_before_the_task_has_ended(
    web: httpx.Client, service: TaskService, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    get_task = service.get_task

    def look(task_id: int, **more: Any) -> Task:
        looked.append(task_id)
        return get_task(task_id, **more)

    monkeypatch.setattr(service, "get_task", look)
    task_id = service.create_task(**wish())
    timer = threading.Timer(0.2, service.cancel_task, (task_id,))
    timer.start()
    assert web.get(f"/v1/tasks/{task_id}?wait=60", timeout=30).json()["status"] == "cancelled"
    timer.join()
    assert looked == [task_id]


def test_it_answers_when_the_time_is_up(web: httpx.Client, service: TaskService, wish: Wish) -> None:
    task_id = service.create_task(**wish())
    assert web.get(f"/v1/tasks/{task_id}?wait=0.05").json()["status"] == "pending"
    assert web.get(f"/v1/tasks/{task_id}?wait=0").json()["status"] == "pending"


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("wait=-1", 400, "wait has to be a number, at least 0"),
        ("wait=301", 400, "wait has to be a number, at most 300"),
        ("wait=soon", 400, "wait has to be a number, not text"),
        ("wait=1&as_of=1", 422, ""),
        ("wait=nan", 400, ""),
    ],
)
def test_what_cannot_be_waited_for_is_refused(web: httpx.Client, query: str, status: int, said: str) -> None:
    answer = web.get(f"/v1/tasks/1?{query}")
    assert (answer.status_code, answer.json()["field"]) == (status, "wait")
    assert said in answer.json()["detail"]


def test_nobody_waits_for_a_task_that_does_not_exist(web: httpx.Client) -> None:
    assert web.get("/v1/tasks/999999999?wait=60").status_code == 404


@pytest.mark.slow
def test_a_thousand_wait_without_a_thread(
    service: TaskService, serve: Callable[..., HttpServer], wish: Wish, tmp_path: Path
) -> None:
    server = serve()
    task_id = service.create_task(**wish())
    room = room_of(server)
    number = min(1000, room.max_waiters)

    async def program() -> None:
        async def ask() -> str:
            # Use a plain socket, because the pool of httpx goes through all its connections for each request.
            reader, writer = await asyncio.open_unix_connection(tmp_path / "other.sock")
            writer.write(f"GET /v1/tasks/{task_id}?wait=60 HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            (length,) = re.findall(rb"content-length: (\d+)", head)
            body = await reader.readexactly(int(length))
            writer.close()
            return str(json.loads(body)["status"])

        wire = httpx.AsyncHTTPTransport(uds=str(tmp_path / "other.sock"))
        async with httpx.AsyncClient(transport=wire, base_url="http://localhost", timeout=60) as client:
            await client.get(f"/v1/tasks/{task_id}")
            threads = threading.active_count()
            asking = [asyncio.create_task(ask()) for _ in range(number)]
            async with asyncio.timeout(60):
                while room.waiters.total() < number:  # noqa: ASYNC110 - the server is in another thread
                    await asyncio.sleep(0.02)
            assert threading.active_count() < threads + 20  # the reads may have begun
            assert (await client.get("/healthz")).status_code == 200
            await asyncio.to_thread(service.cancel_task, task_id)
            assert set(await asyncio.gather(*asking)) == {"cancelled"}

    asyncio.run(program())
    assert room.waiters.total() == 0


def test_who_hangs_up_is_not_waited_for(
    service: TaskService, serve: Callable[..., HttpServer], wish: Wish, tmp_path: Path, eventually: Eventually
) -> None:
    server = serve()
    task_id = service.create_task(**wish())
    wire = httpx.HTTPTransport(uds=str(tmp_path / "other.sock"))
    with httpx.Client(transport=wire, base_url="http://localhost") as client, pytest.raises(httpx.ReadTimeout):
        client.get(f"/v1/tasks/{task_id}?wait=60", timeout=0.3)
    assert eventually(lambda: room_of(server).waiters.total() == 0)
    assert not service._system.consumers.endings._waiting


def test_those_who_wait_leave_room_for_others(
    service: TaskService, serve: Callable[..., HttpServer], wish: Wish, tmp_path: Path
) -> None:
    server = serve()
    room_of(server).max_waiters = 0
    task_id = service.create_task(**wish())
    wire = httpx.HTTPTransport(uds=str(tmp_path / "other.sock"))
    with httpx.Client(transport=wire, base_url="http://localhost") as client:
        answer = client.get(f"/v1/tasks/{task_id}?wait=60")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "busy", "2")


def test_one_token_leaves_others_room_to_wait(
    service: TaskService, serve: Callable[..., HttpServer], wish: Wish, eventually: Eventually
) -> None:
    secrets = {name: service.add_token(name, "reader") for name in ("patient", "other")}
    server = serve()
    room = server._server._rooms.known  # type: ignore[union-attr]  # it runs
    room.max_waiters_of_token = 1
    task_id = service.create_task(**wish())

    def ask(name: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {secrets[name]}"}
        address = f"{server.address}/v1/tasks/{task_id}?wait=60"
        return httpx.get(address, headers=headers, trust_env=False, timeout=30)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(ask, "patient")
        assert eventually(lambda: room.waiters.total() == 1)
        refused = ask("patient")
        second = pool.submit(ask, "other")
        assert eventually(lambda: room.waiters.total() == 2)
        service.cancel_task(task_id)
        answers = [first.result(), second.result()]
    assert (refused.status_code, refused.json()["code"]) == (503, "busy")
    assert [answer.json()["status"] for answer in answers] == ["cancelled"] * 2
    for name in secrets:
        service.revoke_token(name)


def test_a_service_that_stops_answers_all_who_wait(
    service: TaskService, serve: Callable[..., HttpServer], wish: Wish, tmp_path: Path, eventually: Eventually
) -> None:
    server = serve()
    task_id = service.create_task(**wish())
    wire = httpx.HTTPTransport(uds=str(tmp_path / "other.sock"))
    answers: list[httpx.Response] = []
    with httpx.Client(transport=wire, base_url="http://localhost", timeout=30) as client:
        asking = threading.Thread(target=lambda: answers.append(client.get(f"/v1/tasks/{task_id}?wait=60")))
        asking.start()
        assert eventually(lambda: room_of(server).waiters.total() == 1)
        assert server.stop()
        asking.join()
    assert [answer.json()["status"] for answer in answers] == ["pending"]
