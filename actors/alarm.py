"""A thread that calls back when a moment has come. Pykka has no timers."""

import threading
from collections.abc import Callable
from datetime import datetime

from ..events.clock import Clock
from .log import get_logger

_LONGEST_SLEEP = 30.0
"""Seconds after which the wall clock is looked at again: it may have jumped."""


log = get_logger()


class Alarm:
    """Calls `ring` from its own thread at the set moment; setting it again replaces the moment."""

    def __init__(self, ring: Callable[[], None], clock: Clock, name: str = "alarm") -> None:
        self._ring = ring
        self._clock = clock
        self._at: datetime | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def set(self, at: datetime | None) -> None:
        """Ring at `at`; none for not at all. A moment in the past rings at once."""
        if at == self._at:
            return
        with self._changed:
            earlier = at is not None and (self._at is None or at < self._at)
            self._at = at
            if earlier:  # a later moment is found when the thread wakes for the earlier one
                self._changed.notify()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (left := self._seconds_left()) > 0:
                    self._changed.wait(None if self._at is None else min(left, _LONGEST_SLEEP))
                if self._closed:
                    return
                self._at = None
            try:
                self._ring()
            except Exception:  # whoever is rung must not end the alarm for all later times
                log.exception("nobody heard an alarm", alarm=self._thread.name)

    def _seconds_left(self) -> float:
        return float("inf") if self._at is None else (self._at - self._clock.now()).total_seconds()
