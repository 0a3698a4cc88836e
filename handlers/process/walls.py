"""What this machine's kernel can put around a worker and its attempts. Asked once; shown by `doctor`."""

import ctypes
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec

from . import keeper, landlock, seccomp

PR_SET_DUMPABLE = 4
_PATIENCE = 10.0


class Walls(msgspec.Struct, frozen=True, kw_only=True):
    """What there is."""

    landlock: int = 0
    """The version of the kernel's interface; 0: there is none."""
    seccomp: bool = False
    pid_namespace: bool = False
    own_proc: bool = False
    """Whether a worker sees its own processes only."""

    @property
    def whole(self) -> bool:
        """Whether nothing is missing: files, network, signals and processes."""
        return self.landlock >= landlock.SCOPES and self.seccomp and self.pid_namespace


@cache
def walls() -> Walls:
    """Of this machine, for this user. Takes some 30 ms the first time, and changes nothing in this process."""
    if sys.platform != "linux":
        return Walls()
    found = _ask_keeper()
    return Walls(
        landlock=landlock.version(),
        seccomp=seccomp.available(platform.machine()),
        pid_namespace="namespace" in found,
        own_proc="proc" in found,
    )


def _ask_keeper() -> list[str]:
    script = str(Path(keeper.__file__).resolve())
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", script, "probe"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split() if done.returncode == 0 else []


def hide_process() -> None:
    """Keep other processes of the same user out of this one's memory, environment and open files (Linux).

    Those of root still can look in; against them stands what an attempt is walled in by.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
