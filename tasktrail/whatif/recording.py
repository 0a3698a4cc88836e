"""A recorded log in the form in which it can be replayed: the messages from outside, the attempts, and the timeline.

The log does not hold everything that wakes a Scheduler: the executor's capacity, samples of the machine, the moment at
which a stopped attempt is gone, and the lateness of a timer are missing. Some of this can be seen in the log, because a
task was started then. Such evidence is used to know when the Scheduler looked, never to know what it decided.
"""

from bisect import bisect_left
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from ..actors.core.messages import Boot, Close, Drain, Intake, Jumped, Message, Submit
from ..events import (
    AdjustTask,
    Cancelled,
    CancelTask,
    Checkpointed,
    Command,
    Completed,
    Created,
    CreateTask,
    Failed,
    Recorded,
    Retried,
    RetryTask,
    Started,
    StartTask,
)
from ..events.commands import DrainNode, DrainQueue, PauseQueue, ResumeQueue, SetLimits, UndrainNode
from ..events.reports import AttemptEnd, CapacityChanged
from ..events.system_events import (
    LOCAL,
    Adjusted,
    ClockJumped,
    LimitsChanged,
    NodeDrainEnded,
    NodeDrainStarted,
    NodeJoined,
    QueuePaused,
    QueueResumed,
    ServiceStarted,
    ServiceStopped,
)
from ..events.task_events import Estimated
from .executor import GONE_WITHIN, RecordedAttempt, RecordedAttempts
from .timeline import LifeKey, Timeline

LATE = timedelta(seconds=1)
"""A timer is assumed to be as late as the log shows, up to this."""
_STEP = 2
"""The difference between the orders of two neighbouring records."""


class ServiceKilled(msgspec.Struct, frozen=True):
    """The service was killed. Nothing happened until the next one started."""


class StartExpected(msgspec.Struct, frozen=True):
    """The log has a start here, soon after an attempt was asked to stop."""

    attempt: int


class WorkersReady(msgspec.Struct, frozen=True):
    """All workers are ready."""


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A message from outside. `joined`: it was handled together with the next one, before anything was started."""

    at: datetime
    order: int
    """Sorts arrivals of one moment: twice the position, one less or one more for an arrival between two records."""
    message: Message | ServiceKilled | WorkersReady | StartExpected
    task_id: int = 0
    joined: bool = False


class Recording:
    """A log, prepared to be replayed.

    Records before its beginning are only folded; records after its end only show how attempts ended.
    """

    def __init__(self) -> None:
        self.before: list[Recorded] = []
        self.arrivals: list[Arrival] = []
        self.attempts = RecordedAttempts()
        self.timeline = Timeline()
        """The recorded starts and ends, from the beginning to the end."""
        self.began_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.stopped_at: datetime | None = None
        """When the last service was asked to stop, unless another one came after it."""
        self.records = 0
        self.first_position = self.last_position = 0
        self.types: set[str] = set()
        self.users: set[str] = set()
        """Numbers, as texts."""
        self.labels: set[str] = set()
        self.peak = 0
        """The most attempts that were open at once."""
        self.changes_concurrency = False
        """Whether operators have changed `max_concurrent`."""
        self.has_nodes = False
        """Whether attempts ran on nodes, or tasks require something of one."""
        self.starts_with_a_service = False
        self.up_at_the_beginning = True
        """Whether a service runs when the recording begins, if it begins later than the log."""
        self.gone_after: dict[tuple[int, int], timedelta] = {}
        """Task and attempt → how long after the request to stop it was gone; the first replay finds this out."""
        self.running_at_the_beginning: set[tuple[int, int]] = set()
        """Task and attempt."""
        self._moments: list[datetime] = []

    def timer_seen_at(self, earliest: datetime, within: timedelta) -> datetime | None:
        """The first moment from `earliest` on at which the log shows that a timer had fired."""
        place = bisect_left(self._moments, earliest)
        if place < len(self._moments) and self._moments[place] <= earliest + within:
            return self._moments[place]
        return None

    def add_timer(self, at: datetime) -> None:
        """The log shows that a timer had fired by then, perhaps late."""
        if not self._moments or self._moments[-1] < at:
            self._moments.append(at)

    def arrive(self, arrival: Arrival) -> None:
        """Add a message from outside."""
        before = self.arrivals[-1] if self.arrivals else None
        if before is not None and _in_one_step(before, arrival):
            self.arrivals[-1] = msgspec.structs.replace(before, joined=True)
        self.arrivals.append(arrival)


def _in_one_step(one: Arrival, other: Arrival) -> bool:
    """Whether the two were handled together: nothing is recorded between them."""
    if one.at != other.at or other.order - one.order != _STEP:
        return False
    if not isinstance(one.message, Submit) or not isinstance(other.message, Submit):
        return False
    kinds = {type(one.message.command), type(other.message.command)}
    return kinds in ({CreateTask}, {CancelTask})


# --- messages from outside ---

_THE_SERVICE = frozenset({"scheduler", "worker", "recovery"})
_OF_CREATED = tuple(name for name in CreateTask.__struct_fields__ if name in Created.__struct_fields__)
_OF_LIMITS = tuple(name for name in SetLimits.__struct_fields__ if name in LimitsChanged.__struct_fields__)
_NO_INTAKE = Intake()


def from_outside(record: Recorded) -> bool:
    """Whether a person or a program caused the record, and not the service itself."""
    return record.causation_id.startswith("command:") or record.actor not in _THE_SERVICE


def message_behind(record: Recorded) -> Message | None:
    """The message that led to a record; None if the Scheduler decided it by itself."""
    event = record.event
    match event:
        case Created():
            return _creation(event, record.position)
        case ServiceStarted():
            return Boot(
                version=event.version,
                epoch=event.epoch,
                pid=event.pid,
                host=event.host,
                accepted_loss=event.accepted_loss,
                rebuilt_indexes=event.rebuilt_indexes,
                schema=event.schema,
                forms=event.forms,
                actor=record.actor,
                reason=record.reason,
            )
        case ServiceStopped():
            return Close()
    command = _command(record) if from_outside(record) else None
    return None if command is None else Submit(command, _NO_INTAKE, record.position)


def jump_of(record: Recorded, before: Recorded | None) -> ClockJumped | None:
    """Return how far the log's time jumps with the record; None if it does not. Setting a clock back is no jump."""
    if not isinstance(record.event, ClockJumped):
        return None
    shown = record.event.shown if before is None else max(record.event.shown, before.recorded_at)
    return ClockJumped(shown=shown, shows=record.recorded_at) if shown < record.recorded_at else None


def _creation(event: Created, position: int) -> Submit:
    """Return the command behind a task. Tasks of schedules come as recorded; the schedules are not evaluated again."""
    event = as_played(event)
    command = CreateTask(**{name: getattr(event, name) for name in _OF_CREATED})
    estimate = Estimated(memory=event.estimated_memory, temp=event.estimated_temp, seconds=event.estimated_time)
    # The check that the output was free was made at the time. In the replay its holder may end later.
    return Submit(
        replace(command, resumable=None, overwrite=True),
        Intake(can_resume=event.resumable, estimate=estimate),
        position,
    )


def as_played(event: Created) -> Created:
    """Return the event without limits on silence, key, and requirements of a node.

    Replayed attempts report nothing, so attempts that were ended for silence end as recorded. The check that the key
    was free was made at the time; in the replay its holder may end later, and the same tasks have to be compared. Free
    resources of nodes are not recorded, so one machine has all the workers.
    """
    silent = event.heartbeat_timeout is None and event.no_progress_timeout is None
    if silent and not event.unique and not event.requires:
        return event
    return replace(event, heartbeat_timeout=None, no_progress_timeout=None, unique="", requires={})


def _command(record: Recorded) -> Command | None:
    event = record.event
    match event:
        case Started():
            return StartTask(task_id=record.task_id)
        case Cancelled():
            return CancelTask(task_id=record.task_id)
        case Retried(cause="manual", due_at=due_at):
            delay = 0.0 if due_at is None else max(0.0, (due_at - record.recorded_at).total_seconds())
            return RetryTask(task_id=record.task_id, force=True, delay=delay)
        case Adjusted():
            return AdjustTask(
                task_id=event.task_id, priority=event.priority, scheduled_for=event.scheduled_for, held=event.held
            )
        case QueuePaused():
            return DrainQueue() if event.drain else PauseQueue(type=event.type, user_id=event.user_id)
        case QueueResumed():
            return ResumeQueue(type=event.type, user_id=event.user_id)
        case NodeDrainStarted(node=name) if name == LOCAL:
            return DrainNode(node=name)
        case NodeDrainEnded(node=name) if name == LOCAL:
            return UndrainNode(node=name)
        case LimitsChanged():
            return SetLimits(**{name: getattr(event, name) for name in _OF_LIMITS})
        case _:
            return None


# --- the number of workers ---


WITHIN = timedelta(seconds=5)
"""For this long after its start, a service may still be getting its workers ready."""


class CapacityTrace:
    """Finds out when workers became ready after a service had started, which is not recorded.

    A start that stands alone shows that a worker had become ready, for nothing else woke the Scheduler. A start that
    came together with something else shows that a worker was ready before. Without any such start, all workers are
    assumed to have been ready when the service started.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._since: tuple[datetime, int] | None = None
        """When the last known worker became ready; None once all are ready."""
        self._until: datetime | None = None
        self._slots = 0
        self._together_at: datetime | None = None

    def booted(self, record: Recorded) -> None:
        """A service has started, and no worker is ready yet."""
        self.over()
        self._since = (record.recorded_at, 2 * record.position + 1)
        self._until = record.recorded_at + WITHIN
        self._slots = 0
        self._together_at = None

    def started(self, record: Recorded, running: int, *, alone: bool) -> None:
        """A task was started, and `running` attempts are open now."""
        if self._since is None or self._until is None:
            return
        if record.recorded_at > self._until:
            self.over()
            return
        if alone:
            self._together_at = record.recorded_at
        if running <= self._slots:
            return
        if self._together_at != record.recorded_at:
            self.over()
            return
        self._slots = running
        self._since = (record.recorded_at, 2 * record.position - 1)
        self._recording.arrive(Arrival(*self._since, CapacityChanged(running)))

    def over(self) -> None:
        """Assume that all other workers became ready together with the last one that was seen."""
        if self._since is not None:
            at, order = self._since
            self._recording.arrive(Arrival(at, order, WorkersReady()))
            self._since = None


# --- reading the log ---


DRAINED_WITHIN = timedelta(seconds=2)
"""A service that is asked to stop has stopped an attempt or itself within this time."""
_SILENCE = frozenset({"HeartbeatTimeout", "NoProgressTimeout"})
"""Error types of attempts that were ended for silence. These end as recorded, as replayed attempts report nothing."""
Bound = int | datetime | None
"""A position, a time, or no bound."""


class RecordingBuilder:
    """Reads every record of the log, in order, and makes the recording.

    Args:
        begin: the first position or time that is replayed; None begins with the first record.
        end: the last one; None goes to the last record, and on until nothing more happens.
    """

    def __init__(self, begin: Bound = None, end: Bound = None) -> None:
        self._recording = Recording()
        self._attempts = _AttemptReader(self._recording)
        self._begin = begin
        self._end = end
        self._last: Recorded | None = None
        self._up = False
        self._draining_since: datetime | None = None
        self._drain_after: Recorded | None = None
        self._stop_asked_at: datetime | None = None
        self._timers = _Timers()
        self._capacity = CapacityTrace(self._recording)

    def read(self, record: Recorded) -> None:
        """Read the next record."""
        recording = self._recording
        if self._last is None:
            recording.starts_with_a_service = isinstance(record.event, ServiceStarted)
        if isinstance(record.event, Created | NodeJoined):
            recording.has_nodes |= isinstance(record.event, NodeJoined) or bool(record.event.requires)
        if isinstance(record.event, LimitsChanged):
            recording.changes_concurrency |= record.event.max_concurrent is not None
        killed = isinstance(record.event, ServiceStarted) and self._up and self._last is not None
        if recording.began_at is None:
            recording.running_at_the_beginning = set(self._attempts.running)
        jump = jump_of(record, self._last)
        if jump is not None:
            self._attempts.set_clock(jump.shows - jump.shown)
        self._attempts.read(record, killed_at=self._last.recorded_at if killed and self._last else None)
        if not self._is_beyond(record):
            if self._is_before(record):
                self._fold(record)
            else:
                self._add(record, killed=killed)
        self._last = record

    def _fold(self, record: Recorded) -> None:
        """Fold a record before the beginning. It may also show how many workers were ready."""
        recording = self._recording
        recording.before.append(record)
        recording.timeline.note(record)
        self._up = _is_up(record, before=self._up)
        if isinstance(record.event, ServiceStarted):
            self._capacity.booted(record)
            recording.arrivals.clear()
        elif isinstance(record.event, Started):
            self._capacity.started(record, recording.timeline.running, alone=self._is_first_at_its_time(record))

    def _is_first_at_its_time(self, record: Recorded) -> bool:
        return self._last is None or self._last.recorded_at < record.recorded_at

    def finished(self) -> Recording:
        """The recording of all that was read.

        If the last service was stopped at the end, the replay assumes that it went on. Otherwise everything that takes
        longer in the replay than recorded would be lost.
        """
        recording = self._recording
        self._capacity.over()
        if recording.stopped_at is not None and self._end is None:
            stop = recording.stopped_at
            recording.arrivals = [
                one for one in recording.arrivals if one.at < stop or not isinstance(one.message, Drain | Close)
            ]
        if recording.ended_at is not None:
            recording.timeline.stop(recording.ended_at)
        return recording

    def _is_before(self, record: Recorded) -> bool:
        """Whether the record comes before the beginning, which lies between two times: one decision stays whole."""
        begin, recording = self._begin, self._recording
        if begin is None or recording.began_at is not None:
            return False
        if self._last is not None and recording.before and self._last.recorded_at == record.recorded_at:
            return True
        return record.position < begin if isinstance(begin, int) else record.recorded_at < begin

    def _is_beyond(self, record: Recorded) -> bool:
        """Whether the record comes after the end, which also lies between two times."""
        end, at = self._end, record.recorded_at
        if end is None or at == self._recording.ended_at:
            return False
        return record.position > end if isinstance(end, int) else at > end

    def _add(self, record: Recorded, *, killed: bool) -> None:
        recording, at = self._recording, record.recorded_at
        if recording.began_at is None:
            recording.began_at, recording.first_position = at, record.position
            recording.up_at_the_beginning = self._up or not recording.starts_with_a_service
            if recording.before:
                recording.timeline.begin_here(at)
        recording.ended_at, recording.last_position = at, record.position
        recording.records += 1
        self._see_the_service(record, killed=killed)
        recording.timeline.note(record)
        recording.peak = max(recording.peak, recording.timeline.running)
        alone = self._is_first_at_its_time(record)
        if alone and self._timers.explain(record):
            recording.add_timer(at)
        if isinstance(record.event, Started):
            self._capacity.started(record, recording.timeline.running, alone=alone)
            if self._stop_asked_at is not None and at <= self._stop_asked_at + GONE_WITHIN:
                recording.arrive(Arrival(at, 2 * record.position, StartExpected(record.attempt), record.task_id))
        elif _stops_an_attempt(record):
            self._stop_asked_at = at
        self._timers.note(record)
        jump = jump_of(record, self._last)
        if jump is not None:
            self._stop_asked_at = self._stop_asked_at and self._stop_asked_at + (jump.shows - jump.shown)
            recording.arrive(Arrival(jump.shown, 2 * record.position, Jumped(jump)))
        message = message_behind(record)
        if message is not None:
            recording.arrive(Arrival(at, 2 * record.position, message, record.task_id))

    def _see_the_service(self, record: Recorded, *, killed: bool) -> None:
        recording, at = self._recording, record.recorded_at
        match record.event:
            case ServiceStarted():
                if killed and self._last is not None:
                    recording.arrive(Arrival(self._last.recorded_at, 2 * self._last.position + 1, ServiceKilled()))
                self._draining_since = recording.stopped_at = None
                self._drain_after = record
                self._capacity.booted(record)
            case ServiceStopped():
                self._drain(at)
                recording.stopped_at = self._draining_since
            case Retried(cause="recovery") if record.actor == "worker":
                self._drain(at)
            case Started() | Created() | Failed(outcome="timed_out"):
                self._drain_after = record
        self._up = _is_up(record, before=self._up)

    def _drain(self, seen_at: datetime) -> None:
        """The service was asked to stop. The moment is not recorded, but nothing was started or created after it."""
        if self._draining_since is None and self._drain_after is not None:
            last = self._drain_after
            since = max(last.recorded_at, seen_at - DRAINED_WITHIN)
            self._draining_since = since
            order = 2 * last.position + 1 if since == last.recorded_at else 0
            self._recording.arrive(Arrival(since, order, Drain()))


class _AttemptReader:
    """Collects what each attempt did."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._open: dict[int, tuple[RecordedAttempt, str]] = {}
        self._types: dict[int, str] = {}
        self._retries: dict[int, int] = {}
        self._max_retries: dict[int, int] = {}
        self._killed_at: datetime | None = None
        self._ended: RecordedAttempt | None = None
        self.running: set[tuple[int, int]] = set()
        """Task and attempt of all open attempts."""

    def read(self, record: Recorded, killed_at: datetime | None) -> None:
        if record.actor != "recovery":
            self._killed_at = killed_at
        event, task_id = record.event, record.task_id
        match event:
            case Created():
                self._types[task_id] = event.type
                self._max_retries[task_id] = event.max_retries
                self._recording.types.add(event.type)
                self._recording.users.add(str(event.user_id))
                self._recording.labels.add(event.label)
            case Started():
                self._begin(record, event, (task_id, record.life))
            case Checkpointed() if task_id in self._open:
                attempt, _ = self._open[task_id]
                attempt.saves.append((record.recorded_at - attempt.started_at, record.position))
            case Completed() | Failed() | Cancelled():
                self._end(record, event)
            case Retried():
                self._retry(task_id, event)

    def set_clock(self, by: timedelta) -> None:
        """The wall clock was put forward; no attempt has run longer because of it."""
        for attempt, _ in self._open.values():
            attempt.started_at += by

    def _begin(self, record: Recorded, event: Started, key: LifeKey) -> None:
        attempt = RecordedAttempt(started_at=record.recorded_at, resumed=event.resumed, saves=[])
        self._recording.attempts.add(key, attempt)
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
                self._recording.attempts.learn(task_type, attempt.ran)
            case Failed(outcome="failed" | "lost"):
                self._fail(attempt, record.task_id, event)
            case Failed(outcome="timed_out") if event.error_type in _SILENCE:
                self._fail(attempt, record.task_id, event)
            case Failed(outcome="timed_out"):
                attempt.cut = "timed_out"
            case Cancelled():
                attempt.cut = "cancelled"

    def _fail(self, attempt: RecordedAttempt, task_id: int, event: Failed) -> None:
        attempt.cut, attempt.error, attempt.error_type = "", event.error, event.error_type
        attempt.exit_code, attempt.memory_used = event.exit_code, event.memory_used
        attempt.end = "lost" if event.outcome == "lost" else self._kind_of_failure(task_id, event)

    def _retry(self, task_id: int, event: Retried) -> None:
        if event.cause in ("rule", "manual"):
            self._retries[task_id] = self._retries.get(task_id, 0) + 1
        if event.estimate is None or self._ended is None:
            return
        if event.cause == "estimate":
            self._ended.estimate = event.estimate
            self._ended.cut, self._ended.end = "", "outgrown"
        else:
            self._ended.memory_next = event.estimate.memory

    def _kind_of_failure(self, task_id: int, event: Failed) -> AttemptEnd:
        """Distinguish a rejection, which was final although retries were left, from a failure."""
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
    """Remembers from when on tasks may start, if that is later than their creation."""

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
        """Whether a timer led to the record."""
        if _timed_out(record) or (isinstance(record.event, Failed) and record.event.outcome == "not_started"):
            return True
        due = self._due.get(record.task_id)
        return isinstance(record.event, Started) and due is not None and due <= record.recorded_at <= due + LATE
