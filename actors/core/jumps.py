"""The jumps that the wall clock has made, as the log has them, and what they mean for moments before them."""

from datetime import datetime, timedelta

from ...events.system_events import ClockJumped

KEPT = 32
"""So many of the last jumps are remembered."""


class Jumps:
    """A fold of `ClockJumped`."""

    def __init__(self) -> None:
        self.kept: list[ClockJumped] = []

    def apply(self, event: ClockJumped) -> None:
        """One more."""
        self.kept = [*self.kept[1 - KEPT :], event]

    def moved(self, at: datetime) -> datetime:
        """A past moment as the clock would show it that shows the present, so that elapsed time can be counted from it.

        When the clock was set back, some times come twice. The later is meant then: nothing may end early.
        """
        by = timedelta(0)
        for jump in reversed(self.kept):
            if at >= jump.shows:
                return at + by
            if at > jump.shown:  # no clock has ever shown that
                return jump.shows + by
            by += jump.shows - jump.shown
        return at + by
