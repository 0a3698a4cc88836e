"""A process of an actor's own, for work that would hold up everybody here: started, awaited by a thread, told of."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import msgspec
import pykka

from .workers.launch import worker_environment

_PR_SET_PDEATHSIG = 1
_NICE = 10


class Ended(msgspec.Struct, frozen=True):
    """To the actor: the process is gone."""

    code: int
    said: str
    """Its standard output."""
    complaint: str

    @property
    def last_words(self) -> str:
        """The last line of its standard error."""
        return self.complaint.strip().rpartition("\n")[2]


class Errand:
    """Runs `python -m MODULE ARGUMENTS… PID`, one at a time; the module ends by itself when our process is gone.

    Args:
        module: what is run.
        tell: gets `Ended`, in a thread of its own.
    """

    def __init__(self, module: str, tell: Callable[[Ended], None]) -> None:
        self._module = module
        self._tell = tell
        self.process: subprocess.Popen[str] | None = None

    @property
    def under_way(self) -> bool:
        """Whether it has begun, and its end was not heard yet."""
        return self.process is not None

    def start(self, *arguments: str) -> None:
        """Begin. Raises `OSError` when no process can be had."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module, *arguments, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env=worker_environment((), (), os.environ),
            start_new_session=True,
        )
        self.process = process

        def wait() -> None:
            said, complaint = process.communicate()
            with suppress(pykka.ActorDeadError):
                self._tell(Ended(process.returncode, said, complaint))

        threading.Thread(target=wait, name=f"{self._module.rpartition('.')[2]}-errand", daemon=True).start()

    def heard(self) -> None:
        """Its end has come to the actor: the next one may begin."""
        self.process = None

    def kill(self) -> None:
        """End it, if it is under way."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def stay_behind(parent: str) -> bool:
    """Give way to others and die with the process that wanted this one; false when it is gone already."""
    with suppress(OSError, AttributeError):  # not every system can do it; then it just finishes its work
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        return False
    os.nice(_NICE)
    return True
