"""An answer includes everything that was durable when the question came, for every caller and channel.

The views of the service here lag an hour behind unless a question needs them, so outdated answers show.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from owner import AUTH, secret_file

from tasktrail import Client
from tasktrail.actors.messages import PING, PONG
from tasktrail.api.reader import Reader
from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config
from tasktrail.events import Completed, StartTask
from tasktrail.events.errors import NotReady
from tasktrail.http.server import HttpServer

Wish = Callable[..., dict[str, Any]]
WITHIN = 30.0


class Hook(HTTPServer):
    """Asks the service, in the middle of each delivery, for the state of the task in the notice."""

    def __init__(self) -> None:
        self.asked: str = ""
        self.answers: list[tuple[str, str]] = []
        self.told = threading.Event()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = json.loads(self.rfile.read(int(self.headers["content-length"])))["data"]
                address = f"{hook.asked}/v1/tasks/{data['task']['id']}"
                task = httpx.get(address, headers=AUTH, trust_env=False).json()
                hook.answers.append((data["event"], task["status"]))
                self.send_response(204)
                self.end_headers()
                hook.told.set()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server_port}"


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def lagging(tmp_path: Path, hook: Hook) -> Iterator[TaskService]:
    with TaskService.open(tmp_path / "data", config=Config(workers=1, allow_endpoints=(hook.host,))) as service:
        service._system.consumers.to_projector._gather = 3600.0
        yield service


@pytest.fixture
def house(lagging: TaskService, tmp_path: Path) -> Iterator[HttpServer]:
    server = HttpServer(
        lagging, socket_path=tmp_path / "data" / "tasktrail.sock", secret_file=secret_file(tmp_path / "data")
    )
    server.start()
    yield server
    assert server.stop()


def release(service: TaskService, **fields: Any) -> None:
    """Make task 1 and have it read, then let it run, without any caller waiting for its end."""
    service.create_task(**fields)
    assert service.get_task(1).status == "pending"
    service.submit([StartTask(task_id=1)], lambda _: None)


def ended(lines: Iterator[str]) -> None:
    """Read a stream up to the end of the task."""
    for line in lines:
        if '"event":"completed"' in line:
            return
    raise AssertionError("the stream has ended before the task")


@pytest.mark.parametrize("path", ["/v1/events?follow=true", "/v1/tasks/1/events?follow=true"])
@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/event-stream"])
def test_who_has_read_a_stream_to_the_end_of_a_task_and_everybody_else_sees_it_ended(
    house: HttpServer, lagging: TaskService, wish: Wish, tmp_path: Path, path: str, accept: str
) -> None:
    with httpx.Client(base_url=house.address, headers=AUTH, trust_env=False, timeout=WITHIN) as web:
        release(lagging, **wish())
        with web.stream("GET", path, headers={"accept": accept}) as stream:
            ended(stream.iter_lines())
            answer = web.get("/v1/tasks/1")
        assert answer.json()["status"] == "completed"
        assert web.get("/v1/tasks?status=completed").json()["total"] == 1
        assert web.get("/v1/stats").json()["counts"]["completed"] == 1
    with Client.connect(tmp_path / "data") as other:
        assert other.get_task(1).status == "completed"


def test_who_has_read_an_array_of_events_sees_them(house: HttpServer, lagging: TaskService, wish: Wish) -> None:
    release(lagging, **wish())
    with httpx.Client(base_url=house.address, headers=AUTH, trust_env=False, timeout=WITHIN) as web:
        while web.get("/v1/tasks/1/events").json()[-1]["event"] != "completed":
            pass
        assert web.get("/v1/tasks/1").json()["status"] == "completed"


def test_a_client_that_follows_the_log_sees_what_it_was_told(
    house: HttpServer, lagging: TaskService, wish: Wish, tmp_path: Path
) -> None:
    assert house.address
    with Client.connect(tmp_path / "data") as client:
        release(lagging, **wish())
        assert any(isinstance(record.event, Completed) for record in client.follow())
        assert client.get_task(1).status == "completed"


def test_whoever_follows_in_this_process_sees_what_he_was_told(lagging: TaskService, wish: Wish) -> None:
    release(lagging, **wish())
    assert any(isinstance(record.event, Completed) for record in lagging.follow())
    assert lagging.get_task(1).status == "completed"


def test_who_has_asked_leaves_no_write_ahead_log_behind_when_the_service_is_closed(
    lagging: TaskService, wish: Wish, tmp_path: Path
) -> None:
    lagging.get_task(lagging.create_task(**wish()))
    assert (tmp_path / "data" / "log.db-wal").exists()
    lagging.close()
    assert not (tmp_path / "data" / "log.db-wal").exists()


def test_who_is_called_back_sees_what_he_is_called_for(
    house: HttpServer, lagging: TaskService, hook: Hook, wish: Wish
) -> None:
    hook.asked = str(house.address)
    release(lagging, **wish(notify_webhook=f"http://{hook.host}/", notify_on=["completed"]))
    assert hook.told.wait(WITHIN)
    assert hook.answers[0] == ("completed", "completed")


def test_the_files_beside_a_service_are_read_once_its_views_have_come_as_far_as_the_log(
    lagging: TaskService, wish: Wish, tmp_path: Path
) -> None:
    lagging.create_task(**wish())
    reader = Reader(tmp_path / "data")
    found: list[int] = []

    def ask() -> None:
        with suppress(NotReady):
            found.append(reader.get_task(1).id)

    asking = threading.Thread(target=ask)
    asking.start()
    assert lagging.get_task(1).id == 1
    asking.join()
    assert found == [1]


def test_views_that_do_not_come_are_told_and_old_ones_not_served(
    lagging: TaskService, house: HttpServer, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    lagging.create_task(**wish())
    assert lagging.get_task(1).status == "pending"
    lagging._system.consumers.to_projector.close()  # it may still have to announce the start
    assert lagging._system.health.views.wait(30)  # and the check at the start folds, as a ping does
    (watched,) = [child for child in lagging._system._supervisor._children if child.name == "projector"]
    watched.since, watched.asked = lagging.source.clock.monotonic() + 3600, None
    assert lagging._system.projector.ask(PING, timeout=20) == PONG
    with monkeypatch.context() as patch:
        patch.setattr("tasktrail.api.service.VIEWS_WITHIN", 0.05)
        patch.setattr(lagging._system.projector, "tell", lambda _: None)
        lagging.cancel_task(1)
        with httpx.Client(base_url=house.address, headers=AUTH, trust_env=False, timeout=WITHIN) as web:
            answer = web.get("/v1/tasks/1")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
