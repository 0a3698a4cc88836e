"""Ctrl-C and SIGTERM as messages, taken when the command is ready for them, instead of exceptions at any moment."""

import signal
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Self


class Signals:
    """While it is entered, SIGINT and SIGTERM are queued. Only the main thread may enter it."""

    def __init__(self) -> None:
        # A SimpleQueue may be put to from a signal handler that interrupts its own `get`; an Event may not.
        self._queue: SimpleQueue[int] = SimpleQueue()
        self._before: dict[int, Any] = {}
        self.last: int | None = None
        """The signal that `next` answered last."""

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._queue.put(number)

    def next(self, timeout: float = 0.0) -> int | None:
        """The number of the signal that came, waiting up to `timeout` seconds for one; or none."""
        try:
            self.last = self._queue.get(block=timeout > 0, timeout=timeout or None)
        except Empty:
            return None
        return self.last
