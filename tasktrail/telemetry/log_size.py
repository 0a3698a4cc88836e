"""Measures the size of a log on PostgreSQL for the metrics, without waiting long for a server that is away."""

import threading
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..events import TasktrailError
from ..events.log.opening import read_log

if TYPE_CHECKING:
    from ..events.log.log_reader import LogReader

_WITHIN = 1.0
"""Seconds. The connection itself notices only after 20 s that a server is away."""


class LogSize:
    """Measures the size, one measurement at a time. Thread-safe."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._measured: Future[int | None] | None = None
        self._reader: LogReader | None = None
        self._closed = False

    def bytes(self) -> int | None:
        """Return the size of the log; None if it does not answer at once."""
        with self._lock:
            measured = self._measured
            if measured is None or measured.done():
                measured = Future[int | None]()
                threading.Thread(target=self._settle, args=(measured,), name="log-size", daemon=True).start()
                self._measured = measured
        with suppress(TimeoutError):
            return measured.result(_WITHIN)
        return None

    def _settle(self, measured: "Future[int | None]") -> None:
        size = None
        try:
            size = self._measure()
        finally:
            measured.set_result(size)

    def _measure(self) -> int | None:
        try:
            if self._closed:
                return None
            if self._reader is None:
                self._reader = read_log(self._place)
            return self._reader.size()
        except (TasktrailError, OSError):  # reported elsewhere
            return None

    def close(self) -> None:
        """Close the log."""
        self._closed = True
        if self._reader is not None:
            self._reader.close()
