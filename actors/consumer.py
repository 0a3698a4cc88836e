"""What a consumer of the log does when its own files fail it: it says so, waits a little and tries again.

A full disk, a lock, a missing permission: none of it touches the truth, which is in the log. So it must not end an
actor, and through that the service and all that runs.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeAlias

from ..events.clock import Clock
from .alarm import Alarm
from .base import log

FIRST_RETRY = 0.25
LAST_RETRY = 1.0
"""Seconds between two tries: twice as long each time, up to the last."""

OnTrouble: TypeAlias = Callable[[Exception | None], None]


class Attempts:
    """Runs a piece of work until it goes well.

    Args:
        name: of the consumer, for the log and the alarm's thread.
        ring: asks, from the alarm's thread, for another try.
        told: hears of the trouble, and of its end.
    """

    def __init__(self, name: str, ring: Callable[[], None], clock: Clock, told: OnTrouble) -> None:
        self._name = name
        self._clock = clock
        self._told = told
        self._alarm = Alarm(ring, clock, f"{name}-retry")
        self._pause = FIRST_RETRY
        self._not_before = 0.0
        self._trouble: Exception | None = None

    def run(self, work: Callable[[], None]) -> bool:
        """Do the work, unless it has failed a moment ago; whether it is done."""
        if self._trouble is not None and self._clock.monotonic() < self._not_before:
            return False
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the consumer goes on
            self._failed(error)
            return False
        if self._trouble is not None:
            log.info("a consumer goes on", consumer=self._name)
            self._trouble, self._pause = None, FIRST_RETRY
            self._told(None)
        return True

    def _failed(self, error: Exception) -> None:
        if type(error) is not type(self._trouble):
            log.error("a consumer has to wait", consumer=self._name, error=str(error) or type(error).__name__)
        self._trouble = error
        self._not_before = self._clock.monotonic() + self._pause
        self._alarm.set(self._clock.now() + timedelta(seconds=self._pause))
        self._pause = min(2 * self._pause, LAST_RETRY)
        self._told(error)

    def close(self) -> None:
        """Ring no more."""
        self._alarm.close()
