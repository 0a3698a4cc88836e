"""A running keeper and worker as the executor sees them: frames out, frames in, and one end."""

import os
from threading import RLock
from typing import Any, Protocol

import msgspec

from ...handlers.process.frames import MAX_REPORT, FrameBuffer, GarbageFrame, worker_report_decoder
from ..logger import get_logger
from .launch import Launched
from .orphans import kill_marked
from .reactor import PipeWriter, Reactor

_CHUNK = 65536
_SWEEP_PAUSE = 0.02

logger = get_logger(__name__)


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker ended. Nothing of its tree is left by now."""

    code: int
    """Exit code, or minus the signal."""
    cpu: float = 0.0
    """CPU seconds of its whole life, waited-for children included."""
    peak: int = 0
    """Peak resident bytes since its last attempt began."""
    tail: str = ""
    """The end of what the tree printed."""
    keeper_killed: bool = False


class Owner(Protocol):
    """Who is told. Called from the reactor's thread, with the lock held."""

    def on_frame(self, frame: Any) -> None:
        """The worker said something. May raise GarbageFrame."""

    def on_garbage(self, error: str) -> None:
        """The worker sent what is no frame; it is not listened to any more."""

    def on_exit(self, ending: Exit) -> None:
        """Worker, keeper and everything below them are gone."""


class WorkerProcess:
    """Owns the pipes. Created and closed in the reactor's thread; `send`, `wish_end` may be called from any."""

    def __init__(self, launched: Launched, reactor: Reactor, lock: RLock, owner: Owner) -> None:
        self._launched = launched
        self._reactor = reactor
        self._lock = lock
        self._owner = owner
        self._frames = FrameBuffer(worker_report_decoder, MAX_REPORT)
        self._job = PipeWriter(launched.job, reactor, lock)
        self._control = PipeWriter(launched.control, reactor, lock)
        self._listening = True
        self._lifeline_cut = False
        self._status = b""
        try:
            os.set_blocking(launched.report, False)
            reactor.on_readable(launched.report, self._on_report)
            reactor.on_readable(launched.status, self._on_status)
        except BaseException:
            self.kill()  # nobody would ever hear of this worker
            raise

    @property
    def keeper(self) -> int:
        """Its process id."""
        return self._launched.keeper.pid

    def send(self, data: bytes) -> bool:
        """Send a frame to the main thread of the worker. False when the worker has died."""
        return _write(self._job, data)

    def wish_end(self, stop: bytes) -> None:
        """Send `Stop` to both threads of the worker, then SIGTERM to its process group."""
        _write(self._control, stop)
        _write(self._job, stop)
        if not self._lifeline_cut:
            try:
                os.write(self._launched.lifeline, b"T")
            except BrokenPipeError:
                return  # the keeper was killed; its status pipe tells

    def kill(self) -> None:
        """Have the keeper kill the whole tree."""
        if not self._lifeline_cut:
            self._lifeline_cut = True
            os.close(self._launched.lifeline)

    def kill_keeper(self) -> None:
        """The last resort when the keeper itself hangs; what it kept is swept afterwards."""
        self._launched.keeper.kill()

    def _on_report(self) -> None:
        while self._listening and self._read_reports() == _CHUNK:
            pass

    def _read_reports(self) -> int:
        """Read once and pass on; the number of bytes, 0 when there is nothing."""
        try:
            data = os.read(self._launched.report, _CHUNK)
        except BlockingIOError:
            return 0
        if not data:
            self._deafen()
            return 0
        with self._lock:
            try:
                for frame in self._frames.feed(data):
                    self._owner.on_frame(frame)
            except GarbageFrame as error:
                self._deafen()
                self._owner.on_garbage(str(error))
            except Exception as error:  # a fault of ours in one report: this worker is replaced, nobody else is hurt
                logger.exception("report_not_understood")
                self._deafen()
                self._owner.on_garbage(f"{type(error).__name__}: {error}")
        return len(data)

    def _deafen(self) -> None:
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
        """The keeper was killed. Its worker dies with it; what had escaped is found by its mark, looking twice."""
        clean = 0 if kill_marked(self._launched.mark) else clean + 1
        if clean < 2:  # noqa: PLR2004 - twice
            self._reactor.at(_SWEEP_PAUSE, lambda: self._sweep(clean))
        else:
            self._finish(Exit(code=-9, keeper_killed=True))

    def _finish(self, ending: Exit) -> None:
        """Hear the last words, close everything, tell."""
        with self._lock:
            try:
                while self._listening and self._read_reports():
                    pass
                self._deafen()
                self.kill()
                self._job.close()
                self._control.close()
                os.close(self._launched.report)
                os.close(self._launched.status)
                self._launched.keeper.wait()
            finally:
                self._owner.on_exit(ending)  # whatever broke before: the slot must not be lost


def _write(pipe: PipeWriter, data: bytes) -> bool:
    try:
        pipe.write(data)
    except BrokenPipeError:
        return False  # the worker has died; its keeper tells the rest
    return True


def _parse(status: bytes) -> Exit | None:
    """What the keeper said last; none if it did not come to that."""
    line, _, tail = status.partition(b"\n")
    try:
        _, code, microseconds, peak = map(int, (b"0", *line.split()[1:]))
    except ValueError:
        return None
    return Exit(code=code, cpu=microseconds / 1e6, peak=peak, tail=tail.decode("utf-8", "replace"))
