"""The jumps that the wall clock has made, as the log has them, and what they mean for moments before them."""

from datetime import datetime, timedelta

import msgspec

from .system_events import ClockJumped

JUMPS_KEPT = 32
"""This many of the last jumps are remembered."""

CORRECTION = timedelta(hours=3)
"""A clock that is set back by more than this was wrong before. Debian's cron draws the same line."""


def corrects(jump: ClockJumped) -> bool:
    """Whether the jump says that the clock was far ahead until then."""
    return jump.shown - jump.shows > CORRECTION


class Jumps(msgspec.Struct):
    """The last jumps of the wall clock. A fold of the log."""

    kept: list[ClockJumped] = []

    def apply(self, event: ClockJumped) -> None:
        """One more."""
        self.kept = [*self.kept[1 - JUMPS_KEPT :], event]

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

    def reached(self, at: datetime) -> datetime:
        """A moment that the clock has surely shown by the time of a record that says `at`.

        That is `at` itself, unless a clock far ahead made the record, or the log's time stands still because of one.
        """
        wrong = [jump for jump in self.kept if corrects(jump) and jump.shown >= at]
        return min(at, wrong[-1].shows) if wrong else at

    def unseen(self, last_at: datetime | None, now: datetime) -> ClockJumped | None:
        """The jump back that the clock has made while no service ran, as far as the log's last time shows it."""
        if last_at is None:
            return None
        stood_still = any(jump.shown >= last_at for jump in self.kept)
        shown = self.kept[-1].shows if stood_still else last_at
        jump = ClockJumped(shown=shown, shows=now)
        return jump if corrects(jump) else None
