"""The service that `.submit` uses when nobody names one: the same that the command line would use."""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..api.client import Client

_USUAL_DATA = "tasktrail-data"

_lock = threading.Lock()
_clients: dict[tuple[int, str, str], "Client"] = {}
"""By process, because a connection does not survive a fork; then by address and token."""


def default_client() -> "Client":
    """The service at TASKTRAIL_URL, with TASKTRAIL_TOKEN; without that the one on TASKTRAIL_DATA, or ./tasktrail-data.

    One client for the whole process, made at the first call. Raises `ServiceUnreachable`.
    """
    from ..api.client import Client

    url, token = os.environ.get("TASKTRAIL_URL", ""), os.environ.get("TASKTRAIL_TOKEN", "")
    data = str(Path(os.environ.get("TASKTRAIL_DATA") or _USUAL_DATA).absolute())
    key = (os.getpid(), url or data, token)
    with _lock:
        if key not in _clients:
            _clients[key] = Client(url, token=token) if url else Client.connect(data)
        return _clients[key]
