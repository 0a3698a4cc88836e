"""The jumps of the wall clock that are in the log, and the translation of moments before them."""

from datetime import datetime, timedelta

import msgspec

from .system_events import ClockJumped

JUMPS_KEPT = 32
"""The number of last jumps that are kept."""

CORRECTION = timedelta(hours=3)
"""A clock that is set back by more than this was wrong before. Debian's cron draws the same line."""


def corrects(jump: ClockJumped) -> bool:
    """Whether the jump shows that the clock was far ahead until then."""
    return jump.shown - jump.shows > CORRECTION


class Jumps(msgspec.Struct):
    """The last jumps of the wall clock. A fold of the log."""

    kept: list[ClockJumped] = []

    def apply(self, event: ClockJumped) -> None:
        """Add a jump."""
        self.kept = [*self.kept[1 - JUMPS_KEPT :], event]

    def moved(self, at: datetime) -> datetime:
        """A past moment, translated to today's clock, so that elapsed time can be counted from it.

        When the clock was set back, some times come twice. The later one is meant then: nothing may end early.
        """
        by = timedelta(0)
        for jump in reversed(self.kept):
            if at >= jump.shows:
                return at + by
            if at > jump.shown:  # no clock has ever shown this time
                return jump.shows + by
            by += jump.shows - jump.shown
        return at + by

    def reached(self, at: datetime) -> datetime:
        """A moment that the clock had surely shown when a record with the time `at` was made.

        This is `at` itself, unless the record's clock was far ahead, or the log's time stands still because of such
        a clock.
        """
        wrong = [jump for jump in self.kept if corrects(jump) and jump.shown >= at]
        return min(at, wrong[-1].shows) if wrong else at

    def jump_while_stopped(self, last_at: datetime | None, now: datetime) -> ClockJumped | None:
        """The jump back that the clock made while no service ran, if the log's last time shows one."""
        if last_at is None:
            return None
        stood_still = any(jump.shown >= last_at for jump in self.kept)
        shown = self.kept[-1].shows if stood_still else last_at
        jump = ClockJumped(shown=shown, shows=now)
        return jump if corrects(jump) else None
