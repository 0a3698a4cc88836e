"""Recorded events as an endless answer: JSON Lines or server-sent events, without gaps, from any position on.

New records are read and encoded once for all streams, and the latest are kept in a ring. A stream takes from the ring
the records after its position. A stream that lags behind the ring reads the log by itself, so a slow reader costs the
others nothing, and nothing is buffered for it. Nothing is read while no stream follows.
"""

import asyncio
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from math import inf
from typing import TYPE_CHECKING

import msgspec

from ..actors.logger import get_logger
from ..actors.service_log import first_line
from ..api.served import Served
from ..events import Created, Recorded, TasktrailError
from ..events.recorded import EVENT_TAGS
from ..events.system_events import TasksForgotten, UserErased
from .connections import GuardedConnection

if TYPE_CHECKING:
    from .backend import Backend

RING = 4096
"""Records kept for streams that are nearly up to date, as long as they are small."""
RING_BYTES = 8 * 1024 * 1024
BATCH = 64
"""Records read at a time."""
PIECE = 32 * 1024
"""Bytes read at a time, unless one record has more: a checkpoint may take hundreds of kilobytes."""
REMEMBERED = 100_000
"""Tasks whose users are kept in memory."""
_LOOK = 0.25
"""Seconds between two checks of the reading thread whether it is still wanted."""
_ENCODER = msgspec.json.Encoder()
_TAKES_AWAY = frozenset((EVENT_TAGS[UserErased], EVENT_TAGS[TasksForgotten]))
"""After one of these the log no longer shows all of the records before it."""
_LINE_ENDS = "\x85\u2028\u2029"
"""Unicode's line ends. Control characters are escaped by JSON itself."""

logger = get_logger("tasktrail.http")


class EncodedRecord(msgspec.Struct, frozen=True, gc=False):
    """A recorded event as it is sent."""

    position: int
    task_id: int
    version: int
    event: str
    json: bytes
    user_id: int | None
    """The user of the record's task; None if it is about no task."""


class Owners:
    """Finds the user of each record's task. It remembers those of many tasks, since records do not name the user.

    `generation`: a number that changes when the views are built anew, as after an erasure: its tasks are nobody's then.
    """

    def __init__(self, owner_of: Callable[[int], int | None], generation: Callable[[], int]) -> None:
        self._owner_of = owner_of
        self._generation = generation
        self._known_in = generation()
        self._known: dict[int, int | None] = {}

    def user_of(self, record: Recorded) -> int | None:
        """Return the user; None if the record is about no task. May be called from several threads."""
        event = record.event
        task_id = record.task_id or getattr(event, "task_id", 0)
        if not task_id:
            return None
        if (now := self._generation()) != self._known_in:
            self._known_in, self._known = now, {}
        if isinstance(event, Created):
            self._remember(task_id, event.user_id)
        elif task_id not in self._known:
            self._remember(task_id, self._owner_of(task_id))
        return self._known.get(task_id)

    def _remember(self, task_id: int, user_id: int | None) -> None:
        if len(self._known) >= REMEMBERED:
            self._known = {}
        self._known[task_id] = user_id


def encode_record(record: Recorded, user_id: int | None) -> EncodedRecord:
    """Encode the record. Nothing in it looks like a line end, not even one of Unicode's."""
    json = _ENCODER.encode(record.flat())
    if not json.isascii():
        for character in _LINE_ENDS:
            json = json.replace(character.encode(), b"\\u%04x" % ord(character))
    return EncodedRecord(record.position, record.task_id, record.version, record.name, json, user_id)


class BatchReader:
    """Reads records in batches, each bounded in number and in bytes. For one stream."""

    def __init__(self, owners: Owners | None = None) -> None:
        """`owners`: given if the users of records matter."""
        self._owners = owners
        self._number = max(1, BATCH // 16)

    def next(self, read: Callable[[int], Iterable[Recorded]]) -> list[EncodedRecord]:
        """Return the next records, encoded; at least one if there is any. `read` is given the most records to read.

        How many fit determines how many to ask for the next time.
        """
        lines: list[EncodedRecord] = []
        size = number = 0
        for number, record in enumerate(read(self._number), 1):  # noqa: B007 - counts records that do not fit, too
            one = encode_record(record, self._owners.user_of(record) if self._owners else None)
            size += len(one.json)
            if lines and size > PIECE:
                self._number = len(lines)
                return lines
            lines.append(one)
        if number == self._number and size <= PIECE // 2:
            self._number = min(2 * self._number, BATCH)
        return lines


class RecordFeed:
    """The ring and the thread that fills it. All methods are called in the event loop."""

    def __init__(self, service: Served) -> None:
        self._service = service
        self.owners = Owners(service.owner_of, service.source.generation)
        self._ring: deque[EncodedRecord] = deque()
        self._size = 0
        """Bytes in the ring."""
        self._end = 0
        self._changed = asyncio.Event()
        self._streams = 0
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self.closed = False

    @contextmanager
    def following(self) -> Iterator[None]:
        """While the context lasts, new records are read as soon as they are durable."""
        self._streams += 1
        if self._streams == 1:
            self._clear()
            self._end = self._service.watermark.position
            self._begin()
        try:
            yield
        finally:
            self._streams -= 1
            if not self._streams:
                self._wanted.clear()
                self._clear()

    def _clear(self) -> None:
        self._ring.clear()
        self._size = 0

    def _begin(self) -> None:
        """Start a new thread for the first stream that follows. An old one that is still ending publishes nothing."""
        self._wanted = threading.Event()
        self._wanted.set()
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._run, args=(loop, self._wanted, self._end), name="http-feed", daemon=True
        )
        self._thread.start()

    def after(self, position: int) -> list[EncodedRecord] | None:
        """Return a batch after `position`, as far as records have been read, or None if the ring no longer has it."""
        if position >= self._end:
            return []
        if not self._ring or self._ring[0].position > position + 1:
            return None
        start = bisect_right(self._ring, position, key=lambda one: one.position)
        lines: list[EncodedRecord] = []
        size = 0
        for one in islice(self._ring, start, start + BATCH):
            size += len(one.json)
            if lines and size > PIECE:
                break
            lines.append(one)
        return lines

    async def wait(self, position: int, patience: float) -> bool:
        """Wait for a record after `position`, or for the end. Returns whether either came within `patience` seconds."""
        if position < self._end or self.closed:
            return True
        try:
            await asyncio.wait_for(self._changed.wait(), patience)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """End all streams."""
        self.closed = True
        self._wanted.clear()
        self._changed.set()

    def _publish(self, wanted: threading.Event, lines: Iterable[EncodedRecord]) -> None:
        if wanted is not self._wanted or self.closed:
            return
        for one in lines:
            if one.event in _TAKES_AWAY:
                self._clear()  # who asks for earlier records gets them as the log has them now
            self._ring.append(one)
            self._size += len(one.json)
            self._end = one.position
        while self._ring and (len(self._ring) > RING or self._size > RING_BYTES):
            self._size -= len(self._ring.popleft().json)
        self._changed.set()
        self._changed = asyncio.Event()

    def _run(self, loop: asyncio.AbstractEventLoop, wanted: threading.Event, position: int) -> None:
        pieces = BatchReader(self.owners)
        while wanted.is_set():
            try:
                if not self._service.watermark.wait(position + 1, _LOOK):
                    continue
                lines = pieces.next(partial(self._service.log, position))
                if lines:
                    position = lines[-1].position
                    loop.call_soon_threadsafe(self._publish, wanted, lines)
            except Exception:  # a stream must outlive one bad read
                if loop.is_closed() or not wanted.is_set():
                    return
                logger.exception("new records could not be read", position=position)
                threading.Event().wait(_LOOK)


SILENCE = 15.0
"""Seconds of silence after which a sign of life is sent."""

SLICE = 16 * 1024
"""Bytes handed to a connection at a time; the next ones wait until these have been sent."""

JSON_LINES = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"


class StreamRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which records to send, and for how long."""

    after: int = 0
    task_id: int | None = None
    limit: int | None = None
    events: frozenset[str] = frozenset()
    """Only these; empty: all."""
    follow: bool = False
    seconds: float | None = None
    """A followed stream ends after this many seconds; None: when the service ends."""
    named: bool = False
    """Whether server-sent events have the event's name."""
    only_user: int | None = None
    """Only records about this user's tasks. Positions keep their numbers, so there are gaps between them.

    A stream about one task does not need it.
    """

    def wants(self, one: EncodedRecord) -> bool:
        """Whether the record is to be sent."""
        mine = self.task_id in (None, one.task_id) and self.only_user in (None, one.user_id)
        return mine and (not self.events or one.event in self.events)


_ANY = 2**62
"""Beyond every position."""


def as_json_lines(lines: Sequence[EncodedRecord]) -> bytes:
    """One record a line. A sign of life is a space, which is allowed before any JSON."""
    return b"".join([one.json + b"\n" for one in lines]) or b" "


def as_server_sent(lines: Sequence[EncodedRecord]) -> bytes:
    """Messages with their position as id, so that a browser goes on where it was. A sign of life is a comment."""
    return b"".join([b"id: %d\ndata: %s\n\n" % (one.position, one.json) for one in lines]) or b": still here\n\n"


def as_named_events(lines: Sequence[EncodedRecord]) -> bytes:
    """The same, each with the event's name. A browser passes it only to listeners of that name."""
    return b"".join(
        [b"id: %d\nevent: %s\ndata: %s\n\n" % (one.position, one.event.encode(), one.json) for one in lines]
    ) or as_server_sent(())


def as_json_array(lines: Sequence[EncodedRecord]) -> bytes:
    """The elements of an array, each followed by a comma."""
    return b"".join([one.json + b"," for one in lines])


async def array(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Complete the array of elements from `as_json_array`. One byte is held back, to drop the last comma."""
    held = b"["
    async for piece in pieces:
        if piece:  # a sign of life is empty
            yield held + piece[:-1]
            held = piece[-1:]
    yield held.replace(b",", b"") + b"]"


async def encoded(
    backend: "Backend",
    span: StreamRequest,
    encode: Callable[[Sequence[EncodedRecord]], bytes],
    connection: GuardedConnection,
) -> AsyncIterator[bytes]:
    """The bytes of the answer, slice by slice. A slow reader holds up nothing but this iterator.

    If the log cannot be read on, the connection breaks.
    """
    with connection.streaming():
        remaining = span.limit
        now = asyncio.get_running_loop().time
        sent = now()
        try:
            async for lines in _batches(backend, span):
                chosen = [one for one in lines if span.wants(one)][:remaining]
                if remaining is not None:
                    remaining -= len(chosen)
                if chosen or not lines or now() - sent >= SILENCE:
                    sent = now()
                    piece = encode(chosen)
                    lines.clear()  # what waits for a slow reader is held once, not twice
                    chosen.clear()
                    with backend.held.holding(len(piece), connection):
                        for start in range(0, len(piece), SLICE):
                            yield piece[start : start + SLICE]
                if remaining is not None and remaining <= 0:
                    return
        except TasktrailError as error:
            # The answer has begun: only a connection that breaks without an end tells the client that something is
            # missing. Who asks again from there is answered with the error.
            message = first_line(error.message)
            logger.warning("a stream was cut: the next record cannot be read", code=error.code, error=message)
            connection.drop()


async def refuse_unreadable(backend: "Backend", span: StreamRequest) -> None:
    """Read what the answer begins with. Raises its errors, which nobody would be told once the answer has begun."""
    await _Reading(backend, span).next(span.after, _ANY)


async def _batches(backend: "Backend", span: StreamRequest) -> AsyncIterator[list[EncodedRecord]]:
    """Yield the recorded events, then new ones. An empty batch is a sign of life. The caller may empty the lists."""
    position, reading = span.after, _Reading(backend, span)
    if not span.follow:
        # One task is read to the end of the log itself, which may be ahead of what has been announced.
        end = backend.service.watermark.position if span.task_id is None else _ANY
        while position < end and (lines := await reading.next(position, end)):
            position = lines[-1].position
            yield lines
        return
    loop = asyncio.get_running_loop()
    deadline = inf if span.seconds is None else loop.time() + span.seconds
    with backend.feed.following():
        while not backend.feed.closed and loop.time() < deadline:
            known = backend.service.watermark.position
            ready = backend.feed.after(position)
            lines = await reading.next(position, known) if ready is None else ready
            if ready is None and not lines:
                position = max(position, known)
            if lines:
                position = max(position, lines[-1].position)
                yield lines
            elif not await backend.feed.wait(position, min(SILENCE, deadline - loop.time())):
                yield []


class _Reading:
    """Reads from the log for one stream, in batches: one task's records or all."""

    def __init__(self, backend: "Backend", span: StreamRequest) -> None:
        self._backend = backend
        self._task_id = span.task_id
        self._pieces = BatchReader(None if span.only_user is None else backend.feed.owners)
        self._known = (-1, 0)
        """The position at which the last batch ended, and the task's version there."""

    async def next(self, position: int, end: int) -> list[EncodedRecord]:
        """Return the next records after `position`, up to `end`; empty if there are none."""
        return await self._backend.follow(self._next, position, end)

    def _next(self, position: int, end: int) -> list[EncodedRecord]:
        service = self._backend.service
        if self._task_id is None:
            return self._pieces.next(lambda number: service.log(position, min(number, end - position)))
        at, version = self._known
        if at != position:
            version = service.version_at(self._task_id, position)
        lines = self._pieces.next(partial(service.events_after, self._task_id, version))
        if lines:
            self._known = lines[-1].position, lines[-1].version
        return [one for one in lines if one.position <= end]
