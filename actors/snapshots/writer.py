"""A process of its own that brings the snapshots up to the log: `python -m tasktrail.actors.snapshots.writer LOG FOLDER`.

It knows nothing of the service's memory: it folds the older snapshot and the records since, as a start would. So what
it writes is a fold of the log whatever the service does meanwhile, and the service is not held up.
"""

import ctypes
import gc
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from ...events.log import Head
from ...events.sqlite_log import LogReader
from . import outbox, scheduler
from .common import ReadableLog
from .file import clear_parts

_PR_SET_PDEATHSIG = 1
_NICE = 10


def take(log: ReadableLog, folder: Path) -> Head:
    """Write both snapshots as of the log's end; where that was. Raises OSError and what a broken log raises."""
    folder.mkdir(mode=0o700, exist_ok=True)
    clear_parts(folder)
    head = log.head()
    if head.position:
        scheduler.take(log, folder / scheduler.KIND, head)
        outbox.take(log, folder / outbox.KIND, head)
    return head


def main(path: str, folder: str, parent: str) -> None:
    """Take snapshots, unless the process that wanted them dies first."""
    with suppress(OSError, AttributeError):  # not every system can do it; then it just finishes its work
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        return
    os.nice(_NICE)
    gc.disable()  # it makes a million objects, no garbage, and ends
    log = LogReader(Path(path))
    try:
        sys.stdout.write(str(take(log, Path(folder)).position))
    finally:
        log.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
