"""A flood of connections delays no one else's answer, and none may last for ever."""

import asyncio
import errno
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from owner import AUTH, LINE

from tasktrail import Client
from tasktrail.api.service import TaskService
from tasktrail.errors import Busy
from tasktrail.http import connections
from tasktrail.http.connections import ConnectionRoom, Listener, Rooms, StreamBuffers, raise_descriptor_limit
from tasktrail.http.identity import OWNER, Identity
from tasktrail.http.server import HttpServer

Serve = Callable[..., HttpServer]
Eventually = Callable[[Callable[[], bool]], bool]
MIB = 1024 * 1024


def connect(server: HttpServer) -> socket.socket:
    url = httpx.URL(server.address)
    return socket.create_connection((url.host, url.port or 0), timeout=20)


def is_closed(connection: socket.socket) -> bool:
    """Wait for the other end to hang up; return whether it did."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def cramped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a server with room for four connections at each entrance."""
    for name in ("MAX_UNIX", "MAX_KNOWN", "MAX_STRANGE"):
        monkeypatch.setattr(connections, name, 4)


@pytest.mark.usefixtures("cramped")
def test_the_longest_idle_connection_makes_place(serve: Serve) -> None:
    server = serve()
    with ExitStack() as stack:
        first = stack.enter_context(connect(server))
        for _ in range(8):
            stack.enter_context(connect(server))
        assert is_closed(first)
        assert httpx.get(f"{server.address}/healthz", headers=AUTH, trust_env=False).status_code == 200


def log_in_slowly(server: HttpServer) -> socket.socket:
    """Open a connection with an unfinished log-in that sends nothing more."""
    one = connect(server)
    one.sendall(
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
    )
    assert one.recv(4096).startswith(b"HTTP/1.1 100")
    return one


@pytest.mark.usefixtures("cramped")
def test_strangers_who_never_end_their_requests_shut_nobody_out(serve: Serve) -> None:
    server = serve()
    with ExitStack() as stack:
        slow = [stack.enter_context(log_in_slowly(server)) for _ in range(4)]
        mine = stack.enter_context(connect(server))
        slow += [stack.enter_context(log_in_slowly(server)) for _ in range(3)]
        assert all(is_closed(one) for one in slow[:4])  # and not the connection that has sent nothing yet
        mine.sendall(HEALTH)
        assert mine.recv(12) == b"HTTP/1.1 200"


@pytest.mark.usefixtures("cramped")
def test_a_flood_at_the_port_leaves_the_unix_socket_alone(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with Client("http://localhost", socket=tmp_path / "other.sock") as client:
        assert client.types()
        with ExitStack() as stack:
            for _ in range(50):
                stack.enter_context(connect(server))
            assert client.types()


@pytest.mark.usefixtures("cramped")
def test_streams_that_nobody_reads_are_bounded_and_the_rest_still_answers(serve: Serve) -> None:
    server = serve()
    asking = f"GET /v1/events?follow=true HTTP/1.1\r\nHost: localhost\r\n{LINE}\r\n".encode()
    with ExitStack() as stack:
        one = stack.enter_context(connect(server))
        one.sendall(asking)
        assert one.recv(12) == b"HTTP/1.1 200"
        answer = httpx.get(f"{server.address}/v1/events?follow=true", headers=AUTH, trust_env=False)
        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["remedy"].startswith("End some")
        assert httpx.get(f"{server.address}/healthz", headers=AUTH, trust_env=False).status_code == 200


@pytest.mark.usefixtures("cramped")
def test_where_all_who_are_known_wait_another_one_is_told_so(
    serve: Serve, client: Client, wish: Callable[..., dict[str, Any]], eventually: Eventually
) -> None:
    server, held = serve(), client.create_task(**wish())
    room = server._server._rooms.known  # type: ignore[union-attr]  # it runs
    with ExitStack() as stack:
        for path in ("/v1/events?follow=true", *[f"/v1/tasks/{held}?wait=60"] * 3):
            asking = stack.enter_context(connect(server))
            asking.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{LINE}\r\n".encode())
        assert eventually(lambda: room.streams.total() + room.waiters.total() == 4)
        answer = httpx.get(f"{server.address}/v1/stats", headers=AUTH, trust_env=False)
        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
        assert int(answer.headers["retry-after"]) > 0
    client.cancel_task(held)


def test_a_token_takes_no_more_than_its_part_of_the_streams_and_the_owner_may_have_all() -> None:
    def who(credential: str, name: str = "ci") -> Identity:
        return Identity(name=name, role="reader", way="token", credential=credential)

    room = ConnectionRoom(100, 40)
    room.streams.update({"a": 10, "": 12})
    room.refuse_stream(who("b"))
    room.refuse_stream(who("c", OWNER))
    with pytest.raises(Busy, match="10 streams are open with this token"):
        room.refuse_stream(who("a"))
    room.streams["b"] = 18
    with pytest.raises(Busy, match="40 streams are open, which is the limit"):
        room.refuse_stream(who("c", OWNER))


def test_headers_that_do_not_come_end_the_connection(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_WITHIN", 0)
    server = serve()
    with connect(server) as silent, connect(server) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        assert is_closed(silent)
        assert is_closed(slow)


@pytest.mark.slow
def test_a_connection_that_has_asked_may_wait_for_its_next_question(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_WITHIN", 0)
    server = serve()
    asking = f"GET /healthz HTTP/1.1\r\nHost: localhost\r\n{LINE}\r\n".encode()
    with connect(server) as one, connect(server) as silent:
        one.sendall(asking)
        assert one.recv(12) == b"HTTP/1.1 200"
        assert is_closed(silent)
        with connect(server) as another:
            assert is_closed(another)
        while one.recv(4096)[-1:] != b"}":
            pass
        one.sendall(asking)
        assert one.recv(12) == b"HTTP/1.1 200"


@pytest.mark.slow
def test_a_body_that_does_not_come_ends_the_connection(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BODY_WITHIN", 0)
    server = serve()
    with connect(server) as half:
        half.sendall(
            b"POST /v1/commands HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + LINE.encode()
            + b"Content-Length: 1000\r\n\r\n{"
        )
        assert is_closed(half)


def test_what_is_not_http_is_told_as_a_problem(serve: Serve) -> None:
    with connect(serve()) as odd:
        odd.sendall(b"\x00\x01\x02\r\n\r\n")
        answer = odd.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"application/problem+json" in answer


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("X: a\r\nno header\r\n", "illegal header line"),
        ("X: a\0b\r\n", "illegal header line"),
        ("Content-Length: +5\r\n", "bad Content-Length"),
        ("Cookie: a\r\nCookie: b\r\n", "a header that says who asks is given twice"),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "a body with two lengths"),
    ],
)
def test_a_head_that_is_refused_is_told_why_and_what_to_send(serve: Serve, lines: str, why: str) -> None:
    """It was `Invalid HTTP request received`, and the advice was to read about routes."""
    answer = exchanged(serve(), f"GET /healthz HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
    problem = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])
    assert problem["detail"] == f"The request cannot be read as HTTP: {why}"
    assert "HTTP 1.1" in problem["remedy"]


def test_a_head_may_be_so_long_and_no_longer_however_it_arrives(serve: Serve) -> None:
    server = serve()
    for size, status in ((connections.MAX_HEAD - 1024, b"200"), (connections.MAX_HEAD, b"400"), (200_000, b"400")):
        with connect(server) as one:
            head = f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {'x' * size}\r\n\r\n"
            one.sendall(head.encode())
            assert one.recv(12) == b"HTTP/1.1 " + status


def test_a_body_with_two_lengths_is_refused_and_what_hides_behind_it_is_not_read(serve: Serve) -> None:
    """A proxy that uses the other length would let one client's request begin with the end of another's."""
    with connect(serve()) as one:
        one.sendall(
            b"POST /v1/queue/pause HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + LINE.encode()
            + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        answer = one.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost/healthz", "localhost", 200),
        ("HTTP://127.0.0.1:80/v1/tasks?limit=1", "localhost", 200),
        ("http://localhost?unknown=/", "localhost", 400),
        ("http://localhost/healthz", "evil.example", 200),
        ("http://evil.example/healthz", "localhost", 421),
        ("http://localhost@evil.example/healthz", "localhost", 404),
        ("ftp://localhost/healthz", "localhost", 404),
        ("http:///healthz", "localhost", 404),
        ("http://localhost:/healthz", "localhost", 200),
        ("http://localhost:99999/healthz", "localhost", 421),
    ],
)
def test_a_whole_address_is_taken_and_its_host_counts(serve: Serve, target: str, host: str, status: int) -> None:
    """A client may write one, as if it asked a proxy (RFC 9112, 3.2.2); its header `Host` then means nothing."""
    head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{LINE}\r\n"
    assert exchanged(serve(), head.encode()).startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "Origin"])
def test_a_header_that_says_who_asks_stands_there_once(serve: Serve, name: str) -> None:
    """With two of them, a proxy in front of the service might read the first, and the service the last."""
    with connect(serve()) as one:
        two = f"{name}: a\r\n{name.lower()}: b\r\n".encode()
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + two + b"\r\n")
        assert one.makefile("rb").read().startswith(b"HTTP/1.1 400 ")


def exchanged(server: HttpServer, sent: bytes) -> bytes:
    """Return all answers until the service hangs up."""
    with connect(server) as one, one.makefile("rb") as answers:
        one.sendall(sent)
        return answers.read()


HEALTH = f"GET /healthz HTTP/1.1\r\nHost: localhost\r\n{LINE}\r\n".encode()
JSON = "Content-Type: application/json\r\n"


@pytest.mark.parametrize(
    "head",
    [
        "POST /v1/commands HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n",
        "POST /v1/commands HTTP/1.1\r\n",
        "POST /v1/commands HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n",
        "POST /v1/commands HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
        "POST /v1/commands HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n",
        "POST /v1/commands HTTP/1.1\r\nHost : localhost\r\n",
        "POST /v1/commands HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n",
        "POST /v1/comm\xe4nds HTTP/1.1\r\nHost: localhost\r\n",
    ],
)
def test_a_head_that_two_readers_could_understand_in_two_ways_is_refused(serve: Serve, head: str) -> None:
    answer = exchanged(serve(), f"{head}{LINE}\r\n".encode("latin-1") + HEALTH)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("path", ["/v1/commands", "/v1/tasks", "/login"])
def test_a_length_of_thousands_of_digits_is_refused(serve: Serve, path: str, caplog: pytest.LogCaptureFixture) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{LINE}{JSON}Content-Length: {'0' * 5000}2\r\n\r\n{{}}"
    answer = exchanged(serve(), head.encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("length", ["Content-Length: %d\r\n", "Transfer-Encoding: chunked\r\n"])
def test_who_would_rather_speak_something_else_is_asked_for_the_body_nevertheless(serve: Serve, length: str) -> None:
    """Java's client and `curl --http2` propose HTTP/2 with every request. Without its body this request would erase."""
    body = '{"dry_run": true}'
    sent = body if "%d" in length else f"{len(body):x}\r\n{body}\r\n0\r\n\r\n"
    head = (
        f"POST /v1/users/987654/erase HTTP/1.1\r\nHost: localhost\r\n{LINE}{JSON}{length.replace('%d', str(len(body)))}"
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    )
    close = HEALTH.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n"
    first, second = exchanged(serve(), f"{head}{sent}".encode() + close).split(b"HTTP/1.1 ")[1:]
    assert (first[:3], second[:3]) == (b"200", b"200")  # an erasure is answered with 202


def waiting(room: ConnectionRoom) -> int:
    """Return the number of bytes read after the requests under way."""
    return max((len(one.conn.trailing_data[0]) for one in room.inside), default=0)


@pytest.mark.parametrize("when", ["at once", "later"])
def test_who_sends_more_behind_a_stream_and_hangs_up_ends_it(
    serve: Serve, service: TaskService, eventually: Eventually, when: str
) -> None:
    server = serve()
    room = server._server._rooms.known  # type: ignore[union-attr]  # it runs
    silent = f"/v1/events?follow=true&after={service.watermark.position}"
    following = f"GET {silent} HTTP/1.1\r\nHost: localhost\r\n{LINE}\r\n".encode()
    with connect(server) as one:
        one.sendall(following + (HEALTH if when == "at once" else b""))
        assert one.recv(12) == b"HTTP/1.1 200"
        assert eventually(lambda: room.streams.total() == 1)
        if when == "later":
            one.sendall(HEALTH)
        assert eventually(lambda: waiting(room) == len(HEALTH))
    assert eventually(lambda: room.streams.total() == 0)


def test_only_a_little_of_what_stands_behind_a_stream_is_read(serve: Serve, eventually: Eventually) -> None:
    server = serve()
    room = server._server._rooms.known  # type: ignore[union-attr]  # it runs
    with connect(server) as one:
        one.sendall(f"GET /v1/events?follow=true HTTP/1.1\r\nHost: localhost\r\n{LINE}\r\n".encode())
        assert one.recv(12) == b"HTTP/1.1 200"
        one.settimeout(0.1)
        with pytest.raises(TimeoutError):
            one.sendall(b"x" * 64 * MIB)
        assert eventually(lambda: waiting(room) > connections._NEXT_AHEAD)
        assert waiting(room) <= connections._NEXT_AHEAD + connections._READ


def test_white_space_behind_a_length_does_not_hide_the_body_from_its_room(serve: Serve, eventually: Eventually) -> None:
    server = serve()
    bodies = server._server._rooms.known.bodies  # type: ignore[union-attr]  # it runs
    for path, kind in (("/v1/commands", "application/json"), ("/v1/commands", "text/json"), ("/v1/batches", "a/json")):
        with connect(server) as half:
            half.sendall(
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{LINE}Content-Type: {kind}\r\n".encode()
                + b"Content-Length: 1000000 \t\r\n\r\n{"
            )
            assert eventually(lambda: bodies.free == connections.BODY_ROOM - 1_000_000), path
        assert eventually(lambda: bodies.free == connections.BODY_ROOM)


def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, before[1]), before[1]))
        assert raise_descriptor_limit() == min(before[1], connections.WANTED_DESCRIPTORS)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == raise_descriptor_limit()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("descriptors", [64, 256, 1024, 4096, 65_536])
def test_the_rooms_fit_into_the_descriptors_there_are(descriptors: int) -> None:
    rooms = Rooms(descriptors)
    sizes = (rooms.unix.size, rooms.known.size, rooms.strange.size)
    assert min(sizes) > 0
    assert sum(sizes) <= max(descriptors - connections.KEPT_DESCRIPTORS, descriptors // 4)


class Nothing:
    """A socket that cannot accept."""

    def __init__(self) -> None:
        self.end, self._other = socket.socketpair()
        self._other.send(b"x")  # readable, as long as it exists
        self.tried = 0

    def fileno(self) -> int:
        return self.end.fileno()

    def settimeout(self, _seconds: float) -> None: ...

    def accept(self) -> Any:
        self.tried += 1
        raise OSError(errno.EMFILE, "Too many open files")

    def close(self) -> None:
        self.end.close()
        self._other.close()


@pytest.fixture
def nothing() -> Iterator[Nothing]:
    one = Nothing()
    yield one
    one.close()


def test_without_descriptors_it_rests_instead_of_spinning(nothing: Nothing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_REST", 3600)
    turns = 100

    async def attempt() -> None:
        listener = Listener(nothing, lambda _socket: None, ConnectionRoom(4))  # type: ignore[arg-type, return-value]
        for _ in range(turns):
            await asyncio.sleep(0)
        listener.close()

    asyncio.run(attempt())
    assert nothing.tried == 1


def test_after_the_rest_it_tries_again(nothing: Nothing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_REST", 0)
    again = asyncio.Event()
    accept = nothing.accept

    def counted() -> Any:
        if nothing.tried == 2:
            again.set()
        return accept()

    monkeypatch.setattr(nothing, "accept", counted)

    async def attempt() -> None:
        listener = Listener(nothing, lambda _socket: None, ConnectionRoom(4))  # type: ignore[arg-type, return-value]
        await again.wait()
        listener.close()

    asyncio.run(asyncio.wait_for(attempt(), 20))


class Reader:
    """Stands for a connection."""

    def __init__(self) -> None:
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


def test_beyond_the_bound_the_reader_that_has_taken_nothing_for_longest_is_cut_off() -> None:
    held = StreamBuffers(bound=100)
    slow, quick, large = Reader(), Reader(), Reader()
    with ExitStack() as stack:
        stack.enter_context(held.holding(60, slow))  # type: ignore[arg-type]
        with held.holding(30, quick):  # type: ignore[arg-type]
            pass
        stack.enter_context(held.holding(40, quick))  # type: ignore[arg-type]
        assert not slow.dropped
        stack.enter_context(held.holding(50, large))  # type: ignore[arg-type]
        assert (slow.dropped, quick.dropped, large.dropped) == (True, False, False)
        assert held.total == 90
    assert held.total == 0
