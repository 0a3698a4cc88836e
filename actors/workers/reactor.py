"""The reactor: one thread that waits for pipes and for times."""

import heapq
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import TypeAlias

from ..logger import get_logger

Callback: TypeAlias = Callable[[], None]

logger = get_logger(__name__)


class Reactor:
    """Calls back, always in its own thread: when a pipe can be read or written, and when a time has come.

    Args:
        after_turn: called after each round of calls.
        clock: seconds, monotonic.
    """

    def __init__(self, after_turn: Callback, clock: Callable[[], float] = time.monotonic) -> None:
        self._after_turn = after_turn
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._moments: list[tuple[float, int, Callback]] = []
        self._numbers = count()
        self._posted: deque[Callback] = deque()
        self._finished = False
        self._thread = 0
        self._ringing = threading.Lock()
        self._rope_open = True
        self._bell, self._rope = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._rope, False)
        self._selector.register(self._bell, selectors.EVENT_READ, self._rung)

    def run(self) -> None:
        """Work until `finish`, then close everything."""
        self._thread = threading.get_ident()
        while not self._finished:
            _guarded(self._turn)
        self.dispose()

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._until_next()):
            _guarded(key.data)
        self._run_posted()
        self._run_due()
        _guarded(self._after_turn)

    def finish(self) -> None:
        """Let `run` return after this turn. Called in the reactor's thread."""
        self._finished = True

    def dispose(self) -> None:
        """Close everything. `run` does it by itself."""
        self._selector.close()
        with self._ringing:
            if self._rope_open:
                self._rope_open = False
                os.close(self._bell)
                os.close(self._rope)

    def inside(self) -> bool:
        """Whether the caller is in the reactor's thread."""
        return threading.get_ident() == self._thread

    def post(self, call: Callback) -> None:
        """Call it soon, but never after `run` has returned. Any thread may post."""
        self._posted.append(call)
        if not self.inside():
            self._ring()

    def at(self, seconds: float, call: Callback) -> None:
        """Call it after `seconds`. Any thread may ask for it."""
        moment = self._clock() + seconds
        self.post(lambda: heapq.heappush(self._moments, (moment, next(self._numbers), call)))

    def on_readable(self, fd: int, call: Callback) -> None:
        """Call whenever there is something to read, or the end of the file. Used in the reactor's thread."""
        self._selector.register(fd, selectors.EVENT_READ, call)

    def on_writable(self, fd: int, call: Callback) -> None:
        """Call whenever there is room to write. Used in the reactor's thread."""
        self._selector.register(fd, selectors.EVENT_WRITE, call)

    def forget(self, fd: int) -> None:
        """Stop the calls for this descriptor, before it is closed. Used in the reactor's thread."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def _until_next(self) -> float | None:
        if self._posted:
            return 0.0
        if not self._moments:
            return None
        return max(0.0, self._moments[0][0] - self._clock())

    def _run_posted(self) -> None:
        # Only the calls posted so far: a call that posts itself again must not keep the pipes waiting.
        for _ in range(len(self._posted)):
            _guarded(self._posted.popleft())

    def _run_due(self) -> None:
        while self._moments and self._moments[0][0] <= self._clock():
            _guarded(heapq.heappop(self._moments)[2])

    def _ring(self) -> None:
        with self._ringing:
            if self._rope_open:
                with suppress(BlockingIOError):  # it rings already
                    os.write(self._rope, b"x")

    def _rung(self) -> None:
        os.read(self._bell, 4096)


def _guarded(call: Callback) -> None:
    """Make a call. If it fails, the other calls of the turn and the reports at its end still happen."""
    try:
        call()
    except Exception:
        logger.exception("reactor_call_failed")


class PipeWriter:
    """Writes to a pipe without waiting. Data that does not fit is sent when there is room.

    The caller holds `lock` during `write`.
    """

    def __init__(self, fd: int, reactor: Reactor, lock: "threading.RLock") -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._reactor = reactor
        self._lock = lock
        self._rest = b""
        self._closed = False

    def write(self, data: bytes) -> None:
        """Write now or soon. Raises ConnectionError if the reading end is closed."""
        if self._rest:
            self._rest += data
            return
        try:
            sent = os.write(self.fd, data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._rest = data[sent:]
            self._reactor.post(self._watch)

    def close(self) -> None:
        """Close the pipe. Called in the reactor's thread."""
        if not self._closed:
            self._closed = True
            self._reactor.forget(self.fd)
            os.close(self.fd)

    def _watch(self) -> None:
        if not self._closed:
            self._reactor.on_writable(self.fd, self._flush)

    def _flush(self) -> None:
        with self._lock:
            try:
                self._rest = self._rest[os.write(self.fd, self._rest) :]
            except BlockingIOError:
                return
            except ConnectionError:
                self._rest = b""  # the worker has died; its reaper reports that
            if not self._rest:
                self._reactor.forget(self.fd)
