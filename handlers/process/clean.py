"""What an attempt may have changed in its worker: put back before the next one, or named when that cannot be done."""

import _signal  # type: ignore[import-not-found]  # `signal` makes an enum of every answer, which takes most of the time here
import gc
import locale
import os
import resource
import signal
import sys
from typing import Any

_OPEN = next((path for path in ("/proc/self/fd", "/dev/fd") if os.path.isdir(path)), "")  # noqa: PTH112 - once
_LIMITS = tuple(
    getattr(resource, f"RLIMIT_{name}")
    for name in ("AS", "CORE", "CPU", "DATA", "FSIZE", "NOFILE", "NPROC", "STACK")
    if hasattr(resource, f"RLIMIT_{name}")
)
_SIGNALS = tuple(sorted(set(map(int, signal.Signals)) - {signal.SIGKILL, signal.SIGSTOP}))
_ROOT = "/"


class Baseline:
    """The state of this process before its first attempt. Costs some microseconds for each attempt."""

    def __init__(self) -> None:
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._environment = _environment()
        self._path = list(sys.path)
        self._recursion = sys.getrecursionlimit()
        self._signals = {number: _signal.getsignal(number) for number in _SIGNALS}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._locale = locale.setlocale(locale.LC_ALL)
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._hooks = (sys.excepthook, sys.unraisablehook)
        self._switch = sys.getswitchinterval()
        self._limits = {kind: resource.getrlimit(kind) for kind in _LIMITS}
        self._open = _open_files()

    def enter(self, folder: str) -> None:
        """Begin an attempt in the task's own folder, or in `/` while it has none; its temp files and home are there.

        Walls keep it from the home of the service's user, and programs fail that can write nothing at home.
        """
        for name in ("TMPDIR", "HOME"):
            os.environ[name] = folder
        self._environment = {**self._environment, b"TMPDIR": os.fsencode(folder), b"HOME": os.fsencode(folder)}
        if "tempfile" in sys.modules:
            sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined] # it remembers the first it found
        os.chdir(folder if os.path.isdir(folder) else _ROOT)  # noqa: PTH112 - before every attempt

    def restore(self) -> str:
        """Put back what can be put back. Why the worker must be replaced; empty when it need not."""
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
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for number, before in self._signals.items():
            if _signal.getsignal(number) is not before:
                _set_signal(number, before)

    def _restore_limits(self) -> str:
        for kind, before in self._limits.items():
            now = resource.getrlimit(kind)
            if now[1] != before[1]:
                return "a hard limit was changed"
            if now != before:
                resource.setrlimit(kind, before)
        return ""

    def _left_open(self) -> str:
        left = _open_files() - self._open
        if left:
            gc.collect()  # what nobody holds any more is closed by that
            left = _open_files() - self._open
        return "it left a file open" if left else ""

    def settle(self) -> None:
        """Take what is open now for the worker's own: loading a handler may open files for good."""
        self._open = _open_files()
        self._path = list(sys.path)
        self._environment = _environment()
        self._signals = {number: _signal.getsignal(number) for number in _SIGNALS}


def _set_signal(number: int, before: Any) -> None:
    if before is not None:  # none: set by C code, which Python cannot set again
        signal.signal(number, before)


def _environment() -> dict[bytes, bytes]:
    return dict(os.environb._data)  # type: ignore[attr-defined]  # noqa: SLF001 - else every name is decoded and encoded


def _open_files() -> frozenset[str]:
    """The numbers of the open descriptors, and that of the look itself, which is always the lowest free one."""
    return frozenset(os.listdir(_OPEN)) if _OPEN else frozenset()  # noqa: PTH208 - after every attempt
