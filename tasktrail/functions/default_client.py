"""The service that `.submit` uses by default: the same that the command line would use."""

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from ..api.either_way import answer_without_waiting
from ..config import DEFAULT_DATA
from ..events.errors import ServiceUnreachable

if TYPE_CHECKING:
    from ..api.client import AsyncClient, Client
    from ..api.protocol import Tasks
    from ..api.service import TaskService

_C = TypeVar("_C", "Client", "AsyncClient")
_Key: TypeAlias = tuple[asyncio.AbstractEventLoop, str, str]

_lock = threading.Lock()
_clients: dict[tuple[str, str], "Client"] = {}
"""Address or data folder, and token → client."""
_async_clients: dict[_Key, tuple["AsyncClient", AsyncGenerator["AsyncClient", None]]] = {}
"""Event loop, address or data folder, and token → client, with the generator that closes it."""
_of_tests: list[tuple["TaskService", bool]] = []
"""The open services of `tasktrail.testing`, the latest last, and whether each listens."""


@contextmanager
def used_by_default(service: "TaskService", *, listens: bool) -> Iterator[None]:
    """Make it the default service, so that a test never sends its tasks to the one that the environment names."""
    entry = (service, listens)
    _of_tests.append(entry)
    try:
        yield
    finally:
        _of_tests.remove(entry)


def default_client() -> "Tasks":
    """Return the client of the service at TASKTRAIL_URL, with TASKTRAIL_TOKEN or the token in TASKTRAIL_TOKEN_FILE.

    Without a URL it is the service on the data folder TASKTRAIL_DATA, or ./tasktrail-data. An open service of
    `tasktrail.testing` goes before all.

    The whole process has one client, made at the first call. Raises `ServiceUnreachable`, and `InvalidPath` if the
    folder was not named and is another user's.
    """
    from ..api.client import Client

    if _of_tests:
        _refuse_within_attempt()
        return _of_tests[-1][0]
    url, token, data = _where()
    key = (url or data, token)
    with _lock:
        if key not in _clients:
            _clients[key] = Client(url, token=token) if url else _connected(Client, data)
            atexit.register(_clients[key].close)
        return _clients[key]


def default_async_client() -> "AsyncClient":
    """Return the default client of the running event loop. It is closed with the loop."""
    from ..api.client import AsyncClient

    if _of_tests:
        _refuse_within_attempt()
    url, token, data = _where()
    key = (asyncio.get_running_loop(), url or data, token)
    for other in [other for other in _async_clients if other[0].is_closed()]:  # not by `asyncio.run`
        del _async_clients[other]
    if key not in _async_clients:
        client = AsyncClient(url, token=token) if url else _connected(AsyncClient, data)
        closing = _until_the_loop_ends(client, key)
        _async_clients[key] = answer_without_waiting(closing.__anext__()), closing
    return _async_clients[key][0]


async def _until_the_loop_ends(client: "AsyncClient", key: _Key) -> AsyncGenerator["AsyncClient", None]:
    """Yield the client until `asyncio.run` ends: that closes all open generators, and this one closes the client."""
    try:
        async with client:
            yield client
    finally:
        _async_clients.pop(key, None)


def _connected(kind: type[_C], data: str) -> _C:
    """Make a client of the service on a data folder. Raises `ServiceUnreachable`."""
    try:
        return kind.connect(data)
    except ServiceUnreachable as error:
        from ..actors.workers.worker_process import MARK

        if MARK not in os.environ:
            raise
        raise _none_within_attempt(error.message) from error


def _refuse_within_attempt() -> None:
    """Refuse in a test what would fail in a worker, which reaches no service."""
    from ..actors.inline_executor import WITHIN_ATTEMPT

    if WITHIN_ATTEMPT.get():
        raise _none_within_attempt("an attempt cannot reach one")


def _none_within_attempt(reason: str) -> ServiceUnreachable:
    return ServiceUnreachable(
        f"From within a task no service is found: {reason}",
        remedy="Declare the order beforehand (`depends_on`), or submit from the program that waits.",
    )


def _where() -> tuple[str, str, str]:
    """Address, token and data folder, as the command line takes them from the environment."""
    from ..api.wire import token_in
    from ..paths import DataPaths

    if _of_tests:
        service, listens = _of_tests[-1]
        if not listens:
            raise ServiceUnreachable(
                "The service of this test does not listen, and an AsyncClient has to connect to it",
                remedy="Open it by inline_service(…, listen=True).",
            )
        return "", "", str(service.paths.data.absolute())
    url, token = os.environ.get("TASKTRAIL_URL", ""), os.environ.get("TASKTRAIL_TOKEN", "")
    file = os.environ.get("TASKTRAIL_TOKEN_FILE", "")
    if url and file and not token:
        token = token_in(Path(file))
    named = os.environ.get("TASKTRAIL_DATA")
    if not url and not named:
        DataPaths(Path(DEFAULT_DATA)).refuse_foreign()
    return url, token, str(Path(named or DEFAULT_DATA).absolute())
