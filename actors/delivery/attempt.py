"""One try to deliver a notice: how long it may take, what came of it, and when the next one follows."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec

CONNECT_WITHIN = 5.0
DELIVER_WITHIN = 20.0
"""Seconds that a connection, and a whole delivery, may take."""


class Deadline:
    """The end of one delivery's time: then, or when `end` is called, its connections are cut.

    A receiver that sends a byte now and then would outlive any timeout of single reads.

    Use it as a context manager round the delivery. A cut connection reads as closed, so a waiting thread wakes at once.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """Time for the whole delivery."""
        self.cut = False
        """Whether the delivery was cut."""
        self._sockets: list[socket.socket] = []
        self._endings: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self.end)
        self._timer.daemon = True

    def watch(self, connection: socket.socket) -> None:
        """Cut this connection at the end. A duplicate is kept, because TLS takes the original apart."""
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
        """Cut now. Any thread may call it, more than once."""
        self.cut = True
        with self._lock:
            for ending in self._endings:
                ending()
            for connection in self._sockets:
                with contextlib.suppress(OSError):  # the other side was quicker
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
"""Longest detail, in bytes of UTF-8: it is recorded in the log."""

DELAYS = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Seconds between the tries: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h."""

JITTER = 0.1
"""This part of the delay is added at most, so that deliveries that failed together are not all tried again together."""

LONGEST_RETRY_AFTER = 86400.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one try."""

    ok: bool
    detail: str
    """For people, at most `MAX_DETAIL` bytes, without secrets. Make it with `brief`."""
    retryable: bool = True
    """Whether another try could do better."""
    disabled: bool = False
    """The receiver said that it is gone for good."""
    retry_after: float | None = None
    """Seconds that the receiver asked to be left alone."""
    answered: bool = False
    """The endpoint works: a failure concerns this receiver only, not every receiver behind the endpoint."""


def next_delay(result: Result, tries: int, jitter: float) -> float | None:
    """Seconds until the next try, or None when there is no further one.

    Args:
        result: of the try just made.
        tries: tries made so far, this one included.
        jitter: a random number from 0 to 1.
    """
    if result.ok or not result.retryable or result.disabled or tries > len(DELAYS):
        return None
    return max(DELAYS[tries - 1] * (1 + JITTER * jitter), wish(result))


def wish(result: Result) -> float:
    """Seconds that the receiver wants to be left alone, as far as that is honoured."""
    return min(result.retry_after or 0.0, LONGEST_RETRY_AFTER)


_NUMBER = re.compile(r"\[Errno -?\d+\] ")


def error_in_words(error: Exception) -> str:
    """What an error of the network says, in one line; the number that the system has for it means nothing to people."""
    return brief(f"{type(error).__name__}: {_NUMBER.sub('', str(error))}")


def brief(text: str, limit: int = MAX_DETAIL) -> str:
    """One printable line of at most `limit` bytes."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line.encode(errors="replace")[:limit].decode(errors="ignore")
