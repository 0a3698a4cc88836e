"""The service that `.submit` uses when nobody names one: the same that the command line would use."""

import asyncio
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from ..api.client import AsyncClient, Client

_USUAL_DATA = "tasktrail-data"

_lock = threading.Lock()
_clients: dict[tuple[int, str, str], "Client"] = {}
"""By process, because a connection does not survive a fork; then by address and token."""
_async_clients: "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], AsyncClient]]" = WeakKeyDictionary()


def default_client() -> "Client":
    """The service at TASKTRAIL_URL, with TASKTRAIL_TOKEN or what is in TASKTRAIL_TOKEN_FILE.

    Without an address the one on TASKTRAIL_DATA, or ./tasktrail-data.

    One client for the whole process, made at the first call. Raises `ServiceUnreachable`.
    """
    from ..api.client import Client

    url, token, data = _where()
    key = (os.getpid(), url or data, token)
    with _lock:
        if key not in _clients:
            _clients[key] = Client(url, token=token) if url else Client.connect(data)
        return _clients[key]


def default_async_client() -> "AsyncClient":
    """The same for the event loop that runs; it is gone with the loop."""
    from ..api.client import AsyncClient

    loop = asyncio.get_running_loop()
    url, token, data = _where()
    known = _async_clients.setdefault(loop, {})
    key = (url or data, token)
    if key not in known:
        known[key] = AsyncClient(url, token=token) if url else AsyncClient.connect(data)
    return known[key]


def _where() -> tuple[str, str, str]:
    """Address, token and data folder, as the command line takes them from the environment."""
    from ..api.wire import token_in

    data = os.environ.get("TASKTRAIL_DATA") or _USUAL_DATA
    url, token = os.environ.get("TASKTRAIL_URL", ""), os.environ.get("TASKTRAIL_TOKEN", "")
    file = os.environ.get("TASKTRAIL_TOKEN_FILE", "")
    if url and file and not token:
        token = token_in(Path(file))
    return url, token, str(Path(data).absolute())
