"""The story of one task for a page: bounded however long its life is, and carried on record by record.

`history` tells everything. This keeps the first and the last lines, the last attempts, and of each attempt a curve of
its progress that gets coarser as it gets longer. Of a task with very many records only some are read at all: `skim`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from ..events import Checkpointed, Created, Progressed, Recorded, Retried, Started
from ..events.recorded import EVENT_TAGS
from .describe import describe
from .history import Attempt, Line, followed, opened

if TYPE_CHECKING:
    from datetime import datetime

POINTS = 240
"""Points of a curve, at most."""
CHECKPOINTS = 60
ATTEMPTS = 30
"""Attempts that are kept, the last ones."""
FIRST_LINES, LAST_LINES = 20, 80
TEXT = 4096
"""Characters of a line."""
_SERIES = ("progressed", "checkpointed")

_AT_ONCE = 500
_READ = 4_000
"""Records that are read of the end of a long life; its beginning is read up to `_AT_ONCE`."""
_SAMPLES = 200
"""Records that are looked at in between."""


class Point(msgspec.Struct, frozen=True, gc=False):
    """How far an attempt was, `after` seconds from its start."""

    after: float
    progress: float


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt, and how it went."""

    attempt: Attempt
    curve: tuple[Point, ...] = ()
    checkpoints: tuple[Point, ...] = ()
    """The last ones."""


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of a task."""

    lines: tuple[Line, ...]
    lines_left_out: int
    """Lines that there would be between the first and the last ones."""
    records_left_out: int
    """Records that were not read."""
    courses: tuple[Course, ...]
    courses_left_out: int


class _Curve:
    """A curve of at most `most` points. When it is full, points that stand close to each other go."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._apart = 0.0
        """Seconds between two points, at least."""
        self._points: list[Point] = []
        self._last: Point | None = None

    def add(self, point: Point) -> None:
        self._last = point
        self._keep(point)
        if len(self._points) >= self._most:
            full, self._points = self._points, []
            self._apart = 2 * point.after / self._most
            for one in full:
                self._keep(one)
            if len(self._points) >= self._most:  # all at one moment
                self._points = self._points[::2]

    def _keep(self, point: Point) -> None:
        if not self._points or point.after - self._points[-1].after >= self._apart:
            self._points.append(point)

    def points(self) -> tuple[Point, ...]:
        """The points; the latest is always there."""
        if self._last is None or self._points[-1] is self._last:
            return tuple(self._points)
        return (*self._points, self._last)


class _Running:
    """The attempt that the records are about."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self._curve = _Curve(POINTS)
        self._checkpoints: deque[Point] = deque(maxlen=CHECKPOINTS)

    def follow(self, record: Recorded) -> None:
        """A record that fell into it."""
        before, self.attempt = self.attempt, followed(self.attempt, record)
        after = (record.recorded_at - before.started_at).total_seconds()
        if self.attempt is not before or isinstance(record.event, Progressed):
            self._curve.add(Point(after, self.attempt.progress))
        if isinstance(record.event, Checkpointed):
            self._checkpoints.append(Point(after, self.attempt.progress))

    def course(self) -> Course:
        """As far as it has come."""
        return Course(attempt=self.attempt, curve=self._curve.points(), checkpoints=tuple(self._checkpoints))


class StoryFold:
    """The story up to a version of the task. Not for several threads at once."""

    def __init__(self) -> None:
        self.version = 0
        """The last record of the task that was read or left out."""
        self.last: Recorded | None = None
        """The last record that was read."""
        self._first: list[Line] = []
        self._lines: deque[Line] = deque(maxlen=LAST_LINES)
        self._told = 0
        self._series = 0
        self._records_left_out = 0
        self._courses: deque[Course] = deque(maxlen=ATTEMPTS)
        self._over = 0
        self._running: _Running | None = None
        self._queued_at: datetime | None = None

    def add(self, record: Recorded) -> None:
        """The next record of the task."""
        self._tell(record)
        self._attempt(record)
        self.version = record.version
        self.last = record

    def pass_over(self, version: int, samples: Sequence[Recorded]) -> None:
        """Leave out the records up to a version, but for some of them, which only show how far an attempt was."""
        self._records_left_out += version - self.version
        for record in samples:
            if isinstance(record.event, Progressed | Checkpointed):
                self._attempt(record)
        self.version = version
        self._series = 0

    def story(self) -> Story:
        """What is told so far."""
        running = (self._running.course(),) if self._running else ()
        return Story(
            lines=(*self._first, *self._lines),
            lines_left_out=self._told - len(self._first) - len(self._lines),
            records_left_out=self._records_left_out,
            courses=(*self._courses, *running),
            courses_left_out=self._over - len(self._courses),
        )

    def _tell(self, record: Recorded) -> None:
        last = self._lines[-1] if self._lines else self._first[-1] if self._first else None
        line = line_of(record, self.last)
        if self._series and last is not None and line.event in _SERIES and line.attempt == last.attempt:
            self._series += 1
            text = f"{line.text} (and {self._series - 1} before)"
            line = replace(line, text=text, after=last.after + line.after)
            (self._lines or self._first)[-1] = line
            return
        self._series = int(line.event in _SERIES)
        self._told += 1
        (self._first if len(self._first) < FIRST_LINES else self._lines).append(line)

    def _attempt(self, record: Recorded) -> None:
        event = record.event
        if isinstance(event, Created | Retried):
            self._queued_at = record.recorded_at
        elif isinstance(event, Started):
            self._close()
            self._running = _Running(opened(record, event, record.life, self._queued_at))
        elif record.attempt:
            if self._running is None and not isinstance(event, Progressed | Checkpointed):
                return  # an end without an attempt
            if self._running is None or self._running.attempt.number != record.attempt:
                self._close()
                self._running = _Running(_unseen(record))
            self._running.follow(record)
            if self._running.attempt.outcome is not None:
                self._close()

    def _close(self) -> None:
        if self._running is not None:
            self._courses.append(self._running.course())
            self._over += 1
            self._running = None


def _unseen(record: Recorded) -> Attempt:
    """An attempt whose start was not read."""
    return Attempt(
        number=record.attempt,
        life=record.life,
        started_at=record.recorded_at,
        waited=0.0,
        resumed=False,
        worker="",
        effective_priority=0.0,
    )


def line_of(record: Recorded, before: Recorded | None) -> Line:
    """The record in words."""
    after = (record.recorded_at - before.recorded_at).total_seconds() if before is not None else 0.0
    text = describe(record.event)
    return Line(
        position=record.position,
        recorded_at=record.recorded_at,
        after=after,
        event=EVENT_TAGS[type(record.event)],
        attempt=record.attempt,
        text=text if len(text) <= TEXT else f"{text[:TEXT]}…",
        actor=record.actor,
        reason=record.reason,
    )


def skim(fold: StoryFold, read: Callable[[int, int], Sequence[Recorded]], version: int) -> None:
    """Carry a fold on to a version of the task; of very many records the ones in the middle are left out.

    `read` answers the next records behind a version, at most so many.
    """
    if version - fold.version > _AT_ONCE + _READ:
        for record in read(fold.version, _AT_ONCE):
            fold.add(record)
        start, end = fold.version, version - _READ
        step = max(1, (end - start) // _SAMPLES)
        samples = [record for at in range(start, end, step) for record in read(at, 1)]
        fold.pass_over(end, samples)
    while fold.version < version:
        records = read(fold.version, min(_AT_ONCE, version - fold.version))
        if not records:
            return
        for record in records:
            fold.add(record)
