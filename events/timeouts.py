"""The limits on waiting and running. Each has a name, with which the failure's text begins."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from .state import TaskState
from .task_events import Created


class End(msgspec.Struct, frozen=True, order=True):
    """A moment at which a task or an attempt is given up, and what is then recorded."""

    at: datetime
    name: str
    """The field of `Created` that set the limit."""
    error: str
    error_type: str
    final: bool = False
    """No retry may follow, whatever the rules say."""


class Signs(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a running attempt that are not in the log."""

    started_at: datetime
    heard_at: datetime
    """Its last sign of life."""
    moved_at: datetime
    """When its percentage last changed, or its last checkpoint came."""


def waiting_ends(task: TaskState, *, queued_at: datetime | None, life_began_at: datetime | None) -> Iterator[End]:
    """The limits of a waiting task.

    Args:
        task: which.
        queued_at: since when it waits only for room; none while something else holds it back.
        life_began_at: the first start of this life, if it has had one.
    """
    spec = task.spec
    if spec.deadline is not None and task.life == 1 and not task.attempt:
        # It binds the first start only: a retry, by hand or by rule, comes after the promise was kept or broken.
        error = f"deadline: not started by {spec.deadline.isoformat()}"
        yield End(spec.deadline, "deadline", error, "DeadlinePassed", final=True)
    if spec.queue_timeout is not None and queued_at is not None:
        error = f"queue_timeout: waited longer than {spec.queue_timeout:g} s for an attempt"
        yield End(_after(queued_at, spec.queue_timeout), "queue_timeout", error, "QueueTimeout", final=True)
    yield from _total(task, life_began_at)


def attempt_ends(task: TaskState, signs: Signs, life_began_at: datetime | None) -> Iterator[End]:
    """The limits of a running attempt."""
    spec, attempt = task.spec, task.attempt
    if spec.timeout is not None:
        error = f"timeout: attempt {attempt} ran longer than {spec.timeout:g} s"
        yield End(_after(signs.started_at, spec.timeout), "timeout", error, "AttemptTimeout")
    if spec.heartbeat_timeout is not None:
        error = f"heartbeat_timeout: no sign of life of attempt {attempt} for {spec.heartbeat_timeout:g} s"
        yield End(_after(signs.heard_at, spec.heartbeat_timeout), "heartbeat_timeout", error, "HeartbeatTimeout")
    if spec.no_progress_timeout is not None:
        error = f"no_progress_timeout: attempt {attempt} stood still for {spec.no_progress_timeout:g} s"
        yield End(_after(signs.moved_at, spec.no_progress_timeout), "no_progress_timeout", error, "NoProgressTimeout")
    yield from _total(task, life_began_at)


def limits_attempts(spec: Created) -> bool:
    """Whether a running attempt has to be watched at all."""
    limits = (spec.timeout, spec.heartbeat_timeout, spec.no_progress_timeout, spec.total_timeout)
    return any(limit is not None for limit in limits)


def limits_waiting(spec: Created) -> bool:
    """Whether a waiting task has to be watched at all."""
    return spec.deadline is not None or spec.queue_timeout is not None or spec.total_timeout is not None


def _total(task: TaskState, life_began_at: datetime | None) -> Iterator[End]:
    if task.spec.total_timeout is not None and life_began_at is not None:
        error = f"total_timeout: not completed within {task.spec.total_timeout:g} s of the first start"
        at = _after(life_began_at, task.spec.total_timeout)
        yield End(at, "total_timeout", error, "TotalTimeout", final=True)


def _after(at: datetime, seconds: float) -> datetime:
    try:
        return at + timedelta(seconds=seconds)
    except OverflowError:  # older logs may hold moments that are refused today
        return datetime.max.replace(tzinfo=UTC)
