"""The server: one thread that answers on the Unix socket in the data folder and on a loopback port."""

import asyncio
import logging
import threading
from pathlib import Path
from socket import socket

import structlog
import uvicorn

from .app import build_app
from .desk import Desk
from .errors import ListenFailed
from .gate import LOOPBACK, Gate
from .served import Served
from .sockets import identity, listen_tcp, listen_unix, remove_unix

START_WITHIN = 30.0
GRACE = 0.5
"""Seconds that answers under way get to end by themselves when the server stops."""
_KEEP_ALIVE = 75

log = structlog.get_logger("tasktrail.http")


class HttpServer:
    """Serves `service` from `start` to `stop`.

    Args:
        service: what the routes ask.
        socket_path: where the Unix socket appears, for the owner only.
        host: a loopback address.
        port: 0 for any free one; `address` tells which.
    """

    def __init__(self, service: Served, *, socket_path: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        self._service = service
        self._path = socket_path
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._made: tuple[int, int] | None = None
        self.address = ""
        """The loopback port's URL, once started."""

    def start(self) -> None:
        """Listen, and return when requests are answered. Raises `ListenFailed`."""
        desk = Desk(self._service)
        app = build_app(desk)
        tcp = listen_tcp(self._host, self._port)
        try:
            unix = listen_unix(self._path)
        except BaseException:
            tcp.close()
            raise
        self._made = identity(self._path)
        host, port = tcp.getsockname()[:2]
        literal = f"[{host}]" if ":" in host else host
        self.address = f"http://{literal}:{port}"
        self._server = _Server(Gate(app, LOOPBACK | {literal}), desk)
        self._thread = threading.Thread(
            target=self._server.serve_on, args=([unix, tcp],), name="http-server", daemon=True
        )
        self._thread.start()
        if not self._server.up.wait(START_WITHIN) or self._server.fault is not None:
            self.stop()
            raise ListenFailed("The HTTP server has not started") from self._server.fault

    def stop(self, timeout: float = 5.0) -> bool:
        """End streams, let answers under way end, and stop; whether that was done within `timeout` seconds."""
        if self._made is not None:
            remove_unix(self._path, self._made)
            self._made = None
        if self._server is None or self._thread is None:
            return True
        self._server.should_exit = True
        self._thread.join(timeout)
        return not self._thread.is_alive()


class _Server(uvicorn.Server):
    """Uvicorn, told when it is up and made to end its connections."""

    def __init__(self, app: Gate, desk: Desk) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
                ws="none",
            )
        )
        self._desk = desk
        self.up = threading.Event()
        self.fault: BaseException | None = None

    def serve_on(self, sockets: list[socket]) -> None:
        """Serve until `should_exit`; the thread's whole work."""
        try:
            self.run(sockets)
        except BaseException as error:  # the last frame of the thread: whoever waits must learn of it
            self.fault = error
            log.exception("the HTTP server has failed")
        finally:
            for one in sockets:
                one.close()
            self._desk.close()
            self.up.set()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Streams end first; a connection that still holds on after the grace is cut off."""
        self._desk.feed.close()
        cutting = asyncio.create_task(self._cut_off())
        await super().shutdown(sockets)
        cutting.cancel()

    async def _cut_off(self) -> None:
        await asyncio.sleep(GRACE)
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
