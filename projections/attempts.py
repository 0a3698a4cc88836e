"""The attempts of a task: when each began and ended, what was reserved and used, how far it came, and what followed.

The story, the history, the web page, the export and the route all read this one fold.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec
from msgspec.structs import replace

from ..events import Cancelled, Checkpointed, Completed, Created, Failed, Progressed, Recorded, Retried, Started
from ..events.system_events import LOCAL
from ..events.task_events import AttemptOutcome, Estimated

POINTS = 240
"""The most points of a curve."""
CHECKPOINTS = 60


class Point(msgspec.Struct, frozen=True, gc=False):
    """How far an attempt was, `after` seconds from its start."""

    after: float
    progress: float


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the handler. Times are UTC, spans seconds, sizes bytes, progress 0 to 100."""

    task_id: int
    number: int
    life: int
    worker: str
    """The node of its worker; `local`: the machine of the service. Empty: its start was not read."""
    started_at: datetime
    waited: float
    """Seconds since the task was created or went back to the queue."""
    resumed: bool
    effective_priority: float
    memory_reserved: int
    """What was reserved for it, by the estimate at that time; 0 is unknown, here and below."""
    temp_reserved: int
    ended_at: datetime | None = None
    outcome: AttemptOutcome | None = None
    """None while it runs."""
    duration: float | None = None
    """From its start to its recorded end. If the service was killed meanwhile, the next start has recorded that end."""
    progress: float = 0.0
    checkpoints: int = 0
    error: str = ""
    error_type: str = ""
    rule: str = ""
    """The retry rule that matched; empty when none did."""
    next_delay: float | None = None
    """Seconds from its end until the next attempt was due; None if no retry followed automatically."""
    memory_used: int = 0
    cpu_used: float = 0.0
    temp_used: int = 0
    time_used: float = 0.0
    """Seconds in the handler itself."""
    estimate: Estimated | None = None
    """The estimate of its probe; None: that of the task's creation, or of an earlier attempt, still holds."""
    curve: tuple[Point, ...] = ()
    """Its progress over time; for a long attempt at most `POINTS` points, always with the latest."""
    saved: tuple[Point, ...] = ()
    """Its last checkpoints."""


class AttemptsFold:
    """The attempts of one task, folded record by record. Not for several threads at once.

    Records may be left out: an attempt whose start was not read begins where it was first seen.
    """

    def __init__(self) -> None:
        self._running: _Running | None = None
        self._failed: Attempt | None = None
        """An attempt that failed, and that another one may follow."""
        self._queued_at: datetime | None = None
        self._memory = self._temp = 0
        self._saved = 0.0
        """The progress at the latest checkpoint, where a resumed attempt begins."""

    def add(self, record: Recorded) -> tuple[Attempt, ...]:
        """Fold in the next record of the task. Returns the attempts that are now complete."""
        complete = list(self._close()) if isinstance(record.event, Started) else []
        match record.event:
            case Created() as event:
                self._queued_at = record.recorded_at
                self._memory, self._temp = event.estimated_memory, event.estimated_temp
            case Retried() as event:
                complete += self._after_retry(event, record.recorded_at)
            case Started() as event:
                self._running = _Running(self._opened(record, event, event.worker or event.node or LOCAL))
            case _ if record.attempt:
                complete += self._follow(record)
        self._estimated(getattr(record.event, "estimate", None))
        return tuple(complete)

    def unfinished(self) -> tuple[Attempt, ...]:
        """The running attempt so far, or one that has just failed."""
        running = (self._running.current(),) if self._running else ()
        return (self._failed, *running) if self._failed else running

    def _follow(self, record: Recorded) -> Iterator[Attempt]:
        if self._running is None or self._running.attempt.number != record.attempt:
            if not isinstance(record.event, Progressed | Checkpointed):
                return  # an end without an attempt
            yield from self._close()
            self._running = _Running(self._opened(record, Started(), ""))
        self._running.follow(record)
        if isinstance(record.event, Checkpointed):
            self._saved = self._running.attempt.progress
        if self._running.attempt.outcome is None:
            return
        ended, self._running = self._running.current(), None
        if isinstance(record.event, Failed) and not record.event.final:
            self._failed = ended
        else:
            yield ended

    def _after_retry(self, event: Retried, at: datetime) -> Iterator[Attempt]:
        self._queued_at = at
        failed, self._failed = self._failed, None
        if failed is not None:
            yield replace(failed, next_delay=_seconds(at, event.due_at) if event.due_at else 0.0)

    def _close(self) -> Iterator[Attempt]:
        """End the attempts whose end was not read, with what is known of them."""
        yield from self.unfinished()
        self._failed = self._running = None

    def _opened(self, record: Recorded, event: Started, worker: str) -> Attempt:
        return Attempt(
            task_id=record.task_id,
            number=record.attempt,
            life=record.life,
            worker=worker,
            started_at=record.recorded_at,
            waited=_seconds(self._queued_at or record.recorded_at, record.recorded_at),
            resumed=event.resumed,
            effective_priority=event.effective_priority,
            memory_reserved=self._memory,
            temp_reserved=self._temp,
            progress=self._saved if event.resumed else 0.0,
        )

    def _estimated(self, estimate: Estimated | None) -> None:
        if estimate is not None:
            self._memory, self._temp = estimate.memory, estimate.temp


def attempts(records: Iterable[Recorded]) -> Iterator[Attempt]:
    """All attempts of a task, from its records in order; the last one may still run."""
    fold = AttemptsFold()
    for record in records:
        yield from fold.add(record)
    yield from fold.unfinished()


class _Running:
    """The attempt that is running at the last record."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        """The attempt without its points."""
        self._curve = _Curve(POINTS)
        self._saved: deque[Point] = deque(maxlen=CHECKPOINTS)

    def follow(self, record: Recorded) -> None:
        """Fold in a record of the attempt."""
        before, self.attempt = self.attempt, _after_event(self.attempt, record)
        point = Point(_seconds(before.started_at, record.recorded_at), self.attempt.progress)
        if self.attempt is not before:
            self._curve.add(point)
        if isinstance(record.event, Checkpointed):
            self._saved.append(point)

    def current(self) -> Attempt:
        """The attempt as it is now."""
        return replace(self.attempt, curve=self._curve.points(), saved=tuple(self._saved))


class _Curve:
    """A curve of at most `most` points. When it is full, points that are close to each other are dropped."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._apart = 0.0
        """The least seconds between two points."""
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
            if len(self._points) >= self._most:  # all at the same moment
                self._points = self._points[::2]

    def _keep(self, point: Point) -> None:
        if not self._points or point.after - self._points[-1].after >= self._apart:
            self._points.append(point)

    def points(self) -> tuple[Point, ...]:
        """The points; the latest is always there."""
        if self._last is None or self._points[-1] is self._last:
            return tuple(self._points)
        return (*self._points, self._last)


def _after_event(attempt: Attempt, record: Recorded) -> Attempt:
    """The attempt after one of its events."""
    match record.event:
        case Progressed(progress=progress):
            return replace(attempt, progress=progress)
        case Checkpointed(progress=progress):
            reached = attempt.progress if progress is None else progress
            return replace(attempt, progress=reached, checkpoints=attempt.checkpoints + 1)
        case Completed() as event:
            return replace(_with_usage(_ended(attempt, record, "completed"), event), progress=100.0)
        case Cancelled():
            return _ended(attempt, record, "cancelled")
        case Failed(outcome=outcome) as event if outcome != "not_started":
            ended = _with_usage(_ended(attempt, record, outcome), event)
            return replace(ended, error=event.error, error_type=event.error_type, rule=event.rule)
    return attempt


def _with_usage(attempt: Attempt, event: Completed | Failed) -> Attempt:
    return replace(
        attempt,
        memory_used=event.memory_used,
        cpu_used=event.cpu_used,
        temp_used=event.temp_used,
        time_used=event.time_used,
        estimate=event.estimate,
    )


def _ended(attempt: Attempt, record: Recorded, outcome: AttemptOutcome) -> Attempt:
    duration = _seconds(attempt.started_at, record.recorded_at)
    return replace(attempt, ended_at=record.recorded_at, outcome=outcome, duration=duration)


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()
