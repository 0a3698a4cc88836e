"""The Projector: folds committed events into the views, a little behind the log.

A commit is folded at once when the last fold is a moment ago or somebody waits for it; under load, commits are gathered
and a task that changed several times costs one row.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ..events.clock import Clock
from ..events.sqlite_log import LogReader
from ..projections import TaskViews, catch_up
from .alarm import Alarm
from .base import Actor
from .core.messages import Tick
from .feed import Feed
from .messages import Catch
from .watermark import Watermark

GATHER = timedelta(milliseconds=50)


class Projector(Actor):
    """Keeps one view. What it missed it reads from the log: a lost message costs time, never truth."""

    def __init__(
        self,
        *,
        feed: Feed,
        open_views: Callable[[], TaskViews],
        open_log: Callable[[], LogReader],
        watermark: Watermark,
        clock: Clock,
    ) -> None:
        super().__init__()
        self._feed = feed
        self._open_views = open_views
        self._open_log = open_log
        self._watermark = watermark
        self._clock = clock
        self._wanted = 0
        self._last_fold = clock.now() - GATHER

    def on_start(self) -> None:
        """Open the view and bring it up to the log."""
        self._alarm = Alarm(lambda: self.actor_ref.tell(Tick()), self._clock, "projector-alarm")
        self._log = self._open_log()
        self._view = self._open_views()
        self._feed.take()  # a ring that a dead predecessor has heard must not be the last
        self._catch_up()

    def on_stop(self) -> None:
        """Fold the rest."""
        self._alarm.close()
        self._fold()
        self._view.close()
        self._log.close()

    def settle(self) -> None:
        """A ping is answered when all that was told is folded."""
        self._fold()

    def receive(self, message: Any) -> None:
        """Fold when it is time."""
        if isinstance(message, Catch):
            self._wanted = max(self._wanted, message.position)
        if self.actor_inbox.empty():
            self._fold_if_time()

    def on_fault(self, message: Any, error: BaseException) -> None:  # noqa: ARG002 - the same cure whatever it was
        """The rows and the position are still those of the last good fold: read on from there."""
        self._feed.take()
        self._catch_up()

    def _fold_if_time(self) -> None:
        due = self._last_fold + GATHER
        if self._wanted > self._watermark.position or self._clock.now() >= due:
            self._fold()
        else:
            self._alarm.set(due)

    def _fold(self) -> None:
        records = self._feed.take()
        if not records:
            return
        if records[0].position > self._view.position + 1:
            self._catch_up()
        self._view.apply(records)
        self._last_fold = self._clock.now()
        self._watermark.rise(self._view.position)

    def _catch_up(self) -> None:
        catch_up(self._log, self._view)
        self._watermark.rise(self._view.position)
