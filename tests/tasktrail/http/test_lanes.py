"""Long work does not delay other requests."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from owner import AUTH

from tasktrail.api.service import TaskService
from tasktrail.batches.files import HungUp, Patience
from tasktrail.batches.request import MadeBatch, NewBatch
from tasktrail.errors import Busy
from tasktrail.http.backend import Backend
from tasktrail.http.identity import OWNER, Identity
from tasktrail.http.server import HttpServer

Eventually = Callable[[Callable[[], bool]], bool]


def somebody(name: str) -> Identity:
    return Identity(name=name, role="submitter", way="token", credential=name)


@pytest.fixture
def backend(service: TaskService) -> Iterator[Backend]:
    with closing(Backend(service)) as made:
        yield made


@pytest.fixture
def go() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


async def begin(backend: Backend, who: Identity, go: threading.Event) -> "asyncio.Future[bool]":
    """Begin work on many tasks that ends when it is told to."""
    work = asyncio.ensure_future(backend.change(who, go.wait, 60))
    await asyncio.sleep(0)  # one turn of the loop, in which it takes its place
    return work


def test_what_changes_many_tasks_holds_up_neither_streams_nor_others(backend: Backend, go: threading.Event) -> None:
    async def program() -> None:
        held = [await begin(backend, somebody(name), go) for name in ("ann", "bob", "eve")]
        async with asyncio.timeout(30):
            assert await backend.follow(lambda: "records") == "records"
            assert await backend.bulk(lambda: "a list") == "a list"
        go.set()
        assert await asyncio.gather(*held) == [True] * 3

    asyncio.run(program())


def test_long_work_of_others_holds_up_no_stream(backend: Backend, go: threading.Event) -> None:
    async def program() -> None:
        held = [asyncio.ensure_future(backend.bulk(go.wait, 60)) for _ in range(3)]
        async with asyncio.timeout(30):
            assert await backend.follow(lambda: "records") == "records"
        go.set()
        await asyncio.gather(*held)

    asyncio.run(program())


def test_each_token_has_one_request_for_many_tasks_under_way(backend: Backend, go: threading.Event) -> None:
    async def program() -> None:
        held = await begin(backend, somebody("ann"), go)
        with pytest.raises(Busy, match="with this token"):
            await backend.change(somebody("ann"), lambda: None)
        assert await backend.change(somebody("bob"), lambda: "done") == "done"
        go.set()
        await held
        assert await backend.change(somebody("ann"), lambda: "done") == "done"

    asyncio.run(program())


def test_few_requests_for_many_tasks_may_wait(backend: Backend, go: threading.Event) -> None:
    owner = Identity(name=OWNER, role="admin", way="socket", credential="")

    async def program() -> None:
        held = [await begin(backend, owner, go) for _ in range(10)]
        for who in (owner, somebody("ann")):
            with pytest.raises(Busy, match="10 requests"):
                await backend.change(who, lambda: None)
        go.set()
        await asyncio.gather(*held)
        assert await backend.change(owner, lambda: "done") == "done"

    asyncio.run(program())


def test_a_batch_and_a_retry_of_many_share_the_place_of_their_token(
    service: TaskService, server: HttpServer, go: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    really = service.carry_out_batch

    async def held(wanted: NewBatch, *rest: object) -> MadeBatch:
        begun.set()
        go.wait(60)
        return await really(wanted, *rest)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(service, "carry_out_batch", held)
    headers = {"authorization": f"Bearer {service.add_token('lanes', 'submitter')}"}
    with httpx.Client(base_url=server.address, headers=headers, trust_env=False, timeout=30) as web:
        body = {"inputs": ["/none"], "to": "/tmp/none/out", "type": "image_thumbnail", "dry_run": True}
        answers: list[httpx.Response] = []
        first = threading.Thread(target=lambda: answers.append(web.post("/v1/batches", json=body)))
        first.start()
        assert begun.wait(30)
        for path, sent in (("/v1/batches", body), ("/v1/tasks/retry", {})):
            refused = web.post(path, json=sent)
            assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "busy", "2")
        assert web.get("/v1/events?after=0&limit=1").status_code == 200
        go.set()
        first.join()
    service.revoke_token("lanes")
    assert [answer.status_code for answer in answers] == [202]


def test_a_batch_of_a_client_that_hangs_up_is_given_up(
    service: TaskService, server: HttpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, eventually: Eventually
) -> None:
    (tmp_path / "a.txt").write_text("a")
    begun, seen = threading.Event(), list[str]()
    really = service.carry_out_batch

    async def when_it_has_gone(
        wanted: NewBatch, actor: str, user_id: int | None, send: Any, patience: Patience | None = None
    ) -> MadeBatch:
        assert patience is not None
        begun.set()
        gone = eventually(patience._hung_up)
        try:
            return await really(wanted, actor, user_id, send, patience)
        except HungUp:
            seen.append(f"gone: {gone}")
            raise

    monkeypatch.setattr(service, "carry_out_batch", when_it_has_gone)
    before = service.watermark.position
    body = json.dumps({"inputs": [str(tmp_path / "a.txt")], "to": str(tmp_path / "out/"), "batch": "given up"})
    head = f"POST /v1/batches HTTP/1.1\r\nhost: localhost\r\nauthorization: {AUTH['authorization']}\r\n"
    with socket.create_connection((httpx.URL(server.address).host, httpx.URL(server.address).port)) as wire:
        wire.sendall(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        assert begun.wait(30)
    assert eventually(lambda: seen == ["gone: True"])
    assert service.watermark.position == before


def test_a_search_for_a_token_has_an_end_and_one_for_the_owner_has_none(
    service: TaskService, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    within: list[float | None] = []

    async def note(
        _wanted: NewBatch, _actor: str, _user_id: int | None, _send: Any, patience: Patience | None = None
    ) -> MadeBatch:
        assert patience is not None
        within.append(patience._within)
        return MadeBatch(batch="none", position=0, created=(), skipped=(), left_out=(), refused=())

    monkeypatch.setattr(service, "carry_out_batch", note)
    token = {"authorization": f"Bearer {service.add_token('searching', 'submitter', user_id=7)}"}
    for headers in (token, AUTH):
        body = {"inputs": ["/none"], "to": "/none/out"}
        answer = httpx.post(f"{server.address}/v1/batches", json=body, headers=headers, trust_env=False, timeout=30)
        assert answer.status_code == 202
    service.revoke_token("searching")
    assert within == [5.0, None]
