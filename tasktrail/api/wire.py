"""The library that carries requests, used by callers who block and by callers who await.

Both wires have the same coroutines. Those of `BlockingWire` never wait: what they call blocks.
"""

import asyncio
import os
import socket
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import httpcore
import httpx

from ..events.errors import InvalidPath, InvalidValue, NotReady, ServiceUnreachable
from ..events.values import in_words
from ..paths import UnixName

SERVICE_CONNECT_WITHIN = 5.0
"""Seconds."""
_KEPT, _KEPT_FOR = 32, 5.0
"""The most idle connections that are kept for the next request, and for how many seconds. Any number may be in use:
each wait for a task and each stream has one of its own, and a command must not wait for them."""
_LAST_PORT = 65_535

NOT_CONNECTED = (httpcore.ConnectError, httpcore.ConnectTimeout)
BROKEN = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)
"""The errors of a wire when there is no answer. They include those of `NOT_CONNECTED`."""

UNENCRYPTED = "TASKTRAIL_UNENCRYPTED"
"""Variable: if it is 1, a token may go over the network unencrypted, and no warning is wanted."""

Params: TypeAlias = Mapping[str, str | int | float | bool]


class UnencryptedTokenWarning(UserWarning):
    """A token goes over the network unencrypted."""


class Response(NamedTuple):
    """A response, whole or only its head."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""

    @property
    def is_success(self) -> bool:
        """Whether the service did what it was asked."""
        return self.status // 100 == 2  # noqa: PLR2004 - as HTTP counts

    def header(self, wanted: bytes) -> str:
        """The value of a header; empty without it."""
        return next((value.decode("latin-1") for name, value in self.headers if name.lower() == wanted), "")


Opened: TypeAlias = tuple[Response, AsyncIterator[bytes]]
"""The head of a response, and the pieces of its body."""


class Wire(ABC):
    """The way to a service at `url`, or behind the Unix socket at `socket`.

    Raises `ServiceUnreachable` if no service listens at the socket, and `InvalidValue` for a bad address or token.
    """

    def __init__(self, url: str, socket: Path | None = None, token: str = "") -> None:
        if not isinstance(url, str):
            raise InvalidValue(f"{in_words(url)} is no address: it has to be text", field="url")
        self.where = str(socket) if socket else url
        self.closed = False
        shown = _bearer(token)
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise InvalidValue(f"{url!r} is no address: {error}", field="url") from error
        if address.scheme not in ("http", "https") or not address.host:
            raise InvalidValue(
                f"{url!r} is no address of a service", field="url", remedy="Write one such as http://127.0.0.1:8080."
            )
        host, port = address.host, address.port
        if (port or 0) > _LAST_PORT or ("%" in host and ":" not in host):  # the library would look it up nevertheless
            raise InvalidValue(f"{url!r} is no address", field="url")
        self._scheme, self._host, self._port = address.raw_scheme, address.raw_host, address.port
        self._before = address.raw_path.partition(b"?")[0].rstrip(b"/")
        if (
            shown
            and not socket
            and address.scheme == "http"
            and not _is_here(host)
            and os.environ.get(UNENCRYPTED) != "1"
        ):
            warnings.warn(
                f"The token is sent to {host} unencrypted: whoever sees the traffic on the way can use it. "
                f"Use an address with https://, or set {UNENCRYPTED}=1 if nobody can see the traffic.",
                UnencryptedTokenWarning,
                stacklevel=3,
            )
        # Answers are not decompressed here, and without this header a proxy may compress them.
        plain = [] if socket else [(b"accept-encoding", b"identity")]
        self._headers = [(b"host", address.netloc), (b"accept", b"*/*"), *plain, *shown]
        try:
            # Where nothing is encrypted, the certificates are not read: that takes longer than a request.
            context = httpx.create_ssl_context() if address.scheme == "https" else None
            self._name = _name_of_living(socket) if socket else None
        except OSError as error:
            raise ServiceUnreachable(f"No service answers at {self.where}") from error
        self._pool_of: dict[str, Any] = {
            "ssl_context": context,
            "max_connections": None,
            "max_keepalive_connections": _KEPT,
            "keepalive_expiry": _KEPT_FOR,
            "uds": self._name.text if self._name else None,
        }
        self._connect()

    @abstractmethod
    def _connect(self) -> None:
        """Make the library's pool of connections."""

    @abstractmethod
    def settle(self) -> None:
        """Make sure that the connections belong to the caller: make new ones after a fork, or in another event loop.

        Raises `NotReady` while another event loop uses them.
        """

    @abstractmethod
    async def request(
        self, method: str, path: str, within: float | None, *, params: Params | None = None, json: bytes | None = None
    ) -> Response:
        """The whole response. `within`: seconds for each wait; `json`: a body. Raises what `BROKEN` names."""

    @abstractmethod
    def stream(self, path: str, within: float, params: Params) -> AbstractAsyncContextManager[Opened]:
        """The response to a GET, as it comes. Raises what `BROKEN` names."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Let time go by."""

    async def close(self) -> None:
        """Close all connections."""
        if self._name is not None:
            self._name.close()

    def _request_arguments(
        self, method: str, path: str, within: float | None, params: Params | None, json: bytes | None
    ) -> dict[str, Any]:
        """The arguments of the library for a request."""
        query = f"?{httpx.QueryParams(dict(params))}" if params else ""
        headers = self._headers
        if json is not None:
            headers = [*headers, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(json))]
        return {
            "method": method,
            "url": httpcore.URL(
                scheme=self._scheme, host=self._host, port=self._port, target=self._before + f"{path}{query}".encode()
            ),
            "headers": headers,
            "content": json,
            "extensions": {
                "timeout": {"connect": SERVICE_CONNECT_WITHIN, "read": within, "write": within, "pool": within}
            },
        }


class BlockingWire(Wire):
    """May be used from many threads."""

    def _connect(self) -> None:
        self._pools = {os.getpid(): httpcore.ConnectionPool(**self._pool_of)}
        """Process → its connections."""

    def settle(self) -> None:
        """Make new connections after a fork, and close this process's copies of those of its parent."""
        here = os.getpid()
        if here in self._pools or self.closed:
            return
        self._pools.setdefault(here, httpcore.ConnectionPool(**self._pool_of))  # several threads may be the first
        for process in [*self._pools]:
            if process != here and (copies := self._pools.pop(process, None)):
                for copy in copies.connections:  # without the lock of the pool, which the parent may have held
                    copy.close()

    async def request(
        self, method: str, path: str, within: float | None, *, params: Params | None = None, json: bytes | None = None
    ) -> Response:
        """The whole response."""
        pool = self._pools[os.getpid()]
        response = pool.request(**self._request_arguments(method, path, within, params, json))
        return Response(response.status, response.headers, response.content)

    @asynccontextmanager
    async def stream(self, path: str, within: float, params: Params) -> AsyncIterator[Opened]:
        """The response to a GET, as it comes."""
        with self._pools[os.getpid()].stream(**self._request_arguments("GET", path, within, params, None)) as response:
            yield Response(response.status, response.headers), _one_by_one(response.iter_stream())

    async def pause(self, seconds: float) -> None:
        """Let time go by."""
        time.sleep(seconds)  # noqa: ASYNC251 - this wire blocks

    async def close(self) -> None:
        """Close all connections."""
        self.closed = True
        if pool := self._pools.get(os.getpid()):  # not in a process that was forked after the client was closed
            pool.close()
        await super().close()


class AwaitedWire(Wire):
    """May be used from many tasks of one event loop."""

    _loop: asyncio.AbstractEventLoop | None = None
    _process = 0

    def _connect(self) -> None:
        self._pool = httpcore.AsyncConnectionPool(**self._pool_of)

    def settle(self) -> None:
        """Take the running event loop, if the one before has ended, or ran in the process before a fork."""
        loop = asyncio.get_running_loop()
        if self._loop is loop or self.closed:
            return
        if self._loop is not None:
            if self._process == os.getpid() and not self._loop.is_closed():
                raise NotReady(
                    "The client is in use by another event loop", remedy="Make an AsyncClient for each event loop."
                )
            self._connect()
        self._loop, self._process = loop, os.getpid()

    async def request(
        self, method: str, path: str, within: float | None, *, params: Params | None = None, json: bytes | None = None
    ) -> Response:
        """The whole response."""
        response = await self._pool.request(**self._request_arguments(method, path, within, params, json))
        await self._drop_late(response)
        return Response(response.status, response.headers, response.content)

    @asynccontextmanager
    async def stream(self, path: str, within: float, params: Params) -> AsyncIterator[Opened]:
        """The response to a GET, as it comes."""
        async with self._pool.stream(**self._request_arguments("GET", path, within, params, None)) as response:
            try:
                yield Response(response.status, response.headers), response.aiter_stream()
            finally:
                await self._drop_late(response)

    async def _drop_late(self, response: httpcore.Response) -> None:
        """Close a connection that was being made while all others were closed: the library has forgotten it."""
        if self.closed:
            await response.extensions["network_stream"].aclose()

    async def pause(self, seconds: float) -> None:
        """Let time go by."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close all connections."""
        self.closed = True
        await self._pool.aclose()
        await super().close()


async def _one_by_one(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


_LONGEST_TOKEN = 4096


def token_in(file: Path) -> str:
    """Read the token from a file that holds nothing else. Raises `InvalidPath`."""
    try:
        with file.open("rb") as opened:
            token = opened.read(_LONGEST_TOKEN + 1).strip().decode("ascii")
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidPath(
            f"The token in {file} cannot be read: {reason}",
            field="token_file",
            remedy="Check its spelling, and that you may read it.",
        ) from error
    except UnicodeError:
        token = ""
    if not token or len(token) > _LONGEST_TOKEN:
        raise InvalidPath(
            f"{file} holds no token", field="token_file", remedy="Put the token into it, as `token add` printed it."
        )
    return token


def _bearer(token: str) -> list[tuple[bytes, bytes]]:
    """The header with the token. Raises `InvalidValue` for a token that no header can hold."""
    if not isinstance(token, str):
        raise InvalidValue(f"The token has to be text, not {type(token).__name__}", field="token")
    token = token.strip()  # the file with the secret ends with a line feed
    if not token:
        return []
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise InvalidValue(
            "The token has characters that no token has",
            field="token",
            remedy="Give the token as `token add` printed it, or what the file http-token holds.",
        )
    return [(b"authorization", b"Bearer " + token.encode())]


def _is_here(host: str) -> bool:
    """Whether the name or address is certainly this machine's own."""
    host = host.rstrip(".")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _name_of_living(path: Path) -> UnixName:
    """Return the name of a socket. Raises `OSError` if no service listens there."""
    name = UnixName(path)
    try:
        with socket.socket(socket.AF_UNIX) as knock, suppress(BlockingIOError):  # many others connect: it lives
            knock.settimeout(0)
            knock.connect(name.text)
    except BaseException:
        name.close()
        raise
    return name
