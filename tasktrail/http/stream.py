"""Recorded events as an endless answer: JSON Lines or server-sent events, without gaps, from any position on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from math import inf

import msgspec

from ..errors import Busy
from .connections import Guarded
from .desk import Desk
from .feed import Line, Pieces

KEEP_ALIVE = 15.0
"""Seconds of silence after which a sign of life is sent."""

SLICE = 16 * 1024
"""Bytes handed to a connection at a time: it waits with the next until these have gone."""

JSON_LINES = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Which records, and for how long."""

    after: int = 0
    task_id: int | None = None
    limit: int | None = None
    follow: bool = False
    seconds: float | None = None
    """A followed stream ends after this long; none: with the service."""


_ANY = 2**62
"""Beyond every position."""


def as_json_lines(lines: Sequence[Line]) -> bytes:
    """A record a line. A sign of life is a space, which is allowed in front of any JSON."""
    return b"".join([one.json + b"\n" for one in lines]) or b" "


def as_server_sent(lines: Sequence[Line]) -> bytes:
    """Messages with their position as id, so that a browser goes on where it was. A sign of life is a comment."""
    return b"".join([b"id: %d\ndata: %s\n\n" % (one.position, one.json) for one in lines]) or b": still here\n\n"


def as_json_array(lines: Sequence[Line]) -> bytes:
    """The inside of an array of records, each with a comma behind it."""
    return b"".join([one.json + b"," for one in lines])


async def array(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The whole array around what `as_json_array` made. One byte is held back, since the last comma has to go."""
    held = b"["
    async for piece in pieces:
        yield held + piece[:-1]
        held = piece[-1:]
    yield held.replace(b",", b"") + b"]"


def refuse_too_many(connection: Guarded) -> None:
    """Raises `Busy` when all the streams that there may be are open at this way in."""
    if connection.room.streams >= connection.room.max_streams:
        raise Busy(
            f"{connection.room.streams} streams are open, as many as there may be",
            remedy="End some of them, or ask again later.",
        )


async def encoded(
    desk: Desk, span: Span, encode: Callable[[Sequence[Line]], bytes], connection: Guarded
) -> AsyncIterator[bytes]:
    """The answer's bytes, slice by slice. A reader that does not take them holds up nothing but this iterator."""
    room = connection.room
    if room.streams >= room.max_streams:  # several have begun at once; the answer has begun, too
        connection.drop()
    room.streams += 1
    try:
        left = span.limit
        async for lines in _batches(desk, span):
            chosen = [one for one in lines if span.task_id in (None, one.task_id)][:left]
            if left is not None:
                left -= len(chosen)
            if chosen or not lines:
                piece = encode(chosen)
                lines.clear()  # what waits for a slow reader is held once, not twice
                chosen.clear()
                with desk.held.holding(len(piece), connection):
                    for start in range(0, len(piece), SLICE):
                        yield piece[start : start + SLICE]
            if left is not None and left <= 0:
                return
    finally:
        room.streams -= 1


async def _batches(desk: Desk, span: Span) -> AsyncIterator[list[Line]]:
    """What is there, and then what comes; an empty batch is a sign of life. The taker may empty the lists."""
    position, reading = span.after, _Reading(desk, span)
    if not span.follow:
        # One task is read to the end of the log itself, which may be ahead of what has been announced.
        end = desk.service.watermark.position if span.task_id is None else _ANY
        while position < end and (lines := await reading.next(position, end)):
            position = lines[-1].position
            yield lines
        return
    loop = asyncio.get_running_loop()
    deadline = inf if span.seconds is None else loop.time() + span.seconds
    with desk.feed.following():
        while not desk.feed.closed and loop.time() < deadline:
            known = desk.service.watermark.position
            ready = desk.feed.after(position)
            lines = await reading.next(position, known) if ready is None else ready
            if ready is None and not lines:
                position = max(position, known)
            if lines:
                position = max(position, lines[-1].position)
                yield lines
            elif not await desk.feed.wait(position, min(KEEP_ALIVE, deadline - loop.time())):
                yield []


class _Reading:
    """Reads for one stream from the log: a task's records or everybody's, piece by piece."""

    def __init__(self, desk: Desk, span: Span) -> None:
        self._desk = desk
        self._task_id = span.task_id
        self._pieces = Pieces()
        self._known = (-1, 0)
        """A position and the task's version there: where the last piece has ended."""

    async def next(self, position: int, end: int) -> list[Line]:
        """The next lines behind a position, up to another; none when there are none."""
        return await self._desk.bulk(self._next, position, end)

    def _next(self, position: int, end: int) -> list[Line]:
        service = self._desk.service
        if self._task_id is None:
            return self._pieces.next(lambda number: service.log(position, min(number, end - position)))
        at, version = self._known
        if at != position:
            version = service.version_at(self._task_id, position)
        lines = self._pieces.next(partial(service.events_after, self._task_id, version))
        if lines:
            self._known = lines[-1].position, lines[-1].version
        return [one for one in lines if one.position <= end]
