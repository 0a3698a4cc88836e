"""How many workers were ready after a service had started. Not recorded; the first starts show it."""

from datetime import datetime, timedelta

from ...events import Recorded
from ...handlers.process.frames import CapacityChanged
from .tape import Arrival, Ready, Tape

WITHIN = timedelta(seconds=5)
"""So long after its start a service may still be getting its workers ready."""


class CapacityTrace:
    """Tells the tape when workers became ready.

    A start that stands alone shows that one had: nothing else woke the Scheduler. A start that came with something
    else shows that one was ready already. Where nothing shows, all were ready when the service started.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._since: tuple[datetime, int] | None = None
        """When the last worker that is known of became ready; none: all are known to be."""
        self._until: datetime | None = None
        self._slots = 0
        self._together_at: datetime | None = None

    def booted(self, record: Recorded) -> None:
        """A service has started: no worker is ready yet."""
        self.over()
        self._since = (record.recorded_at, 2 * record.position + 1)
        self._until = record.recorded_at + WITHIN
        self._slots = 0
        self._together_at = None

    def started(self, record: Recorded, running: int, *, alone: bool) -> None:
        """A task was started; so many attempts are open now."""
        if self._since is None or self._until is None:
            return
        if record.recorded_at > self._until:
            self.over()
            return
        if alone:
            self._together_at = record.recorded_at
        if running <= self._slots:
            return
        if self._together_at != record.recorded_at:
            self.over()
            return
        self._slots = running
        self._since = (record.recorded_at, 2 * record.position - 1)
        self._tape.arrive(Arrival(*self._since, CapacityChanged(running)))

    def over(self) -> None:
        """Whatever was not shown by then was ready when the last one that was shown was."""
        if self._since is not None:
            at, order = self._since
            self._tape.arrive(Arrival(at, order, Ready()))
            self._since = None
