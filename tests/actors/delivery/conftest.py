"""Receivers on loopback: a web server that answers by script, and notices for it."""

import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import msgspec
import pytest

from tasktrail.actors.delivery.attempt import Deadline, Result
from tasktrail.actors.delivery.post import Poster
from tasktrail.actors.delivery.webhook import WebhookSender
from tasktrail.actors.secret import Secret
from tasktrail.projections.notices import Notice

PEM = Path(__file__).parent / "receiver.pem"
"""Key and certificate of `receiver.test`, made for these tests and used nowhere else."""

SECRET = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
NOW = datetime(2026, 11, 24, 12, 0, 0, 500_000, tzinfo=UTC)

Answer: TypeAlias = Callable[[BaseHTTPRequestHandler], None]


class Receiver:
    """Keeps the requests that it gets; answers 204 by default."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: Answer = lambda handler: reply(handler, 204)
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=abc"

    @property
    def allowed(self) -> tuple[str, ...]:
        return (f"127.0.0.1:{self.port}",)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((self.command, self.path, headers, content))
                receiver.answer(self)

            def do_GET(self) -> None:
                receiver.requests.append((self.command, self.path, dict(self.headers), b""))
                receiver.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def reply(handler: BaseHTTPRequestHandler, status: int, content: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


@pytest.fixture
def receivers() -> Iterator[Callable[[], Receiver]]:
    """Start any number of receivers."""
    started: list[Receiver] = []

    def start() -> Receiver:
        started.append(Receiver())
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def secure_receiver() -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    server = Receiver(context)
    yield server
    server.close()


def make_notice(target: str, **changes: Any) -> Notice:
    task = {
        "id": 42,
        "type": "video_convert",
        "status": "completed",
        "input_file": "/in/a.mov",
        "output_file": "/out/a.mp4",
        "duration": 12.34,
        "attempt": 2,
        "error": "",
        "last_error": "",
        "message": "done",
        "options": {},
        "result": {},
        "depends_on": [],
        "notify_email": "private@example.org",
        "notify_webhook": "https://example.org/private",
        "callback_url": "",
        "checkpoint": {"data": {"private": 1}},
    }
    notice = Notice(
        notice_id="0f0f0f0f0f0f-42-1-7-webhook",
        channel="webhook",
        target=target,
        event="completed",
        position=99,
        recorded_at=datetime(2026, 11, 24, 11, 59, tzinfo=UTC),
        task_id=42,
        life=1,
        task=task,
        tries=0,
    )
    return msgspec.structs.replace(notice, **changes)


@pytest.fixture
def notice_to() -> Callable[..., Notice]:
    return make_notice


@cache
def default_context() -> ssl.SSLContext:
    """The context that a sender makes. It is made once: loading all the authorities takes longer than a test."""
    return httpx.create_ssl_context()


@pytest.fixture
def post() -> Callable[..., Result]:
    """Deliver one notice by POST: `post(url, allowed, all_within=…)`."""

    def send(target: str, allowed: tuple[str, ...] = (), *, secret: Secret = SECRET, **options: Any) -> Result:
        sender = WebhookSender(secret, Poster(allowed, **{"context": default_context()} | options))
        with Deadline(options.get("all_within", 20.0)) as deadline:
            return sender.send(make_notice(target), deadline, NOW)

    return send
