"""One real service with its HTTP server for all tests here, and helpers to talk to it."""

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from owner import AUTH, secret_file
from PIL import Image

from tasktrail import Client
from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config
from tasktrail.events import CreateTask
from tasktrail.http import pace
from tasktrail.http.server import HttpServer

JSON = {"content-type": "application/json"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer wrong credentials at once, because many of them come from one address here."""
    monkeypatch.setattr(pace, "LONGEST_WAIT", 0.0)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def service(data: Path) -> Iterator[TaskService]:
    with TaskService.open(data, config=Config(workers=1)) as running:
        yield running


@pytest.fixture(scope="session")
def server(service: TaskService, data: Path) -> Iterator[HttpServer]:
    running = HttpServer(service, socket_path=data / "tasktrail.sock", secret_file=secret_file(data))
    running.start()
    yield running
    assert running.stop()


@pytest.fixture
def serve(
    service: TaskService, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., HttpServer]]:
    """Start another server, on the same service or on an object in front of it."""
    started: list[HttpServer] = []
    secret = secret_file(tmp_path_factory.mktemp("secret"))

    def start(served: Any = service, **more: Any) -> HttpServer:
        running = HttpServer(served, **{"socket_path": tmp_path / "other.sock", "secret_file": secret, **more})
        started.append(running)
        running.start()
        return running

    yield start
    for running in started:
        assert running.stop()


@pytest.fixture(scope="session")
def web(server: HttpServer) -> Iterator[httpx.Client]:
    """Plain HTTP on the loopback port."""
    with httpx.Client(base_url=server.address, headers=JSON | AUTH, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def client(server: HttpServer, data: Path) -> Iterator[Client]:
    assert server.address
    with Client.connect(data) as connected:
        yield connected


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "in.png"
    Image.new("RGB", (64, 48), "teal").save(path)
    return path


@pytest.fixture
def wish(picture: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return the fields of a valid task, with changes. It is held, so that it does not run."""

    def fields(**changes: Any) -> dict[str, Any]:
        usual = {
            "type": "image_thumbnail",
            "input_file": str(picture),
            "output_file": str(tmp_path / "out.jpg"),
            "held": True,
            "overwrite": True,  # most tests make several, and none of them should run
        }
        return {**usual, **changes}

    return fields


_numbers = itertools.count(1_000_000)


@pytest.fixture
def document() -> int:
    """Return a name of a document that no other test uses."""
    return next(_numbers)


@pytest.fixture
def many(wish: Callable[..., dict[str, Any]]) -> Callable[..., list[CreateTask]]:
    """Return many commands of the usual kind."""

    def commands(number: int, **changes: Any) -> list[CreateTask]:
        return [CreateTask(**wish(**changes)) for _ in range(number)]

    return commands


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], bool]:
    """Return whether a condition comes true within five seconds."""

    def holds(condition: Callable[[], bool]) -> bool:
        pause = threading.Event()
        return any(condition() or pause.wait(0.01) for _ in range(500))

    return holds


class Proxy:
    """Passes bytes between clients and a server; as often as it is told, it cuts a connection instead of answering."""

    def __init__(self, address: str) -> None:
        url = httpx.URL(address)
        self._target = (url.host, url.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0
        self.answers = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._open += [client, server]
                threading.Thread(target=self._pump, args=(client, server, self._ask), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, self._answer), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, may_pass: Callable[[], bool]) -> None:
        with suppress(OSError):
            while (part := source.recv(1 << 20)) and may_pass():
                sink.sendall(part)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _ask(self) -> bool:
        return True

    def _answer(self) -> bool:
        self.answers += 1
        self.cuts -= 1
        return self.cuts < 0

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for one in (self._listener, *self._open):
            one.close()


@pytest.fixture
def proxy(server: HttpServer) -> Iterator[Proxy]:
    between = Proxy(server.address)
    yield between
    between.close()
