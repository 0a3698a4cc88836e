"""One real service with its page for all tests here."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config
from tasktrail.events.errors import IllegalTransition
from tasktrail.http.server import HttpServer

SUPPORT = str(Path(__file__).parents[2] / "support")
PATIENCE = 10.0


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskService]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", SUPPORT)
        patch.setattr(sys, "path", [*sys.path, SUPPORT])
        config = Config(workers=2, handlers=("page_handlers",))
        with TaskService.open(tmp_path_factory.mktemp("data"), config=config) as running:
            yield running


@pytest.fixture(scope="session")
def server(service: TaskService) -> Iterator[HttpServer]:
    running = HttpServer(service, socket_path=service.paths.socket)
    running.start()
    yield running
    assert running.stop()


@pytest.fixture(scope="session")
def browser(server: HttpServer, service: TaskService) -> Iterator[httpx.Client]:
    """Send requests as a browser without scripts does, through the Unix socket."""
    assert server.address
    transport = httpx.HTTPTransport(uds=str(service.paths.socket))
    with httpx.Client(base_url="http://localhost", transport=transport, headers={"accept": "text/html"}) as client:
        yield client


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], bool]:
    """Return whether a condition comes true within ten seconds."""

    def holds(condition: Callable[[], bool]) -> bool:
        pause = threading.Event()
        return any(condition() or pause.wait(0.02) for _ in range(int(PATIENCE / 0.02)))

    return holds


@pytest.fixture
def running(service: TaskService, eventually: Callable[[Callable[[], bool]], bool]) -> Iterator[Callable[..., int]]:
    """Start a task that runs until the test is over; return it once it has reported."""
    started: list[int] = []

    def start(message: str = "at it", **fields: Any) -> int:
        options = {"message": message, "wait": True}
        task_id = service.create_task(type="saying", input_file="", output_file="", options=options, **fields)
        started.append(task_id)
        assert eventually(lambda: service.get_task(task_id).message == message)
        return task_id

    yield start
    for task_id in started:
        with suppress(IllegalTransition):  # the test has already ended it
            service.cancel_task(task_id)
        service.wait(task_id, PATIENCE)


@pytest.fixture
def failed(service: TaskService) -> Callable[[str], int]:
    """Create a task that has failed with an error of that text."""

    def fail(error: str) -> int:
        task_id = service.create_task(type="saying", input_file="", output_file="", options={"error": error})
        assert service.wait(task_id, PATIENCE).status == "failed"
        return task_id

    return fail
