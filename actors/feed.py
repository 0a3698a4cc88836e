"""Committed records on their way to a consumer, gathered for a moment.

A tell for every commit would wake the consumer's thread each time, and the Scheduler would wait for it to let go of
the interpreter. So the first commit after a `take` sets an alarm, and what follows is just put beside it. A consumer
in a hurry takes earlier.
"""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

from ..events import Recorded
from ..events.clock import Clock
from .alarm import Alarm

GATHER = timedelta(milliseconds=50)


class Feed:
    """One producer, one consumer. `ring` is called, in a thread of its own, when there is something to take."""

    def __init__(self, ring: Callable[[], None], clock: Clock, name: str, gather: timedelta = GATHER) -> None:
        self._clock = clock
        self._gather = gather
        self._alarm = Alarm(ring, clock, f"{name}-feed")
        self._waiting: deque[Sequence[Recorded]] = deque()
        self._set = False

    def put(self, records: Sequence[Recorded]) -> None:
        """Add what was committed."""
        self._waiting.append(records)
        if not self._set:
            self._set = True
            self._alarm.set(self._clock.now() + self._gather)

    def take(self) -> list[Recorded]:
        """All that is there, in order. What is put from now on rings again."""
        self._set = False
        taken: list[Recorded] = []
        while self._waiting:
            taken += self._waiting.popleft()
        return taken

    def close(self) -> None:
        """Ring no more."""
        self._alarm.close()
