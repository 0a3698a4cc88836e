"""The history of one task, for a person: a line for each event, and its attempts with their outcomes."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from ..events import Cancelled, Created, Failed, Recorded, Retried, Started, TaskState
from ..events.log.event_log import ReadableLog
from ..events.recorded import EVENT_TAGS
from ..events.state import fold
from .attempts import Attempt
from .attempts import attempts as attempts_of
from .describe import describe
from .outbox import Recall


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
    """The whole history of one task."""

    task_id: int
    attempts: tuple[Attempt, ...]
    lines: tuple[Line, ...]
    waited: float
    """Seconds that it waited in all: before attempts, before ends without an attempt, and until now."""
    ran: float
    """Seconds in all attempts."""
    still: Literal["waits", "runs", ""]
    """Whether it waits or runs now; empty for a task that is over."""


def history(task_id: int, records: Sequence[Recorded], now: datetime) -> TaskHistory:
    """The history of a task from its `records`, in order of position. What goes on counts until `now`."""
    attempts = tuple(attempts_of(records))
    waited, waits_since = _waited(records)
    runs_since = attempts[-1].started_at if attempts and attempts[-1].outcome is None else None
    return TaskHistory(
        task_id=task_id,
        attempts=attempts,
        lines=_lines(records),
        waited=waited + _seconds_since(now, waits_since),
        ran=sum(attempt.duration or 0.0 for attempt in attempts) + _seconds_since(now, runs_since),
        still="waits" if waits_since else "runs" if runs_since else "",
    )


def _seconds_since(now: datetime, since: datetime | None) -> float:
    """Seconds since then; never negative, as the clock of the asking process may be slow."""
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


def _waited(records: Iterable[Recorded]) -> tuple[float, datetime | None]:
    """Seconds of all finished waits, and since when the task waits now, if it does."""
    waited, since = 0.0, None
    for record in records:
        match record.event:
            case Created() | Retried():
                since = record.recorded_at
            case Started() | Failed() | Cancelled() if since is not None:
                waited += _seconds(since, record.recorded_at)
                since = None
    return waited, since


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()


def recall_from(log: ReadableLog) -> Recall:
    """The `Recall` of an `Outbox` from this log: for forgotten tasks, and for notices whose state it does not keep."""

    def recall(task_id: int, position: int) -> tuple[TaskState, Recorded] | None:
        records = [record for record in log.read_task(task_id, adjusted=True) if record.position <= position]
        state = fold(task_id, ((record.event, record.recorded_at) for record in records))  # type: ignore[misc]  # task events and adjustments
        own = [record for record in records if record.task_id == task_id]
        return None if state is None else (state, own[-1])

    return recall
