"""The fast path of commands: `POST /v1/commands`, past the framework, which takes longer than the command itself.

The answers are those of the route `send_commands`. Only plain requests of programs take this path. Requests that may be
refused for their headers go through the framework, which finds out what is wrong.
"""

from typing import Any

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from ..events.values import traceparent_in
from .backend import Backend
from .commands import carry_out, send_commands
from .identity import Identity
from .permissions import allows
from .problems import noted, send_problem
from .requests import MAX_BODY

(_PATH,) = send_commands.paths
_NEEDS = send_commands.opt["needs"]
_STATUS = send_commands.status_code
_encode = msgspec.json.Encoder().encode


class FastPath:
    """ASGI application in front of the framework's, after authentication."""

    def __init__(self, app: ASGIApp, backend: Backend) -> None:
        self._app = app
        self._backend = backend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the framework do so."""
        asked: Any = scope
        if asked["type"] != "http" or asked["path"] != _PATH or asked["method"] != "POST" or asked["query_string"]:
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(asked["headers"])
        if len(headers) == len(asked["headers"]) and _is_plain(asked["state"]["who"], headers):
            await self._answer(asked, headers, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Any, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        scope["path_template"] = _PATH
        pieces: list[bytes] = []
        more = True
        try:
            while more:
                message: Any = await receive()
                if message["type"] != "http.request":
                    return  # the client has hung up
                pieces.append(message["body"])
                more = message["more_body"]
            trace = traceparent_in(headers.get(b"traceparent", b"").decode("latin-1"))
            answer, beside = await carry_out(self._backend, scope["state"]["who"], b"".join(pieces), trace)
            body = _encode(answer)
        except Exception as error:  # noqa: BLE001 - as in the framework, every error is answered
            await send_problem(noted("POST", _PATH, error), send)
            return
        fields = {"content-type": "application/json", "content-length": str(len(body)), **beside}
        lines = [(name.encode(), value.encode()) for name, value in fields.items()]
        await send({"type": "http.response.start", "status": _STATUS, "headers": lines})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _is_plain(who: Identity | None, headers: dict[bytes, bytes]) -> bool:
    """Whether nothing in the headers can be refused, and no page has sent the request."""
    length = headers.get(b"content-length", b"")
    return (
        who is not None
        and who.way != "session"
        and allows(who, _NEEDS)
        and headers.get(b"content-type") == b"application/json"
        and b"transfer-encoding" not in headers
        and b"content-encoding" not in headers
        and length.isdigit()
        and int(length) <= MAX_BODY
    )
