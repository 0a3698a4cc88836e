"""New records for many streams at once: read once, encoded once, kept in a ring of the latest.

A stream takes from the ring what follows its position. One that lags behind the ring reads the log by itself, so a slow
reader costs nobody else anything and nothing is buffered for it. Nothing is read while nobody follows.
"""

import asyncio
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import msgspec
import structlog

from ..events import Recorded
from .served import Served

RING = 4096
"""Records kept for streams that are nearly up to date."""
BATCH = 500
"""Records read at a time."""
_LOOK = 0.25
"""Seconds after which the reading thread looks whether it is still wanted."""
_ENCODER = msgspec.json.Encoder()
_LINE_ENDS = "\x85\u2028\u2029"
"""Control characters are escaped anyway."""

log = structlog.get_logger("tasktrail.http")


class Line(msgspec.Struct, frozen=True, gc=False):
    """A recorded event as it is sent."""

    position: int
    task_id: int
    json: bytes


def line(record: Recorded) -> Line:
    """The record, encoded. Nothing in it looks like the end of a line, not even to a reader who knows Unicode's."""
    json = _ENCODER.encode(record.flat())
    if not json.isascii():
        for character in _LINE_ENDS:
            json = json.replace(character.encode(), b"\\u%04x" % ord(character))
    return Line(record.position, record.task_id, json)


class Feed:
    """The ring and the thread that fills it. All methods are called in the event loop."""

    def __init__(self, service: Served) -> None:
        self._service = service
        self._ring: deque[Line] = deque(maxlen=RING)
        self._end = 0
        self._changed = asyncio.Event()
        self._streams = 0
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self.closed = False

    @contextmanager
    def following(self) -> Iterator[None]:
        """While it lasts, new records are read as soon as they are durable."""
        self._streams += 1
        if self._streams == 1:
            self._ring.clear()
            self._end = self._service.watermark.position
            self._begin()
        try:
            yield
        finally:
            self._streams -= 1
            if not self._streams:
                self._wanted.clear()

    def _begin(self) -> None:
        """A thread of its own for each time of being wanted: one that is on its way out can do no harm."""
        self._wanted = threading.Event()
        self._wanted.set()
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._run, args=(loop, self._wanted, self._end), name="http-feed", daemon=True
        )
        self._thread.start()

    def after(self, position: int) -> list[Line] | None:
        """Up to a batch of what follows `position`, as far as it has been read; none if the ring has lost it."""
        if position >= self._end:
            return []
        if not self._ring or self._ring[0].position > position + 1:
            return None
        start = bisect_right(self._ring, position, key=lambda one: one.position)
        return list(islice(self._ring, start, start + BATCH))

    async def wait(self, position: int, patience: float) -> bool:
        """Wait for something beyond `position`, or for the end; whether either came within `patience` seconds."""
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

    def _publish(self, wanted: threading.Event, lines: Iterable[Line]) -> None:
        if wanted is not self._wanted or self.closed:
            return
        self._ring.extend(lines)
        self._end = self._ring[-1].position
        self._changed.set()
        self._changed = asyncio.Event()

    def _run(self, loop: asyncio.AbstractEventLoop, wanted: threading.Event, position: int) -> None:
        while wanted.is_set():
            try:
                if not self._service.watermark.wait(position + 1, _LOOK):
                    continue
                lines = [line(record) for record in self._service.log(position, BATCH)]
                if lines:
                    position = lines[-1].position
                    loop.call_soon_threadsafe(self._publish, wanted, lines)
            except Exception:  # a stream must outlive one bad read
                if loop.is_closed() or not wanted.is_set():
                    return
                log.exception("new records could not be read", position=position)
                threading.Event().wait(_LOOK)
