"""Runs a process for an actor, for work that would hold up the service's own process."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

import msgspec
import pykka

from ..handlers.process.sandbox import die_with
from .workers.worker_process import worker_environment

_NICE = 10


class ProcessEnded(msgspec.Struct, frozen=True):
    """Tells the actor that the process has ended."""

    code: int
    output: str
    """Its standard output."""
    errors: str
    """Its standard error."""

    @property
    def last_error(self) -> str:
        """The last line of its standard error, or its exit code if there is none."""
        return self.errors.strip().rpartition("\n")[2] or f"exit code {self.code}"


def reader_environment() -> dict[str, str]:
    """The environment of a process that reads the log: a worker's, and the variables of PostgreSQL's client library."""
    return worker_environment((), (name for name in os.environ if name.startswith("PG")), os.environ)


def start_side_process(module: str, *arguments: str, requests: bool = False) -> subprocess.Popen[str]:
    """Start `python -m MODULE ARGUMENTS… PID` in a session of its own, with pipes for what it prints.

    `requests`: whether it gets a pipe as its standard input. Raises `OSError` when no process can be started.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments, str(os.getpid())],
        stdin=subprocess.PIPE if requests else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env=reader_environment(),
        start_new_session=True,
    )


class SideProcess:
    """Runs `python -m MODULE ARGUMENTS… PID`, one at a time. The module has to call `follow_parent(PID)`.

    Args:
        module: the module to run.
        tell: gets `ProcessEnded`, in a thread of its own.
    """

    def __init__(self, module: str, tell: Callable[[ProcessEnded], None]) -> None:
        self._module = module
        self._tell = tell
        self.process: subprocess.Popen[str] | None = None
        self._ended: SimpleQueue[ProcessEnded] = SimpleQueue()

    @property
    def running(self) -> bool:
        """Whether it was started and the actor has not handled its end yet."""
        return self.process is not None

    def start(self, *arguments: str) -> None:
        """Start it. Raises `OSError` when no process can be started."""
        process = start_side_process(self._module, *arguments)
        self.process, self._ended = process, SimpleQueue()
        ended = self._ended

        def wait() -> None:
            output, errors = process.communicate()
            end = ProcessEnded(process.returncode, output, errors)
            ended.put(end)
            with suppress(pykka.ActorDeadError):
                self._tell(end)

        threading.Thread(target=wait, name=f"{self._module.rpartition('.')[2]}-process", daemon=True).start()

    def forget(self) -> None:
        """Note that the actor has handled its end: the next one may start."""
        self.process = None

    def wait(self, seconds: float) -> ProcessEnded | None:
        """Wait for its end; None if it still runs after `seconds`. For a stopping actor, which gets no messages."""
        try:
            return self._ended.get(timeout=seconds)
        except Empty:
            return None

    def kill(self) -> None:
        """End it if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def follow_parent(parent: str) -> bool:
    """Lower the process's priority, and make it die with the parent. False if the parent is already gone."""
    if not die_with(parent):
        return False
    os.nice(_NICE)
    return True
