"""A process that brings the snapshots up to the log: `python -m tasktrail.actors.snapshots.writer LOG FOLDER PARENT`.

It knows nothing of the service's memory: it folds the older snapshot and the records since, as a start would. So what
it writes is a fold of the log whatever the service does meanwhile, and the service is not held up.
"""

import gc
import sys
from pathlib import Path

import structlog

from ...events.log.event_log import ReadableLog
from ...events.log.sqlite import LogReader
from ..side_process import stay_behind
from . import outbox, scheduler
from .file import clear_parts


def take(log: ReadableLog, folder: Path) -> tuple[int, int]:
    """Write both snapshots as of the log's end; its position, and how many tasks were in memory.

    Raises OSError, and what a log raises that cannot be read.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    clear_parts(folder)
    head = log.head()
    if not head.position:
        return 0, 0
    tasks = scheduler.take(log, folder / scheduler.KIND, head)
    outbox.take(log, folder / outbox.KIND, head)
    return head.position, tasks


def main(path: str, folder: str, parent: str) -> None:
    """Take snapshots, unless the process that wanted them dies first."""
    if not stay_behind(parent):
        return
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for the answer
    gc.disable()  # it makes a million objects, no garbage, and ends
    log = LogReader(Path(path))
    try:
        sys.stdout.write("{} {}".format(*take(log, Path(folder))))
    finally:
        log.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
