"""The Projector: folds committed events into the views, a moment behind the log.

Commits are gathered, so that a task that changed several times costs one row; when somebody waits, it folds at once.
"""

from collections.abc import Callable
from typing import Any

from ..events.log.sqlite import LogReader
from ..projections import TaskViews, catch_up
from .base import Actor
from .feed import Feed
from .messages import Catch, Wake
from .watermark import Watermark


class Projector(Actor):
    """Keeps one view. What it missed it reads from the log: a lost message costs time, never truth."""

    def __init__(
        self,
        *,
        feed: Feed,
        open_views: Callable[[], TaskViews],
        open_log: Callable[[], LogReader],
        watermark: Watermark,
    ) -> None:
        super().__init__()
        self._feed = feed
        self._open_views = open_views
        self._open_log = open_log
        self._watermark = watermark

    def on_start(self) -> None:
        """Open the view and bring it up to the log."""
        self._log = self._open_log()
        self._view = self._open_views()
        self._start_over()

    def on_stop(self) -> None:
        """Fold the rest."""
        self._fold()
        self._view.close()
        self._log.close()

    def settle(self) -> None:
        """A ping is answered when all that was told is folded."""
        self._fold()

    def receive(self, message: Any) -> None:
        """Fold what has gathered."""
        match message:
            case Wake():
                self._fold()
            case Catch() if message.position > self._watermark.position:
                self._fold()

    def on_fault(self, message: Any, error: BaseException) -> None:  # noqa: ARG002 - the same cure whatever it was
        """The rows and the position are still those of the last good fold: read on from there."""
        self._start_over()

    def _start_over(self) -> None:
        self._feed.take()  # read from the log instead; a ring that a dead predecessor heard must not be the last
        catch_up(self._log, self._view)
        self._watermark.rise(self._view.position)

    def _fold(self) -> None:
        records = self._feed.take()
        if not records:
            return
        if records[0].position > self._view.position + 1:
            catch_up(self._log, self._view)
        self._view.apply(records)
        self._watermark.rise(self._view.position)
