"""Recorded events as an endless answer: JSON Lines or server-sent events, without gaps, from any position on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from math import inf

import msgspec

from .desk import Desk
from .feed import BATCH, Line, line

KEEP_ALIVE = 15.0
"""Seconds of silence after which a sign of life is sent."""

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


def as_json_lines(lines: Sequence[Line]) -> bytes:
    """A record a line. A sign of life is a space, which is allowed in front of any JSON."""
    return b"".join([one.json + b"\n" for one in lines]) or b" "


def as_server_sent(lines: Sequence[Line]) -> bytes:
    """Messages with their position as id, so that a browser goes on where it was. A sign of life is a comment."""
    return b"".join([b"id: %d\ndata: %s\n\n" % (one.position, one.json) for one in lines]) or b": still here\n\n"


async def encoded(desk: Desk, span: Span, encode: Callable[[Sequence[Line]], bytes]) -> AsyncIterator[bytes]:
    """The answer's bytes, batch by batch. A reader that does not take them holds up nothing but this iterator."""
    left = span.limit
    async for lines in _batches(desk, span):
        chosen = [one for one in lines if span.task_id in (None, one.task_id)][:left]
        if chosen or not lines:
            yield encode(chosen)
        if left is not None:
            left -= len(chosen)
            if left <= 0:
                return


async def _batches(desk: Desk, span: Span) -> AsyncIterator[Sequence[Line]]:
    """What is there, and then what comes; an empty batch is a sign of life."""
    position = span.after
    if not span.follow:
        end = desk.service.watermark.position
        while position < end:
            lines = await _read(desk, span, position, min(BATCH, end - position))
            position = max(end if span.task_id else position, lines[-1].position if lines else end)
            if lines:
                yield lines
        return
    loop = asyncio.get_running_loop()
    deadline = inf if span.seconds is None else loop.time() + span.seconds
    with desk.feed.following():
        while not desk.feed.closed and loop.time() < deadline:
            known = desk.service.watermark.position
            ready = desk.feed.after(position)
            lines = await _read(desk, span, position, BATCH) if ready is None else ready
            if ready is None:
                position = max(position, known) if span.task_id else position
            if lines:
                position = max(position, lines[-1].position)
                yield lines
            elif not await desk.feed.wait(position, min(KEEP_ALIVE, deadline - loop.time())):
                yield ()


async def _read(desk: Desk, span: Span, position: int, limit: int) -> list[Line]:
    """From the log: all of a task's records, which are few, or the next ones of everybody's."""

    def reading() -> list[Line]:
        if span.task_id is not None:
            return [line(record) for record in desk.service.events(span.task_id) if record.position > position]
        return [line(record) for record in desk.service.log(position, limit)]

    return await desk.ask(reading)
