"""A process that folds the log into the views while very many records come.

In the service's own process the fold and the Scheduler take turns, because of Python's lock. This process reads the log
like any other reader. It may be killed at any time, since each page of the log is one transaction of the views.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from select import select

import msgspec
import pykka

from ..events.clock import Clock
from ..events.log.opening import read_log
from ..handlers.process.sandbox import die_with
from ..projections import TaskViews, catch_up
from .logger import get_logger
from .side_process import ProcessEnded, start_side_process

logger = get_logger()

MODULE = "tasktrail.actors.projector_process"
"""What the process runs."""
_IDLE = 5.0
"""Seconds without a request after which the process ends."""
_SILENT = 20.0
"""Seconds after which a process that has folded nothing is silent. On a slow disk a page takes seconds."""
_AGAIN = 10.0
"""Seconds until a process may be started again after one has failed."""


class Folded(msgspec.Struct, frozen=True):
    """The process has folded everything up to a position into the views."""

    pid: int
    position: int
    done: bool
    """Whether that is all that it was asked for."""


class FoldEnded(msgspec.Struct, frozen=True):
    """The process has ended by itself."""

    pid: int
    error: str
    """The last line of its standard error, or its exit code; empty if it had nothing to do."""


class ProjectorProcess:
    """Starts the process at the first request. Belongs to the Projector.

    Args:
        log, views: their files.
        clock: measures how long it is silent.
        tell: gets `Folded` and `FoldEnded`, in a thread of its own.
    """

    def __init__(self, log: Path, views: Path, clock: Clock, tell: Callable[[Folded | FoldEnded], None]) -> None:
        self._files = str(log), str(views)
        self._clock = clock
        self._tell = tell
        self._process: subprocess.Popen[str] | None = None
        self.at_work = False
        """Whether it has not answered the last request yet."""
        self._more = False
        """Whether there was another request meanwhile."""
        self._heard_at = 0.0
        self._not_before = 0.0

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    @property
    def silent(self) -> bool:
        """Whether it has been at work for long without folding anything, so that it may hang."""
        return self.at_work and self._clock.monotonic() - self._heard_at > _SILENT

    def request(self) -> bool:
        """Have it fold everything that the log holds now. False if there can be no process."""
        if self.at_work:
            self._more = True
            return True
        if self._process is None and self._clock.monotonic() < self._not_before:
            return False
        try:
            process = self._process or self._start()
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        except (OSError, RuntimeError) as error:  # no process, memory, descriptor or thread, or it has just ended
            self.give_up(str(error))
            return False
        self.at_work, self._heard_at = True, self._clock.monotonic()
        return True

    def _start(self) -> subprocess.Popen[str]:
        process = start_side_process(MODULE, *self._files, str(_IDLE), requests=True)
        try:
            threading.Thread(target=self._listen, args=(process,), name="projector-process", daemon=True).start()
        except RuntimeError:  # no more threads
            process.kill()
            process.communicate()
            raise
        self._process = process
        return process

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        with suppress(pykka.ActorDeadError), process.stdout, process.stderr:
            for line in process.stdout:
                self._tell(msgspec.json.decode(line, type=Folded))
            errors = process.stderr.read()
            ended = ProcessEnded(process.wait(), "", errors)
            self._tell(FoldEnded(process.pid, ended.last_error if ended.code else ""))

    def give_up(self, error: str) -> None:
        """End the process, and start none for a while."""
        logger.warning("the views are folded without a process of their own", error=error)
        self._not_before = self._clock.monotonic() + _AGAIN
        self.kill()

    def note_folded(self, folded: Folded) -> bool:
        """Note what it has done, and pass on a request that came meanwhile. Returns whether one is left undone."""
        if self._process is None or self._process.pid != folded.pid:
            return False  # it was killed
        self._heard_at = self._clock.monotonic()
        if not folded.done:
            return False
        self.at_work, more, self._more = False, self._more, False
        return more and not self.request()

    def note_end(self, ended: FoldEnded) -> bool:
        """Note its end. Returns whether a request is left undone."""
        if self._process is None or self._process.pid != ended.pid:
            return False  # it was killed, and that is known
        undone = self.at_work
        if ended.error:
            self.give_up(ended.error)
        self.kill()
        return undone

    def kill(self) -> None:
        """End it if it runs. What it has folded stays."""
        process, self._process = self._process, None
        self.at_work = self._more = False
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            with suppress(OSError):  # it writes what the process has not read
                process.stdin.close()


def main(log_path: str, views_path: str, idle: str, parent: str) -> None:
    """Fold the log into the views, up to its end, at each line of standard input. Prints each `Folded` as JSON.

    Ends when the parent process does, and after `idle` seconds without a line.
    """
    if not die_with(parent):
        return
    with closing(read_log(Path(log_path))) as log, closing(TaskViews(Path(views_path), begin=False)) as views:
        while select([sys.stdin], [], [], float(idle))[0] and sys.stdin.readline():
            catch_up(log, views, lambda reached, _goal: _print(reached, done=False))
            _print(views.position, done=True)


def _print(position: int, *, done: bool) -> None:
    print(msgspec.json.encode(Folded(os.getpid(), position, done)).decode(), flush=True)  # noqa: T201 - for the actor


if __name__ == "__main__":
    main(*sys.argv[1:])
