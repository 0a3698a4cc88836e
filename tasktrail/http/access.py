"""Who may use the loopback port: programs of our own users, but no web page that a browser was lured to.

A port of this machine can be reached by everybody on it, so a connection says nothing by itself. The kernel is asked
whose it is (`Peers`); whoever is neither the service's own user nor root has to show the secret from the data folder
(`Access`). Then it matters what made the program ask (`AccessMiddleware`): a page of somebody else can make a browser
send requests here. It cannot set `Host` (a rebound name shows itself there) and cannot hide `Origin` or
`Sec-Fetch-Site`. Requests through the Unix socket, which its permissions guard, come from no browser and pass.
"""

import asyncio
import errno
import os
import re
import secrets
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from ..actors.logger import get_logger
from ..errors import ListenFailed, Unauthorized, WrongHost, WrongOrigin, problem
from ..events import TasktrailError
from .problems import MEDIA_TYPE, headers_of

if TYPE_CHECKING:
    from .connections import GuardedConnection


_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI2s2s16s16sI8s")
_ANSWER = struct.Struct("=BBBB48xIIIII")
_NO_COOKIE = b"\xff" * 8
_ESTABLISHED, _FIN_WAIT_1, _FIN_WAIT_2 = 1, 4, 5
_CONNECTED = (_ESTABLISHED, _FIN_WAIT_1, _FIN_WAIT_2)
_TABLES = {socket.AF_INET: Path("/proc/net/tcp"), socket.AF_INET6: Path("/proc/net/tcp6")}


class Peers:
    """Asks the kernel. Belongs to one thread; close it."""

    def __init__(self) -> None:
        self._netlink = _netlink_socket()
        self._number = 0
        self._proven = False
        """Whether the kernel has answered once. Only then does "no such socket" mean that there is none."""

    def close(self) -> None:
        """Close the socket to the kernel."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def user_of(self, connection: socket.socket) -> int | None:
        """The user id of the process that has connected; None when the kernel does not say, or it has closed."""
        try:
            theirs, ours = connection.getpeername(), connection.getsockname()
        except OSError:  # gone already
            return None
        if self._netlink is not None:
            try:
                user = self._asked(connection.family, theirs, ours)
            except OSError:  # this kernel, or a sandbox around us, does not know the question
                self.close()
            else:
                if user is not None or self._proven:
                    return user
        return _in_table(connection.family, theirs, ours)

    def _asked(self, family: int, theirs: tuple[str, int], ours: tuple[str, int]) -> int | None:
        assert self._netlink is not None
        self._number = (self._number + 1) % 2**31
        body = _REQUEST.pack(
            family,
            socket.IPPROTO_TCP,
            0,
            0xFFFFFFFF,
            struct.pack("!H", theirs[1]),
            struct.pack("!H", ours[1]),
            socket.inet_pton(family, theirs[0]),
            socket.inet_pton(family, ours[0]),
            0,
            _NO_COOKIE,
        )
        head = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, self._number, 0)
        self._netlink.send(head + body)
        while True:
            answer = self._netlink.recv(65536)
            _length, kind, _flags, number, _port = _HEADER.unpack_from(answer)
            if number != self._number:
                continue  # late, to an earlier question
            if kind == _NLMSG_ERROR:
                (failed,) = struct.unpack_from("=i", answer, _HEADER.size)
                if -failed == errno.ENOENT:
                    return None
                raise OSError(-failed, os.strerror(-failed))
            self._proven = True
            _family, state, _timer, _retransmits, *_queues, user, inode = _ANSWER.unpack_from(answer, _HEADER.size)
            return _trusted(state, user, inode)


def _trusted(state: int, user: int, inode: int) -> int | None:
    """The user, unless the socket belongs to no process any more: the kernel then says 0, which is no root."""
    return user if inode and state in _CONNECTED else None


def _netlink_socket() -> socket.socket | None:
    """A socket to ask the kernel through, or None where there is none."""
    netlink = getattr(socket, "AF_NETLINK", None)
    if netlink is None:
        return None
    with suppress(OSError):
        asking = socket.socket(netlink, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        asking.settimeout(1)
        return asking
    return None


def _in_table(family: int, theirs: tuple[str, int], ours: tuple[str, int]) -> int | None:
    """The same from the kernel's table of sockets.

    It is read twice: a socket that is still there the second time did belong to the user that was named the first time.
    """
    wanted = (_as_in_table(family, theirs), _as_in_table(family, ours))
    first, second = ([row for row in _rows(family) if row[:2] == wanted] for _ in range(2))
    if len(first) != 1 or len(second) != 1:
        return None
    (*_addresses, state, user, inode), again = first[0], second[0]
    return _trusted(state, user, inode) if again[4] == inode else None


def _rows(family: int) -> Iterator[tuple[str, str, int, int, int]]:
    """Local address, remote one, state, user, inode."""
    try:
        with _TABLES[socket.AddressFamily(family)].open(encoding="ascii") as table:
            for line in list(table)[1:]:
                part = line.split()
                yield part[1], part[2], int(part[3], 16), int(part[7]), int(part[9])
    except (OSError, KeyError, ValueError, IndexError):  # another system, or a table of another form
        return


def _as_in_table(family: int, address: tuple[str, int]) -> str:
    """Words of 32 bits in the machine's own order, as the kernel prints them."""
    packed = socket.inet_pton(family, address[0])
    words = (struct.unpack_from("=I", packed, place)[0] for place in range(0, len(packed), 4))
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"


_SHORTEST = 16
_LONGEST = 4096
_SCHEME = b"bearer"

logger = get_logger("tasktrail.http")


class Access:
    """Belongs to the thread of the event loop; close it."""

    def __init__(self, token: str = "") -> None:
        """`token`: what a stranger has to show; nothing does when it is empty."""
        self._digest = sha256(token.encode()).digest() if token else None
        self._peers = Peers()
        self._users = {0, os.geteuid()}

    def knows(self, connection: socket.socket) -> bool:
        """Whether it comes from the service's own user or from root."""
        return self._peers.user_of(connection) in self._users

    def takes(self, authorization: bytes) -> bool:
        """Whether the header `Authorization` shows the secret. How far a wrong one is right cannot be measured."""
        scheme, _, shown = authorization.partition(b" ")
        if self._digest is None or scheme.lower() != _SCHEME:
            return False
        return compare_digest(sha256(shown.strip(b" ")).digest(), self._digest)

    def close(self) -> None:
        """Close the socket to the kernel."""
        self._peers.close()


def token_in(path: Path) -> str:
    """The secret in the file, which is made when there is none; empty when it cannot be made, on a full disk say.

    One that others could read is replaced. Raises `ListenFailed` for a file that holds no secret.
    """
    with suppress(FileNotFoundError):
        token, private = _token_and_privacy(path)
        if private:
            return token
        logger.warning("others could read the secret of the port: it is replaced", path=str(path))
    try:
        return _make(path)
    except OSError as error:
        logger.warning("the secret of the port cannot be written: none is taken", path=str(path), reason=str(error))
        return ""


def _token_and_privacy(path: Path) -> tuple[str, bool]:
    """The token, and whether nobody else can have read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            token = file.read(_LONGEST + 1).strip()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _useless(path, error.strerror or str(error)) from error
    if not re.fullmatch(rb"[!-~]{%d,%d}" % (_SHORTEST, _LONGEST), token):
        raise _useless(path, f"it has to hold {_SHORTEST} to {_LONGEST} visible ASCII characters")
    return token.decode(), not status.st_mode & 0o077 and status.st_uid in (0, os.geteuid())


def _useless(path: Path, why: str) -> ListenFailed:
    return ListenFailed(
        f"{path} holds no secret for the port: {why}", remedy="Delete the file; the next start makes a new one."
    )


def _make(path: Path) -> str:
    token = secrets.token_urlsafe(32)
    making = path.with_name(f".{path.name}.{os.getpid()}")
    making.unlink(missing_ok=True)
    try:
        descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(descriptor)
        making.replace(path)
    except OSError:
        with suppress(OSError):
            making.unlink(missing_ok=True)
        raise
    return token


async def answer_head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the GET of the same address until its answer begins, and go no further."""
    begun = asyncio.Event()

    async def begin(message: Any) -> None:
        if message["type"] == "http.response.start" and not begun.is_set():
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            begun.set()

    asked: Any = {**scope, "method": "GET"}
    getting = asyncio.ensure_future(app(asked, receive, begin))
    waiting = asyncio.ensure_future(begun.wait())
    try:
        await asyncio.wait((getting, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        getting.cancel()
    with suppress(asyncio.CancelledError):
        await getting


LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_OURS = frozenset({b"none", b"same-origin"})
"""What `Sec-Fetch-Site` says of an address that somebody typed, and of a page of our own."""


class AccessMiddleware:
    """ASGI middleware that lets requests of known programs through to the application."""

    def __init__(self, app: ASGIApp, access: Access, hosts: frozenset[str] = LOOPBACK) -> None:
        self._app = app
        self._access = access
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through or answer it with a problem."""
        kind: str = scope["type"]
        error = self._objection(scope)
        if error is not None:
            await _refuse(error, send)
        elif kind != "http":  # the server's own: it starts, it stops
            await self._app(scope, receive, send)
        else:
            bodies = scope["state"]["connection"].room.bodies
            async with bodies.reading(dict(scope["headers"]), receive) as reading:
                if scope.get("method") == "HEAD":
                    await answer_head(self._app, scope, reading, send)
                else:
                    await self._app(scope, reading, send)

    def _objection(self, scope: Any) -> TasktrailError | None:
        if scope["type"] != "http":
            return None
        connection: GuardedConnection = scope["state"]["connection"]
        if connection.private:
            return None
        headers = dict(scope["headers"])
        # A secret that is shown has to be right, even where none is needed.
        shown = headers.get(b"authorization")
        if not (connection.own if shown is None else self._access.takes(shown)):
            return Unauthorized(
                "The connection is not from the service's user, and shows no secret"
                if shown is None
                else "The header `Authorization` does not hold the secret of this port"
            )
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if _without_port(host) not in self._hosts:
            return WrongHost(f"The request is for {host!r}" if host else "The request names no host")
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and origin.partition("://")[2] != host:
            return WrongOrigin(f"A page of {origin!r} sends the request")
        if headers.get(b"sec-fetch-site", b"none").lower() not in _OURS:
            return WrongOrigin("A page of another site makes the browser ask")
        return None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


async def _refuse(error: TasktrailError, send: Send) -> None:
    body = msgspec.json.encode(problem(error))
    said = {**headers_of(error), "content-type": MEDIA_TYPE, "content-length": str(len(body))}
    headers = [(name.encode(), value.encode()) for name, value in said.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
