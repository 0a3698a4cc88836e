"""Bodies that do not end hold few resources, for a short time, and keep no one else from sending."""

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from owner import AUTH, LINE, SECRET

from tasktrail.errors import Busy, RequestTimeout
from tasktrail.http import connections
from tasktrail.http.connections import Bodies
from tasktrail.http.identity import OWNER, Identity
from tasktrail.http.requests import MAX_FORM, MAX_LOGIN
from tasktrail.http.server import HttpServer
from tasktrail.http.sessions import csrf_of

Serve = Callable[..., HttpServer]
Wish = Callable[..., dict[str, Any]]
MIB = 1024 * 1024


def begin(server: HttpServer, size: int, sent: int) -> socket.socket:
    """Send a request that announces a body, and only the body's beginning."""
    url = httpx.URL(server.address)
    one = socket.create_connection((url.host, url.port or 0), timeout=30)
    one.sendall(
        b"POST /v1/commands HTTP/1.1\r\nHost: localhost\r\n" + LINE.encode() + b"Content-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % size
    )
    one.sendall(b" " * sent)
    return one


def answer_of(one: socket.socket) -> tuple[int, dict[str, Any]]:
    whole = b""
    try:
        while part := one.recv(65536):
            whole += part
            head, _, body = whole.partition(b"\r\n\r\n")
            if body.endswith(b"}"):
                break
    except ConnectionResetError:
        pass
    head, _, body = whole.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_a_body_that_stops_arriving_is_told_so(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALL", 0.1)
    monkeypatch.setattr(connections, "PRESSED", 0.1)
    for size in (100, MIB):
        with begin(serve(), size, 10) as half:
            status, problem = answer_of(half)
        assert (status, problem["code"]) == (408, "request_timeout")


def test_unfinished_bodies_leave_room_for_those_that_are_sent(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, wish: Wish
) -> None:
    monkeypatch.setattr(connections, "BODY_ROOM", 20 * MIB)
    monkeypatch.setattr(connections, "PRESSED", 0.1)
    server = serve()
    large = [{"command": "create_task", **wish(reason="x" * 2000)} for _ in range(500)]
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(begin(server, 14 * MIB, MIB // 8))
        small = httpx.post(f"{server.address}/v1/tasks", json=wish(), headers=AUTH, trust_env=False, timeout=30)
        assert small.status_code == 202
        accepted = httpx.post(f"{server.address}/v1/commands", json=large, headers=AUTH, trust_env=False, timeout=30)
    assert accepted.status_code == 202
    assert all("position" in one for one in accepted.json())


def test_a_body_without_an_announced_size_is_taken(serve: Serve, wish: Wish) -> None:
    def pieces() -> Any:
        text = json.dumps(wish()).encode()
        yield text[:10]
        yield text[10:]

    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{serve().address}/v1/tasks", content=pieces(), headers=headers | AUTH, trust_env=False)
    assert answer.status_code == 202


def headers(size: int) -> dict[bytes, bytes]:
    return {b"content-length": b"%d" % size}


async def never() -> Any:
    await asyncio.Event().wait()


async def trickle() -> Any:
    await asyncio.sleep(0)
    return {"type": "http.request", "body": b"x", "more_body": True}


async def whole() -> Any:
    return {"type": "http.request", "body": b"x", "more_body": False}


def test_without_room_in_time_the_request_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WAIT", 0.01)

    async def attempt() -> int:
        room = Bodies(100_000)
        async with room.reading(headers(90_000), whole) as first:
            await first()
            assert room.free == 10_000
            async with room.reading(headers(20_000), whole) as second:
                with pytest.raises(Busy):
                    await second()
            async with room.reading(headers(connections.SMALL), whole) as small:
                await small()
        return room.free

    assert asyncio.run(attempt()) == 100_000


def who(name: str) -> Identity:
    return Identity(name=name, role="submitter", way="token", credential=name)


def test_a_token_takes_half_of_the_room_and_the_owner_may_have_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WAIT", 0.01)
    monkeypatch.setattr(connections, "MAX_BODY", 50_000)

    async def attempt() -> None:
        room = Bodies(100_000)
        async with room.reading(headers(50_000), whole, who("ci")) as first:
            await first()
            async with room.reading(headers(20_000), whole, who("ci")) as second:
                refused: asyncio.Future[Any] = asyncio.ensure_future(second())
                await asyncio.sleep(0)
                assert room.waiting == 0  # no other body is cut off for lack of room that was never free
                with pytest.raises(Busy):
                    await refused
            async with room.reading(headers(20_000), whole, who("other")) as third:
                await third()
        async with room.reading(headers(50_000), whole, who("ci")) as again:
            await again()
        for owner in (None, who(OWNER)):
            async with (
                room.reading(headers(50_000), whole, owner) as one,
                room.reading(headers(50_000), whole, owner) as another,
            ):
                await one()
                await another()
        assert (room.free, room.taken.total()) == (100_000, 0)

    asyncio.run(attempt())


@pytest.mark.parametrize(
    ("body", "limit", "value", "told"),
    [
        (never, "STALL", 3600, "Nothing more of the body has arrived"),
        (trickle, "BODY_WITHIN", 1e-6, "others wait for room"),  # no rate suffices
    ],
    ids=["who stalls", "who sends too slowly"],
)
def test_who_keeps_others_waiting_gives_way(
    monkeypatch: pytest.MonkeyPatch, body: Callable[[], Any], limit: str, value: float, told: str
) -> None:
    monkeypatch.setattr(connections, "PRESSED", 0.01)
    monkeypatch.setattr(connections, limit, value)

    async def sending(room: Bodies) -> None:
        async with room.reading(headers(90_000), body) as receive:
            while True:
                await receive()

    async def attempt() -> None:
        room = Bodies(100_000)
        slow = asyncio.create_task(sending(room))
        await asyncio.sleep(0)
        async with room.reading(headers(50_000), whole) as receive:
            assert await receive() == await whole()
        with pytest.raises(RequestTimeout, match=told):
            await slow

    asyncio.run(asyncio.wait_for(attempt(), 30))


def test_a_request_without_a_body_may_wait_for_its_end_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALL", 0)
    monkeypatch.setattr(connections, "PRESSED", 0)

    async def attempt() -> bool:
        async with Bodies(10).reading({}, never) as receive:
            waiting: asyncio.Future[Any] = asyncio.ensure_future(receive())
            for _ in range(10):
                await asyncio.sleep(0)
            alive = not waiting.done()
            waiting.cancel()
        return alive

    assert asyncio.run(attempt())


FORM = {"content-type": "application/x-www-form-urlencoded", "accept": "text/html"}


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b"])
def test_a_stranger_has_no_large_form_read(server: HttpServer, kind: str) -> None:
    """The event loop reads forms, and serves no one else meanwhile: 16 MB of fields take it many seconds."""
    large = b"a=b&" * (MAX_LOGIN // 4) + b"token=x"
    answer = httpx.post(f"{server.address}/login", content=large, headers=FORM | {"content-type": kind})
    assert answer.status_code == 413
    assert "The body is larger than this route takes" in answer.text
    assert httpx.post(f"{server.address}/login", content=b"next=%2Ftasks&token=x", headers=FORM).status_code == 401


@pytest.mark.parametrize("path", ["/tasks/act", "/retry", "/submit/image_thumbnail"])
def test_a_form_of_a_page_may_be_as_large_as_any_has_to_be(server: HttpServer, path: str) -> None:
    for size, status in ((MAX_FORM, {413}), (MAX_FORM - 100, {200, 303, 400})):
        content = b"nothing=" + b"x" * size
        answer = httpx.post(f"{server.address}{path}", content=content, headers=FORM | AUTH)
        assert answer.status_code in status


def test_a_session_has_no_form_read_where_programs_send_json(server: HttpServer) -> None:
    with httpx.Client(base_url=server.address, trust_env=False) as browser:
        assert browser.post("/login", data={"token": SECRET}).status_code == 303
        (value,) = browser.cookies.values()
        refused = browser.post("/v1/commands", content=f"csrf={csrf_of(value)}", headers=FORM)
        assert (refused.status_code, refused.json()["code"]) == (403, "wrong_origin")


@pytest.mark.parametrize("path", ["/login", "/retry"])
def test_whoever_hangs_up_in_the_middle_of_a_form_is_no_fault_of_the_service(
    server: HttpServer, path: str, caplog: pytest.LogCaptureFixture, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    url = httpx.URL(server.address)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{LINE}Content-Type: {FORM['content-type']}\r\n"
    before = server._server._rooms.known.inside.copy()  # type: ignore[union-attr]  # it runs
    with socket.create_connection((url.host, url.port or 0), timeout=30) as half:
        half.sendall(f"{head}Content-Length: 100\r\n\r\ntoken=".encode())
        assert eventually(lambda: bool(server._server._rooms.known.inside - before))  # type: ignore[union-attr]
    assert eventually(lambda: server._server._rooms.known.inside <= before)  # type: ignore[union-attr]
    assert httpx.get(f"{server.address}/healthz").status_code == 200
    assert "a page failed" not in caplog.text
