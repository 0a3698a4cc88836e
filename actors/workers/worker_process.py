"""A reaper with its worker: starts them, talks to them, and finds their processes after a reaper was killed."""

import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from threading import RLock
from typing import Any

import msgspec

from ...events.log.lock import unopened
from ...handlers.process import reaper
from ...handlers.process.channel import MAX_REPORT, FrameBuffer, GarbageFrame, worker_report_decoder
from ..logger import get_logger
from .reactor import PipeWriter, Reactor

_PASSED = frozenset(("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME", "LD_LIBRARY_PATH", "SSL_CERT_FILE"))
"""Variables of the service that a worker sees, besides PYTHON* and LC_*. No secrets of the service are among them."""

_STORAGE = ("AWS_", "BOTO_")
"""Prefixes of the variables that only the mover sees, and no worker."""


class LaunchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that all workers of an executor share."""

    lock: int | None
    """Descriptor that reapers hold until their tree is gone."""
    family: str
    """Beginning of every worker's mark."""
    environment: dict[str, str]
    """The worker's whole environment except its mark."""
    alone: bool = False
    """Whether each worker is to have a PID namespace of its own, if the system allows it."""
    credentials: bytes = b""
    """For the mover: environment variables, as JSON."""
    keeps_output: bool = False
    """Whether the worker keeps each attempt's output. Otherwise the reaper reads it, and keeps the last part."""


class Launched(msgspec.Struct, frozen=True, kw_only=True):
    """A reaper with its worker, and the service's ends of their pipes."""

    reaper: "subprocess.Popen[bytes]"
    mark: str
    job: int
    direct: int
    """Pipe to the process that the worker keeps for several attempts. No process there can write into it."""
    control: int
    report: int
    lifeline: int
    status: int


def worker_environment(pythonpath: Iterable[str], passed: Iterable[str], source: Mapping[str, str]) -> dict[str, str]:
    """The allow-listed part of `source`, with `pythonpath` in front of PYTHONPATH.

    Relative entries of PYTHONPATH count from the service's folder; workers run in another one.
    """
    names = _PASSED | set(passed)
    environment = {name: value for name, value in source.items() if name in names or name.startswith(("PYTHON", "LC_"))}
    inherited = environment.get("PYTHONPATH", "")
    given = [str(Path(entry).absolute()) for entry in inherited.split(os.pathsep) if entry]
    path = [*(entry for entry in pythonpath if entry not in given), *given]
    if path:
        environment["PYTHONPATH"] = os.pathsep.join(path)
    # Otherwise glibc keeps an arena for each thread, and media libraries have many threads.
    environment["MALLOC_ARENA_MAX"] = "2"
    # By itself glibc raises the size from which freed blocks go back to the system, up to 32 MB. A worker would then
    # hold up to 40 MB of a finished picture, and the next attempt would be charged for it.
    environment["MALLOC_MMAP_THRESHOLD_"] = str(16 * 1024 * 1024)
    return environment


def storage_credentials(source: Mapping[str, str]) -> bytes:
    """The variables with credentials for files elsewhere, as JSON."""
    return msgspec.json.encode({name: value for name, value in source.items() if name.startswith(_STORAGE)})


def in_memory(data: bytes) -> int:
    """A descriptor of a nameless file with this data. On Linux it is never written to a disk, and never changed."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("credentials", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(fd, data)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        return fd
    with tempfile.TemporaryFile() as file:
        fd = os.dup(file.fileno())
    os.write(fd, data)
    return fd


def _read_only_pipe() -> tuple[int, int]:
    """A reading and a writing end. Unlike a pipe's, this reading end cannot be opened once more for writing."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    reading.shutdown(socket.SHUT_WR)
    return reading.detach(), writing.detach()


def launch(settings: LaunchSettings) -> Launched:
    """Start a reaper, which starts a worker. Both use exec: a mere fork would copy locks that other threads hold."""
    mark = f"{settings.family}{secrets.token_hex(8)}"
    with ExitStack() as reaper_ends, ExitStack() as own_ends:

        def pipe_to_reaper(make: Callable[[], tuple[int, int]] = os.pipe) -> tuple[int, int]:
            reading, writing = make()
            reaper_ends.callback(os.close, reading)
            own_ends.callback(os.close, writing)
            return reading, writing

        def pipe_from_reaper() -> tuple[int, int]:
            reading, writing = os.pipe()
            own_ends.callback(os.close, reading)
            reaper_ends.callback(os.close, writing)
            return reading, writing

        job_end, job = pipe_to_reaper()
        direct_end, direct = pipe_to_reaper(_read_only_pipe)
        control_end, control = pipe_to_reaper()
        report, report_end = pipe_from_reaper()
        lifeline_end, lifeline = pipe_to_reaper()
        status, status_end = pipe_from_reaper()
        lock = () if settings.lock is None else (settings.lock,)
        pipes = (job_end, control_end, report_end, direct_end)
        handed = (in_memory(settings.credentials),) if settings.credentials else ()
        for fd in handed:
            reaper_ends.callback(os.close, fd)
        process = subprocess.Popen(
            _reaper_command(settings, lifeline_end, status_end, pipes, lock, handed),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={**settings.environment, MARK: mark},
            pass_fds=(*pipes, lifeline_end, status_end, *lock, *handed),
            start_new_session=True,
        )
        own_ends.pop_all()
    return Launched(
        reaper=process,
        mark=mark,
        job=job,
        direct=direct,
        control=control,
        report=report,
        lifeline=lifeline,
        status=status,
    )


def _reaper_command(
    settings: LaunchSettings,
    lifeline: int,
    status: int,
    pipes: tuple[int, int, int, int],
    lock: tuple[int, ...],
    handed: tuple[int, ...],
) -> list[str]:
    script = str(Path(reaper.__file__).resolve())
    numbers = [str(number) for number in pipes]
    return [
        *(sys.executable, "-I", "-S", script),
        *(str(number) for number in (os.getpid(), lifeline, status)),
        *(str(int(switch)) for switch in (settings.alone, settings.keeps_output)),
        *(",".join(numbers), ",".join(map(str, lock))),
        *(
            sys.executable,
            "-P",
            "-m",
            "tasktrail.handlers.process.worker",
            reaper.REAPER_PID,
            *numbers,
            reaper.OUTPUT_PLACEHOLDER,
            str(handed[0] if handed else -1),
        ),
    ]


# --- a running worker -----------------------------------------------------------------------------------------------


_CHUNK = 65536
_SWEEP_PAUSE = 0.02

logger = get_logger(__name__)


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker ended. By now no process of its tree is left."""

    code: int
    """Exit code, or minus the signal."""
    cpu: float = 0.0
    """CPU seconds of its whole life, with those of children that were waited for."""
    peak: int = 0
    """Peak resident bytes since its last attempt began."""
    tail: str = ""
    """The end of the tree's output."""
    reaper_killed: bool = False


class WorkerProcess:
    """Owns the pipes.

    Created and closed in the reactor's thread; `send` and `ask_to_end` may be called from any thread. The three
    callbacks are called in the reactor's thread, with the lock held.

    Args:
        launched: the reaper and our ends of the pipes.
        reactor: watches them.
        lock: guards the executor and its slots.
        on_frame: gets a frame of the worker. May raise GarbageFrame.
        on_garbage: the worker sent something that is not a frame; it is not listened to any more.
        on_exit: the worker, its reaper and everything below them are gone.
    """

    def __init__(
        self,
        launched: Launched,
        reactor: Reactor,
        lock: RLock,
        *,
        on_frame: Callable[[Any], None],
        on_garbage: Callable[[str], None],
        on_exit: Callable[[Exit], None],
    ) -> None:
        self._launched = launched
        self._reactor = reactor
        self._lock = lock
        self._on_frame = on_frame
        self._on_garbage = on_garbage
        self._on_exit = on_exit
        self._frames = FrameBuffer(worker_report_decoder, MAX_REPORT)
        self._job = PipeWriter(launched.job, reactor, lock)
        self._direct = PipeWriter(launched.direct, reactor, lock)
        self._control = PipeWriter(launched.control, reactor, lock)
        self._listening = True
        self._lifeline_cut = False
        self._status = b""
        try:
            os.set_blocking(launched.report, False)
            reactor.on_readable(launched.report, self._on_report)
            reactor.on_readable(launched.status, self._on_status)
        except BaseException:
            self.kill()  # otherwise this worker would run unwatched
            self._close_pipes()
            raise

    @property
    def reaper(self) -> int:
        """The reaper's process id."""
        return self._launched.reaper.pid

    def send(self, data: bytes) -> bool:
        """Send a frame to the main thread of the worker. False if the worker has died."""
        return _write(self._job, data)

    def send_directly(self, run: bytes, begun: bytes) -> bool:
        """Give a run to the process that the worker keeps. The worker reads of it before anything that follows from it.

        False if the worker has died, or will read nothing there any more: then the run has not begun.
        """
        return _write(self._job, begun) and _write(self._direct, run)

    def tell(self, order: bytes) -> None:
        """Send a frame that the worker must read while the handler is at work."""
        _write(self._control, order)

    def ask_to_end(self, stop: bytes) -> None:
        """Send `Stop` to both threads of the worker. It makes the handler's tools end, too."""
        _write(self._control, stop)
        _write(self._job, stop)

    def kill(self) -> None:
        """Make the reaper kill the whole tree."""
        if not self._lifeline_cut:
            self._lifeline_cut = True
            os.close(self._launched.lifeline)

    def kill_reaper(self) -> None:
        """Kill the reaper, as the last resort if it hangs. Its processes are swept afterwards."""
        self._launched.reaper.kill()

    def _on_report(self) -> None:
        while self._listening and self._read_reports() == _CHUNK:
            pass

    def _read_reports(self) -> int:
        """Read once and pass the frames on. Returns the number of bytes; 0 if there is nothing."""
        try:
            data = os.read(self._launched.report, _CHUNK)
        except BlockingIOError:
            return 0
        if not data:
            self._stop_listening()
            return 0
        with self._lock:
            try:
                for frame in self._frames.feed(data):
                    self._on_frame(frame)
            except GarbageFrame as error:
                self._stop_listening()
                self._on_garbage(str(error))
            except Exception as error:  # a fault of ours in one report: only this worker is replaced
                logger.exception("report_not_understood")
                self._stop_listening()
                self._on_garbage(f"{type(error).__name__}: {error}")
        return len(data)

    def _stop_listening(self) -> None:
        if self._listening:
            self._listening = False
            self._reactor.forget(self._launched.report)

    def _on_status(self) -> None:
        data = os.read(self._launched.status, _CHUNK)
        if data:
            self._status += data
            return
        self._reactor.forget(self._launched.status)
        ending = _parse(self._status)
        if ending is not None:
            self._finish(ending)
        else:
            self._sweep(0)

    def _sweep(self, clean: int) -> None:
        """Kill what a killed reaper left. Its worker dies with it; escaped ones are found by mark, in two looks."""
        clean = 0 if kill_marked(self._launched.mark) else clean + 1
        if clean < 2:  # noqa: PLR2004 - twice
            self._reactor.at(_SWEEP_PAUSE, lambda: self._sweep(clean))
        else:
            self._finish(Exit(code=-9, reaper_killed=True))

    def _finish(self, ending: Exit) -> None:
        """Read the last frames, close everything, and report the end."""
        with self._lock:
            try:
                while self._listening and self._read_reports():
                    pass
                self._stop_listening()
                self.kill()
                self._close_pipes()
                self._launched.reaper.wait()
            finally:
                self._on_exit(ending)  # even after an error: the slot must not be lost

    def _close_pipes(self) -> None:
        for pipe in (self._job, self._direct, self._control):
            pipe.close()
        for fd in (self._launched.report, self._launched.status):
            self._reactor.forget(fd)
            os.close(fd)


def _write(pipe: PipeWriter, data: bytes) -> bool:
    try:
        pipe.write(data)
    except ConnectionError:
        return False  # the worker has died; its reaper reports the rest
    return True


def _parse(status: bytes) -> Exit | None:
    """Read what the reaper wrote last. None if it was killed before."""
    line, _, tail = status.partition(b"\n")
    try:
        _, code, microseconds, peak = map(int, (b"0", *line.split()[1:]))
    except ValueError:
        return None
    return Exit(code=code, cpu=microseconds / 1e6, peak=peak, tail=tail.decode("utf-8", "replace"))


# --- what a reaper did not clear up: because it is still at it, or because it was killed itself ---------------------

MARK = "TASKTRAIL_WORKER"
"""Environment variable that every worker has and hands on to what it starts."""

_PAUSE = 0.01


def open_shared_lock(path: Path) -> int:
    """A descriptor with a shared lock on the file. Processes that inherit it hold the lock until all are gone."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def family(path: Path) -> str:
    """The beginning of the marks of all workers under this lock file. The colon keeps file 12 apart from file 123."""
    stat = path.stat()
    return f"{stat.st_dev:x}-{stat.st_ino:x}:"


def wait_for_orphans(path: Path, timeout: float) -> bool:
    """Wait until no process of an earlier service is left. Call it before new work begins.

    Reapers hold a shared lock on the file until their tree is gone. Processes that escaped a killed reaper are found by
    their mark and killed (Linux). False if some are still there after `timeout` seconds.

    Raises `InvalidPath`: the file cannot be opened.
    """
    deadline = time.monotonic() + timeout
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unopened(path, error) from error
    try:
        while not _try_lock(fd) or kill_marked(family(path)):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE)
    finally:
        os.close(fd)
    return True


def kill_marked(mark: str) -> int:
    """Kill every process whose mark begins with `mark`. Returns how many there were; 0 if there is no `/proc`."""
    needle = f"{MARK}={mark}".encode()
    found = 0
    for entry in Path("/proc").glob("[1-9]*"):
        if entry.name == str(os.getpid()):
            continue
        try:
            marked = needle in (entry / "environ").read_bytes()
        except OSError:
            continue
        if marked:
            found += 1
            _kill(int(entry.name))
    return found


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
