"""Both clients and unusable answers: try again, a lost connection, and another program at the address."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
from driven_client import driven

from tasktrail import AsyncClient, Client
from tasktrail.api.wire import AwaitedWire, BlockingWire
from tasktrail.cli.progress import Display, Poller
from tasktrail.errors import Busy, TooManyRequests, problem
from tasktrail.events import CreateTask, TasktrailError
from tasktrail.events.errors import AnotherProgram, NotReady, OutcomeUnknown, ServiceUnreachable, WaitTimeout

Connect = Callable[..., Client]


class Service(BaseHTTPRequestHandler):
    """Answers with the prepared responses, and then with `last`. None cuts the connection instead of answering."""

    ready: ClassVar[list[TasktrailError | dict[str, Any] | None]]
    last: ClassVar[TasktrailError | dict[str, Any] | bytes]
    asked: ClassVar[list[str]]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.asked.append(f"{self.command} {self.path}")
        answer = self.ready.pop(0) if self.ready else self.last
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status if isinstance(answer, TasktrailError) else 200)
        if isinstance(answer, TasktrailError):
            self.send_header("content-type", "application/problem+json")
            if answer.retry_after is not None:
                self.send_header("retry-after", str(answer.retry_after))
            answer = problem(answer)
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode() + b"\n"
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - as http.server has it

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Service.ready, Service.last, Service.asked = [], {}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(params=["client", "async_client"])
def connect(request: pytest.FixtureRequest) -> Connect:
    if request.param == "client":
        return Client
    return lambda url, **more: driven(lambda: AsyncClient(url, **more))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return how long the clients have paused; their clock moves by itself, so the test does not wait."""
    made: list[float] = []
    began = time.monotonic()

    async def pause(wire: object, seconds: float) -> None:
        made.append(seconds)
        if isinstance(wire, AwaitedWire):
            await asyncio.sleep(0)

    monkeypatch.setattr(BlockingWire, "pause", pause)
    monkeypatch.setattr(AwaitedWire, "pause", pause)
    for module in ("connection", "remote"):
        monkeypatch.setattr(f"tasktrail.api.{module}.monotonic", lambda: began + sum(made))
    return made


def too_many(after: float = 1) -> TooManyRequests:
    return TooManyRequests("anna may send 1 request a second", after=after)


ACCEPTED = {"task_id": 7, "position": 9, "command_id": "once"}


def test_a_question_is_asked_again_when_the_service_says(connect: Connect, url: str, pauses: list[float]) -> None:
    Service.ready = [too_many(3), Busy("all are busy"), {"tasks": [], "total": 4}]
    with connect(url) as client:
        assert client.list_tasks() == ([], 4)
    assert pauses == [3, 2]


def test_a_command_is_sent_again_when_the_service_says(connect: Connect, url: str, pauses: list[float]) -> None:
    Service.ready = [too_many(2), ACCEPTED]
    with connect(url) as client:
        assert client.create_task("add") == 7
    assert (pauses, Service.asked) == ([2], ["POST /v1/commands"] * 2)


def test_a_stream_begins_when_the_service_says(connect: Connect, url: str, pauses: list[float]) -> None:
    Service.ready = [too_many(2), Busy("all streams are open")]
    Service.last = NotReady("enough")
    with connect(url) as client, pytest.raises(NotReady):
        list(client.log())
    assert (pauses, len(Service.asked)) == ([2, 2], 3)


def test_what_would_take_longer_than_the_client_waits_is_refused(
    connect: Connect, url: str, pauses: list[float]
) -> None:
    Service.last = too_many(4)
    with connect(url, answer_within=10) as client:
        for ask in (client.stats, lambda: client.create_task("add"), lambda: list(client.log())):
            pauses.clear()
            with pytest.raises(TooManyRequests, match="anna may send") as refused:
                ask()
            assert (pauses, refused.value.retry_after) == ([4, 4], 4)


def test_a_refusal_after_a_lost_answer_leaves_the_outcome_open(connect: Connect, url: str, pauses: list[float]) -> None:
    """The first command may have been carried out: the refusal of the repetition says nothing about it."""
    Service.ready = [None]
    Service.last = NotReady("it starts again")
    with connect(url) as client, pytest.raises(OutcomeUnknown, match="once"):
        client.create_task("add", command_id="once")
    Service.ready, Service.last = [None, NotReady("it starts again")], ACCEPTED
    with connect(url) as client:
        assert client.create_task("add", command_id="once") == 7
    assert max(pauses) <= 1


def test_waiting_for_a_task_outlasts_refusals_and_ends_in_time(connect: Connect, url: str, pauses: list[float]) -> None:
    Service.last = too_many(4)
    with connect(url) as client, pytest.raises(WaitTimeout, match=r"not ended in 10 s: anna may send"):
        client.wait(7, timeout=10)
    assert max(pauses) == 4
    if connect is Client:  # the other client's stream pauses as well
        assert sum(pauses) == 10


ASKED: list[Callable[[Client], object]] = [
    lambda client: client.stats(),
    lambda client: client.list_tasks(),
    lambda client: client.get_task_progress(1),
    lambda client: client.events(1),
    lambda client: list(client.log()),
    lambda client: client.wait(1),
    lambda client: client.create_task("add"),
    lambda client: client.send_many([CreateTask(type="add"), CreateTask(type="add")]),
    lambda client: client.login_address(),
]


@pytest.mark.parametrize(
    "answer", [b"<!doctype html><title>Another program</title>\n", b"{}\n", b"[7]\n", b"\xff\n", b"<html>", b""]
)
@pytest.mark.parametrize("ask", ASKED)
def test_another_program_at_the_address_is_no_service(
    connect: Connect, url: str, ask: Callable[[Client], object], answer: bytes
) -> None:
    Service.last = answer
    with connect(url) as client, pytest.raises(AnotherProgram, match="not from a tasktrail service"):
        ask(client)


@pytest.mark.parametrize("spoken", [b"\x15\x03\x01\x00\x02\x02\x46", b"220 mail ESMTP\r\n\r\n"])
def test_what_speaks_no_http_is_asked_once(connect: Connect, spoken: bytes, pauses: list[float]) -> None:
    """A port of mail, or one of TLS at an address with http://: it will never answer otherwise."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def speak() -> None:
            for _ in range(3):
                one, _address = listening.accept()
                with one:
                    one.recv(65536)
                    one.sendall(spoken)

        speaking = Thread(target=speak)
        speaking.start()
        with connect(f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
            for ask in (client.stats, lambda: list(client.log()), lambda: client.create_task("echo")):
                with pytest.raises(AnotherProgram, match=r"speaks no HTTP.*https://"):
                    ask()
        speaking.join()
    assert pauses == []


def test_another_program_is_not_waited_for(url: str) -> None:
    Service.last = b"{}\n"
    said: list[str] = []
    poller = Poller(cast("Display", SimpleNamespace(say=said.append)), clock=lambda: 0)
    with Client(url) as client, pytest.raises(AnotherProgram):
        poller.ask(lambda: client.get_task(1))
    assert said == []


@pytest.mark.parametrize(
    "address",
    ["--renderer-cmd-prefix=sh", "file:///etc/passwd", "javascript:1", "http://a/\x1b]0;x", "http://a/ -x", ""],
)
def test_a_browser_is_given_no_address_that_is_none_of_a_page(connect: Connect, url: str, address: str) -> None:
    """The address comes from whatever program answers at the given address, and goes to a program of this machine."""
    Service.last = {"address": address}
    with connect(url) as client, pytest.raises(ServiceUnreachable, match="not from a tasktrail service"):
        client.login_address()
    Service.last = {"address": "https://tasks.example.org:8443/login?code=-x_9"}
    with connect(url) as client:
        assert client.login_address().endswith("=-x_9")
