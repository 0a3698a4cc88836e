"""What an attempt cost its worker, and whether it left something running."""

import ctypes
import os
import sys
import threading
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import NamedTuple

from ..contract import has_abandoned

_UNIT = 1 if sys.platform == "darwin" else 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")


_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""glibc keeps what was freed; the next attempt would be charged for it, and the machine would miss it."""


class Cost(NamedTuple):
    """Of one attempt."""

    peak: int
    """Bytes that the worker had at its peak, its largest child process with it."""
    memory: int
    """The same, without what other types had left in the worker: their libraries, most of all."""
    cpu: float
    """Seconds."""


class Meter:
    """Peak memory and CPU seconds between `start` and `stop`; a few microseconds each.

    Linux can reset a process's peak. Elsewhere, and for child processes everywhere, the peak is that of the worker's
    whole life, so it may be too high, never too low.
    """

    def __init__(self) -> None:
        self._reset = _open_quietly("/proc/self/clear_refs", os.O_WRONLY)
        self._statm = _open_quietly("/proc/self/statm", os.O_RDONLY)
        self._bare = self.resident()
        self._loaded: dict[str, int] = {}
        """Task type → bytes that its first attempt left here. Later ones leave little, and others fill it again."""
        self._type, self._before = "", 0
        self._cpu = 0.0
        self._faults = 0

    def start(self, task_type: str) -> None:
        """Begin to count for a new attempt."""
        self._type, self._before = task_type, self.resident()
        if self._reset is not None:
            os.pwrite(self._reset, b"5", 0)
        self._cpu = cpu_seconds()
        self._faults = getrusage(RUSAGE_CHILDREN).ru_minflt

    def begin_anew(self) -> None:
        """In a forked process: what the parent has used is not its own."""
        self._cpu = cpu_seconds()
        self._faults = getrusage(RUSAGE_CHILDREN).ru_minflt

    def stop(self) -> Cost:
        """What it has been. The largest child process counts when the attempt had any."""
        own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        peak = own.ru_maxrss
        if children.ru_minflt != self._faults:
            peak += children.ru_maxrss
        cpu = cpu_seconds() - self._cpu
        peak *= _UNIT
        of_others = max(0, self._before - self._bare - self._loaded.get(self._type, 0))
        return Cost(peak, max(0, peak - of_others), max(cpu, 0.0))

    def settle(self) -> None:
        """The attempt is over, and what it could free is free."""
        if self._type not in self._loaded:
            self._loaded[self._type] = max(0, self.resident() - self._before)

    def resident(self) -> int:
        """Resident bytes of this process now; 0 where that cannot be told cheaply."""
        if self._statm is None:
            return 0
        return int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE


class Leftovers:
    """Looks for what an attempt left behind: child processes, daemons, threads, encoders."""

    def __init__(self, keeper: int) -> None:
        # The keeper adopts orphans, so whatever it has besides this worker was left by an attempt. The open file is
        # read again and again: that is the cheapest way to ask.
        self._adopted = _open_quietly(f"/proc/{keeper}/task/{keeper}/children", os.O_RDONLY)
        self._only_us = f"{os.getpid()} ".encode()
        self._threads = frozenset(threading.enumerate())

    def settle(self) -> None:
        """Take the threads that run now for the worker's own."""
        self._threads = frozenset(threading.enumerate())

    def found(self) -> str:
        """What was left, in words; empty when nothing was."""
        if threading.active_count() > len(self._threads) and self._new_thread():
            return "it left a thread"
        if _has_children():
            return "it left a child process"
        if self._adopted is not None and os.pread(self._adopted, 64, 0) != self._only_us:
            return "it left a detached process"
        if has_abandoned():
            return "it gave up an encoder that cannot be freed"
        return ""

    def _new_thread(self) -> bool:
        """Whether Python code still runs. Native threads that once called into Python stay listed as `Dummy-…`."""
        return any(not thread.name.startswith("Dummy-") for thread in set(threading.enumerate()) - self._threads)


def cpu_seconds() -> float:
    """Of this process and of those children that it has waited for."""
    own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def trim() -> None:
    """Give free memory back to the system, where the C library can. Costs a millisecond after a large attempt."""
    if _TRIM is not None:
        _TRIM(0)


def _has_children() -> bool:
    """Whether a child process is alive. Ended ones that nobody waited for are buried on the way."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _open_quietly(path: str, flags: int) -> int | None:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError:
        return None
