"""HTTP from the client's side: requests, streams, lost connections, and the form of what is sent and received."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from socket import AF_UNIX
from socket import socket as Socket  # noqa: N812 - a class
from typing import Any

import httpx
import msgspec
from msgspec.structs import replace

from .. import errors as _errors  # noqa: F401 - so that these classes are known
from ..events import Accepted, Command, Recorded, TasktrailError
from ..events.errors import InvalidValue, LogCorrupt, NotReady, OutcomeUnknown, ServiceUnreachable
from ..events.log.rows import decode
from ..events.values import check_plain, in_words
from ..intake.conversion import new_command_id
from ..paths import UnixName

REPLY_WITHIN = 40.0
"""Seconds to wait for an answer by default; the service itself gives up a command after 30."""
SIGN_OF_LIFE_WITHIN = 45.0
"""Seconds of silence after which a stream counts as dead; the service sends something every 15."""
_CONNECT_WITHIN = 5.0
PAUSES = (0.1, 0.4, 1.0)
"""Seconds before each repetition."""

Params = Mapping[str, str | int | float | bool]
_JSON = {"content-type": "application/json"}


class StreamBroken(Exception):
    """A stream was cut off before its end."""


class Connection:
    """Speaks to a service at `url`, or behind the Unix socket at `socket`. May be used from many threads.

    Raises `ServiceUnreachable` when nobody listens at the socket.
    """

    def __init__(
        self, url: str, socket: Path | None = None, answer_within: float = REPLY_WITHIN, token: str = ""
    ) -> None:
        if not isinstance(url, str):
            raise InvalidValue(f"{in_words(url)} is no address: it has to be text", field="url")
        self.where = str(socket) if socket else url
        try:
            self._name = _name_of_living(socket) if socket else None
            transport = httpx.HTTPTransport(uds=self._name.text) if self._name else httpx.HTTPTransport()
            timeout = httpx.Timeout(answer_within, connect=_CONNECT_WITHIN)
            # Proxies in the environment are for other hosts, not for a service on this machine.
            headers = _bearer(token)
            self._http = httpx.Client(
                base_url=url, transport=transport, timeout=timeout, headers=headers, trust_env=False
            )
        except OSError as error:
            raise self.unreachable() from error
        except httpx.InvalidURL as error:
            raise InvalidValue(f"{url!r} is no address: {error}", field="url") from error
        host = self._http.base_url.host
        if "%" in host and ":" not in host:  # no host name has it, and the library would look it up nevertheless
            raise InvalidValue(f"{url!r} is no address", field="url")

    def close(self) -> None:
        """Close the connection."""
        self._http.close()
        if self._name is not None:
            self._name.close()

    def check_open(self) -> None:
        """Raise `NotReady` once it is closed."""
        if self._http.is_closed:
            raise NotReady("The client is closed", remedy="Connect again.")

    def unreachable(self) -> ServiceUnreachable:
        """The error for a service that does not answer."""
        return ServiceUnreachable(f"No service answers at {self.where}")

    def get(self, path: str, params: Params | None = None, *, patient: bool = False) -> bytes:
        """The body of the answer. With `patient` there is no limit on the time that it takes.

        If the connection is lost, the question is asked again a few times; asking changes nothing.
        """
        self.check_open()
        timeout = httpx.Timeout(None, connect=_CONNECT_WITHIN) if patient else httpx.USE_CLIENT_DEFAULT
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
        timeout = httpx.Timeout(SIGN_OF_LIFE_WITHIN, connect=_CONNECT_WITHIN)
        try:
            with self._http.stream("GET", path, params=params, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    raise _error_in(response)
                yield _split(response.iter_bytes())
        except httpx.TransportError as error:
            raise StreamBroken(str(error)) from error


def _bearer(token: str) -> dict[str, str]:
    """The header with the token. Raises `InvalidValue` for a token that no header can hold."""
    if not isinstance(token, str):
        raise InvalidValue(f"The token has to be text, not {type(token).__name__}", field="token")
    if not token:
        return {}
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise InvalidValue("The token has characters that no token has", field="token")
    return {"authorization": f"Bearer {token}"}


def _name_of_living(socket: Path) -> UnixName:
    """The name of a socket at which a service listens."""
    name = UnixName(socket)
    try:
        with Socket(AF_UNIX) as knock:
            knock.settimeout(_CONNECT_WITHIN)
            knock.connect(name.text)
    except BaseException:
        name.close()
        raise
    return name


def _split(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Split at line feeds only, because JSON may hold other characters that elsewhere count as line ends."""
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


# --- commands as JSON -----------------------------------------------------------------------------------------

MAX_NUMBER = 1000
"""Commands in one request."""
MAX_BYTES = 8 * 1024 * 1024


def with_id(command: Command) -> Command:
    """The command with an id, so that it can be repeated."""
    return command if command.command_id else replace(command, command_id=new_command_id())


def chunks(commands: Sequence[Command]) -> Iterator[tuple[list[str], bytes, TasktrailError | None]]:
    """Arrays of limited size, each with the ids in it. A command that cannot be written comes alone, with the error."""
    ids: list[str] = []
    bodies: list[bytes] = []
    size = 0
    for command in commands:
        try:
            body, wrong = encode_command(command), None
        except TasktrailError as error:
            body, wrong = b"", error
        if ids and (wrong or len(ids) == MAX_NUMBER or size + len(body) > MAX_BYTES):
            yield ids, b"[" + b",".join(bodies) + b"]", None
            ids, bodies, size = [], [], 0
        if wrong is not None:
            yield [], b"", wrong
            continue
        ids.append(command.command_id)
        bodies.append(body)
        size += len(body)
    if ids:
        yield ids, b"[" + b",".join(bodies) + b"]", None


def encode_command(command: Command) -> bytes:
    """The JSON of a command. Raises `InvalidValue` for values that JSON would lose, such as infinite numbers."""
    _check_plain(command)
    try:
        return msgspec.json.encode(command)
    except (TypeError, ValueError, UnicodeError, RecursionError) as error:
        raise InvalidValue(f"The command cannot be written as JSON: {error}") from error


def _check_plain(struct: msgspec.Struct, prefix: str = "") -> None:
    """Refuse the values that an embedded service refuses too. Only times need no check: they are written as text."""
    for name in struct.__struct_fields__:
        value, place = getattr(struct, name), f"{prefix}{name}"
        match value:
            case msgspec.Struct():
                _check_plain(value, f"{place}.")
            case list() | tuple():
                for number, item in enumerate(value):
                    if isinstance(item, msgspec.Struct):
                        _check_plain(item, f"{place}[{number}].")
                    else:
                        check_plain(item, f"{place}[{number}]")
            case datetime():
                pass
            case _:
                check_plain(value, place)


# --- events and errors from JSON ------------------------------------------------------------------------------


class _Flat(msgspec.Struct):
    """`Recorded.flat()` as JSON."""

    position: int
    task_id: int
    version: int
    event: str
    recorded_at: datetime
    data: msgspec.Raw
    hash: str
    actor: str = ""
    reason: str = ""
    command_id: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    attempt: int = 0
    life: int = 0


_flat = msgspec.json.Decoder(_Flat)
_flats = msgspec.json.Decoder(list[_Flat])


def recorded(line: bytes) -> Recorded:
    """A record from its flat JSON. Raises `LogTooNew` for an event of a newer service."""
    return _rebuild(_flat.decode(line))


def recorded_all(body: bytes) -> list[Recorded]:
    """The records of an array."""
    return [_rebuild(flat) for flat in _flats.decode(body)]


def _rebuild(flat: _Flat) -> Recorded:
    try:
        digest = bytes.fromhex(flat.hash)
    except ValueError as error:
        raise LogCorrupt(f"Position {flat.position} has arrived with a damaged hash") from error
    return Recorded(
        flat.task_id,
        flat.version,
        decode(flat.event, bytes(flat.data), flat.position),
        flat.recorded_at,
        flat.actor,
        flat.reason,
        flat.command_id,
        flat.correlation_id,
        flat.causation_id,
        flat.attempt,
        flat.life,
        flat.position,
        digest,
    )


def error_of(problem: Mapping[str, Any]) -> TasktrailError:
    """The error that a problem stands for, in the class it was raised with; the root class for an unknown code."""
    classes = {known.code: known for known in _tree(TasktrailError)}
    kind = classes.get(str(problem.get("code", "")), TasktrailError)
    error = kind.__new__(kind)
    message = str(problem.get("detail") or problem.get("title") or "The service has refused the request")
    advice = str(problem.get("remedy", ""))
    TasktrailError.__init__(error, message, field=str(problem.get("field", "")), remedy=advice)
    return error


def _tree(root: type[TasktrailError]) -> Iterator[type[TasktrailError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def is_doubtful(error: TasktrailError) -> bool:
    """Whether the outcome is open, so that the command should be repeated with its id."""
    return error.code in (OutcomeUnknown.code, "concurrency")


def answer_of(one: Mapping[str, Any]) -> Accepted | TasktrailError:
    """The answer to one command of an array."""
    return error_of(one) if "code" in one else msgspec.convert(one, Accepted)
