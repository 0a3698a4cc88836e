"""Notices when somebody sets the wall clock, by the clock that nobody can set."""

from datetime import datetime, timedelta

from ..events.clock import Clock
from ..events.system_events import ClockJumped

NOTICED = timedelta(seconds=1)
"""The clocks may differ by less than this, for the two cannot be read at the same moment."""


class JumpWatch:
    """Remembers how the clocks stood to each other; while the machine sleeps, only the wall clock goes on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._monotonic, self._wall = clock.monotonic(), clock.now()

    def look(self) -> tuple[datetime, ClockJumped | None]:
        """What the wall clock shows, and its jump since the last one, if there was one."""
        for _ in range(2):  # a thread may be held up between two readings, but hardly twice
            # This one first: who is held up then sees a jump forward, which ends nothing early.
            monotonic, wall = self._clock.monotonic(), self._clock.now()
            shown = self._wall + timedelta(seconds=monotonic - self._monotonic)
            if abs(wall - shown) < NOTICED:
                return wall, None
        self._monotonic, self._wall = monotonic, wall
        return wall, ClockJumped(shown=shown, shows=wall)
