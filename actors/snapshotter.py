"""The Snapshotter: has a process of its own take snapshots, one at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .base import WAKE, Actor, Wake, logger
from .side_process import Ended, Errand
from .snapshots import outbox, scheduler
from .snapshots.file import Unusable, header_of
from .snapshots.pace import Pace


class Snapshotter(Actor):
    """Told that a snapshot is due, it starts the process, unless one is at work.

    Args:
        log_path: the log.
        folder: where the snapshots are.
        pace: is told when one was taken.
        position: the last record that is committed.
    """

    def __init__(self, *, log_path: Path, folder: Path, pace: Pace, position: Callable[[], int]) -> None:
        super().__init__()
        self._log_path = log_path
        self._folder = folder
        self._pace = pace
        self._position = position

    def on_start(self) -> None:
        """Go on from the older of the snapshots that there are."""
        self._writing = Errand("tasktrail.actors.snapshots.writer", self.actor_ref.tell)
        done = min(_position_of(self._folder / kind) for kind in (scheduler.KIND, outbox.KIND))
        position = self._position()
        self._pace.taken(done if done <= position else 0, 0)
        if self._pace.is_due(position):
            self.actor_ref.tell(WAKE)

    def on_stop(self) -> None:
        """Nothing is lost with a snapshot that is not taken."""
        self._writing.kill()

    def receive(self, message: Any) -> None:
        """Start the process, or note what came of it."""
        match message:
            case Wake() if not self._writing.under_way:
                self._start()
            case Ended():
                self._writing.heard()
                self._end(message)

    def _start(self) -> None:
        try:
            self._writing.start(str(self._log_path), str(self._folder))
        except OSError as error:  # no process, no memory, no descriptor
            logger.warning("no snapshot can be taken now", error=str(error))
            self._pace.failed(self._position())

    def _end(self, ended: Ended) -> None:
        if ended.code == 0 and ended.said:
            position, tasks = map(int, ended.said.split())
            self._pace.taken(position, tasks)
            if self._pace.is_due(self._position()):  # so much was recorded meanwhile
                self._start()
        else:
            logger.warning("no snapshot could be taken", exit_code=ended.code, error=ended.last_words)
            self._pace.failed(self._position())


def _position_of(path: Path) -> int:
    try:
        return header_of(path).position
    except Unusable:
        return 0
