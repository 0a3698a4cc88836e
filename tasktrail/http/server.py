"""The server: one thread that answers on the Unix socket in the data folder and on a loopback port."""

import asyncio
import logging
import threading
from pathlib import Path
from socket import socket
from typing import Any

import uvicorn

from ..actors.logger import get_logger
from ..api.service import TaskService
from ..errors import ListenFailed
from .access import Access, token_in
from .app import build_app
from .connections import KEEP_ALIVE, MAX_HEAD, Guarded, Listener, Room, Rooms, raise_descriptor_limit
from .desk import Desk
from .gate import LOOPBACK, Gate
from .sockets import identity, listen_tcp, listen_unix, remove_unix

START_WITHIN = 30.0
GRACE = 0.5
"""Seconds that answers under way get to end by themselves when the server stops."""

_TICKS = 10

logger = get_logger("tasktrail.http")


class HttpServer:
    """Serves `service` from `start` to `stop`.

    Args:
        service: what the routes ask.
        socket_path: where the Unix socket appears, for the owner only.
        host: a loopback address.
        port: 0 for any free one; `address` tells which.
        token_file: holds the secret for the port, and is made when missing; without it there is none.
    """

    def __init__(
        self,
        service: TaskService,
        *,
        socket_path: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        token_file: Path | None = None,
    ) -> None:
        self._service = service
        self._path = socket_path
        self._host = host
        self._port = port
        self._token_file = token_file
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._made: tuple[int, int] | None = None
        self.address = ""
        """The loopback port's URL, once started."""

    def start(self) -> None:
        """Listen, and return when requests are answered. Raises `ListenFailed`."""
        raise_descriptor_limit()
        token = token_in(self._token_file) if self._token_file else ""
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
        access = Access(token)
        self._server = _Server(Gate(app, access, LOOPBACK | {literal}), desk, access)
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
    """Uvicorn with listeners of ours, told when it is up and made to end its connections."""

    def __init__(self, app: Gate, desk: Desk, access: Access) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                h11_max_incomplete_event_size=MAX_HEAD,
                ws="none",
            )
        )
        self._desk = desk
        self._access = access
        self._rooms = Rooms(raise_descriptor_limit())
        self.up = threading.Event()
        self.fault: BaseException | None = None

    def serve_on(self, sockets: list[socket]) -> None:
        """Serve until `should_exit`; the thread's whole work."""
        try:
            self.run(sockets)
        except BaseException as error:  # the last frame of the thread: whoever waits must learn of it
            self.fault = error
            logger.exception("the HTTP server has failed")
        finally:
            for one in sockets:
                one.close()
            self._desk.close()
            self._access.close()
            self.up.set()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Begin to accept. Uvicorn's own way has no bounds, and spins when there are no descriptors left."""
        await self.lifespan.startup()
        assert sockets is not None
        unix, tcp = sockets
        listeners: list[Any] = [  # they have what uvicorn asks of a server
            Listener(unix, lambda _connection: self._guarded(self._rooms.unix, private=True), self._rooms.own),
            Listener(tcp, self._from_port, self._rooms.own),
        ]
        self.servers = listeners
        self.started = True
        self.up.set()

    def _from_port(self, connection: socket) -> Guarded:
        own = self._access.knows(connection)
        return self._guarded(self._rooms.own if own else self._rooms.strange, own=own)

    def _guarded(self, room: Room, *, private: bool = False, own: bool = False) -> Guarded:
        return Guarded(self.config, self.server_state, room, private=private, own=own)

    async def on_tick(self, counter: int) -> bool:
        """Every tenth of a second; once a second the deadlines are looked at."""
        if not counter % _TICKS:
            now = asyncio.get_running_loop().time()
            self._desk.tidy(now)
            for connection in list(self.server_state.connections):
                if isinstance(connection, Guarded):
                    connection.look(now)
        return await super().on_tick(counter)

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
