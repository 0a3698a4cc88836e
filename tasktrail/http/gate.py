"""Who may talk to a loopback port: programs of our own users, but no web page that a browser was lured to.

First, who it is: another user of this machine needs the secret. Then, what made it ask: a page of somebody else can
make a browser send requests here. It cannot set `Host` (a rebound name shows itself there) and cannot hide `Origin` or
`Sec-Fetch-Site`. Requests through the Unix socket come from no browser and pass.
"""

from typing import TYPE_CHECKING, Any

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from ..errors import Unauthorized, WrongHost, WrongOrigin, problem
from ..events import TasktrailError
from .access import Access
from .head import answer_head
from .problems import MEDIA_TYPE, headers_of

if TYPE_CHECKING:
    from .connections import Guarded

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_OURS = frozenset({b"none", b"same-origin"})
"""What `Sec-Fetch-Site` says of an address that somebody typed, and of a page of our own."""


class Gate:
    """An ASGI application in front of another."""

    def __init__(self, app: ASGIApp, access: Access, hosts: frozenset[str] = LOOPBACK) -> None:
        self._app = app
        self._access = access
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through or answer it with a problem."""
        kind: str = scope["type"]
        error = self._objection(scope)
        if error is not None:
            await _refuse(error, send)
        elif kind != "http":  # the server's own: it starts, it stops
            await self._app(scope, receive, send)
        else:
            bodies = scope["state"]["connection"].room.bodies
            async with bodies.reading(dict(scope["headers"]), receive) as reading:
                if scope.get("method") == "HEAD":
                    await answer_head(self._app, scope, reading, send)
                else:
                    await self._app(scope, reading, send)

    def _objection(self, scope: Any) -> TasktrailError | None:
        if scope["type"] != "http":
            return None
        connection: Guarded = scope["state"]["connection"]
        if connection.private:
            return None
        headers = dict(scope["headers"])
        # A secret that is shown has to be right, whoever shows it.
        shown = headers.get(b"authorization")
        if not (connection.own if shown is None else self._access.takes(shown)):
            return Unauthorized(
                "The connection is not from the service's user, and shows no secret"
                if shown is None
                else "The header `Authorization` does not hold the secret of this port"
            )
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if _without_port(host) not in self._hosts:
            return WrongHost(f"The request is for {host!r}" if host else "The request names no host")
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and origin.partition("://")[2] != host:
            return WrongOrigin(f"A page of {origin!r} sends the request")
        if headers.get(b"sec-fetch-site", b"none").lower() not in _OURS:
            return WrongOrigin("A page of another site makes the browser ask")
        return None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


async def _refuse(error: TasktrailError, send: Send) -> None:
    body = msgspec.json.encode(problem(error))
    said = {**headers_of(error), "content-type": MEDIA_TYPE, "content-length": str(len(body))}
    headers = [(name.encode(), value.encode()) for name, value in said.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
