"""The Snapshotter: has a process of its own take snapshots, one at a time."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pykka

from .base import Actor, log
from .messages import WAKE, Wake
from .snapshots import outbox, scheduler
from .snapshots.file import Unusable, header_of
from .snapshots.pace import Pace
from .workers.launch import worker_environment


class _Ended(msgspec.Struct, frozen=True):
    """The process is gone."""

    code: int
    said: str
    complaint: str


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
        self._process: subprocess.Popen[str] | None = None

    def on_start(self) -> None:
        """Go on from the older of the snapshots that there are."""
        done = min(_position_of(self._folder / kind) for kind in (scheduler.KIND, outbox.KIND))
        position = self._position()
        self._pace.taken(done if done <= position else 0, 0)
        if self._pace.is_due(position):
            self.actor_ref.tell(WAKE)

    def on_stop(self) -> None:
        """Nothing is lost with a snapshot that is not taken."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def receive(self, message: Any) -> None:
        """Start the process, or note what came of it."""
        match message:
            case Wake() if self._process is None:
                self._start()
            case _Ended():
                self._end(message)

    def _start(self) -> None:
        try:
            self._launch()
        except OSError as error:  # no process, no memory, no descriptor
            log.warning("no snapshot can be taken now", error=str(error))
            self._pace.failed(self._position())

    def _launch(self) -> None:
        command = [sys.executable, "-P", "-m", "tasktrail.actors.snapshots.writer"]
        process = subprocess.Popen(
            [*command, str(self._log_path), str(self._folder), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env=worker_environment((), (), os.environ),
            start_new_session=True,
        )
        self._process = process
        me = self.actor_ref

        def wait() -> None:
            said, complaint = process.communicate()
            with suppress(pykka.ActorDeadError):
                me.tell(_Ended(process.returncode, said, complaint))

        threading.Thread(target=wait, name="snapshot", daemon=True).start()

    def _end(self, ended: _Ended) -> None:
        self._process = None
        if ended.code == 0 and ended.said:
            position, tasks = map(int, ended.said.split())
            self._pace.taken(position, tasks)
            if self._pace.is_due(self._position()):  # so much was recorded meanwhile
                self._start()
        else:
            last = ended.complaint.strip().rpartition("\n")[2]
            log.warning("no snapshot could be taken", exit_code=ended.code, error=last)
            self._pace.failed(self._position())


def _position_of(path: Path) -> int:
    try:
        return header_of(path).position
    except Unusable:
        return 0
