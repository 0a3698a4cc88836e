"""Makes spans of committed records: a task's life, its waits, attempts and deliveries, all in one trace.

The ids follow from the log, the task and the attempt, so a handler can be given the id of its attempt's span while
the attempt runs. If the sender of the task did not sample its trace, no spans are made.
"""

from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

from ..events import Cancelled, Completed, Failed, Recorded, Retried, Started, TaskState
from ..events.system_events import DeliveryAttempted
from ..events.task_events import is_terminal

T = TypeVar("T")

SpanKind: TypeAlias = Literal["internal", "producer", "consumer", "client"]
_REMEMBERED = 10_000
"""The most tasks whose last start, and whose last retry by hand, is remembered."""
_SAMPLED = 1


class Trace(NamedTuple):
    """The trace of a task."""

    trace_id: str
    parent: str
    """The sender's span; empty when the task came without one."""
    sampled: bool


class TraceSpan(msgspec.Struct, frozen=True, kw_only=True):
    """One span. Ids in hex."""

    name: str
    trace_id: str
    span_id: str
    parent: str
    kind: SpanKind
    began: datetime
    ended: datetime
    attributes: dict[str, str | int | bool]
    error: str = ""
    """The type of the error, if the span's work failed."""


class Delivery(NamedTuple):
    """A delivery under way."""

    trace: Trace
    span_id: str
    parent: str
    kind: str
    """The task's type."""
    event: str
    """The event that the notice reports."""
    began: datetime


class Seen(NamedTuple):
    """A record, the task after it, and since when the task waited only for free resources."""

    record: Recorded
    task: TaskState | None
    queued_at: datetime | None
    delivery: Delivery | None = None


def trace_of(log: str, task_id: int, traceparent: str) -> Trace:
    """Return the trace that the sender began, or the task's own trace."""
    if not traceparent:
        return Trace(_id(32, log, task_id), "", sampled=True)
    _, trace_id, parent, flags = traceparent.split("-")[:4]
    return Trace(trace_id, parent, sampled=bool(int(flags, 16) & _SAMPLED))


def life_id(log: str, task_id: int, life: int) -> str:
    """Return the id of the span of a life."""
    return _id(16, log, task_id, "life", life)


def attempt_id(log: str, task_id: int, attempt: int) -> str:
    """Return the id of the span of an attempt."""
    return _id(16, log, task_id, "attempt", attempt)


def traceparent(trace: Trace, span_id: str) -> str:
    """Return the W3C trace context for calls made within a span."""
    return f"00-{trace.trace_id}-{span_id}-{'01' if trace.sampled else '00'}"


def _id(digits: int, *parts: object) -> str:
    return sha256("/".join(map(str, parts)).encode()).hexdigest()[:digits]


class Spans:
    """Makes spans of records, given in the order of the log. `log`: the log's unique id."""

    def __init__(self, log: str) -> None:
        self._log = log
        self._attempts: dict[int, tuple[int, datetime]] = {}
        """Task → the attempt that began last, and when it began."""
        self._lives: dict[int, datetime] = {}
        """Task → when it was last retried by hand."""

    def of(self, seen: Seen) -> Iterator[TraceSpan]:
        """Yield the spans that end with the record."""
        record, task = seen.record, seen.task
        if isinstance(record.event, DeliveryAttempted):
            if seen.delivery is not None and seen.delivery.trace.sampled:
                yield _delivered(seen.delivery, record, record.event)
            return
        if task is None:
            return
        trace = trace_of(self._log, task.id, task.spec.traceparent)
        if trace.sampled:
            yield from self._of_task(record, task, trace, seen.queued_at)

    def _of_task(
        self, record: Recorded, task: TaskState, trace: Trace, queued_at: datetime | None
    ) -> Iterator[TraceSpan]:
        event, at = record.event, record.recorded_at
        match event:
            case Retried(cause="manual"):
                _remember(self._lives, task.id, at)
            case Started():
                _remember(self._attempts, task.id, (record.attempt, at))
                began = at if queued_at is None else min(queued_at, at)
                span_id = _id(16, self._log, task.id, "wait", record.attempt)
                yield self._span("wait", "internal", record, task, trace, span_id, began)
            case Completed():
                yield self._attempt(record, task, trace, "completed", "")
            case Failed() if record.attempt and event.outcome != "not_started":
                yield self._attempt(record, task, trace, event.outcome, event.error_type or event.outcome)
            case Cancelled(attempt_running=True):
                yield self._attempt(record, task, trace, "cancelled", "")
        if is_terminal(event):
            began = self._lives.pop(task.id, task.created_at if record.life == 1 else at)
            status = {Completed: "completed", Cancelled: "cancelled"}.get(type(event), "failed")
            error = (event.error_type or event.outcome) if isinstance(event, Failed) else ""
            span_id = life_id(self._log, task.id, record.life)
            yield self._span("task", "consumer", record, task, trace, span_id, began, error=error, status=status)

    def _attempt(self, record: Recorded, task: TaskState, trace: Trace, outcome: str, error: str) -> TraceSpan:
        attempt, began = self._attempts.pop(task.id, (0, record.recorded_at))
        if attempt != record.attempt:  # the attempt began before this service did
            began = task.started_at if task.started_at and task.attempt == record.attempt else record.recorded_at
        span_id = attempt_id(self._log, task.id, record.attempt)
        return self._span("attempt", "internal", record, task, trace, span_id, began, error=error, outcome=outcome)

    def _span(
        self,
        name: str,
        kind: SpanKind,
        record: Recorded,
        task: TaskState,
        trace: Trace,
        span_id: str,
        began: datetime,
        *,
        error: str = "",
        **more: str,
    ) -> TraceSpan:
        attributes: dict[str, str | int | bool] = {
            "tasktrail.task.id": task.id,
            "tasktrail.task.type": task.spec.type,
            "tasktrail.task.life": record.life,
            "tasktrail.position": record.position,
            **{f"tasktrail.{key}": value for key, value in more.items()},
        }
        if record.attempt and name != "task":
            attributes["tasktrail.attempt"] = record.attempt
        return TraceSpan(
            name=f"{name} {task.spec.type}",
            trace_id=trace.trace_id,
            span_id=span_id,
            parent=trace.parent if name == "task" else life_id(self._log, task.id, record.life),
            kind=kind,
            began=min(began, record.recorded_at),
            ended=record.recorded_at,
            attributes=attributes,
            error=error,
        )


def _delivered(delivery: Delivery, record: Recorded, event: DeliveryAttempted) -> TraceSpan:
    return TraceSpan(
        name=f"deliver {event.channel}",
        trace_id=delivery.trace.trace_id,
        span_id=delivery.span_id,
        parent=delivery.parent,
        kind="client",
        began=min(delivery.began, record.recorded_at),
        ended=record.recorded_at,
        attributes={
            "tasktrail.task.id": event.task_id,
            "tasktrail.task.type": delivery.kind,
            "tasktrail.position": record.position,
            "tasktrail.notice.id": event.notice_id,
            "tasktrail.notice.channel": event.channel,
            "tasktrail.notice.event": delivery.event,
            "tasktrail.notice.final": event.final,
        },
        error="" if event.ok else "given_up" if event.final else "failed",
    )


def _remember(known: dict[int, T], task_id: int, value: T) -> None:
    known.pop(task_id, None)
    known[task_id] = value
    if len(known) > _REMEMBERED:
        del known[next(iter(known))]
