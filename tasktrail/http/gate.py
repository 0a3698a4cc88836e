"""Who may talk to a loopback port: programs on this machine, but no web page that a browser was lured to.

A page of somebody else can make a browser send requests here. It cannot set `Host` (a rebound name shows itself there)
and cannot hide `Origin`. Requests through the Unix socket come from no browser and pass.
"""

from typing import Any

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from ..events import TasktrailError
from ..problem import problem
from .errors import WrongHost, WrongOrigin
from .problems import MEDIA_TYPE

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Gate:
    """An ASGI application in front of another."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] = LOOPBACK) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through or answer it with a problem."""
        error = self._objection(scope)
        if error is None:
            await self._app(scope, receive, send)
        else:
            await _refuse(error, send)

    def _objection(self, scope: Any) -> TasktrailError | None:
        server = scope.get("server")
        if scope["type"] != "http" or server is None or server[1] is None:
            return None
        headers = {name: value for name, value in scope["headers"] if name in (b"host", b"origin")}
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if _without_port(host) not in self._hosts:
            return WrongHost(f"The request is for {host!r}" if host else "The request names no host")
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and origin.partition("://")[2] != host:
            return WrongOrigin(f"A page of {origin!r} sends the request")
        return None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


async def _refuse(error: TasktrailError, send: Send) -> None:
    body = msgspec.json.encode(problem(error))
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
