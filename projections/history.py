"""The history of one task, for a person: a line for each event, and its attempts with what became of each."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

import msgspec
from msgspec.structs import replace

from ..events import (
    Cancelled,
    Checkpointed,
    Completed,
    Created,
    Failed,
    Progressed,
    Recorded,
    Retried,
    Started,
    TaskState,
)
from ..events.log.event_log import ReadableLog
from ..events.recorded import EVENT_TAGS
from ..events.state import fold
from ..events.task_events import AttemptOutcome, Estimated
from .describe import describe
from .outbox import Recall
from .views.rows import SPEAK_OF_A_TASK


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the handler. Times are UTC, spans seconds."""

    number: int
    life: int
    started_at: datetime
    waited: float
    """Since the task was created or went back to the queue."""
    resumed: bool
    worker: str
    effective_priority: float
    ended_at: datetime | None = None
    outcome: AttemptOutcome | None = None
    """None while it runs; afterwards exactly one."""
    duration: float | None = None
    progress: float = 0.0
    checkpoints: int = 0
    error: str = ""
    error_type: str = ""
    rule: str = ""
    memory_used: int = 0
    cpu_used: float = 0.0
    temp_used: int = 0
    time_used: float = 0.0
    estimate: Estimated | None = None
    """What a look into the input led to; none: the one of the task's creation, or of an attempt before."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One event in words."""

    position: int
    recorded_at: datetime
    after: float
    """Seconds since the line before."""
    event: str
    attempt: int
    text: str
    actor: str
    reason: str


class TaskHistory(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one task, in order."""

    task_id: int
    attempts: tuple[Attempt, ...]
    lines: tuple[Line, ...]
    waited: float
    """Seconds that it waited, summed up: before attempts, before ends that came without one, and until now."""
    ran: float
    """Seconds in attempts, summed up."""
    still: Literal["waits", "runs", ""]
    """Which of the two goes on; empty for a task that is over."""


def history(task_id: int, records: Sequence[Recorded], now: datetime) -> TaskHistory:
    """The history of a task from its `records`, in order of position. What goes on is counted until `now`."""
    attempts = _attempts(records)
    waited, waits_since = _waited(records)
    runs_since = attempts[-1].started_at if attempts and attempts[-1].outcome is None else None
    return TaskHistory(
        task_id=task_id,
        attempts=attempts,
        lines=_lines(records),
        waited=waited + _until(now, waits_since),
        ran=sum(attempt.duration or 0.0 for attempt in attempts) + _until(now, runs_since),
        still="waits" if waits_since else "runs" if runs_since else "",
    )


def _until(now: datetime, since: datetime | None) -> float:
    """The clock of the process that asks may be behind."""
    return max(0.0, _seconds(since, now)) if since else 0.0


def _lines(records: Sequence[Recorded]) -> tuple[Line, ...]:
    befores = (records[0], *records) if records else ()
    return tuple(
        Line(
            position=record.position,
            recorded_at=record.recorded_at,
            after=_seconds(before.recorded_at, record.recorded_at),
            event=EVENT_TAGS[type(record.event)],
            attempt=record.attempt,
            text=describe(record.event),
            actor=record.actor,
            reason=record.reason,
        )
        for before, record in zip(befores, records, strict=False)
    )


def _attempts(records: Iterable[Recorded]) -> tuple[Attempt, ...]:
    done: list[Attempt] = []
    running: Attempt | None = None
    queued_at: datetime | None = None
    life = 1
    for record in records:
        match record.event:
            case Created():
                queued_at = record.recorded_at
            case Retried(cause=cause):
                queued_at = record.recorded_at
                life += cause == "manual"
            case Started():
                running = opened(record, record.event, life, queued_at)
            case _ if running is not None:
                running = followed(running, record)
        if running is not None and running.outcome is not None:
            done.append(running)
            running = None
    return (*done, running) if running else tuple(done)


def _waited(records: Iterable[Recorded]) -> tuple[float, datetime | None]:
    """Seconds of all waits that are over, and since when it waits if it does."""
    waited, since = 0.0, None
    for record in records:
        match record.event:
            case Created() | Retried():
                since = record.recorded_at
            case Started() | Failed() | Cancelled() if since is not None:
                waited += _seconds(since, record.recorded_at)
                since = None
    return waited, since


def opened(record: Recorded, event: Started, life: int, queued_at: datetime | None) -> Attempt:
    """The attempt that begins, of a task that went to the queue at that time."""
    return Attempt(
        number=record.attempt,
        life=life,
        started_at=record.recorded_at,
        waited=_seconds(queued_at or record.recorded_at, record.recorded_at),
        resumed=event.resumed,
        worker=event.worker,
        effective_priority=event.effective_priority,
    )


def followed(attempt: Attempt, record: Recorded) -> Attempt:
    """The attempt after an event that fell into it."""
    match record.event:
        case Progressed(progress=progress):
            return replace(attempt, progress=progress)
        case Checkpointed(progress=progress):
            reached = attempt.progress if progress is None else progress
            return replace(attempt, progress=reached, checkpoints=attempt.checkpoints + 1)
        case Completed() as event:
            return replace(_used(_ended(attempt, record, "completed"), event), progress=100.0)
        case Cancelled():
            return _ended(attempt, record, "cancelled")
        case Failed(outcome=outcome) as event if outcome != "not_started":
            ended = _used(_ended(attempt, record, outcome), event)
            return replace(ended, error=event.error, error_type=event.error_type, rule=event.rule)
    return attempt


def _used(attempt: Attempt, event: Completed | Failed) -> Attempt:
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


def read_stream(log: ReadableLog, task_id: int) -> list[Recorded]:
    """All records that speak of a task, in order of position; empty when there is none."""
    own = log.read_task(task_id) if 0 < task_id < 2**63 else []
    if not own:
        return []
    notes = [record for record in log.read_task(0) if _speaks_of(record, task_id)]
    return sorted((*own, *notes), key=lambda record: record.position)


def recall_from(log: ReadableLog) -> Recall:
    """What an `Outbox` asks the log about a task it has forgotten, or a notice whose state it has not kept."""

    def recall(task_id: int, position: int) -> tuple[TaskState, Recorded] | None:
        records = [record for record in log.read_task(task_id, adjusted=True) if record.position <= position]
        state = fold(task_id, ((record.event, record.recorded_at) for record in records))  # type: ignore[misc]  # task events and adjustments
        own = [record for record in records if record.task_id == task_id]
        return None if state is None else (state, own[-1])

    return recall


def _speaks_of(record: Recorded, task_id: int) -> bool:
    return isinstance(record.event, SPEAK_OF_A_TASK) and record.event.task_id == task_id
