"""The Projector: folds committed events into the views, a moment behind the log.

Commits are gathered, so that a task that changed several times costs one row; when somebody waits, it folds at once.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import pykka

from ..events.clock import Clock
from ..events.log.sqlite import LogReader
from ..projections import TaskViews, catch_up
from .base import Actor
from .consumer import Attempts, OnTrouble
from .feed import Feed
from .messages import WAKE, Catch, Wake
from .watermark import Watermark


class Projector(Actor):
    """Keeps one view. What it missed it reads from the log: a lost message costs time, never truth.

    A view that cannot be written lags behind, which `on_trouble` hears, and is tried again until it can.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        open_views: Callable[[], TaskViews],
        open_log: Callable[[], LogReader],
        watermark: Watermark,
        clock: Clock,
        on_trouble: OnTrouble = lambda _: None,
    ) -> None:
        super().__init__()
        self._feed = feed
        self._open_views = open_views
        self._open_log = open_log
        self._watermark = watermark
        self._clock = clock
        self._on_trouble = on_trouble
        self._log: LogReader | None = None
        self._view: TaskViews | None = None
        self._behind = True
        """Whether records may be missing, so that the log has to be read."""

    def on_start(self) -> None:
        """Open the view and bring it up to the log."""
        self._attempts = Attempts("projector", self._ring, self._clock, self._on_trouble)
        self._fold()

    def on_stop(self) -> None:
        """Fold the rest."""
        self._fold()
        self._attempts.close()
        for one in (self._view, self._log):
            if one is not None:
                one.close()

    def settle(self) -> None:
        """A ping is answered when all that was told is folded, if it can be."""
        self._fold()

    def receive(self, message: Any) -> None:
        """Fold what has gathered."""
        match message:
            case Wake():
                self._fold()
            case Catch() if message.position > self._watermark.position:
                self._fold()

    def _ring(self) -> None:
        with contextlib.suppress(pykka.ActorDeadError):
            self.actor_ref.tell(WAKE)

    def _fold(self) -> None:
        self._attempts.run(self._bring_up)

    def _bring_up(self) -> None:
        records = self._feed.take()
        behind, self._behind = self._behind, True  # until it has gone well: the position is that of the last good fold
        if self._log is None:
            self._log = self._open_log()
        if self._view is None:
            self._view = self._open_views()
        if behind or (records and records[0].position > self._view.position + 1):
            catch_up(self._log, self._view)
        if records:
            self._view.apply(records)
        self._behind = False
        self._watermark.rise(self._view.position)
