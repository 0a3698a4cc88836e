"""One try to deliver a notice: how long it may take, its result, and when the next one follows."""

import contextlib
import errno
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec

CONNECT_WITHIN = 5.0
DELIVER_WITHIN = 20.0
"""Seconds that making a connection, and a whole delivery, may take."""


class Deadline:
    """Cuts the connections of one delivery when its time is over, or when `end` is called.

    Timeouts of single reads do not suffice: a receiver that sends a byte now and then would never reach them.

    Use it as a context manager around the delivery. A cut connection reads as closed, so a waiting thread wakes up.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """Seconds for the whole delivery."""
        self.cut = False
        """Whether the delivery was cut."""
        self._sockets: list[socket.socket] = []
        self._endings: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self.end)
        self._timer.daemon = True

    def watch(self, connection: socket.socket) -> None:
        """Cut this connection at the end. A duplicate is kept, because TLS detaches the original."""
        with self._lock:
            self._sockets.append(connection.dup())
        if self.cut:
            self.end()

    def at_end(self, ending: Callable[[], None]) -> None:
        """Call this at the end, too. It has to be quick, and may be called more than once."""
        with self._lock:
            self._endings.append(ending)
        if self.cut:
            ending()

    def end(self) -> None:
        """Cut all connections now. Any thread may call it, more than once."""
        self.cut = True
        with self._lock:
            for ending in self._endings:
                ending()
            for connection in self._sockets:
                with contextlib.suppress(OSError):  # the other side has closed it first
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._sockets:
                connection.close()
            self._sockets.clear()
            self._endings.clear()


MAX_DETAIL = 1024
"""The longest detail in bytes of UTF-8; it is limited because the log records it."""

DELAYS = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Seconds between the tries: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h."""

JITTER = 0.1
"""The largest part of a delay that is added to it, so that deliveries that failed together retry at different times."""

LONGEST_RETRY_AFTER = 86400.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one try."""

    ok: bool
    detail: str
    """For people, at most `MAX_DETAIL` bytes, without secrets. Make it with `brief`."""
    retryable: bool = True
    """Whether another try could succeed."""
    disabled: bool = False
    """Whether the receiver said that it is gone for good."""
    retry_after: float | None = None
    """Seconds for which the receiver asked to be left alone."""
    answered: bool = False
    """Whether the endpoint works: then a failure concerns only this receiver, not all receivers of the endpoint."""


def next_delay(result: Result, tries: int, jitter: float) -> float | None:
    """Seconds until the next try, or None if there is no further one.

    Args:
        result: the result of the last try.
        tries: the number of tries so far, including the last one.
        jitter: a random number from 0 to 1.
    """
    if result.ok or not result.retryable or result.disabled or tries > len(DELAYS):
        return None
    return max(DELAYS[tries - 1] * (1 + JITTER * jitter), wanted_pause(result))


def wanted_pause(result: Result) -> float:
    """Seconds for which the receiver wants to be left alone, at most `LONGEST_RETRY_AFTER`."""
    return min(result.retry_after or 0.0, LONGEST_RETRY_AFTER)


_NUMBER = re.compile(r"\[Errno -?\d+\] ")


def error_in_words(error: Exception) -> str:
    """A network error in one line: a usual one in plain words, another with its kind, since its text may say little.

    The system's error number is left out: it means nothing to people.
    """
    return brief(usual_error(error) or f"{type(error).__name__}: {_NUMBER.sub('', str(error))}")


def usual_error(error: BaseException) -> str:
    """The plain words for a usual reason why there is no connection; empty for another. No address is in them."""
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case ConnectionRefusedError():
                return "nothing listens at that host and port (connection refused)"
            case socket.gaierror():
                return f"the name of the host cannot be resolved ({cause.strerror})"
            case ssl.SSLCertVerificationError():
                return f"the certificate is not trusted: {cause.verify_message} (CERTIFICATE_VERIFY_FAILED)"
            case OSError(errno=errno.ENETUNREACH | errno.EHOSTUNREACH as number):
                return f"there is no route to that host ({os.strerror(number)})"
        cause = cause.__cause__ or cause.__context__
    return ""


def brief(text: str, limit: int = MAX_DETAIL) -> str:
    """One printable line of at most `limit` bytes."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line.encode(errors="replace")[:limit].decode(errors="ignore")
