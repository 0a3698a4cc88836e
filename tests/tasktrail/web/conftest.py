"""One real service with its page for all tests here."""

from collections.abc import Iterator

import httpx
import pytest

from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config
from tasktrail.http.server import HttpServer


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskService]:
    with TaskService.open(tmp_path_factory.mktemp("data"), config=Config(workers=1)) as running:
        yield running


@pytest.fixture(scope="session")
def browser(service: TaskService) -> Iterator[httpx.Client]:
    """Asks as a browser without scripts does, through the Unix socket."""
    path = service.paths.socket
    running = HttpServer(service, socket_path=path)
    running.start()
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(base_url="http://localhost", transport=transport, headers={"accept": "text/html"}) as client:
        yield client
    assert running.stop()
