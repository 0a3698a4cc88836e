"""The kernel's limits on an attempt: address space, CPU time, file size, open files.

Only the soft limits are set, and anew for each attempt, counted from what the process has used by then: a warm worker
is not spent by its past. They are generous, for they stop what has gone wrong, not what was guessed a little low.
"""

import contextlib
import errno
import os
import resource
import sys
from typing import NamedTuple

from ...events.reports import Run
from ..errors import FileSizeLimitReached, MemoryLimitReached
from ..faults import text_of
from .frames import AttemptBounded

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
BELT = 1.25
"""Where an attempt is watched from outside, the kernel's limit stands so far behind, for a watcher that is late."""
BELT_SECONDS = 10.0
BELT_BYTES = GIB // 2
"""Threads and their stacks are counted although they are hardly touched."""


_REFUSED = (
    "std::bad_alloc",
    "std::length_error",
    "annot allocate memory",
    "ut of memory",
    "failed to allocate",
    "memory allocation of",
)


def speaks_of_memory(text: str) -> bool:
    """Whether a library says there that it was refused memory."""
    return any(words in text for words in _REFUSED)


def cpu_allowance(seconds: float) -> float:
    """CPU seconds that an attempt of so many expected seconds may use; 0 when nothing is known, which means any."""
    return max(CPU_FLOOR, CPU_FACTOR * seconds) if seconds > 0 else 0.0


class Size(NamedTuple):
    """Bytes of this process; 0 where they cannot be told, or cannot be limited."""

    all: int
    """Address space."""
    data: int
    """What of it is its own to write: no code, no files, nothing that is only kept free."""


def bounds(
    run: Run, memory_limit: int, size: Size, cpu: float, watched: AttemptBounded | None = None
) -> dict[int, int]:
    """The soft limit of each resource, from what was reserved. A 0 there is unknown and sets no limit.

    Args:
        run: the attempt.
        memory_limit: the operator's own, in bytes; 0: none.
        size: bytes that the process has now.
        cpu: CPU seconds that it has used by now.
        watched: what it is watched for from outside.
    """
    wanted = {resource.RLIMIT_NOFILE: OPEN_FILES}
    if size.all and run.memory:
        wanted[resource.RLIMIT_AS] = size.all + max(MEMORY_FLOOR, MEMORY_FACTOR * run.memory)
    if size.all and memory_limit:
        wanted[resource.RLIMIT_AS] = min(memory_limit, wanted.get(resource.RLIMIT_AS, memory_limit))
    if size.data and watched is not None and watched.memory:
        wanted[resource.RLIMIT_DATA] = size.data + watched.memory + BELT_BYTES
    allowed = _cpu(run, watched)
    if allowed > 0:
        wanted[resource.RLIMIT_CPU] = int(cpu + allowed) + 1
    if run.temp:
        wanted[resource.RLIMIT_FSIZE] = max(FILE_FLOOR, FILE_FACTOR * run.temp)
    return wanted


def _cpu(run: Run, watched: AttemptBounded | None) -> float:
    """CPU seconds for this process; 0: any."""
    if watched is None:
        return cpu_allowance(run.seconds)
    if not watched.cpu:
        return 0.0
    later = cpu_allowance(run.seconds) if watched.cpu_per_probed else 0.0  # a look may still raise it
    return max(BELT * watched.cpu + BELT_SECONDS, later)


class Limits:
    """Sets and lifts the limits of this very process."""

    def __init__(self, memory_limit: int) -> None:
        self._memory_limit = memory_limit
        self._before: dict[int, tuple[int, int]] = {}

    def set(self, run: Run, watched: AttemptBounded | None = None) -> None:
        """Bind the process, and what it starts from now on, by what was reserved for the attempt."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        for kind, soft in bounds(run, self._memory_limit, _size(), used.ru_utime + used.ru_stime, watched).items():
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
        if _is_of_memory(error) and self._before.keys() & {resource.RLIMIT_AS, resource.RLIMIT_DATA}:
            return MemoryLimitReached(f"The attempt wanted more than the {self._room()} that it may have")
        if isinstance(error, OSError) and error.errno == errno.EFBIG and resource.RLIMIT_FSIZE in self._before:
            room = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
            return FileSizeLimitReached(f"The attempt wrote a file of more than {room:,} bytes")
        return error

    def _room(self) -> str:
        """The tightest limit on memory, in words."""
        names = {resource.RLIMIT_DATA: "bytes of memory", resource.RLIMIT_AS: "bytes of address space"}
        soft, name = min((resource.getrlimit(kind)[0], name) for kind, name in names.items() if kind in self._before)
        return f"{soft:,} {name}"


def _is_of_memory(error: BaseException) -> bool:
    """Whether it, or what it came from, is a refusal of memory. libvips and child processes only have words for it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or speaks_of_memory(text_of(seen)):
            return True
        seen = seen.__cause__
    return False


def _set_soft(kind: int, soft: int, before: tuple[int, int]) -> None:
    hard = before[1]
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    with contextlib.suppress(ValueError, OSError):  # a system that refuses a limit still runs the attempt
        resource.setrlimit(kind, (soft, hard))


def _size() -> Size:
    if sys.platform != "linux":
        return Size(0, 0)
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - before every attempt
        numbers = file.read().split()
    page = os.sysconf("SC_PAGE_SIZE")
    return Size(int(numbers[0]) * page, int(numbers[5]) * page)
