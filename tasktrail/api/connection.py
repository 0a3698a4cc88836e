"""HTTP from the client's side: requests that are repeated, lost connections, and streams."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from math import inf
from time import monotonic
from typing import Any

import httpcore
import msgspec

from ..events import TasktrailError
from ..events.errors import AnotherProgram, NotReady, OutcomeUnknown, ServiceUnreachable
from .forms import error_of, is_doubtful, strange_answer
from .wire import BROKEN, NOT_CONNECTED, Params, Response, Wire

REPLY_WITHIN = 40.0
"""Seconds to wait for an answer by default; the service itself gives up a command after 30."""
SIGN_OF_LIFE_WITHIN = 45.0
"""Seconds of silence after which a stream counts as dead; the service sends something every 15."""
PAUSES = (0.1, 0.4, 1.0)
"""Seconds before each repetition."""
_TRUST = (
    "If the service speaks no TLS there, begin its address with http://. If this machine does not trust its "
    "certificate, name the certificate's file in SSL_CERT_FILE."
)
_NO_HTTP = "Check the address. If the service speaks TLS there, it begins with https://."
_JSON_LINES = "application/x-ndjson"
_SILENT = (
    "Try again. If it stays silent, `tasktrail doctor` on its machine names its process: one that was stopped (state T "
    "in `ps`) goes on after `kill -CONT`; one that hangs may be ended by `kill -9` and started again, and nothing that "
    "it has acknowledged is lost."
)
_TOO_MANY = 429
NOT_NOW = 503


class StreamBroken(Exception):
    """A stream was cut off before its end."""


class Connection:
    """A connection to a service. It may be used from the same threads or tasks as its wire."""

    def __init__(self, wire: Wire, answer_within: float = REPLY_WITHIN) -> None:
        self._wire = wire
        self._answer_within = answer_within
        self.heard = False
        """Whether the service has ever answered."""
        self.cut_off_at = -inf
        """When a connection was last lost before the answer, on the monotonic clock."""

    async def close(self) -> None:
        """Close the connection."""
        self._wire.settle()
        await self._wire.close()

    def check_open(self) -> None:
        """Raise `NotReady` once it is closed, or if it cannot be used from here."""
        self._wire.settle()
        if self._wire.closed:
            raise NotReady("The client is closed", remedy="Connect again.")

    async def pause(self, seconds: float) -> None:
        """Let time go by."""
        await self._wire.pause(seconds)

    def unreachable(self, error: Exception) -> ServiceUnreachable:
        """Return the error for a service that does not answer. It quotes `error` if TLS has failed."""
        if _is_no_http(error):
            return AnotherProgram(f"What answers at {self._wire.where} speaks no HTTP", remedy=_NO_HTTP)
        message = f"No service answers at {self._wire.where}"
        if "[SSL" in str(error):
            return ServiceUnreachable(f"{message} in TLS: {error}", remedy=_TRUST)
        return ServiceUnreachable(message)

    async def get(
        self, path: str, params: Params | None = None, *, patience: float | None = 0.0, again: bool = True
    ) -> bytes:
        """Return the body of the answer. `patience`: extra seconds that it may take; None: no limit.

        If the connection is lost, the question is asked again a few times, which changes nothing. If the service says
        when to ask again, it is asked again then; without `again`, its error is raised.
        """
        within = None if patience is None else self._answer_within + patience
        for pause in (*PAUSES, None):
            self.check_open()
            try:
                return await self._answer("GET", path, within, again=again, params=params)
            except NOT_CONNECTED as error:
                raise self.unreachable(error) from error
            except httpcore.TimeoutException as error:
                raise NotReady(f"No answer from {self._wire.where} in time", remedy=_SILENT) from error
            except BROKEN as error:
                self.cut_off_at = monotonic()
                if pause is None or _is_no_http(error):
                    raise self.unreachable(error) from error
                await self.pause(pause)
        raise AssertionError

    async def post(self, path: str, body: bytes, ids: Sequence[str] = (), *, patience: float | None = 0.0) -> bytes:
        """Send commands, each with its id, and repeat them while their outcome is in doubt. `patience`: as for `get`.

        A request without ids must be safe to repeat: a repetition only does what is left to do.

        Raises `ServiceUnreachable` when nothing was sent, `OutcomeUnknown` when the doubt remains.
        """
        self.check_open()
        doubt: Exception | None = None
        within = None if patience is None else self._answer_within + patience
        for pause in (*PAUSES, None):
            if self._wire.closed:
                break
            try:
                return await self._answer("POST", path, within, json=body)
            except NOT_CONNECTED as error:
                if doubt is None:
                    raise self.unreachable(error) from error
            except httpcore.PoolTimeout as error:
                raise NotReady("All connections are in use", remedy="Send less at a time.") from error
            except TasktrailError as error:
                if is_doubtful(error):
                    doubt = error
                elif doubt is None or error.status not in (_TOO_MANY, NOT_NOW):
                    raise  # else the service is busy, which says nothing about what it was sent before
            except BROKEN as error:
                if doubt is None and _is_no_http(error):
                    raise self.unreachable(error) from error
                doubt = error
                if isinstance(error, httpcore.TimeoutException):
                    break
            if pause is not None:
                await self.pause(pause)
        if not ids:
            remedy = "Send it again: nothing is done twice."
            raise OutcomeUnknown(f"No certain answer: {_reason_of(doubt)}", remedy=remedy) from doubt
        more = f" and {len(ids) - 1} more" if ids[1:] else ""
        raise OutcomeUnknown(f"No certain answer to the command with id {ids[0]}{more}: {_reason_of(doubt)}") from doubt

    async def _answer(self, method: str, path: str, within: float | None, *, again: bool = True, **more: Any) -> bytes:
        until = monotonic() + (inf if within is None else within)
        while True:
            answer = await self._wire.request(method, path, within, **more)
            self.heard = True
            if answer.is_success:
                return answer.body
            error = _error_in(answer, answer.body, self._wire.where)
            if not again:
                raise error
            await self._wait_before_retry(error, until)

    async def _wait_before_retry(self, error: TasktrailError, until: float) -> None:
        """Wait as long as the service says. Raise its error if it names no time, or one after `until`."""
        if error.retry_after is None or monotonic() + error.retry_after > until:
            raise error
        await self.pause(error.retry_after)
        self.check_open()

    @asynccontextmanager
    async def stream(self, path: str, params: Params) -> AsyncIterator[AsyncIterator[bytes]]:
        """A stream's bytes, as they come. Raises `StreamBroken` when the connection is lost."""
        self.check_open()
        until = monotonic() + self._answer_within
        try:
            while True:
                async with self._wire.stream(path, SIGN_OF_LIFE_WITHIN, params) as (answer, pieces):
                    if answer.is_success:
                        kind = answer.header(b"content-type")
                        if not kind.startswith(_JSON_LINES):  # it may have no line that could be decoded
                            raise strange_answer(f"{kind or 'no type'} instead of {_JSON_LINES}")
                        yield pieces
                        return
                    error = _error_in(answer, b"".join([piece async for piece in pieces]), self._wire.where)
                await self._wait_before_retry(error, until)
        except BROKEN as error:
            if _is_no_http(error):
                raise self.unreachable(error) from error
            raise StreamBroken(str(error)) from error


class LineSplitter:
    """Joins the pieces of a stream into lines.

    Only line feeds end a line, because JSON may hold other characters that elsewhere count as line ends.
    """

    def __init__(self) -> None:
        self._rest = b""

    def split(self, piece: bytes) -> list[bytes]:
        """Add a piece, and return the lines that it completes."""
        *whole, self._rest = (self._rest + piece).split(b"\n")
        return whole


def _is_no_http(error: Exception) -> bool:
    """Whether what has answered is no HTTP, so that asking again is no use. Only the library's words tell it."""
    return isinstance(error, httpcore.RemoteProtocolError) and str(error).startswith("illegal ")


def _reason_of(doubt: Exception | None) -> str:
    """Say why the outcome is in doubt. The library's error for a connection that was cut is empty."""
    return str(doubt or "") or "the connection was lost"


def _error_in(answer: Response, body: bytes, where: str) -> TasktrailError:
    if answer.header(b"content-type").startswith("application/problem+json"):
        try:
            return error_of(msgspec.json.decode(body, type=dict[str, Any]), answer.header(b"retry-after"))
        except msgspec.DecodeError:
            pass
    return NotReady(f"{where} answers {answer.status}, which is no answer of tasktrail")
