"""Bounds of connections and request bodies: their number, their time, and the memory of each.

Each connection is in one of three rooms, so that a flood in one leaves space in the others: the Unix socket, the port
for strangers, and the port for authenticated callers, to which a connection moves when it shows a credential. A full
room closes the connection that has been idle longest to take a new one. The strangers' room closes the one that came
first, busy or not, because a request that never ends costs a stranger nothing.

The number of connections bounds the memory of small bodies. A larger body is read only once there is room for all of
it, so that none waits half read for another. Until then it waits in the kernel, at the client's cost.
"""

import asyncio
import re
import resource
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from typing import Any

import h11
import msgspec
from litestar.types import Receive
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from ..actors.logger import get_logger
from ..errors import BadRequest, Busy, RequestTimeout, problem
from ..events import TasktrailError
from ..events.counted import counted, plural
from .identity import Identity
from .problems import MEDIA_TYPE, headers_of
from .requests import MAX_BODY

WANTED_DESCRIPTORS = 65_536
KEPT_DESCRIPTORS = 384
"""Descriptors that are kept free for the log, the views, the workers' pipes and the inputs that are read."""
MAX_UNIX, MAX_KNOWN, MAX_STRANGE = 2048, 2048, 256
"""Connections in each room, if there are enough descriptors."""
MAX_UNIX_STREAMS = 256
HEAD_WITHIN = 20.0
"""Seconds from the first byte of a request, or from the connection, to the end of its headers."""
BODY_WITHIN = 60.0
"""Seconds from the end of the headers to the end of the body."""
TAKEN_WITHIN = 60.0
"""Seconds within which a client has to take some of its answer."""
KEEP_ALIVE = 75
"""Seconds that a connection may wait for another request."""
MAX_HEAD = 32 * 1024
"""Bytes of a request's line and headers."""
_READ = 32 * 1024
_BODY_AHEAD = 16 * 1024
"""Bytes of a body that are read before a handler asks for them."""
_NEXT_AHEAD = 4 * 1024
"""Bytes of the next request up to which reading goes on while a request is answered."""
_BUFFER = 32 * 1024
"""Bytes of an answer that wait in this process. The kernel's send buffer has the same size, which Linux doubles."""
BODY_ROOM = 32 * 1024 * 1024
"""Bytes of bodies in memory at once, in each room."""
HELD = 32 * 1024 * 1024
"""Bytes of records that all streams together may hold for their readers."""
_AT_ONCE = 32
"""Connections accepted before other work gets its turn."""
MOST_BEGINNING = 256
"""Connections in a TLS handshake at once; they are in no room yet. A new one replaces the oldest."""
GREETED_WITHIN = 10.0
"""Seconds that a TLS handshake may take."""
_REST = 0.25
"""Seconds without accepting connections after descriptors or memory have run out."""

logger = get_logger("tasktrail.http")


def raise_descriptor_limit() -> int:
    """Raise the limit of descriptors as far as the system allows, up to a sane number. Returns the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, WANTED_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return WANTED_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS says "infinity" and means less
        return soft
    return wanted


class ConnectionRoom:
    """A bounded number of connections, with bounds of their streams, waiting requests and bodies."""

    def __init__(self, size: int, streams: int = 1, *, of_strangers: bool = False) -> None:
        self.size = size
        self.of_strangers = of_strangers
        self.max_streams = max(1, streams)
        self.max_of_token = max(1, streams // 4)
        """So that no token takes all the streams of others."""
        self.streams: Counter[str] = Counter()
        """Open streams by token; the owner's under the empty name."""
        self.max_waiters = max(1, size * 3 // 4)
        """The most requests that may wait for a task, so that they leave room for others."""
        self.max_waiters_of_token = max(1, self.max_waiters // 4)
        self.waiters: Counter[str] = Counter()
        """Waiting requests, by token as in `streams`."""
        self.bodies = Bodies(BODY_ROOM)
        self.inside: set[GuardedConnection] = set()
        self.yielding: dict[GuardedConnection, None] = {}
        """The connections that a new one may replace, the next first: idle ones, the longest idle first; of strangers
        all, in order of arrival."""

    def refuse_stream(self, who: Identity | None) -> None:
        """Raise `Busy` if no further stream may be open, in all or with this token."""
        number, of_token = self.streams.total(), self.streams[token_of(who)]
        if number >= self.max_streams:
            message = f"{counted(number, 'stream')} {plural(number, 'is', 'are')} open, which is the limit"
        elif token_of(who) and of_token >= self.max_of_token:
            are = plural(of_token, "is", "are")
            message = f"{counted(of_token, 'stream')} {are} open with this token, which is the limit for one token"
        else:
            return
        raise Busy(message, remedy="End some of them, or ask again later.")

    @contextmanager
    def waiting(self, who: Identity | None) -> Iterator[None]:
        """Count a waiting request while the context lasts. Raises `Busy` if too many wait, in all or with the token."""
        number, token = self.waiters.total(), token_of(who)
        if number >= self.max_waiters:
            message = f"{counted(number, 'request')} {plural(number, 'waits', 'wait')} for tasks, which is the limit"
        elif token and self.waiters[token] >= self.max_waiters_of_token:
            many = self.waiters[token]
            wait = plural(many, "waits", "wait")
            message = f"{counted(many, 'request')} with this token {wait} for tasks, which is the limit for one token"
        else:
            self.waiters[token] += 1
            try:
                yield
            finally:
                self.waiters -= Counter({token: 1})  # which keeps no zeros
            return
        raise Busy(message, remedy="Follow `GET /v1/events`, which reports all tasks, or ask again later.")

    def enter(self, one: "GuardedConnection") -> bool:
        """Let a connection in, if need be in place of the first that yields. Returns whether there was a place."""
        if len(self.inside) >= self.size:
            first = next(iter(self.yielding), None)
            if first is None:
                return False
            first.drop()
        self.inside.add(one)
        self.yielding[one] = None
        return True

    def leave(self, one: "GuardedConnection") -> None:
        """Free the connection's place."""
        self.inside.discard(one)
        self.yielding.pop(one, None)

    def note(self, one: "GuardedConnection", *, busy: bool) -> None:
        """Note whether the connection has a request under way."""
        if busy and not self.of_strangers:
            self.yielding.pop(one, None)
        elif one in self.inside:
            self.yielding.setdefault(one)


def token_of(who: Identity | None) -> str:
    """Return the key of the bounds for each token; empty for the owner and for strangers."""
    return who.credential if who is not None and not who.owner else ""


class Rooms:
    """The rooms of all ways in, sized by the number of descriptors."""

    def __init__(self, descriptors: int) -> None:
        free = max(descriptors - KEPT_DESCRIPTORS, descriptors // 4, 12)
        unix, strange = min(MAX_UNIX, free // 4), min(MAX_STRANGE, free // 8)
        known = min(MAX_KNOWN, free - unix - strange)
        self.unix = ConnectionRoom(unix, min(unix // 2, MAX_UNIX_STREAMS))
        self.known, self.strange = ConnectionRoom(known, known // 4), ConnectionRoom(strange, of_strangers=True)


_ONCE = (b"authorization", b"cookie", b"origin")
"""Headers of which HTTP/1.1 clients send at most one. h11 itself checks `Host`."""


class StrictParser(h11.Connection):
    """h11's parser, but refuses requests that a proxy in front of the service may understand differently."""

    fault = ""
    """What was wrong with a request that was refused."""

    def next_event(self) -> Any:
        """Return the next event. Raises `RemoteProtocolError`."""
        try:
            return self._checked(super().next_event())
        except h11.RemoteProtocolError as error:
            self.fault = _BYTES.sub("", str(error))  # uvicorn does not pass it on
            raise

    def _checked(self, event: Any) -> Any:
        if isinstance(event, h11.Request):
            listed = [name for name, _ in event.headers]
            names = set(listed)
            if len(names) < len(listed) and any(listed.count(name) > 1 for name in _ONCE):
                raise h11.RemoteProtocolError("a header that says who asks is given twice")
            if {b"content-length", b"transfer-encoding"} <= names:
                raise h11.RemoteProtocolError("a body with two lengths")
            if len(event.target) + sum(len(name) + len(value) for name, value in event.headers) > MAX_HEAD:
                raise h11.RemoteProtocolError("the head is too long", 431)  # h11 bounds only heads that come in pieces
            whole = _WHOLE_ADDRESS.fullmatch(event.target)
            return event if whole is None else _with_host(event, whole["host"], whole["rest"])
        return event


_BYTES = re.compile(r":? (bytearray\(|b['\"]).*", re.DOTALL)
"""The bytes at fault, which h11 repeats: up to a whole head, and it may hold a secret."""
_WRITE_HTTP = (
    "Send HTTP 1.1, with a line and headers of at most 32 KiB. An address with https:// needs the key "
    "`tls_certificate`, or a proxy."
)
_WHOLE_ADDRESS = re.compile(rb"https?://(?P<host>[^/?#@]+)(?P<rest>[/?].*)?", re.IGNORECASE)
"""The target of a request that is written as if to a proxy."""


def _with_host(request: h11.Request, host: bytes, rest: bytes | None) -> h11.Request:
    """Return the request with the path alone as its target, and with the host that the target named."""
    headers = [(name, value) for name, value in request.headers if name != b"host"]
    return h11.Request(
        method=request.method,
        headers=[(b"host", host), *headers],
        target=b"/" + (rest or b"").removeprefix(b"/"),
        http_version=request.http_version,
    )


class GuardedConnection(H11Protocol):
    """Uvicorn's protocol, in a room, with deadlines and small buffers."""

    transport: asyncio.Transport
    conn: StrictParser

    def __init__(
        self, config: Config, state: ServerState, room: ConnectionRoom, inner: ConnectionRoom | None = None
    ) -> None:
        """`inner`: the room for authenticated connections; without one the room itself identifies the client."""
        super().__init__(config, state, {"connection": self})
        self.conn = StrictParser(h11.SERVER, MAX_HEAD)
        self.room = room
        self._inner = inner
        self.private = inner is None
        """Whether it came through the Unix socket."""
        self.who: Identity | None = None
        """Who sent the request under way. When the credential becomes invalid, the connection ends, stream and all."""
        self._seen: tuple[Any, ...] = ()
        self._since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Enter the room, or answer that it is full."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_BUFFER)
        transport.max_size = _READ  # type: ignore[attr-defined]  # asyncio's own
        if not self.room.enter(self):
            logger.warning("a connection was refused: all are busy", room=self.room.size)
            self._refuse(Busy("All connections are busy"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the room."""
        self.room.leave(self)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Handle the bytes that have arrived. A body that no handler reads yet waits in the kernel.

        While a request is answered, a little of the next one is read: only by reading does the server notice that the
        client hangs up.
        """
        super().handle_events()
        if self.cycle is not None and len(self.cycle.body) > _BODY_AHEAD and not self.cycle.response_complete:
            self.flow.pause_reading()
        elif self.flow.read_paused and len(self.conn.trailing_data[0]) <= _NEXT_AHEAD:
            self.flow.resume_reading()
        self._note()

    def on_response_complete(self) -> None:
        """Note that the connection is idle, unless the next request is there already, which is authenticated anew."""
        self.who = None
        super().on_response_complete()
        self._note()

    def known(self, who: Identity) -> None:
        """Note the authenticated identity, and move to the inner room. Raises `Busy` when that is full."""
        self.who = who
        if self._inner is not None and self.room is not self._inner:
            if not self._inner.enter(self):
                raise Busy("All connections are busy")
            self.room.leave(self)
            self.room = self._inner
            self._note()

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Count a stream while the context lasts. If it is one too many, it is cut off, as it has begun already."""
        room, token = self.room, token_of(self.who)
        try:
            room.refuse_stream(self.who)
        except Busy:  # several have begun at once
            self.drop()
        room.streams[token] += 1
        try:
            yield
        finally:
            room.streams -= Counter({token: 1})  # which keeps no zeros

    def _note(self) -> None:
        self.room.note(self, busy=self.cycle is not None and not self.cycle.response_complete)

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP with a problem, like every other error."""
        what = f"The request cannot be read as HTTP: {self.conn.fault}" if self.conn.fault else msg
        self._refuse(BadRequest(what, remedy=_WRITE_HTTP))

    def _refuse(self, error: TasktrailError) -> None:
        body = msgspec.json.encode(problem(error))
        headers = {**headers_of(error), "content-type": MEDIA_TYPE, "content-length": str(len(body))}
        try:
            head = h11.Response(
                status_code=error.status,
                headers=list({**headers, "connection": "close"}.items()),
                reason=HTTPStatus(error.status).phrase,
            )
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # in the middle of another answer
            self.drop()
        else:
            self.transport.close()

    def drop(self) -> None:
        """Close the connection at once. Data that its reader has not taken is lost."""
        self.room.leave(self)
        self.transport.abort()

    def look(self, now: float) -> None:
        """Close the connection if its stage takes too long. Called about once a second."""
        stage, limit, *more = self._stage()
        seen = (stage, self.cycle, *more)
        if seen != self._seen:
            self._seen, self._since = seen, now
        elif limit is not None and now - self._since > limit:
            self.drop()

    def _stage(self) -> tuple[Any, ...]:
        """Return the connection's stage, its time limit, and values that change while it makes progress."""
        unsent = self.transport.get_write_buffer_size()
        if unsent or self.transport.is_closing():
            return "sending", TAKEN_WITHIN, unsent
        match self.conn.their_state:
            case h11.IDLE if self.cycle is None or self.conn.trailing_data[0]:
                return "head", HEAD_WITHIN
            case h11.SEND_BODY:
                return "body", BODY_WITHIN
            case _:
                return "other", None  # idle, for which uvicorn has a deadline, or being answered


class StreamBuffers:
    """Bounds the bytes that wait for streams' readers. Beyond, the reader whose bytes wait longest is cut off."""

    def __init__(self, bound: int = HELD) -> None:
        self._bound = bound
        self._pieces: dict[object, tuple[int, GuardedConnection]] = {}
        self.total = 0

    @contextmanager
    def holding(self, size: int, connection: GuardedConnection) -> Iterator[None]:
        """While the context lasts, `size` bytes wait for the reader at the connection."""
        piece = object()
        while self.total + size > self._bound and self._pieces:
            _size, slowest = self._take(next(iter(self._pieces)))
            slowest.drop()
        self._pieces[piece] = size, connection
        self.total += size
        try:
            yield
        finally:
            if piece in self._pieces:
                self._take(piece)

    def _take(self, piece: object) -> tuple[int, GuardedConnection]:
        size, connection = self._pieces.pop(piece)
        self.total -= size
        return size, connection


class Listener:
    """Accepts connections from one socket. It has the methods that uvicorn expects of a server."""

    def __init__(
        self,
        listening: socket.socket,
        serve: Callable[[socket.socket], GuardedConnection],
        relief: ConnectionRoom,
        context: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        """`serve` makes the protocol of a connection. If descriptors or memory run out, `relief` closes connections.

        `context` returns the one for TLS, which may differ from one connection to the next.
        """
        self._context = context
        self._listening = listening
        self._serve = serve
        self._relief = relief
        self._loop = asyncio.get_running_loop()
        self.beginning: dict[asyncio.Task[None], socket.socket] = {}
        """Tasks of accepted connections that are in no room yet, perhaps in a TLS handshake; the oldest first."""
        self._resting: asyncio.TimerHandle | None = None
        self._listening.settimeout(0)
        self._begin()

    def _begin(self) -> None:
        self._resting = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor or no memory: trying again at once would only burn time
                self._rest(error)
                return
            if self._context() is not None and len(self.beginning) >= MOST_BEGINNING:
                self._end_oldest_beginning()
            task = self._loop.create_task(self._take(connection))
            self.beginning[task] = connection
            task.add_done_callback(lambda task: self.beginning.pop(task, None))

    def _end_oldest_beginning(self) -> None:
        """End the oldest TLS handshake to make place for a new one."""
        oldest = self.beginning.pop(next(iter(self.beginning)))
        with suppress(OSError):  # the other end has hung up meanwhile
            oldest.shutdown(socket.SHUT_RDWR)  # its task reads the end and closes it

    async def _take(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            context = self._context()
            tls: dict[str, Any] = {"ssl": context, "ssl_handshake_timeout": GREETED_WITHIN} if context else {}
            await self._loop.connect_accepted_socket(lambda: self._serve(connection), connection, **tls)
        except OSError:  # it has hung up meanwhile
            connection.close()

    def _rest(self, error: OSError) -> None:
        logger.warning("no connections can be taken for a moment", reason=error.strerror or str(error))
        for oldest in list(self._relief.yielding)[:_AT_ONCE]:
            oldest.drop()
        self._loop.remove_reader(self._listening)
        self._resting = self._loop.call_later(_REST, self._begin)

    def close(self) -> None:
        """Accept no more connections."""
        if self._resting is not None:
            self._resting.cancel()
        self._loop.remove_reader(self._listening)

    async def wait_closed(self) -> None:
        """Return at once: nothing is left to wait for."""

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that it runs in."""
        return self._loop


SMALL = 16 * 1024
"""Bytes up to which a body needs no room."""
WAIT = 15.0
"""Seconds that a body may wait for room."""
STALL = 10.0
"""Seconds within which some more of a body has to arrive."""
PRESSED = 2.0
"""The same while others wait for room."""


class Bodies:
    """The room for request bodies. Belongs to one event loop."""

    def __init__(self, room: int) -> None:
        """`room`: bytes. One token may have half of it, or the size of the largest request if that is more."""
        self.free = room
        self.max_of_token = max(room // 2, MAX_BODY)
        self.taken: Counter[str] = Counter()
        """Bytes taken or waited for, by token; the owner's under the empty name."""
        self.waiting = 0
        """Requests that fit into their token's share, but not yet into the room."""
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def reading(
        self, headers: dict[bytes, bytes], receive: Receive, who: Identity | None = None
    ) -> AsyncIterator[Receive]:
        """While the context lasts, the request of `who` reads its body through the function that is yielded."""
        body = _Body(self, _announced(headers), receive, token_of(who))
        try:
            yield body.receive
        finally:
            if body.room:
                async with self._freed:
                    self.free += body.room
                    self._give_back(body.room, body.token)

    def _within_share(self, size: int, token: str) -> bool:
        return not token or self.taken[token] + size <= self.max_of_token

    async def reserve(self, size: int, token: str) -> None:
        """Take room. Raises `Busy` when there is none in time.

        A request that waits for its token's share is not counted in `waiting`: hurrying others would not help it.
        """
        try:
            async with asyncio.timeout(WAIT), self._freed:
                await self._freed.wait_for(lambda: self._within_share(size, token))
                self.taken[token] += size
                self.waiting += 1
                try:
                    await self._freed.wait_for(lambda: self.free >= size)
                    self.free -= size
                except BaseException:  # out of time, or the client has hung up
                    self._give_back(size, token)
                    raise
                finally:
                    self.waiting -= 1
        except TimeoutError:
            raise Busy(
                f"No room for {size:,} bytes within {WAIT:g} s: too many large requests are under way",
                remedy="Repeat the request later; send less at a time.",
            ) from None

    def _give_back(self, size: int, token: str) -> None:
        self.taken -= Counter({token: size})
        self._freed.notify_all()


class _Body:
    """The body of one request."""

    def __init__(self, bodies: Bodies, size: int, receive: Receive, token: str) -> None:
        self.token = token
        self._bodies = bodies
        self._size = size
        self._receive = receive
        self._under_way = size > 0
        self.room = 0
        self._arrived = 0
        self._waited = 0.0
        """Bytes that have arrived, and seconds waited for them, since the speed was last checked."""

    async def receive(self) -> Any:
        """Return the next message of the request. Raises `Busy` and `RequestTimeout`."""
        if not self._under_way:
            return await self._receive()
        if self._size > SMALL and not self.room:
            await self._bodies.reserve(self._size, self.token)
            self.room = self._size
        loop = asyncio.get_running_loop()
        begun = loop.time()
        message: Any = await self._next()
        self._under_way = bool(message.get("more_body"))
        self._arrived += len(message.get("body", b""))
        self._waited += loop.time() - begun
        if self._under_way and self._waited >= PRESSED:
            self._refuse_slow()
        return message

    def _refuse_slow(self) -> None:
        """Raise `RequestTimeout` if others wait and the body would, at this rate, take longer than `BODY_WITHIN`."""
        if self.room and self._bodies.waiting and self._arrived * BODY_WITHIN < self._size * self._waited:
            raise RequestTimeout(
                f"{self._arrived:,} bytes of the body have arrived in {self._waited:.0f} s, and others wait for room"
            )
        self._arrived, self._waited = 0, 0.0

    async def _next(self) -> Any:
        waited = 0.0
        while True:
            try:
                return await asyncio.wait_for(self._receive(), PRESSED)
            except TimeoutError:
                waited += PRESSED
                if waited >= STALL or (self.room and self._bodies.waiting):
                    raise RequestTimeout(f"Nothing more of the body has arrived for {waited:g} s") from None


def _announced(headers: dict[bytes, bytes]) -> int:
    """Return the body's size in bytes by its headers. 0 without a body, and for too large a one, refused unread."""
    if b"transfer-encoding" in headers:
        return MAX_BODY
    length = headers.get(b"content-length", b"")
    size = int(length) if length.isdigit() else 0
    return size if size <= MAX_BODY else 0
