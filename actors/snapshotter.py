"""The Snapshotter: takes the snapshots in a process of its own, one run at a time.

The process does not see the service's memory. It folds the older snapshots and the records since, as a start does.
So it always writes a fold of the log, and does not hold the service up.
"""

import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..events.errors import NotReady
from ..events.log.opening import read_log
from .actor import Actor
from .logger import get_logger
from .messages import WAKE, DeleteSnapshots, Wake
from .side_process import ProcessEnded, SideProcess, follow_parent
from .snapshot_file import SnapshotUnusable, header_of
from .snapshots import OUTBOX_SNAPSHOT, SCHEDULER_SNAPSHOT, delete_snapshots, take_snapshots

logger = get_logger()

_AFTER_FAILURE = 4
"""How many times longer the next try waits after a failure."""


class SnapshotPace:
    """Counts records since the last snapshot, and says when the next one is due.

    The Scheduler's thread asks at each commit, and the Snapshotter sets the position at which one is due. A slightly
    wrong position does no harm. A snapshot of many tasks takes long to write. So the next one also waits for half as
    many records as there were tasks: then the cost for each record does not grow with the number of tasks.

    Args:
        every: the least number of records between two snapshots; with 0 no snapshot is ever due.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._due: int | None = None

    def is_due(self, position: int) -> bool:
        """Whether to take one now. After True it returns False until it is told what came of it."""
        if self._due is None or position < self._due:
            return False
        self._due = None
        return True

    def count_from(self, position: int) -> None:
        """Count the records from `position` on, where nothing was written now."""
        if self._every:
            self._due = position + self._every

    def taken(self, position: int, tasks: int) -> None:
        """Note that there is a new snapshot as of `position`, with this number of tasks."""
        if self._every:
            self._due = position + max(self._every, tasks // 2)

    def failed(self, position: int) -> None:
        """Note that no snapshot could be taken: the next try comes later than usual."""
        if self._every:
            self._due = position + _AFTER_FAILURE * self._every

    def called_off(self) -> None:
        """Note that a snapshot under way was deleted: the next one is due at once."""
        if self._every:
            self._due = 0


class Snapshotter(Actor):
    """Starts the process when a snapshot is due, unless it is at work already.

    Args:
        log_path: the log.
        folder: where the snapshots are.
        pace: decides when a snapshot is due, and is updated when one was taken.
        position: returns the position of the last committed record.
    """

    def __init__(self, *, log_path: Path, folder: Path, pace: SnapshotPace, position: Callable[[], int]) -> None:
        super().__init__()
        self._log_path = log_path
        self._folder = folder
        self._pace = pace
        self._position = position

    def on_start(self) -> None:
        """Start counting at the older of the two snapshots."""
        self._process = SideProcess("tasktrail.actors.snapshotter", self.actor_ref.tell)
        self._called_off = False
        done = min(_position_of(self._folder / kind.name) for kind in (SCHEDULER_SNAPSHOT, OUTBOX_SNAPSHOT))
        position = self._position()
        self._pace.count_from(done if done <= position else 0)
        if self._pace.is_due(position):
            self.actor_ref.tell(WAKE)

    def on_stop(self) -> None:
        """End the process: without the snapshot nothing is lost."""
        self._process.kill()

    def receive(self, message: Any) -> Any:
        """Start the process, handle its end, or delete the snapshots."""
        match message:
            case Wake() if not self._process.running:
                self._start()
            case ProcessEnded():
                self._process.forget()
                self._end(message)
            case DeleteSnapshots():
                self._called_off = self._process.running
                self._process.kill()
                try:
                    delete_snapshots(self._folder)
                except OSError as error:
                    return NotReady(
                        f"The snapshots in {self._folder} cannot be deleted: {error}",
                        remedy="Delete that folder, or let the user of the service delete what is in it.",
                    )
                return True
        return None

    def _start(self) -> None:
        try:
            self._process.start(str(self._log_path), str(self._folder))
        except OSError as error:  # no process, no memory, no descriptor
            logger.warning("no snapshot can be taken now", error=str(error))
            self._pace.failed(self._position())

    def _end(self, ended: ProcessEnded) -> None:
        called_off, self._called_off = self._called_off, False
        if called_off:  # whoever had it deleted may not yet have removed what no snapshot may hold
            self._pace.called_off()
        elif ended.code == 0 and not ended.output:  # an erasure goes on
            self._pace.count_from(self._position())
        elif ended.code == 0:
            position, tasks = map(int, ended.output.split())
            self._pace.taken(position, tasks)
            if self._pace.is_due(self._position()):  # enough was recorded meanwhile
                self._start()
        else:
            logger.warning("no snapshot could be taken", exit_code=ended.code, error=ended.last_error)
            self._pace.failed(self._position())


def _position_of(path: Path) -> int:
    try:
        return header_of(path).position
    except SnapshotUnusable:
        return 0


def main(path: str, folder: str, parent: str) -> None:
    """Take both snapshots, and print their position and the number of tasks. Prints nothing if none may be taken now.

    Ends when the parent process does.
    """
    if not follow_parent(parent):
        return
    import structlog  # noqa: PLC0415 - only in the process that takes them

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for the answer
    gc.disable()  # it makes a million objects, no garbage, and ends
    log = read_log(Path(path))
    try:
        with suppress(NotReady):
            sys.stdout.write("{} {}".format(*take_snapshots(log, Path(folder))))
    finally:
        log.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
