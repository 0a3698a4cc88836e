"""The kernel's limits on an attempt: address space, CPU time, file size, open files.

Only the soft limits are set, and anew for each attempt, counted from what the process has used by then: a warm worker
is not spent by its past. They are generous, for they stop what has gone wrong, not what was guessed a little low.
"""

import contextlib
import errno
import os
import resource
import sys

from ..errors import FileSizeLimitReached, MemoryLimitReached
from .frames import Run

GIB = 1024**3
MEMORY_FLOOR = 2 * GIB
"""Address space on top of what the worker has: libraries and threads map far more than they touch."""
MEMORY_FACTOR = 2
CPU_FLOOR = 600.0
CPU_FACTOR = 20.0
"""The estimate is of run time on a few processors; a slow machine, or a busy one with many, uses far more CPU time."""
FILE_FLOOR = GIB // 2
FILE_FACTOR = 2
OPEN_FILES = 1024


def cpu_allowance(seconds: float) -> float:
    """CPU seconds that an attempt of so many expected seconds may use; 0 when nothing is known, which means any."""
    return max(CPU_FLOOR, CPU_FACTOR * seconds) if seconds > 0 else 0.0


def bounds(run: Run, memory_limit: int, size: int, cpu: float) -> dict[int, int]:
    """The soft limit of each resource, from what was reserved. A 0 there is unknown and sets no limit.

    Args:
        run: the attempt.
        memory_limit: the operator's own, in bytes; 0: none.
        size: bytes of address space that the process has now.
        cpu: CPU seconds that it has used by now.
    """
    wanted = {resource.RLIMIT_NOFILE: OPEN_FILES}
    if size and run.memory:
        wanted[resource.RLIMIT_AS] = size + max(MEMORY_FLOOR, MEMORY_FACTOR * run.memory)
    if size and memory_limit:
        wanted[resource.RLIMIT_AS] = min(memory_limit, wanted.get(resource.RLIMIT_AS, memory_limit))
    if run.seconds > 0:
        wanted[resource.RLIMIT_CPU] = int(cpu + cpu_allowance(run.seconds)) + 1
    if run.temp:
        wanted[resource.RLIMIT_FSIZE] = max(FILE_FLOOR, FILE_FACTOR * run.temp)
    return wanted


class Limits:
    """Sets and lifts the limits of this very process."""

    def __init__(self, memory_limit: int) -> None:
        self._memory_limit = memory_limit
        self._before: dict[int, tuple[int, int]] = {}

    def set(self, run: Run) -> None:
        """Bind the process, and what it starts from now on, by what was reserved for the attempt."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        for kind, soft in bounds(run, self._memory_limit, _size(), used.ru_utime + used.ru_stime).items():
            before = resource.getrlimit(kind)
            self._before[kind] = before
            _set_soft(kind, soft, before)

    def lift(self) -> None:
        """Give back what was there before `set`."""
        for kind, before in self._before.items():
            resource.setrlimit(kind, before)
        self._before = {}

    def explain(self, error: BaseException) -> BaseException:
        """The error, or the one that names the limit it came from."""
        if isinstance(error, MemoryError) and resource.RLIMIT_AS in self._before:
            room = resource.getrlimit(resource.RLIMIT_AS)[0]
            return MemoryLimitReached(f"The attempt wanted more than {room:,} bytes of address space")
        if isinstance(error, OSError) and error.errno == errno.EFBIG and resource.RLIMIT_FSIZE in self._before:
            room = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
            return FileSizeLimitReached(f"The attempt wrote a file of more than {room:,} bytes")
        return error


def _set_soft(kind: int, soft: int, before: tuple[int, int]) -> None:
    hard = before[1]
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    with contextlib.suppress(ValueError, OSError):  # a system that refuses a limit still runs the attempt
        resource.setrlimit(kind, (soft, hard))


def _size() -> int:
    """Bytes of address space of this process; 0 where they cannot be told, or cannot be limited."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - before every attempt
        return int(file.read().split(maxsplit=1)[0]) * os.sysconf("SC_PAGE_SIZE")
