"""Committed records on their way to a consumer, gathered for a moment.

A tell for every commit would wake the consumer's thread each time, and the Scheduler would wait for it to let go of
the interpreter. So the first commit after a `take` sets an alarm, and what follows is just put beside it. A consumer
in a hurry takes earlier.
"""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Generic, TypeVar

from ..events.clock import Clock
from .alarm import Alarm

GATHER = timedelta(milliseconds=50)


T = TypeVar("T")


class Feed(Generic[T]):
    """One producer, one consumer. `ring` is called, in a thread of its own, when there is something to take.

    `most`: so many portions wait at most, and further ones are dropped; none: all wait.
    """

    def __init__(
        self,
        ring: Callable[[], None],
        clock: Clock,
        name: str,
        gather: timedelta = GATHER,
        *,
        most: int | None = None,
    ) -> None:
        self._clock = clock
        self._gather = gather
        self._alarm = Alarm(ring, clock, f"{name}-feed")
        self._waiting: deque[Sequence[T]] = deque()
        self._set = False
        self._most = most
        self._dropped = 0

    def put(self, records: Sequence[T]) -> None:
        """Add what was committed."""
        if self._most is not None and len(self._waiting) >= self._most:
            self._dropped += len(records)
            return
        self._waiting.append(records)
        if not self._set:
            self._set = True
            self._alarm.set(self._clock.now() + self._gather)

    def take(self) -> list[T]:
        """All that is there, in order. What is put from now on rings again."""
        self._set = False
        taken: list[T] = []
        while self._waiting:
            taken += self._waiting.popleft()
        return taken

    def dropped(self) -> int:
        """How many were dropped since this was asked last."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def close(self) -> None:
        """Ring no more."""
        self._alarm.close()
