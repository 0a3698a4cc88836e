"""Makes a tape of a log, record by record."""

from datetime import datetime, timedelta

from ...events import Cancelled, Checkpointed, Completed, Created, Failed, Recorded, Retried, Started
from ...events.system_events import Adjusted, LimitsChanged, ServiceStarted, ServiceStopped
from ...handlers.process.frames import AttemptEnd
from ..core.messages import Close, Drain, Jumped
from .attempts import Attempt
from .capacity import CapacityTrace
from .course import LifeKey
from .hands import GONE_WITHIN
from .stimuli import jump_of, stimulus
from .tape import LATE, Arrival, Expected, Killed, Tape

DRAINED_WITHIN = timedelta(seconds=2)
"""A service that is asked to stop shows it by then: an attempt is stopped, or the service is."""
_SILENCE = frozenset({"HeartbeatTimeout", "NoProgressTimeout"})
"""What ended because nothing was heard of it ends as it did: played attempts never say anything."""
Bound = int | datetime | None
"""A position, a time, or none."""


class Reader:
    """Give it every record of the log, in order, then ask for the tape.

    Args:
        begin: the first position or time that is played; none: from the first record.
        end: the last one; none: to the last record, and on until nothing more happens.
    """

    def __init__(self, begin: Bound = None, end: Bound = None) -> None:
        self._tape = Tape()
        self._attempts = _AttemptReader(self._tape)
        self._begin = begin
        self._end = end
        self._last: Recorded | None = None
        self._up = False
        self._draining_since: datetime | None = None
        self._drain_after: Recorded | None = None
        self._stop_asked_at: datetime | None = None
        self._timers = _Timers()
        self._capacity = CapacityTrace(self._tape)

    def read(self, record: Recorded) -> None:
        """The next record."""
        tape = self._tape
        if self._last is None:
            tape.starts_with_a_service = isinstance(record.event, ServiceStarted)
        if isinstance(record.event, LimitsChanged):
            tape.changes_concurrency |= record.event.max_concurrent is not None
        killed = isinstance(record.event, ServiceStarted) and self._up and self._last is not None
        if tape.began_at is None:
            tape.running_at_the_beginning = set(self._attempts.running)
        jump = jump_of(record, self._last)
        if jump is not None:
            self._attempts.set_clock(jump.shows - jump.shown)
        self._attempts.read(record, killed_at=self._last.recorded_at if killed and self._last else None)
        if not self._is_beyond(record):
            if self._is_before(record):
                self._fold(record)
            else:
                self._take(record, killed=killed)
        self._last = record

    def _fold(self, record: Recorded) -> None:
        """What lies before the beginning. How many workers were ready by then shows here, too."""
        tape = self._tape
        tape.before.append(record)
        tape.course.note(record)
        self._up = _is_up(record, before=self._up)
        if isinstance(record.event, ServiceStarted):
            self._capacity.booted(record)
            tape.arrivals.clear()
        elif isinstance(record.event, Started):
            self._capacity.started(record, tape.course.running, alone=self._stands_alone(record))

    def _stands_alone(self, record: Recorded) -> bool:
        return self._last is None or self._last.recorded_at < record.recorded_at

    def finished(self) -> Tape:
        """The tape of all that was read.

        When the last service stopped in the end, it is taken to have gone on: otherwise whatever would take longer
        than it did would come to nothing.
        """
        tape = self._tape
        self._capacity.over()
        if tape.stopped_at is not None and self._end is None:
            stop = tape.stopped_at
            tape.arrivals = [
                one for one in tape.arrivals if one.at < stop or not isinstance(one.message, Drain | Close)
            ]
        if tape.ended_at is not None:
            tape.course.stop(tape.ended_at)
        return tape

    def _is_before(self, record: Recorded) -> bool:
        """A tape begins with a moment, never within one: what belongs to one decision stays together."""
        begin, tape = self._begin, self._tape
        if begin is None or tape.began_at is not None:
            return False
        if self._last is not None and tape.before and self._last.recorded_at == record.recorded_at:
            return True
        return record.position < begin if isinstance(begin, int) else record.recorded_at < begin

    def _is_beyond(self, record: Recorded) -> bool:
        """Likewise, a tape ends with a moment."""
        end, at = self._end, record.recorded_at
        if end is None or at == self._tape.ended_at:
            return False
        return record.position > end if isinstance(end, int) else at > end

    def _take(self, record: Recorded, *, killed: bool) -> None:
        tape, at = self._tape, record.recorded_at
        if tape.began_at is None:
            tape.began_at, tape.first_position = at, record.position
            tape.up_at_the_beginning = self._up or not tape.starts_with_a_service
            if tape.before:
                tape.course.begin_here(at)
        tape.ended_at, tape.last_position = at, record.position
        tape.records += 1
        self._see_the_service(record, killed=killed)
        tape.course.note(record)
        tape.peak = max(tape.peak, tape.course.running)
        alone = self._stands_alone(record)
        if alone and self._timers.explain(record):
            tape.saw(at)
        if isinstance(record.event, Started):
            self._capacity.started(record, tape.course.running, alone=alone)
            if self._stop_asked_at is not None and at <= self._stop_asked_at + GONE_WITHIN:
                tape.arrive(Arrival(at, 2 * record.position, Expected(record.attempt), record.task_id))
        elif _stops_an_attempt(record):
            self._stop_asked_at = at
        self._timers.note(record)
        jump = jump_of(record, self._last)
        if jump is not None:
            self._stop_asked_at = self._stop_asked_at and self._stop_asked_at + (jump.shows - jump.shown)
            tape.arrive(Arrival(jump.shown, 2 * record.position, Jumped(jump)))
        message = stimulus(record)
        if message is not None:
            tape.arrive(Arrival(at, 2 * record.position, message, record.task_id))

    def _see_the_service(self, record: Recorded, *, killed: bool) -> None:
        tape, at = self._tape, record.recorded_at
        match record.event:
            case ServiceStarted():
                if killed and self._last is not None:
                    tape.arrive(Arrival(self._last.recorded_at, 2 * self._last.position + 1, Killed()))
                self._draining_since = tape.stopped_at = None
                self._drain_after = record
                self._capacity.booted(record)
            case ServiceStopped():
                self._drain(at)
                tape.stopped_at = self._draining_since
            case Retried(cause="recovery") if record.actor == "worker":
                self._drain(at)
            case Started() | Created() | Failed(outcome="timed_out"):
                self._drain_after = record
        self._up = _is_up(record, before=self._up)

    def _drain(self, seen_at: datetime) -> None:
        """The service was asked to stop. When is not recorded: nothing was started or created since."""
        if self._draining_since is None and self._drain_after is not None:
            last = self._drain_after
            since = max(last.recorded_at, seen_at - DRAINED_WITHIN)
            self._draining_since = since
            order = 2 * last.position + 1 if since == last.recorded_at else 0
            self._tape.arrive(Arrival(since, order, Drain()))


class _AttemptReader:
    """What each attempt did."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._open: dict[int, tuple[Attempt, str]] = {}
        self._types: dict[int, str] = {}
        self._retries: dict[int, int] = {}
        self._max_retries: dict[int, int] = {}
        self._killed_at: datetime | None = None
        self._ended: Attempt | None = None
        self.running: set[tuple[int, int]] = set()
        """Task and attempt of all that is open."""

    def read(self, record: Recorded, killed_at: datetime | None) -> None:
        if record.actor != "recovery":
            self._killed_at = killed_at
        event, task_id = record.event, record.task_id
        match event:
            case Created():
                self._types[task_id] = event.type
                self._max_retries[task_id] = event.max_retries
                self._tape.types.add(event.type)
            case Started():
                self._begin(record, event, (task_id, record.life))
            case Checkpointed() if task_id in self._open:
                attempt, _ = self._open[task_id]
                attempt.saves.append((record.recorded_at - attempt.started_at, record.position))
            case Completed() | Failed() | Cancelled():
                self._end(record, event)
            case Retried(cause="rule" | "manual"):
                self._retries[task_id] = self._retries.get(task_id, 0) + 1
            case Retried(cause="estimate") if self._ended is not None:
                self._ended.cut, self._ended.end = "", "outgrown"

    def set_clock(self, by: timedelta) -> None:
        """The wall clock was put forward: what runs has not run longer for that."""
        for attempt, _ in self._open.values():
            attempt.started_at += by

    def _begin(self, record: Recorded, event: Started, key: LifeKey) -> None:
        attempt = Attempt(started_at=record.recorded_at, resumed=event.resumed, saves=[])
        self._tape.attempts.add(key, attempt)
        self.running.add((record.task_id, record.attempt))
        self._open[record.task_id] = (attempt, self._types[record.task_id])

    def _end(self, record: Recorded, event: Completed | Failed | Cancelled) -> None:
        known = self._open.pop(record.task_id, None)
        if known is None:
            return
        attempt, task_type = known
        self.running.discard((record.task_id, record.attempt))
        self._ended = attempt
        attempt.position = record.position
        attempt.ran = max(attempt.ran, (self._killed_at or record.recorded_at) - attempt.started_at)
        if not isinstance(event, Cancelled):
            attempt.estimate = event.estimate
        match event:
            case Completed():
                attempt.cut = ""
                self._tape.attempts.learn(task_type, attempt.ran)
            case Failed(outcome="failed" | "lost"):
                self._fail(attempt, record.task_id, event)
            case Failed(outcome="timed_out") if event.error_type in _SILENCE:
                self._fail(attempt, record.task_id, event)
            case Failed(outcome="timed_out"):
                attempt.cut = "timed_out"
            case Cancelled():
                attempt.cut = "cancelled"

    def _fail(self, attempt: Attempt, task_id: int, event: Failed) -> None:
        attempt.cut, attempt.error, attempt.error_type = "", event.error, event.error_type
        attempt.exit_code = event.exit_code
        attempt.end = "lost" if event.outcome == "lost" else self._kind_of_failure(task_id, event)

    def _kind_of_failure(self, task_id: int, event: Failed) -> AttemptEnd:
        """A failure that was final with retries left was one that nobody wanted to try again."""
        left = self._retries.get(task_id, 0) < self._max_retries.get(task_id, 0)
        return "rejected" if event.final and left else "failed"


def _is_up(record: Recorded, *, before: bool) -> bool:
    match record.event:
        case ServiceStarted():
            return True
        case ServiceStopped():
            return False
        case _:
            return before


def _stops_an_attempt(record: Recorded) -> bool:
    event = record.event
    return (isinstance(event, Cancelled) and event.attempt_running) or _timed_out(record)


def _timed_out(record: Recorded) -> bool:
    return isinstance(record.event, Failed) and record.event.outcome == "timed_out"


class _Timers:
    """Since when a task may start, where that is later than its creation."""

    def __init__(self) -> None:
        self._due: dict[int, datetime] = {}

    def note(self, record: Recorded) -> None:
        match record.event:
            case Created(scheduled_for=datetime() as at) | Retried(due_at=datetime() as at):
                self._due[record.task_id] = at
            case Adjusted(scheduled_for=datetime() as at):
                self._due[record.event.task_id] = at
            case Retried():
                self._due.pop(record.task_id, None)

    def explain(self, record: Recorded) -> bool:
        """Whether the record is what a timer leads to."""
        if _timed_out(record) or (isinstance(record.event, Failed) and record.event.outcome == "not_started"):
            return True
        due = self._due.get(record.task_id)
        return isinstance(record.event, Started) and due is not None and due <= record.recorded_at <= due + LATE
