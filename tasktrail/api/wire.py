"""The library that carries requests, used by callers who block and by callers who await.

Both wires have the same coroutines. Those of `BlockingWire` never wait: what they call blocks.
"""

import asyncio
import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import httpx

from ..events.errors import InvalidPath, InvalidValue, NotReady, ServiceUnreachable
from ..events.values import in_words
from ..paths import UnixName

SERVICE_CONNECT_WITHIN = 5.0
"""Seconds."""
_NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=32)
"""Whoever waits for a task, or follows, keeps a connection; a command must not wait for one of them."""
_LAST_PORT = 65_535

Opened: TypeAlias = tuple[httpx.Response, AsyncIterator[bytes]]
"""A response whose body has not been read, and its pieces."""


class Wire(ABC):
    """To a service at `url`, or behind the Unix socket at `socket`.

    Raises `ServiceUnreachable` when nobody listens at the socket, and `InvalidValue` for what is no address or token.
    """

    def __init__(self, url: str, socket: Path | None = None, token: str = "") -> None:
        if not isinstance(url, str):
            raise InvalidValue(f"{in_words(url)} is no address: it has to be text", field="url")
        self.where = str(socket) if socket else url
        # Proxies in the environment are for other hosts, not for a service on this machine.
        self._given: dict[str, Any] = {"base_url": url, "headers": _bearer(token), "trust_env": False}
        self._process = os.getpid()
        try:
            # Where nothing is encrypted, the certificates are not read: that takes longer than a request.
            verify = httpx.URL(url).scheme != "http"
            self._name = _name_of_living(socket) if socket else None
            uds = self._name.text if self._name else None
            self._transport: dict[str, Any] = {"uds": uds, "verify": verify, "limits": _NO_LIMITS}
            address = self._connect()
        except OSError as error:
            raise ServiceUnreachable(f"No service answers at {self.where}") from error
        except httpx.InvalidURL as error:
            raise InvalidValue(f"{url!r} is no address: {error}", field="url") from error
        if address.scheme not in ("http", "https") or not address.host:
            raise InvalidValue(
                f"{url!r} is no address of a service", field="url", remedy="Write one such as http://127.0.0.1:8080."
            )
        host, port = address.host, address.port
        if (port or 0) > _LAST_PORT or ("%" in host and ":" not in host):  # the library would look it up nevertheless
            raise InvalidValue(f"{url!r} is no address", field="url")

    @abstractmethod
    def _connect(self) -> httpx.URL:
        """Make the library's client. Returns the address in the form that it has there."""

    @abstractmethod
    def settle(self) -> None:
        """Make sure that the connections are those of whoever asks: make others after a fork, or in another loop.

        Raises `NotReady` in a loop beside the one that uses it.
        """

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether it is closed."""

    @abstractmethod
    async def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The whole response. Raises httpx's errors."""

    @abstractmethod
    def stream(self, path: str, **more: Any) -> AbstractAsyncContextManager[Opened]:
        """The response to a GET, as it comes. Raises httpx's errors."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Let time go by."""

    async def close(self) -> None:
        """Close all connections."""
        if self._name is not None:
            self._name.close()


class BlockingWire(Wire):
    """May be used from many threads."""

    def _connect(self) -> httpx.URL:
        self._http = httpx.Client(transport=httpx.HTTPTransport(**self._transport), **self._given)
        return self._http.base_url

    def settle(self) -> None:
        """Leave the connections of the process that this one was forked from to that: they are its own."""
        if self._process != os.getpid() and not self.closed:
            self._connect()
            self._process = os.getpid()

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._http.is_closed

    async def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The whole response."""
        return self._http.request(method, path, **more)

    @asynccontextmanager
    async def stream(self, path: str, **more: Any) -> AsyncIterator[Opened]:
        """The response to a GET, as it comes."""
        with self._http.stream("GET", path, **more) as response:
            yield response, _one_by_one(response.iter_bytes())

    async def pause(self, seconds: float) -> None:
        """Let time go by."""
        time.sleep(seconds)  # noqa: ASYNC251 - this wire blocks

    async def close(self) -> None:
        """Close all connections."""
        self._http.close()
        await super().close()


class AwaitedWire(Wire):
    """May be used from many tasks of one event loop."""

    _loop: asyncio.AbstractEventLoop | None = None

    def _connect(self) -> httpx.URL:
        self._http = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(**self._transport), **self._given)
        return self._http.base_url

    def settle(self) -> None:
        """Belong to the loop that runs, if the one before has ended, or ran in the process before a fork."""
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

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._http.is_closed

    async def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The whole response."""
        response = await self._http.request(method, path, **more)
        await self._drop_late(response)
        return response

    @asynccontextmanager
    async def stream(self, path: str, **more: Any) -> AsyncIterator[Opened]:
        """The response to a GET, as it comes."""
        async with self._http.stream("GET", path, **more) as response:
            try:
                yield response, response.aiter_bytes()
            finally:
                await self._drop_late(response)

    async def _drop_late(self, response: httpx.Response) -> None:
        """Close a connection that was being made while all were closed: the library has forgotten it."""
        if self.closed:
            await response.extensions["network_stream"].aclose()

    async def pause(self, seconds: float) -> None:
        """Let time go by."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()
        await super().close()


async def _one_by_one(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


_LONGEST_TOKEN = 4096


def token_in(file: Path) -> str:
    """The token that a file holds, and nothing else. Raises `InvalidPath`."""
    try:
        with file.open("rb") as opened:
            token = opened.read(_LONGEST_TOKEN + 1).strip().decode("ascii")
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidPath(f"The token in {file} cannot be read: {reason}", field="token_file") from error
    except UnicodeError:
        token = ""
    if not token or len(token) > _LONGEST_TOKEN:
        raise InvalidPath(
            f"{file} holds no token", field="token_file", remedy="Put the token into it, as `token add` printed it."
        )
    return token


def _bearer(token: str) -> dict[str, str]:
    """The header with the token. Raises `InvalidValue` for a token that no header can hold."""
    if not isinstance(token, str):
        raise InvalidValue(f"The token has to be text, not {type(token).__name__}", field="token")
    token = token.strip()  # the file with the secret ends with a line feed
    if not token:
        return {}
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise InvalidValue(
            "The token has characters that no token has",
            field="token",
            remedy="Give the token as `token add` printed it, or what the file http-token holds.",
        )
    return {"authorization": f"Bearer {token}"}


def _name_of_living(path: Path) -> UnixName:
    """The name of a socket at which a service listens."""
    name = UnixName(path)
    try:
        with socket.socket(socket.AF_UNIX) as knock, suppress(BlockingIOError):  # many others knock: it lives
            knock.settimeout(0)
            knock.connect(name.text)
    except BaseException:
        name.close()
        raise
    return name
