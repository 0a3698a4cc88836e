"""The Janitor: removes what tasks leave on the disk, and never what an open task may still need."""

import os
from datetime import timedelta

from ..events import Completed
from ..events.clock import Clock
from ..handlers.workspace import TempFiles
from .alarm import Alarm
from .base import Actor
from .core.messages import Tick
from .feed import Feed
from .messages import WAKE, Wake

EVERY = timedelta(hours=1)


class Janitor(Actor):
    """A completed task's temp folder goes at once; that of a failed or cancelled one when it is old: it may be retried.

    `files.protected` must ask which tasks are not finished: theirs is never touched.
    """

    def __init__(self, *, feed: Feed, files: TempFiles, clock: Clock) -> None:
        super().__init__()
        self._feed = feed
        self._files = files
        self._clock = clock

    def on_start(self) -> None:
        """Sweep once, then every hour."""
        self._alarm = Alarm(lambda: self.actor_ref.tell(Tick()), self._clock, "janitor-alarm")
        self.actor_ref.tell(Tick())
        self.actor_ref.tell(WAKE)  # a ring that a dead predecessor has heard must not be the last

    def on_stop(self) -> None:
        """Clear up after the last ones."""
        self._alarm.close()
        self._clear_up()

    def receive(self, message: object) -> None:
        """Clear up after what was completed; sweep when it is time."""
        match message:
            case Wake():
                self._clear_up()
            case Tick():
                self._files.clean_up()
                self._alarm.set(self._clock.now() + EVERY)

    def _clear_up(self) -> None:
        for record in self._feed.take():
            folder = self._files.folder(record.task_id)
            if isinstance(record.event, Completed) and os.path.isdir(folder):  # noqa: PTH112 - quick
                self._files.remove(record.task_id)
