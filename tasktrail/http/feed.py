"""New records for many streams at once: read once, encoded once, kept in a ring of the latest.

A stream takes from the ring what follows its position. One that lags behind the ring reads the log by itself, so a slow
reader costs nobody else anything and nothing is buffered for it. Nothing is read while nobody follows.
"""

import asyncio
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice

import msgspec

from ..actors.logger import get_logger
from ..api.service import TaskService
from ..events import Recorded

RING = 4096
"""Records kept for streams that are nearly up to date, as long as they are small."""
RING_BYTES = 8 * 1024 * 1024
BATCH = 64
"""Records read at a time."""
PIECE = 32 * 1024
"""Bytes read at a time, unless one record has more: a checkpoint may take hundreds of kilobytes."""
_LOOK = 0.25
"""Seconds after which the reading thread looks whether it is still wanted."""
_ENCODER = msgspec.json.Encoder()
_LINE_ENDS = "\x85\u2028\u2029"
"""Control characters are escaped anyway."""

logger = get_logger("tasktrail.http")


class Line(msgspec.Struct, frozen=True, gc=False):
    """A recorded event as it is sent."""

    position: int
    task_id: int
    version: int
    json: bytes


def line(record: Recorded) -> Line:
    """The record, encoded. Nothing in it looks like the end of a line, not even to a reader who knows Unicode's."""
    json = _ENCODER.encode(record.flat())
    if not json.isascii():
        for character in _LINE_ENDS:
            json = json.replace(character.encode(), b"\\u%04x" % ord(character))
    return Line(record.position, record.task_id, record.version, json)


class Pieces:
    """Reads records piece by piece, each bounded in number and in bytes. For one stream."""

    def __init__(self) -> None:
        self._number = max(1, BATCH // 16)

    def next(self, read: Callable[[int], Iterable[Recorded]]) -> list[Line]:
        """The next lines, at least one if there is any; `read` gives up to so many records.

        What was read in vain tells how much to ask for the next time.
        """
        lines: list[Line] = []
        size = number = 0
        for number, record in enumerate(read(self._number), 1):  # noqa: B007 - counts those in vain, too
            one = line(record)
            size += len(one.json)
            if lines and size > PIECE:
                self._number = len(lines)
                return lines
            lines.append(one)
        if number == self._number and size <= PIECE // 2:
            self._number = min(2 * self._number, BATCH)
        return lines


class Feed:
    """The ring and the thread that fills it. All methods are called in the event loop."""

    def __init__(self, service: TaskService) -> None:
        self._service = service
        self._ring: deque[Line] = deque()
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
        """While it lasts, new records are read as soon as they are durable."""
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
        """A thread of its own for each time of being wanted: one that is on its way out can do no harm."""
        self._wanted = threading.Event()
        self._wanted.set()
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._run, args=(loop, self._wanted, self._end), name="http-feed", daemon=True
        )
        self._thread.start()

    def after(self, position: int) -> list[Line] | None:
        """A piece of what follows `position`, as far as it has been read; none if the ring has lost it."""
        if position >= self._end:
            return []
        if not self._ring or self._ring[0].position > position + 1:
            return None
        start = bisect_right(self._ring, position, key=lambda one: one.position)
        lines: list[Line] = []
        size = 0
        for one in islice(self._ring, start, start + BATCH):
            size += len(one.json)
            if lines and size > PIECE:
                break
            lines.append(one)
        return lines

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
        for one in lines:
            self._ring.append(one)
            self._size += len(one.json)
            self._end = one.position
        while self._ring and (len(self._ring) > RING or self._size > RING_BYTES):
            self._size -= len(self._ring.popleft().json)
        self._changed.set()
        self._changed = asyncio.Event()

    def _run(self, loop: asyncio.AbstractEventLoop, wanted: threading.Event, position: int) -> None:
        pieces = Pieces()
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
