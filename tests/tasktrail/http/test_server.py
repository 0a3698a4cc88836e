"""The server itself: its sockets, its start and its end."""

import errno
import os
import socket
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import uvicorn.server
from owner import AUTH, LINE

from tasktrail import Client
from tasktrail.api.service import TaskService
from tasktrail.errors import ListenFailed
from tasktrail.events import CreateTask
from tasktrail.http import server as server_module
from tasktrail.http.server import HttpServer, listen_unix
from tasktrail.paths import MAX_UNIX_PATH, UnixName

Serve = Callable[..., HttpServer]
Many = Callable[..., list[CreateTask]]
Eventually = Callable[[Callable[[], bool]], bool]


def kind(descriptor: Path) -> str:
    """Return what a descriptor of ours points to; empty if it was closed meanwhile."""
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_it_answers_on_a_port_and_on_the_unix_socket(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    assert httpx.get(f"{server.address}/healthz", headers=AUTH, trust_env=False).json() == {"status": "ok"}
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(tmp_path / "other.sock"))) as unix:
        assert unix.get("http://whatever.example/healthz").json() == {"status": "ok"}


def test_after_a_long_rest_the_first_answer_tells_the_right_date(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """The regular look sets the date, and it is suspended while no client is connected."""
    told = ["Thu, 01 Jan 1970 00:00:00 GMT"]
    monkeypatch.setattr(uvicorn.server, "formatdate", lambda *_, **__: told[-1])
    monkeypatch.setattr(server_module, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(server_module, "_LOOK_IDLE_EVERY", 3600.0)
    server = serve()

    def date() -> str:
        return str(httpx.get(f"{server.address}/healthz", headers=AUTH, trust_env=False).headers["date"])

    assert date() == told[-1]
    assert server._server is not None
    state = server._server
    assert eventually(lambda: state.rests)
    told.append("Fri, 02 Jan 1970 00:00:00 GMT")
    assert date() == told[-1]


def test_a_request_needs_no_thread_of_the_loop(serve: Serve) -> None:
    """Litestar hands a guard that does not await to a thread, which takes longer than the rest of a request."""
    server = serve()
    before = {thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")}
    assert httpx.get(f"{server.address}/v1/types", headers=AUTH, trust_env=False).status_code == 200
    assert {thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")} <= before


@pytest.mark.parametrize("name", ["access", "backend", "who"])
@pytest.mark.parametrize("path", ["/v1/commands", "/v1/queue/resume"])
def test_what_the_service_itself_gives_a_route_is_no_parameter(serve: Serve, path: str, name: str) -> None:
    answer = httpx.post(f"{serve().address}{path}?{name}=1", headers=AUTH, trust_env=False)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "malformed", name)


def test_the_socket_is_for_its_owner_only(serve: Serve, tmp_path: Path) -> None:
    serve()
    assert stat.S_IMODE((tmp_path / "other.sock").stat().st_mode) == 0o600


def test_the_socket_is_gone_after_the_end_and_a_stale_one_is_replaced(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = serve(socket_path=path)
    with Client("http://localhost", socket=path) as client:
        assert client.types()
    assert server.stop()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_left_alone(service: TaskService, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("mine")
    with pytest.raises(ListenFailed, match="precious"):
        HttpServer(service, socket_path=path).start()
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EIO, "the data folder on a file system that can hold"),
        (errno.ENOSPC, "Free disk"),
        (errno.EACCES, "belongs to the user"),
        (errno.EROFS, "read-only"),
    ],
)
def test_what_keeps_a_socket_from_being_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def refuse(_self: socket.socket, _name: str) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tasktrail.http.server.socket.socket.bind", refuse)
    with pytest.raises(ListenFailed, match=rf"t\.sock cannot be listened on: {os.strerror(number)}") as refused:
        listen_unix(tmp_path / "t.sock")
    assert advice in refused.value.advice
    assert "port" not in refused.value.advice


def test_a_later_server_keeps_its_socket_when_the_earlier_one_stops(serve: Serve, tmp_path: Path) -> None:
    first, second = serve(), serve()
    assert first.stop()
    with Client("http://localhost", socket=tmp_path / "other.sock") as client:
        assert client.types()
    assert second.stop()


def test_a_path_too_long_for_a_socket_works_all_the_same(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    path = folder / "tasktrail.sock"
    assert len(os.fsencode(path)) > MAX_UNIX_PATH
    serve(socket_path=path)
    with Client.connect(folder) as client:
        assert {known.name for known in client.types()} >= {"image_thumbnail"}


def test_a_short_name_needs_no_descriptor(tmp_path: Path) -> None:
    before = open_files()
    with UnixName(tmp_path / "a.sock") as name:
        assert name.text == str(tmp_path / "a.sock")
        assert open_files() == before


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org", ""])
def test_addresses_that_others_can_reach_are_refused(service: TaskService, tmp_path: Path, host: str) -> None:
    with pytest.raises(ListenFailed) as refused:
        HttpServer(service, socket_path=tmp_path / "s", host=host).start()
    assert refused.value.field == "host"
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_loopback_addresses_are_served_under_their_own_name(serve: Serve, host: str) -> None:
    server = serve(host=host)
    assert httpx.get(f"{server.address}/readyz", headers=AUTH, trust_env=False).status_code == 200


def test_a_port_that_is_taken_is_a_typed_error(service: TaskService, serve: Serve, tmp_path: Path) -> None:
    port = httpx.URL(serve().address).port
    assert port
    with pytest.raises(ListenFailed, match=str(port)) as refused:
        HttpServer(service, socket_path=tmp_path / "t.sock", port=port).start()
    assert refused.value.field == "port"
    with pytest.raises(ListenFailed):
        HttpServer(service, socket_path=tmp_path / "t.sock", port=70_000).start()
    assert not (tmp_path / "t.sock").exists()


@pytest.mark.slow
def test_it_stops_whatever_is_open(service: TaskService, serve: Serve, many: Many) -> None:
    service.send_many(many(3000, reason="x" * 2000))
    server = serve()
    url = httpx.URL(server.address)
    ended = [threading.Event() for _ in range(3)]

    def follow(over: threading.Event) -> None:
        with httpx.stream(
            "GET", f"{server.address}/v1/events?follow=true", timeout=10, headers=AUTH, trust_env=False
        ) as answer:
            began.release()
            for _ in answer.iter_bytes():
                pass
        over.set()

    began = threading.Semaphore(0)
    for over in ended:
        threading.Thread(target=follow, args=(over,)).start()
    for _ in ended:
        assert began.acquire(timeout=10)
    stalled = socket.create_connection((url.host, url.port or 0))
    idle = socket.create_connection((url.host, url.port or 0))
    with stalled, idle:
        stalled.sendall(f"GET /v1/events?follow=true HTTP/1.1\r\nHost: localhost\r\n{LINE}\r\n".encode())
        assert stalled.recv(10)
        assert server.stop()
    assert all(over.wait(10) for over in ended), "a stream was cut off instead of ended"


def test_it_can_be_stopped_twice_and_without_having_started(service: TaskService, serve: Serve, tmp_path: Path) -> None:
    assert HttpServer(service, socket_path=tmp_path / "never").stop()
    server = serve()
    assert server.stop()
    assert server.stop()


def test_nothing_is_written_to_standard_output(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    server = serve()
    httpx.get(f"{server.address}/v1/tasks", headers=AUTH, trust_env=False)
    httpx.get(f"{server.address}/nowhere", headers=AUTH, trust_env=False)
    server.stop()
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_no_thread_and_no_descriptor_is_left_behind(
    service: TaskService, tmp_path: Path, eventually: Eventually
) -> None:
    def once() -> None:
        server = HttpServer(service, socket_path=tmp_path / "again.sock")
        server.start()
        httpx.get(f"{server.address}/v1/tasks", headers=AUTH, trust_env=False)
        assert server.stop()

    def left() -> tuple[int, int]:
        """Return threads and sockets. A reader's database files close with its thread, whenever SQLite does it."""
        threads = sum(1 for thread in threading.enumerate() if thread.name.startswith("http"))
        return threads, sum(1 for file in Path("/proc/self/fd").iterdir() if "socket:" in kind(file))

    before = left()
    for _ in range(3):
        once()
    assert eventually(lambda: left() <= before)


def test_another_loop_that_is_installed_is_left_alone(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn uses uvloop where it is installed, whose transports do not bound how much they read at once."""
    monkeypatch.setitem(sys.modules, "uvloop", ModuleType("uvloop"))
    assert httpx.get(f"{serve().address}/healthz", headers=AUTH, trust_env=False).status_code == 200
