"""The Janitor: removes the temp folders of tasks, but never one that an open task may still need."""

import os
from collections.abc import Callable

from ..events import Completed, Recorded
from ..events.clock import Clock
from ..events.task_events import is_terminal
from ..handlers.workspace import TempFiles
from .actor import Actor
from .alarm import Alarm
from .core.messages import Tick
from .feed import Feed
from .logger import get_logger
from .messages import WAKE, Wake
from .storage.sweeper import Sweeper

logger = get_logger()

_EVERY = 3600.0
_AGAIN = 60.0
"""The pause after a sweep that failed."""


class Janitor(Actor):
    """Removes the temp folder of a completed task at once.

    The folder of a failed or cancelled task may serve a retry. It is removed once the task has been over, and the
    folder unchanged, for a long time, or when all folders together exceed the quota.

    Args:
        feed: the committed records.
        files: the temp folders. Its `protected` has to name the unfinished tasks; it is called anew for each folder.
        clock: for the hourly sweep.
        last_task_id: the id of the newest task; it is called anew for each folder, too.
        sweeper: clears up after attempts with files elsewhere; None if there are none.
    """

    def __init__(
        self,
        *,
        feed: Feed[Recorded],
        files: TempFiles,
        clock: Clock,
        last_task_id: Callable[[], int],
        sweeper: Sweeper | None = None,
    ) -> None:
        super().__init__()
        self._feed = feed
        self._files = files
        self._clock = clock
        self._last_task_id = last_task_id
        self._sweeper = sweeper

    def on_start(self) -> None:
        """Sweep once, then every hour."""
        self._alarm = Alarm(lambda: self.actor_ref.tell(Tick()), self._clock, "janitor-alarm")
        self.actor_ref.tell(Tick())
        self.actor_ref.tell(WAKE)  # a dead predecessor may have got the feed's last wake-up

    def on_stop(self) -> None:
        """Clear up once more."""
        self._alarm.close()
        self._clear_up()
        if self._sweeper is not None:
            self._sweeper.close()

    def receive(self, message: object) -> None:
        """Remove the folders of completed tasks; sweep when it is time."""
        match message:
            case Wake():
                self._clear_up()
            case Tick():
                pause = _AGAIN
                try:
                    self._files.sweep_orphans(self._last_task_id)
                    self._files.clean_up()
                    if self._sweeper is not None:
                        self._sweeper.sweep()
                    pause = _EVERY
                except OSError as error:  # for example, a command that root ran has made the folder root's
                    logger.warning("old temp files could not be looked at or removed", error=str(error))
                finally:
                    self._alarm.set_after(pause)  # not by the wall clock, which may be put back by a year

    def _clear_up(self) -> None:
        left = False
        for record in self._feed.take():
            if not is_terminal(record.event) or not os.path.isdir(self._files.folder(record.task_id)):  # noqa: PTH112
                continue
            if isinstance(record.event, Completed):
                self._files.remove(record.task_id)
            else:
                self._files.count_from_now(record.task_id)
                left = True
        if left:
            self._files.clean_up()
