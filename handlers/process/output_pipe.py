"""The worker's end of the pipe into which an attempt, and all that it starts, prints.

The worker keeps the pipe for all its life. Programs that print hold only the other end, so a process that outlives its
attempt does not block anything. Output is written to a file at once, so that a program that prints much does not wait
long. Output between two attempts is dropped, unless the next attempt was given directly to the kept process. Then the
output's owner is unknown, and it counts as the next attempt's.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import sys
import termios
import traceback
from collections.abc import Iterator
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType

from ...events.reports import Run
from ..attempt_output import PrintedWriter

_ASYNCIO = f"{Path(os.__file__).parent}/asyncio/"
_CHUNK = 65536
_NO_BYTES = bytes(4)
"""A buffer for an int, in the kernel's format."""
_ROOM = 1024 * 1024
"""Bytes that the pipe may hold, if the system allows it."""
_TRACE_LIMIT = 64 * 1024
_OUT = 1
"""The descriptor that each process prints to: standard output, and standard error with it."""
_BY_LINE = 1
"""C's constant for line buffering."""
_HERE = Path(__file__).parent
_OURS = (str(_HERE), str(_HERE.parent / "contract.py"), str(_HERE.parent / "functions.py"), _ASYNCIO)
"""The files of the frames above a handler's first one."""


class Printing:
    """Reads the pipe and keeps the output of one attempt after another.

    Args:
        fd: the reading end; -1: another process reads it, and nothing is kept here.
        root: the folder of all attempts.
        limit: bytes kept of each attempt.
    """

    def __init__(self, fd: int, root: str, limit: int) -> None:
        self.fd = fd
        self._root = Path(root)
        self._limit = limit
        self._lock = Lock()
        self._writer: PrintedWriter | None = None
        self._flags = self._room = 0
        if fd >= 0:
            os.set_inheritable(fd, False)
            os.set_blocking(fd, False)
            with contextlib.suppress(AttributeError, OSError):  # no such call, or this user has too many pipes
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _ROOM)
            self._flags, self._room = _pipe_settings(fd)

    @property
    def ends(self) -> tuple[int, ...]:
        """The descriptors to wait for before `take`."""
        return () if self.fd < 0 else (self.fd,)

    def begin(self, run: Run) -> None:
        """Assign the output from now on to this attempt."""
        self.take()
        self.keep_for(run.task_id, run.attempt)

    def keep_for(self, task_id: int, attempt: int) -> None:
        """Assign the output that is not taken yet to this attempt, too."""
        if self.fd >= 0:
            with self._lock:
                if self._writer is not None:
                    self._writer.close()
                self._writer = PrintedWriter(self._root, task_id, attempt, self._limit)
            if _pipe_settings(self.fd) != (self._flags, self._room):
                self._put_back()

    def _put_back(self) -> None:
        """Restore the pipe's settings, which an attempt may have changed: all attempts print into the same pipe."""
        with contextlib.suppress(OSError):
            fcntl.fcntl(_OUT, fcntl.F_SETFL, self._flags)
        with contextlib.suppress(AttributeError, OSError):
            fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, self._room)

    def end(self) -> None:
        """The attempt is over: take what it has printed so far."""
        if self.fd >= 0:
            self.take()
            with self._lock:
                if self._writer is not None:
                    self._writer.close()
                self._writer = None

    def waiting(self) -> int:
        """Bytes in the pipe now."""
        return int.from_bytes(fcntl.ioctl(self.fd, termios.FIONREAD, _NO_BYTES), sys.byteorder) if self.fd >= 0 else 0

    def take(self, most: int | None = None) -> None:
        """Take what is in the pipe now, at most `most` bytes. Output that comes meanwhile waits: it may be endless."""
        if self.fd < 0:
            return
        with self._lock:
            left = self.waiting() if most is None else most
            while left > 0:
                try:
                    taken = self._take(min(left, _CHUNK))
                except BlockingIOError:
                    return
                if not taken:
                    return
                left -= taken

    def _take(self, most: int) -> int:
        return len(os.read(self.fd, most)) if self._writer is None else self._writer.move(self.fd, most)

    def close(self) -> None:
        """Close the pipe, in a forked process, which has nothing to read here."""
        if self.fd >= 0:
            os.close(self.fd)
            if self._writer is not None:
                self._writer.close()

    def listen(self) -> None:
        """Start a thread that takes output for good."""
        if self.fd >= 0:
            Thread(target=self._listen, args=(-1,), name="printing", daemon=True).start()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take output in a thread while the context lasts."""
        if self.fd < 0:
            yield
            return
        over, over_rope = os.pipe()
        thread = Thread(target=self._listen, args=(over,), name="printing", daemon=True)
        thread.start()
        try:
            yield
        finally:
            os.close(over_rope)
            thread.join()
            os.close(over)

    def _listen(self, over: int) -> None:
        wanted = [self.fd] if over < 0 else [self.fd, over]
        while over not in select.select(wanted, [], [])[0]:
            self.take()


def _pipe_settings(fd: int) -> tuple[int, int]:
    """The pipe's settings that an attempt can change: the flags of the writing end, and the capacity in bytes."""
    room = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) if hasattr(fcntl, "F_GETPIPE_SZ") else 0
    return fcntl.fcntl(_OUT, fcntl.F_GETFL), room


def print_trace(error: BaseException) -> None:
    """Print where an error came from, without our own frames. Never raises."""
    with contextlib.suppress(Exception):
        lines = traceback.TracebackException(type(error), error, _frames_of_handler(error.__traceback__)).format()
        text = "".join(lines).encode(errors="backslashreplace")
        if len(text) > _TRACE_LIMIT:
            text = text[: _TRACE_LIMIT // 2] + b"\n[...]\n" + text[-_TRACE_LIMIT // 2 :]
        _print(text)


def print_causes(error: BaseException | None) -> None:
    """Print the causes of a verdict, one per line. The place in the code that found a file unusable helps no one."""
    with contextlib.suppress(Exception):
        while error is not None and (error := error.__cause__) is not None:
            _print("".join(traceback.format_exception_only(error)).encode(errors="backslashreplace")[:_TRACE_LIMIT])


def _print(text: bytes) -> None:
    flush()
    while text:
        text = text[os.write(2, text) :]


def flush() -> None:
    """Print what Python still buffers, whatever the handler has done to the streams."""
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - runs after every attempt, and `suppress` costs more than the flush
            stream.flush()
        except Exception:  # noqa: BLE001, S110 - see above
            pass


def print_line_by_line() -> None:
    """Make Python print line by line, which it does not do into a pipe, and escape what cannot be encoded."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]  # a text stream
    with contextlib.suppress(Exception):  # for C libraries, whose last words would otherwise be lost with the process
        libc = ctypes.CDLL(None)
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _BY_LINE, 0)


def _frames_of_handler(trace: TracebackType | None) -> TracebackType | None:
    """The trace from the handler's first frame on; all of it if the handler was never reached."""
    first = trace
    while first is not None and first.tb_frame.f_code.co_filename.startswith(_OURS):
        first = first.tb_next
    return first or trace
