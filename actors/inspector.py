"""The Inspector: has a process of its own check a long log from its first record on, behind a start.

A start checks what it can in a moment. The rest takes microseconds for each record: with a long log that is too long to
wait for, so it is done beside the work, and a log that turns out damaged stops the service.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pykka

from ..events.errors import LogCorrupt, TasktrailError
from ..events.log.sqlite import LogReader
from .base import Actor, log
from .messages import WAKE, Wake
from .snapshots.writer import stay_behind
from .workers.launch import worker_environment


class _Ended(msgspec.Struct, frozen=True):
    """The process is gone."""

    code: int
    said: str
    complaint: str


class Inspector(Actor):
    """Runs one check when it starts.

    Args:
        log_path: the log.
        on_damage: is told what was found, in this actor's thread.
        wanted: whether there is anything to do.
    """

    def __init__(
        self, *, log_path: Path, on_damage: Callable[[BaseException], None], wanted: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._wanted = wanted
        self._log_path = log_path
        self._on_damage = on_damage
        self._process: subprocess.Popen[str] | None = None

    def on_start(self) -> None:
        """Check at once."""
        if self._wanted():
            self.actor_ref.tell(WAKE)

    def on_stop(self) -> None:
        """The next start begins anew."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def receive(self, message: Any) -> None:
        """Start the process, or judge what came of it."""
        match message:
            case Wake() if self._process is None:
                self._start()
            case _Ended():
                self._end(message)

    def _start(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tasktrail.actors.inspector", str(self._log_path), str(os.getpid())],
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

        threading.Thread(target=wait, name="inspection", daemon=True).start()

    def _end(self, ended: _Ended) -> None:
        self._process = None
        if ended.code or not ended.said:
            last = ended.complaint.strip().rpartition("\n")[2]
            log.warning("the log could not be checked", exit_code=ended.code, error=last)
            return
        answer = json.loads(ended.said)
        if answer is None:
            log.info("the log was checked and is sound")
        else:
            log.error("the log is damaged", **answer)
            self._on_damage(LogCorrupt(f"{self._log_path}: position {answer['position']}: {answer['message']}"))


def main(path: str, parent: str) -> None:
    """Print the first fault of a log as a JSON object, null for none."""
    if not stay_behind(parent):
        return
    with closing(LogReader(Path(path))) as reader:
        try:
            fault = next(reader.faults(), None)
        except TasktrailError as error:
            sys.stderr.write(str(error))
            sys.exit(1)
    sys.stdout.write(json.dumps(fault._asdict() if fault else None))


if __name__ == "__main__":
    main(*sys.argv[1:])
