"""The server: one thread that answers on the Unix socket in the data folder and on a loopback port."""

import asyncio
import errno
import ipaddress
import logging
import os
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any

import uvicorn

from ..actors.logger import get_logger
from ..api.served import Served
from ..errors import ListenFailed
from ..events.existence import exists
from ..paths import UnixName
from .access import LOOPBACK, Access, AccessMiddleware
from .app import build_app
from .backend import Backend
from .connections import KEEP_ALIVE, ConnectionRoom, GuardedConnection, Listener, Rooms, raise_descriptor_limit
from .counting import CountingMiddleware
from .fast_path import FastPath
from .network import Network, Proxies, leads_to
from .owner_secret import secret_in
from .permissions import public_paths
from .sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable

START_WITHIN = 30.0
GRACE = 0.5
"""Seconds in which answers under way may end by themselves when the server stops."""

NO_TOKENS = "there are no tokens, so only this machine may connect"

logger = get_logger("tasktrail.http")


class HttpServer:
    """Serves `service` from `start` to `stop`.

    Args:
        service: the service that the routes ask.
        socket_path: where the Unix socket appears, for the owner only.
        host: an address. One that other machines can reach requires tokens, and TLS or a trusted proxy.
        port: 0 for any free one; `address` then has its number.
        secret_file: holds the owner's secret for the port; made when missing. Without it, no client knows the secret.
        session_file: keeps the sessions of browsers; without it they end with the server.
        network: the network settings; without them only this machine can connect.
    """

    def __init__(
        self,
        service: Served,
        *,
        socket_path: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        secret_file: Path | None = None,
        session_file: Path | None = None,
        network: Network | None = None,
    ) -> None:
        self._service = service
        self._path = socket_path
        self._host = host
        self._port = port
        self._secret_file = secret_file
        self._session_file = session_file
        self._network = network or Network()
        self._access: Access | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._made: tuple[int, int] | None = None
        self.address = ""
        """The loopback port's URL, once started."""

    def start(self) -> None:
        """Listen, and return when requests are answered. Raises `ListenFailed`."""
        raise_descriptor_limit()
        secret = secret_in(self._secret_file) if self._secret_file else token_urlsafe(32)
        access = self._access = Access(
            secret,
            Sessions(self._session_file),
            lambda: self._service.known_tokens,
            rate_limit=self._network.rate_limit,
        )
        end_invalid(access, self._service)
        backend = Backend(self._service)
        app = build_app(backend, access)
        context = self._network.context()
        tcp = listen_tcp(self._host, self._port, self._why_not_open(access, context is not None))
        try:
            unix = listen_unix(self._path)
        except BaseException:
            tcp.close()
            raise
        self._made = socket_identity(self._path)
        host, port = tcp.getsockname()[:2]
        literal = f"[{host}]" if ":" in host else host
        name = literal if not ipaddress.ip_address(host).is_unspecified else "127.0.0.1"
        if context is not None:  # the certificate is for a name
            name = next((one for one in self._network.hosts if leads_to(one, host)), name)
        self.address = f"{'https' if context else 'http'}://{name}:{port}"
        access.address = self.address
        hosts = LOOPBACK | {literal, *self._network.hosts}
        proxies = Proxies(self._network.trusted_proxies)
        fast_path = FastPath(app, backend)
        guarded = AccessMiddleware(fast_path, access, hosts, public_paths(app), proxies)
        certificate = Certificate(self._network, context) if context else None
        self._server = _Server(CountingMiddleware(guarded, backend.requests), backend, access, certificate)
        self._thread = threading.Thread(
            target=self._server.serve_on, args=([unix, tcp],), name="http-server", daemon=True
        )
        self._thread.start()
        if not self._server.up.wait(START_WITHIN) or self._server.fault is not None:
            self.stop()
            raise ListenFailed("The HTTP server has not started") from self._server.fault

    def _why_not_open(self, access: Access, encrypted: bool) -> str:  # noqa: FBT001 - one of two
        """Return why the service must not listen on an address that others can reach; empty if it may."""
        if not any(map(access.holds, self._service.known_tokens)):
            return NO_TOKENS
        if not encrypted and not self._network.trusted_proxies:
            return "tokens would cross the network unencrypted: neither tls_certificate nor trusted_proxies is set"
        return ""

    def login_address(self) -> str:
        """Return an address that logs a browser in as the owner, once and within an hour. Call it after `start`."""
        assert self._access is not None
        return self.address + self._access.login_path(self._access.owner().credential)

    def stop(self, timeout: float = 5.0) -> bool:
        """End streams, let answers under way end, and stop. Returns whether `timeout` seconds were enough."""
        if self._made is not None:
            remove_unix(self._path, self._made)
            self._made = None
        if self._server is None or self._thread is None:
            return True
        self._server.leave()
        self._thread.join(timeout)
        return not self._thread.is_alive()


_LOOK_EVERY = 1.0
"""Seconds between two ticks, which check everything that has a deadline."""
_LOOK_IDLE_EVERY = 10.0
"""The same while nothing can have a deadline."""
_READ_EVERY = 60.0
"""Seconds between two checks whether the certificate has been renewed."""


class Certificate:
    """The certificate in use. It is read again when its file has changed, because it is renewed every few weeks."""

    def __init__(self, network: Network, context: ssl.SSLContext) -> None:
        self.context: ssl.SSLContext | None = context
        self._network = network
        self._seen = self._stamp()
        self._look_at = 0.0

    def _stamp(self) -> tuple[int, ...]:
        files = (self._network.certificate, self._network.key)
        return tuple(os.stat(file).st_mtime_ns for file in files if file)  # noqa: PTH116 - texts

    def look(self, now: float) -> None:
        """Read the certificate again if its files have changed. Called on each tick, with the loop's time."""
        if now < self._look_at:
            return
        self._look_at = now + _READ_EVERY
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                # A new one: what cannot be read whole would damage that in use, and a key of another kind join it.
                self.context = self._network.context()
                self._seen = stamp
                logger.info("the certificate was read again", path=self._network.certificate)
        except (OSError, ListenFailed) as error:
            logger.warning("the certificate cannot be read again: the old one stays", reason=str(error))


def end_invalid(access: Access, service: Served) -> None:
    """End the sessions whose credential is no longer valid. While the tokens are unknown, none ends."""
    access.sessions.keep(lambda credential: access.holds(credential) or not service.knows_tokens)


class _Server(uvicorn.Server):
    """Uvicorn with our own listeners. It signals when it is up, and ends its connections when it stops."""

    def __init__(
        self, app: CountingMiddleware, backend: Backend, access: Access, certificate: Certificate | None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",  # another one, if installed, does not bound how much it reads at once
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # uvicorn's own would trust every client on this machine
                timeout_keep_alive=KEEP_ALIVE,
                ws="none",
            )
        )
        self._backend = backend
        self._access = access
        self._certificate = certificate
        self._stop_watching: Callable[[], None] = lambda: None
        self._rooms = Rooms(raise_descriptor_limit())
        self._listeners: list[Listener] = []
        self.up = threading.Event()
        self.fault: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look = asyncio.Event()
        """Set when the next tick is due, or wanted at once."""
        self._busy = False
        """Whether the last tick found processes of the backend that need further ticks."""
        self.rests = False
        """Whether the last tick found nothing to check, so that the next one comes after `_LOOK_IDLE_EVERY`."""

    def leave(self) -> None:
        """Stop serving. May be called in any thread."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._look.set)

    def serve_on(self, sockets: list[socket.socket]) -> None:
        """Serve until `leave`; the thread's whole work."""
        try:
            self.run(sockets)
        except BaseException as error:  # the thread ends here: `start` raises it as the cause
            self.fault = error
            logger.exception("the HTTP server has failed")
        finally:
            for one in sockets:
                one.close()
            self._stop_watching()
            self._backend.close()
            self.up.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections. Uvicorn's own listeners have no bounds, and spin without free descriptors."""
        await self.lifespan.startup()
        assert sockets is not None
        unix, tcp = sockets
        self._listeners = [
            Listener(unix, lambda _connection: self._guarded(self._rooms.unix), self._rooms.known),
            Listener(
                tcp,
                lambda _connection: self._guarded(self._rooms.strange, self._rooms.known),
                self._rooms.known,
                lambda: None if self._certificate is None else self._certificate.context,
            ),
        ]
        loop = self._loop = asyncio.get_running_loop()

        def changed() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._cut_invalid)

        self._stop_watching = self._backend.service.watch_tokens(changed)
        self.servers = list[Any](self._listeners)  # they have the methods that uvicorn calls on a server
        self.started = True
        self.up.set()

    def _guarded(self, room: ConnectionRoom, inner: ConnectionRoom | None = None) -> GuardedConnection:
        if self.rests:  # tick before its first request is read: the last tick may be long ago
            self._look.set()
        return GuardedConnection(self.config, self.server_state, room, inner)

    def _cut_invalid(self) -> None:
        """End the sessions of revoked and expired tokens, and the connections whose credential is no longer valid."""
        end_invalid(self._access, self._backend.service)
        for connection in list(self.server_state.connections):
            who = connection.who if isinstance(connection, GuardedConnection) else None
            if who is not None and not self._access.still_holds(who):
                connection.transport.abort()

    async def main_loop(self) -> None:
        """Tick once a second, less often while no one is connected. Uvicorn's own loop wakes ten times a second."""
        loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            beginning = any(listener.beginning for listener in self._listeners)
            self.rests = not (self._busy or beginning or self.server_state.connections)
            later = loop.call_later(_LOOK_IDLE_EVERY if self.rests else _LOOK_EVERY, self._look.set)
            await self._look.wait()
            later.cancel()
            self._look.clear()

    async def on_tick(self, counter: int) -> bool:
        """Check what has a deadline."""
        now = asyncio.get_running_loop().time()
        self._busy = self._backend.tidy(now)
        self._cut_invalid()
        if self._certificate is not None:
            self._certificate.look(now)
        for connection in list(self.server_state.connections):
            if isinstance(connection, GuardedConnection):
                connection.look(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End streams and waiting requests first; connections that are still open after the grace are cut off."""
        self._backend.feed.close()
        self._backend.waiters.close()
        cutting = asyncio.create_task(self._cut_off())
        await super().shutdown(sockets)
        cutting.cancel()

    async def _cut_off(self) -> None:
        await asyncio.sleep(GRACE)
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


_BACKLOG = 4096
_NO_SOCKETS = "Put the data folder on a file system that can hold sockets: FAT and some network shares cannot."
_NOT_WRITABLE = (
    "See that the data folder belongs to the user of the service, is writable for it, and is not on a read-only file "
    "system."
)
_NO_ROOM = "Free disk space; or delete files, if `df -i` shows that no more can be made."
_WHY_NO_SOCKET = {
    errno.EACCES: _NOT_WRITABLE,
    errno.EROFS: _NOT_WRITABLE,
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
}


def listen_unix(path: Path) -> socket.socket:
    """Listen at `path`, readable and writable for the owner only; a socket that a dead service left is replaced.

    The socket is made under another name and moved, so it appears at `path` only when it is complete.
    """
    if exists(path) and not path.is_socket():
        raise ListenFailed(f"{path} is in the way: it is not a socket", remedy="Move it elsewhere.")
    making = path.with_name(f".{path.name}.{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        making.unlink(missing_ok=True)
        with UnixName(making) as name:
            listener.bind(name.text)
        making.chmod(0o600)
        listener.listen(_BACKLOG)
        making.replace(path)
    except OSError as error:
        listener.close()
        making.unlink(missing_ok=True)
        raise ListenFailed(
            f"{path} cannot be listened on: {error.strerror or error}",
            remedy=_WHY_NO_SOCKET.get(error.errno or 0, _NO_SOCKETS),
        ) from error
    except BaseException:
        listener.close()
        raise
    return listener


def socket_identity(path: Path) -> tuple[int, int]:
    """The file's device and inode, which differ from those of a file that replaces it."""
    status = path.stat()
    return status.st_dev, status.st_ino


def remove_unix(path: Path, made: tuple[int, int]) -> None:
    """Remove the socket, unless another service has put its own there."""
    with suppress(OSError):
        if socket_identity(path) == made:
            path.unlink()


def listen_tcp(host: str, port: int, why_not_open: str = "") -> socket.socket:
    """Listen on an address. Raises `ListenFailed`.

    `why_not_open`: why only this machine may connect; empty: others may.
    """
    address = address_of(host, why_not_open)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for sockets that say they are TCP; it would delay each answer by 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or error
        raise ListenFailed(f"Port {port} of {host} cannot be listened on: {why}", field="port") from error
    return listener


def address_of(host: str, why_not_open: str) -> str:
    """Return the numeric address. Raises `ListenFailed` if other machines can reach it but may not."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError:
        raise ListenFailed(
            f"{host!r} is no address", field="host", remedy="Use a numeric one, such as 127.0.0.1, ::1 or 0.0.0.0."
        ) from None
    if why_not_open and not address.is_loopback:
        raise ListenFailed(
            f"{host!r} is no loopback address, and {why_not_open}",
            field="host",
            remedy="Start it at 127.0.0.1, which is for this machine alone. To let others in, add a token there "
            "(`tasktrail token add`), set `tls_certificate` and `tls_key`, or `trusted_proxies`, in the configuration, "
            "and start it again.",
        )
    return str(address)
