"""The end of a delivery's time. A receiver that sends a byte now and then would outlive any timeout of single reads."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Lifeline:
    """Cuts what one delivery waits for, when its time is over, or when somebody wants it to end.

    Use it as a context manager round the delivery. A cut connection reads as closed, so whoever waits wakes at once.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """What the delivery gets in all."""
        self.cut = False
        """Whether the delivery was ended from here."""
        self._sockets: list[socket.socket] = []
        self._endings: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self.end)
        self._timer.daemon = True

    def watch(self, connection: socket.socket) -> None:
        """Cut this connection with the others. Kept as a duplicate: TLS takes the original apart."""
        with self._lock:
            self._sockets.append(connection.dup())
        if self.cut:
            self.end()

    def at_end(self, ending: Callable[[], None]) -> None:
        """Have this done with the cutting; it is quick, and may be called more than once."""
        with self._lock:
            self._endings.append(ending)
        if self.cut:
            ending()

    def end(self) -> None:
        """Cut now. From any thread, as often as you like."""
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
