"""An alarm, which calls an actor back at a time."""

import math
import threading
from collections.abc import Callable
from datetime import datetime

import pykka

from ..events.clock import Clock
from .logger import get_logger

logger = get_logger()

_LONGEST_SLEEP = 30.0
"""Seconds until the alarm reads the wall clock again, because it may have been set."""


class Alarm:
    """Calls `ring` from its own thread at the set time. Setting it again replaces the time.

    `set` takes a time of the wall clock. `set_after` takes a delay, which changes of the wall clock do not affect.
    """

    def __init__(self, ring: Callable[[], None], clock: Clock, name: str = "alarm") -> None:
        self._ring = ring
        self._clock = clock
        self._at: datetime | float | None = None
        """When to ring: a float is a time of the monotonic clock."""
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def set(self, at: datetime | None) -> None:
        """Ring at `at`; with None do not ring. A time in the past rings at once."""
        if at == self._at:
            return
        self._replace(at)

    def set_after(self, seconds: float) -> None:
        """Ring after `seconds`."""
        self._replace(self._clock.monotonic() + seconds)

    def _replace(self, at: datetime | float | None) -> None:
        with self._changed:
            before = self._seconds_left()
            self._at = at
            if self._seconds_left() < before:  # the thread finds a later time when it wakes at the earlier one
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
                    self._changed.wait(None if left == math.inf else min(left, _LONGEST_SLEEP))
                if self._closed:
                    return
                self._at = None
            try:
                self._ring()
            except pykka.ActorDeadError:  # the actor that it rings for has just stopped
                continue
            except Exception:  # an error in `ring` must not end the alarm for good
                logger.exception("an alarm could not be handled", alarm=self._thread.name)

    def _seconds_left(self) -> float:
        at = self._at
        if at is None:
            return math.inf
        if isinstance(at, float):
            return at - self._clock.monotonic()
        return (at - self._clock.now()).total_seconds()
