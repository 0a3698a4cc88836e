"""The service's side of the gateway's process: starts it, talks to it through two pipes, and ends it."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Protocol

from ...handlers.process.channel import FrameBuffer, GarbageFrame, encode_frame
from ..logger import get_logger
from ..workers.reactor import PipeWriter, Reactor
from ..workers.worker_process import worker_environment
from .wire import LAST_WORDS, GatewayOrder, GatewayReport, gateway_report_decoder

_CHUNK = 1 << 20
_SHOWN = 4096
"""Characters of its last words that are kept."""
_LAST_WORDS_WITHIN = 3.0
"""Seconds that it may take to carry out its last orders."""

logger = get_logger(__name__)


class GatewayLink(Protocol):
    """The link to the gateway. It is called, and calls back, in the reactor's thread with the lock held.

    Only `send` is called in other threads, too.
    """

    def start(self, on_report: Callable[[GatewayReport], None], on_gone: Callable[[str], None]) -> None:
        """Start a gateway. Either it connects and reports a `Pulse`, or `on_gone` soon gets the reason why not."""

    def send(self, order: GatewayOrder) -> None:
        """Send it an order. Without a gateway, or if it dies, the order is lost."""

    def kill(self) -> None:
        """End a gateway that does not answer. `on_gone` is called."""

    def close(self) -> None:
        """Let it carry out its orders and end."""


class ConnectingGateway:
    """A process that loads Ray and connects, and to which the service does not talk yet.

    A starting service makes it before it has its data folder, because it takes as long as the rest of the start. Until
    `take` it holds nothing that another service would wait for.

    Args:
        address: the head of the cluster, `HOST:PORT`.
        lock_path: file on which the process will hold a shared lock; see `wait_for_orphans`.
    """

    def __init__(self, address: str, lock_path: Path | None) -> None:
        self._lock: int | None = None
        if lock_path is not None:
            self._lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"{__package__}.gateway", address, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env=worker_environment((), [name for name in os.environ if name.startswith("RAY_")], os.environ),
                pass_fds=() if self._lock is None else (self._lock,),
                start_new_session=True,
            )
        finally:
            if self._process is None:
                self.close()

    def take(self) -> "subprocess.Popen[bytes]":
        """Return the process, which holds its lock from now on: it has the same open file, so this locks for both."""
        process, self._process = self._process, None
        assert process is not None
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        self.close()
        return process

    def close(self) -> None:
        """End the process, unless it was taken."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


class GatewayProcess:
    """A `GatewayLink` to a process of its own.

    Args:
        address: the head of the cluster, `HOST:PORT`.
        lock_path: file on which the process holds a shared lock; see `wait_for_orphans`.
        reactor: watches the pipes.
        lock: guards the executor.
        connecting: the first process, if it was started before.
    """

    def __init__(
        self,
        address: str,
        lock_path: Path | None,
        reactor: Reactor,
        lock: RLock,
        connecting: ConnectingGateway | None = None,
    ) -> None:
        self._address = address
        self._lock_path = lock_path
        self._reactor = reactor
        self._lock = lock
        self._connecting = connecting
        self._process: subprocess.Popen[bytes] | None = None
        self._on_report: Callable[[GatewayReport], None] = lambda _: None
        self._on_gone: Callable[[str], None] = lambda _: None

    @property
    def pid(self) -> int | None:
        """The id of the process, while there is one."""
        return None if self._process is None else self._process.pid

    def start(self, on_report: Callable[[GatewayReport], None], on_gone: Callable[[str], None]) -> None:
        """See `GatewayLink`."""
        self._on_report, self._on_gone = on_report, on_gone
        self._frames = FrameBuffer(gateway_report_decoder)
        self._stderr_tail = b""
        connecting, self._connecting = self._connecting or ConnectingGateway(self._address, self._lock_path), None
        process = connecting.take()
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._orders = PipeWriter(os.dup(process.stdin.fileno()), self._reactor, self._lock)
        process.stdin.close()
        os.set_blocking(process.stderr.fileno(), False)
        self._reactor.on_readable(process.stdout.fileno(), self._read)
        self._reactor.on_readable(process.stderr.fileno(), self._read_words)

    def send(self, order: GatewayOrder) -> None:
        """See `GatewayLink`."""
        if self._process is not None:
            try:
                self._orders.write(encode_frame(order))
            except BrokenPipeError:
                return  # its end is read soon

    def kill(self) -> None:
        """See `GatewayLink`."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """See `GatewayLink`."""
        process, self._process = self._process, None
        if process is None:
            return
        self._forget(process)
        self._orders.close()
        try:
            process.wait(_LAST_WORDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _read(self) -> None:
        process = self._process
        if process is None or process.stdout is None:
            return
        data = os.read(process.stdout.fileno(), _CHUNK)
        with self._lock:
            if not data:
                self._is_gone(process)
                return
            try:
                reports = self._frames.feed(data)
            except GarbageFrame:
                logger.exception("gateway_sent_garbage")
                process.kill()
                return
            for report in reports:
                try:
                    self._on_report(report)
                except Exception:  # a report that fails must not affect the others
                    logger.exception("report_failed", report=type(report).__name__)

    def _read_words(self) -> None:
        process = self._process
        if process is None or process.stderr is None:
            return
        try:
            data = os.read(process.stderr.fileno(), _CHUNK)
        except BlockingIOError:
            return
        self._stderr_tail = (self._stderr_tail + data)[-_SHOWN:]
        if not data:
            self._reactor.forget(process.stderr.fileno())

    def _is_gone(self, process: "subprocess.Popen[bytes]") -> None:
        self._read_words()
        self._process = None
        self._forget(process)
        self._orders.close()
        process.kill()
        code = process.wait()
        lines = [line.strip() for line in self._stderr_tail.decode(errors="replace").splitlines() if line.strip()]
        logger.info("gateway_is_gone", code=code, said=lines[-1:])
        own = [line.removeprefix(LAST_WORDS) for line in lines if line.startswith(LAST_WORDS)]
        self._on_gone(own[-1] if own and code > 0 else f"the process with its client ended with exit code {code}")

    def _forget(self, process: "subprocess.Popen[bytes]") -> None:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                self._reactor.forget(pipe.fileno())
                pipe.close()
