"""Committed records on their way to a consumer, gathered until it is ready to take them.

A tell for every commit would wake the consumer's thread each time, and the Scheduler would wait for it to let go of
the interpreter. So only the first commit after a `take` rings; the rest are just put beside it.
"""

from collections import deque
from collections.abc import Callable, Sequence

from ..events import Recorded


class Feed:
    """One producer, one consumer. `ring` is called in the producer's thread when there is something after nothing."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._waiting: deque[Sequence[Recorded]] = deque()
        self._rung = False

    def put(self, records: Sequence[Recorded]) -> None:
        """Add what was committed."""
        self._waiting.append(records)
        if not self._rung:
            self._rung = True
            self._ring()

    def take(self) -> list[Recorded]:
        """All that is there, in order. What is put from now on rings again."""
        self._rung = False
        taken: list[Recorded] = []
        while self._waiting:
            taken += self._waiting.popleft()
        return taken
