"""One service at the other end of HTTP: requests, streams, and what becomes of a connection that fails."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import AF_UNIX
from socket import socket as Socket  # noqa: N812 - a class
from typing import Any

import httpx
import msgspec

from ..events import TasktrailError
from ..events.errors import InvalidValue, NotReady, OutcomeUnknown, ServiceUnreachable
from ..events.values import in_words
from ..http.sockets import UnixName
from .wire import error_of, is_doubtful

ANSWER_WITHIN = 40.0
"""Seconds to wait for an answer unless said otherwise; the service itself gives up a command after 30."""
SIGN_OF_LIFE_WITHIN = 45.0
"""Seconds of silence after which a stream is taken for dead; the service sends something every 15."""
CONNECT_WITHIN = 5.0
PAUSES = (0.1, 0.4, 1.0)
"""Seconds before each repetition."""

Params = Mapping[str, str | int | float | bool]
_JSON = {"content-type": "application/json"}


class StreamBroken(Exception):
    """A stream has ended otherwise than by its own end."""


class Connection:
    """Speaks to a service at `url`, or behind the Unix socket at `socket`. May be used from many threads.

    Raises `ServiceUnreachable` when nobody listens at the socket.
    """

    def __init__(
        self, url: str, socket: Path | None = None, answer_within: float = ANSWER_WITHIN, token: str = ""
    ) -> None:
        if not isinstance(url, str):
            raise InvalidValue(f"{in_words(url)} is no address: it has to be text", field="url")
        self.where = str(socket) if socket else url
        try:
            self._name = _name_of_living(socket) if socket else None
            transport = httpx.HTTPTransport(uds=self._name.text) if self._name else httpx.HTTPTransport()
            timeout = httpx.Timeout(answer_within, connect=CONNECT_WITHIN)
            # Proxies that the environment names are for the world outside, not for a service of one's own.
            headers = _bearer(token)
            self._http = httpx.Client(
                base_url=url, transport=transport, timeout=timeout, headers=headers, trust_env=False
            )
        except OSError as error:
            raise self.unreachable() from error
        except httpx.InvalidURL as error:
            raise InvalidValue(f"{url!r} is no address: {error}", field="url") from error
        host = self._http.base_url.host
        if "%" in host and ":" not in host:  # what no name can hold, and the library would ask for all the same
            raise InvalidValue(f"{url!r} is no address", field="url")

    def close(self) -> None:
        """Hang up."""
        self._http.close()
        if self._name is not None:
            self._name.close()

    def check_open(self) -> None:
        """Raise `NotReady` once it is closed."""
        if self._http.is_closed:
            raise NotReady("The client is closed", remedy="Connect again.")

    def unreachable(self) -> ServiceUnreachable:
        """The error that says that nobody is there."""
        return ServiceUnreachable(f"No service answers at {self.where}")

    def get(self, path: str, params: Params | None = None, *, patient: bool = False) -> bytes:
        """The answer's body; who is patient waits for it without end.

        A connection that is lost is made anew a few times: asking has no effect.
        """
        self.check_open()
        timeout = httpx.Timeout(None, connect=CONNECT_WITHIN) if patient else httpx.USE_CLIENT_DEFAULT
        for pause in (*PAUSES, None):
            try:
                return self._once("GET", path, params=params, timeout=timeout)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
                raise self.unreachable() from error
            except httpx.TimeoutException as error:
                raise NotReady(f"No answer from {self.where} in time") from error
            except httpx.TransportError as error:
                if pause is None:
                    raise self.unreachable() from error
                time.sleep(pause)
        raise AssertionError

    def post(self, path: str, body: bytes, ids: Sequence[str]) -> bytes:
        """Send commands that all have an id, and repeat them while their outcome is in doubt.

        Raises `ServiceUnreachable` when nothing was sent, `OutcomeUnknown` when the doubt remains.
        """
        self.check_open()
        doubt: Exception | None = None
        for pause in (*PAUSES, None):
            try:
                return self._once("POST", path, content=body, headers=_JSON)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
                if doubt is None:
                    raise self.unreachable() from error
            except httpx.PoolTimeout as error:
                raise NotReady("All connections are in use", remedy="Send less at a time.") from error
            except (httpx.TransportError, TasktrailError) as error:
                if isinstance(error, TasktrailError) and not is_doubtful(error):
                    raise
                doubt = error
                if isinstance(error, httpx.TimeoutException):
                    break
            if pause is not None:
                time.sleep(pause)
        more = f" and {len(ids) - 1} more" if ids[1:] else ""
        raise OutcomeUnknown(f"No certain answer to the command with id {ids[0]}{more}: {doubt}") from doubt

    def _once(self, method: str, path: str, **more: Any) -> bytes:
        response = self._http.request(method, path, **more)
        if response.is_success:
            return response.content
        raise _error_in(response)

    @contextmanager
    def lines(self, path: str, params: Params) -> Iterator[Iterator[bytes]]:
        """The lines of a stream, as they come. Raises `StreamBroken` when the connection is lost."""
        self.check_open()
        timeout = httpx.Timeout(SIGN_OF_LIFE_WITHIN, connect=CONNECT_WITHIN)
        try:
            with self._http.stream("GET", path, params=params, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    raise _error_in(response)
                yield _split(response.iter_bytes())
        except httpx.TransportError as error:
            raise StreamBroken(str(error)) from error


def _bearer(token: str) -> dict[str, str]:
    """The header that shows the token. Raises `InvalidValue` for one that no header can hold."""
    if not isinstance(token, str):
        raise InvalidValue(f"The token has to be text, not {type(token).__name__}", field="token")
    if not token:
        return {}
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise InvalidValue("The token has characters that no token has", field="token")
    return {"authorization": f"Bearer {token}"}


def _name_of_living(socket: Path) -> UnixName:
    """The socket's name, once somebody has answered there."""
    name = UnixName(socket)
    try:
        with Socket(AF_UNIX) as knock:
            knock.settimeout(CONNECT_WITHIN)
            knock.connect(name.text)
    except BaseException:
        name.close()
        raise
    return name


def _split(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """By line feeds and nothing else: JSON may hold other characters that count as line ends elsewhere."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole


def _error_in(response: httpx.Response) -> TasktrailError:
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        try:
            return error_of(msgspec.json.decode(response.content, type=dict[str, Any]))
        except msgspec.DecodeError:
            pass
    return NotReady(f"{response.url} answers {response.status_code}, which is no answer of tasktrail")
