"""The limits of an attempt: the kernel's, on its process, and bounds on its process tree, watched from outside.

Only the kernel's soft limits are set, anew for each attempt. They start from what the process has used by then, so that
earlier attempts do not count. They are generous: they stop runaways, not attempts that were estimated a little low.
"""

import contextlib
import errno
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ...events.errors import TasktrailError
from ...events.reports import Run
from ..contract import ONE_CORE, Job, Room, TaskType
from ..errors import FileSizeLimitReached, MemoryLimitReached
from ..io_errors import error_text
from .channel import AttemptBounded
from .sandbox import Sandbox

if TYPE_CHECKING:
    from ...events.task_events import Estimated

GIB = 1024**3
MEMORY_FLOOR = 2 * GIB
"""Bytes of address space on top of the worker's own: libraries and threads map far more than they touch."""
MEMORY_FACTOR = 2
CPU_FLOOR = 600.0
CPU_FACTOR = 20.0
"""The estimate is of run time on a few processors; a slow machine, or a busy one with many, uses far more CPU time."""
FILE_FLOOR = GIB // 2
FILE_FACTOR = 2
OPEN_FILES = 1024
BELT = 1.25
"""Factor by which the kernel's limit exceeds the watched bound, in case the watcher is late."""
BELT_SECONDS = 10.0
BELT_BYTES = GIB // 2
"""Added because the kernel counts the stacks of threads, although they are hardly touched."""


_REFUSED = (
    "std::bad_alloc",
    "std::length_error",
    "annot allocate memory",
    "ut of memory",
    "failed to allocate",
    "memory allocation of",
)


def speaks_of_memory(text: str) -> bool:
    """Whether a library's error text says that it was refused memory."""
    return any(words in text for words in _REFUSED)


def cpu_allowance(seconds: float, cores: int = 1) -> float:
    """CPU seconds allowed to an attempt that is expected to run for `seconds` on `cores` CPUs. 0: no limit."""
    return max(CPU_FLOOR, CPU_FACTOR * seconds * cores) if seconds > 0 else 0.0


_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessSize(NamedTuple):
    """The size of this process in bytes. 0 if unknown, or if it cannot be limited."""

    all: int
    """Address space."""
    data: int
    """The part that the process may write: no code, no files, no reserved address space."""


def soft_limits(
    run: Run, memory_limit: int, size: ProcessSize, cpu: float, watched: AttemptBounded | None = None, cores: int = 1
) -> dict[int, int]:
    """The soft limit of each resource, from what was reserved. A reservation of 0 is unknown and sets no limit.

    Args:
        run: the attempt.
        memory_limit: the operator's own, in bytes; 0: none.
        size: bytes that the process has now.
        cpu: CPU seconds that it has used by now.
        watched: the bounds that are watched from outside.
        cores: CPUs that it may keep busy.
    """
    wanted = {resource.RLIMIT_NOFILE: OPEN_FILES}
    if size.all and run.estimate.memory:
        wanted[resource.RLIMIT_AS] = size.all + max(MEMORY_FLOOR, MEMORY_FACTOR * run.estimate.memory)
    if size.all and memory_limit:
        wanted[resource.RLIMIT_AS] = min(memory_limit, wanted.get(resource.RLIMIT_AS, memory_limit))
    if size.data and watched is not None and watched.memory:
        wanted[resource.RLIMIT_DATA] = size.data + watched.memory + BELT_BYTES
    allowed = _cpu(run, watched, cores)
    if allowed > 0:
        wanted[resource.RLIMIT_CPU] = int(cpu + allowed) + 1
    if run.estimate.temp:
        wanted[resource.RLIMIT_FSIZE] = max(FILE_FLOOR, FILE_FACTOR * run.estimate.temp)
    return wanted


def _cpu(run: Run, watched: AttemptBounded | None, cores: int) -> float:
    """CPU seconds for this process; 0: no limit."""
    if watched is None:
        return cpu_allowance(run.estimate.seconds, cores)
    if not watched.cpu:
        return 0.0
    later = cpu_allowance(run.estimate.seconds, cores) if watched.cpu_per_probed else 0.0  # a probe may still raise it
    return max(BELT * watched.cpu + BELT_SECONDS, later)


class KernelLimits:
    """Sets and lifts the limits of the current process."""

    def __init__(self, memory_limit: int, cores: int = 1) -> None:
        self._memory_limit = memory_limit
        self._cores = cores
        self._before: dict[int, tuple[int, int]] = {}
        self._statm = _open_statm()
        self._set_for_good = frozenset[int]()
        self._set_ahead: Estimated | None = None

    def after_fork(self, *, limited: bool) -> None:
        """Adapt to a forked process, whose size differs. `limited`: if all its attempts are, some limits stay set."""
        if self._statm >= 0:
            os.close(self._statm)
        self._statm = _open_statm()
        if limited:
            _set_soft(resource.RLIMIT_NOFILE, OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE))
            self._set_for_good = frozenset((resource.RLIMIT_NOFILE,))

    def set(self, run: Run, watched: AttemptBounded | None = None) -> None:
        """Limit the process, and what it starts from now on, by what was reserved for the attempt."""
        if self._set_ahead is not None and watched is None and run.estimate == self._set_ahead:
            self._set_ahead = None
            return
        self.lift()
        # Values that no limit depends on are not measured.
        cpu = _cpu_so_far() if run.estimate.seconds or watched is not None else 0.0
        size = self._size() if run.estimate.memory or self._memory_limit or watched is not None else ProcessSize(0, 0)
        for kind, soft in soft_limits(run, self._memory_limit, size, cpu, watched, self._cores).items():
            if kind in self._set_for_good:
                continue
            before = resource.getrlimit(kind)
            self._before[kind] = before
            _set_soft(kind, soft, before)

    def lift(self) -> None:
        """Restore the limits that held before `set`."""
        for kind, before in self._before.items():
            resource.setrlimit(kind, before)
        self._before = {}
        self._set_ahead = None

    def set_ahead(self, like: Run) -> None:
        """Set limits ahead for the next attempt, if it has the same estimate and is not watched.

        For a process that waits for its next attempt, so that this costs no time when it comes.
        """
        self.set(like)
        if not like.estimate.seconds:  # otherwise the limit depends on the CPU time used by the attempt's begin
            self._set_ahead = like.estimate

    def _size(self) -> ProcessSize:
        if self._statm < 0:
            return ProcessSize(0, 0)
        numbers = os.pread(self._statm, 256, 0).split()
        return ProcessSize(int(numbers[0]) * _PAGE, int(numbers[5]) * _PAGE)

    def explain(self, error: BaseException) -> BaseException:
        """The error, or one that names the limit that caused it."""
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
    """Whether the error, or its cause, is a refusal of memory. libvips and child processes only say so in words."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or speaks_of_memory(error_text(seen)):
            return True
        seen = seen.__cause__
    return False


def _set_soft(kind: int, soft: int, before: tuple[int, int]) -> None:
    hard = before[1]
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    with contextlib.suppress(ValueError, OSError):  # a system that refuses a limit still runs the attempt
        resource.setrlimit(kind, (soft, hard))


def _open_statm() -> int:
    """Open the file that shows this process's size, to read it repeatedly; -1 if the system has none."""
    if sys.platform != "linux":
        return -1
    try:
        return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _cpu_so_far() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# --- what is watched from outside -----------------------------------------------------------------------------------

_MEGABYTE = 1_000_000
_BLOCK = 512
"""Bytes of a block that `st_blocks` counts."""


def may_be_bounded(run: Run, task_type: TaskType, sandbox: Sandbox) -> bool:
    """Whether `bounds_for` returns bounds."""
    return task_type.bounds is not None or run.type in sandbox.cpu_limits


def bounds_for(
    run: Run, task_type: TaskType, sandbox: Sandbox, *, cpu_before: float, resident: int, room: Room = ONE_CORE
) -> AttemptBounded | None:
    """The bounds of the attempt. None if it has none.

    Args:
        run: the attempt.
        task_type: its type.
        sandbox: the operator's own bounds.
        cpu_before: CPU seconds that the worker has used by now.
        resident: bytes of memory that the worker has now.
        room: the share of the machine that it may take.
    """
    if not may_be_bounded(run, task_type, sandbox):
        return None
    rule = task_type.bounds
    configured = sandbox.cpu_limits.get(run.type)
    cpu, per_probed, words, memory = configured or 0.0, 0.0, "it is set by cpu_limits", 0
    if rule is not None:
        if run.estimate.memory and task_type.limits:
            memory = resident + max(rule.memory_floor, int(rule.memory_factor * run.estimate.memory))
        if configured is None:
            size = stored_size(run.input_file)
            cpu, words = rule.cpu_seconds + rule.cpu_per_megabyte * size / _MEGABYTE, _words(rule, size)
            expected = rule.cpu_per_expected * room.cores * _expected(run, task_type, size, room)
            if expected > cpu:
                cpu, words = expected, f"it follows from the {size:,} bytes of the input and the options"
            per_probed = rule.cpu_per_probed * room.cores
            if run.probed and per_probed * run.estimate.seconds > cpu:
                cpu, words = per_probed * run.estimate.seconds, "it follows from a look into the input"
    return AttemptBounded(run.task_id, run.attempt, cpu, per_probed, cpu_before, memory, words)


def stored_size(path: str) -> int:
    """Bytes of a file that are stored on the disk: holes do not count as input. 0 when there is no file."""
    if not path:
        return 0
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return 0  # the attempt's own error says so
    return min(status.st_size, _BLOCK * status.st_blocks) if hasattr(status, "st_blocks") else status.st_size


def _words(rule: Any, size: int) -> str:
    return f"{rule.cpu_seconds:g} s + {rule.cpu_per_megabyte:g} s per MB of input, which has {size:,} bytes"


def _expected(run: Run, task_type: TaskType, size: int, room: Room) -> float:
    """Expected seconds by size and options alone, or by the sender: independent of the input's content."""
    try:
        options = task_type.options_from(run.options)
        files = {"input_file": Path(run.input_file), "output_file": Path(run.output_file)}
        job = Job(options=options, **files, input_size=size, room=room)
        by_type = task_type.expected(job).seconds
    except (msgspec.ValidationError, TasktrailError, ValueError, OSError):
        by_type = 0.0  # the attempt itself reports the error
    return max(by_type, run.expected)
