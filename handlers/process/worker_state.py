"""A worker between two attempts: what the last one cost, what it left running, and what it changed.

Changes are undone where possible; otherwise the worker is replaced.
"""

import _signal  # type: ignore[import-not-found]  # `signal` makes an enum of every answer, which takes most of the time here
import contextlib
import ctypes
import gc
import locale
import operator
import os
import resource
import signal
import sys
import threading
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any, NamedTuple

from ..contract import has_abandoned

_UNIT = 1 if sys.platform == "darwin" else 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")


_LIBC = ctypes.CDLL(None)
_IOPRIO_GET = {"x86_64": 252, "aarch64": 31}
_OF_A_PROCESS = 1
_TRIM = getattr(_LIBC, "malloc_trim", None)
"""glibc keeps freed memory; it would count for the next attempt, and the machine would lack it."""

_PF_FORKNOEXEC = 0x40
"""The kernel's flag of a process that was forked and has not begun another program."""
_BY_MULTIPROCESSING = b"from multiprocessing."
"""In the command line of all that `multiprocessing` starts by exec."""

_USUAL: dict[int, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
}
"""What Python usually does at the signals that an attempt survives."""


class Cost(NamedTuple):
    """The cost of one attempt."""

    peak: int
    """Bytes at the worker's peak, with its largest child process."""
    memory: int
    """The same, without what other types left in the worker, above all their libraries."""
    cpu: float
    """Seconds."""


class UsageMeter:
    """Measures peak memory and CPU seconds between `start` and `stop`; a few microseconds each.

    Linux can reset a process's peak. Elsewhere, and for child processes everywhere, the peak is that of the worker's
    whole life, so it may be too high, never too low.
    """

    def __init__(self) -> None:
        self._reset = _open_quietly("/proc/self/clear_refs", os.O_WRONLY)
        self._statm = _open_quietly("/proc/self/statm", os.O_RDONLY)
        self._bare = self.resident()
        self._loaded: dict[str, int] = {}
        """Task type → bytes that its first attempt left here. Later ones leave little, and others reuse it."""
        self._type, self._before = "", 0
        self._cpu = 0.0
        self._faults = 0

    def start(self, task_type: str) -> None:
        """Begin to count for a new attempt."""
        self._type, self._before = task_type, self.resident()
        if self._reset is not None:
            os.pwrite(self._reset, b"5", 0)
        self._count()

    def after_fork(self) -> None:
        """Adapt to a forked process: read its own size, and leave its parent's alone."""
        for fd in (self._statm, self._reset):
            if fd is not None:
                os.close(fd)
        self._reset = None
        self._statm = _open_quietly("/proc/self/statm", os.O_RDONLY)

    def begin_anew(self, task_type: str) -> None:
        """Begin to count in a forked process: what its parent has used does not count."""
        self._type = task_type
        self._count()

    def _count(self) -> None:
        own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        self._cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        self._faults = children.ru_minflt

    def stop(self) -> Cost:
        """The cost of the attempt. The largest child process counts when the attempt had any."""
        own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime - self._cpu
        peak = own.ru_maxrss
        if children.ru_minflt != self._faults:
            peak += children.ru_maxrss
        peak *= _UNIT
        of_others = max(0, self._before - self._bare - self._loaded.get(self._type, 0))
        return Cost(peak, max(0, peak - of_others), max(cpu, 0.0))

    def settle(self) -> None:
        """Note the memory that stays, after the attempt has freed what it could."""
        if self._type not in self._loaded:
            self._loaded[self._type] = max(0, self.resident() - self._before)

    def resident(self) -> int:
        """Resident bytes of this process now. 0 where reading them is slow."""
        if self._statm is None:
            return 0
        return int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE


class Leftovers:
    """Looks for what an attempt left behind: child processes, daemons, threads, encoders."""

    def __init__(self, reaper: int) -> None:
        # The reaper adopts orphans, so any child besides this worker was left by an attempt. The file stays open and is
        # read repeatedly: that is the cheapest check.
        self._adopted = _open_quietly(f"/proc/{reaper}/task/{reaper}/children", os.O_RDONLY)
        self._only_us = f"{os.getpid()} ".encode()
        self._threads = frozenset(threading.enumerate())

    def settle(self) -> None:
        """Count the threads that run now as the worker's own."""
        self._threads = frozenset(threading.enumerate())

    def describe(self) -> str:
        """Say what the attempt has left. Empty when it left nothing."""
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


def scheduling_settings() -> tuple[object, ...]:
    """The system's scheduling settings of this process. Another process of the same user can change them."""
    if sys.platform != "linux":
        return ()
    number = _IOPRIO_GET.get(os.uname().machine)
    io = _LIBC.syscall(number, _OF_A_PROCESS, 0) if number is not None else 0
    return os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), io


def cpu_seconds() -> float:
    """CPU seconds of this process and of the children that it has waited for."""
    own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def survive_signals() -> None:
    """Survive the signals that are meant for a handler's programs."""
    # A handler function, not SIG_IGN, which every program that a handler starts would inherit.
    for number in _USUAL:
        signal.signal(number, _survive)


def let_forks_die() -> None:
    """Have all that a handler forks die of these signals again, or `multiprocessing.Pool` would never end its workers.

    Call it in the process that runs the handler: processes that are forked before survive.
    """
    os.register_at_fork(before=_hold_signals, after_in_parent=_release_signals, after_in_child=_die_as_usual)


def _survive(_number: int, _frame: object) -> None:
    pass


_held = threading.local()
"""The signal mask of each thread before it forked."""


def _hold_signals() -> None:
    # Until it dies as usual, a child that is ended right after its start would survive that.
    _held.before = signal.pthread_sigmask(signal.SIG_BLOCK, _survived())


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _held.before)


def _die_as_usual() -> None:
    for number in _survived():
        signal.signal(number, _USUAL[number])
    _release_signals()


def _survived() -> list[int]:
    """The signals that this process survives. A handler may have set what happens at others."""
    return [number for number in _USUAL if signal.getsignal(number) is _survive]


def signal_tools() -> None:
    """Send SIGTERM to the programs that an attempt has started: the worker's process group without the worker's forks.

    A fork that dies in the middle of an item leaves `Pool.map` waiting for ever. Where forks cannot be told from
    programs, they get the signal, too.
    """
    if os.getpgrp() != os.getpid():
        return
    try:
        group = _group()
    except (OSError, ValueError, IndexError):
        os.killpg(0, signal.SIGTERM)
        return
    spared = {os.getpid()}
    while more := {pid for pid, (parent, goes_on) in group.items() if goes_on and parent in spared} - spared:
        spared |= more
    for pid in group.keys() - spared:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)


def _group() -> dict[int, tuple[int, bool]]:
    """The processes of our group now → the parent, and whether it goes on with the parent's work.

    A fork without exec does, and a process that `multiprocessing` has started by exec. Raises OSError where `/proc`
    does not show this.
    """
    if not sees_own_namespace():
        raise FileNotFoundError("/proc")
    group = {}
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - many, while other attempts wait
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                # The command stands in parentheses and may hold anything; the fields after it are plain.
                fields = file.read().rpartition(b") ")[2].split()
            if int(fields[2]) != os.getpid():
                continue
            with open(f"/proc/{name}/cmdline", "rb") as file:  # noqa: PTH123 - as above
                goes_on = bool(int(fields[6]) & _PF_FORKNOEXEC) or _BY_MULTIPROCESSING in file.read()
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        group[int(name)] = int(fields[1]), goes_on
    return group


def sees_own_namespace() -> bool:
    """Whether `/proc` shows the process ids that this process sees."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())  # noqa: PTH115 - a text
    except OSError:
        return False


def trim() -> None:
    """Give free memory back to the system, where the C library can. Costs a millisecond after a large attempt."""
    if _TRIM is not None:
        _TRIM(0)


def _has_children() -> bool:
    """Whether a child process is alive. Ended ones are reaped on the way."""
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


_OPEN = next((path for path in ("/proc/self/fd", "/dev/fd") if os.path.isdir(path)), "")  # noqa: PTH112 - once
_LIMITS = tuple(
    getattr(resource, f"RLIMIT_{name}")
    for name in ("AS", "CORE", "CPU", "DATA", "FSIZE", "NOFILE", "NPROC", "STACK")
    if hasattr(resource, f"RLIMIT_{name}")
)
_SIGNALS = tuple(sorted(set(map(int, signal.Signals)) - {signal.SIGKILL, signal.SIGSTOP}))
_ROOT = "/"


class Baseline:
    """The state of this process before its first attempt. Costs a few microseconds per attempt."""

    def __init__(self) -> None:
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._environment = _environment()
        self._path = list(sys.path)
        self._recursion = sys.getrecursionlimit()
        self._signals = _signal_handlers()
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._locale = locale.setlocale(locale.LC_ALL)
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._hooks = (sys.excepthook, sys.unraisablehook)
        self._switch = sys.getswitchinterval()
        self._limits = _limits()
        self._open = _open_files()

    def enter(self, folder: str, traceparent: str = "") -> None:
        """Begin an attempt in the task's own folder, or in `/` while it has none. Its temp files and home are there.

        The sandbox bars it from the home of the service's user, and programs fail if they cannot write to their home.
        """
        name = os.fsencode(folder)
        os.environb[b"TMPDIR"] = os.environb[b"HOME"] = name
        self._environment[b"TMPDIR"] = self._environment[b"HOME"] = name
        if traceparent:  # not in the saved state, so it is gone afterwards
            os.environ["TRACEPARENT"] = traceparent
        if "tempfile" in sys.modules:
            sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined] # it caches the first one
        os.chdir(_ROOT)
        if os.access(folder, os.F_OK):  # most have none, and an error would cost more than this check
            with contextlib.suppress(OSError):
                os.chdir(folder)

    def restore(self) -> str:
        """Undo the changes that can be undone. Returns why the worker must be replaced; empty if it need not be."""
        os.umask(self._umask)
        try:
            os.chdir(_ROOT)
        except OSError:
            return "its root folder was changed"
        sys.path[:] = self._path
        sys.setrecursionlimit(self._recursion)
        sys.stdin, sys.stdout, sys.stderr = self._streams
        sys.excepthook, sys.unraisablehook = self._hooks
        sys.setswitchinterval(self._switch)
        gc.enable()
        self._restore_environment()
        self._restore_signals()
        if locale.setlocale(locale.LC_ALL) != self._locale:
            locale.setlocale(locale.LC_ALL, self._locale)
        return self._restore_limits() or self._left_open()

    def _restore_environment(self) -> None:
        if _environment() != self._environment:
            for name in _environment().keys() - self._environment.keys():
                del os.environb[name]
            os.environb.update(self._environment)

    def _restore_signals(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self._mask)
        now = _signal_handlers()
        if not all(map(operator.is_, now, self._signals)):
            for number, handler, before in zip(_SIGNALS, now, self._signals, strict=True):
                if handler is not before:
                    _set_signal(number, before)

    def _restore_limits(self) -> str:
        limits = _limits()
        if limits == self._limits:
            return ""
        for kind, now, before in zip(_LIMITS, limits, self._limits, strict=True):
            if now[1] != before[1]:
                return "a hard limit was changed"
            if now != before:
                resource.setrlimit(kind, before)
        return ""

    def _left_open(self) -> str:
        if _count_open() == len(self._open):
            return ""
        left = _open_files() - self._open
        if left:
            gc.collect()  # closes files that are no longer referenced
            left = _open_files() - self._open
        return "it left a file open" if left else ""

    def settle(self) -> None:
        """Count what is open now as the worker's own: loading a handler may open files for good."""
        self._open = _open_files()
        self._path = list(sys.path)
        self._environment = _environment()
        self._signals = _signal_handlers()

    def settle_limits(self) -> None:
        """Count the limits that hold now as the process's own."""
        self._limits = _limits()


def _signal_handlers() -> list[Any]:
    return list(map(_signal.getsignal, _SIGNALS))


def _limits() -> list[tuple[int, int]]:
    return list(map(resource.getrlimit, _LIMITS))


def _set_signal(number: int, before: Any) -> None:
    if before is not None:  # None: set by C code; Python cannot set it again
        signal.signal(number, before)


def _environment() -> dict[bytes, bytes]:
    return dict(os.environb._data)  # type: ignore[attr-defined]  # noqa: SLF001 - otherwise every name is decoded and encoded


def _count_open() -> int:
    """The number of open descriptors, as `_open_files` lists them, in a tenth of the time.

    0 where the system does not count them; Linux does from 6.2 on.
    """
    try:
        number = os.stat("/proc/self/fd").st_size  # noqa: PTH116 - after every attempt
    except OSError:
        return 0
    return number + 1 if number else 0


def _open_files() -> frozenset[str]:
    """The numbers of the open descriptors, with the listing's own, which is always the lowest free one."""
    return frozenset(os.listdir(_OPEN)) if _OPEN else frozenset()  # noqa: PTH208 - after every attempt
