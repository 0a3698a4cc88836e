"""What came to the Scheduler from outside, as messages again: commands of people and programs, made from their facts.

What the Scheduler decided itself (which task starts, what times out, what becomes of a failure) is never among them:
that is what is played.
"""

from msgspec.structs import replace

from ...events import (
    AdjustTask,
    Cancelled,
    CancelTask,
    Command,
    Created,
    CreateTask,
    Recorded,
    Retried,
    RetryTask,
    Started,
    StartTask,
)
from ...events.operator_commands import DrainQueue, PauseQueue, ResumeQueue, SetLimits
from ...events.system_events import (
    Adjusted,
    ClockJumped,
    LimitsChanged,
    QueuePaused,
    QueueResumed,
    ServiceStarted,
    ServiceStopped,
)
from ..core.messages import Boot, Close, Intake, Message, Submit

_THE_SERVICE = frozenset({"scheduler", "worker", "recovery"})
_OF_CREATED = tuple(name for name in CreateTask.__struct_fields__ if name in Created.__struct_fields__)
_ESTIMATES = tuple(
    name for name in Intake.__struct_fields__ if name in Created.__struct_fields__ and name.startswith("estimated_")
)
_OF_LIMITS = tuple(name for name in SetLimits.__struct_fields__ if name in LimitsChanged.__struct_fields__)
_NO_INTAKE = Intake()


def from_outside(record: Recorded) -> bool:
    """Whether somebody wanted it, rather than the service itself."""
    return record.causation_id.startswith("command:") or record.actor not in _THE_SERVICE


def stimulus(record: Recorded) -> Message | None:
    """The message that led to a record; none when it is what the Scheduler made of another one."""
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
                actor=record.actor,
                reason=record.reason,
            )
        case ServiceStopped():
            return Close()
    command = _command(record) if from_outside(record) else None
    return None if command is None else Submit(command, _NO_INTAKE, record.position)


def jump_of(record: Recorded, before: Recorded | None) -> ClockJumped | None:
    """How far the log's time jumps with the record, if it is of a jump. When the clock is set back, it stands still."""
    if not isinstance(record.event, ClockJumped):
        return None
    shown = record.event.shown if before is None else max(record.event.shown, before.recorded_at)
    return ClockJumped(shown=shown, shows=record.recorded_at) if shown < record.recorded_at else None


def _creation(event: Created, position: int) -> Submit:
    """Runs of schedules, too, come as they were recorded: the schedules are not asked again."""
    event = unwatched(event)
    command = CreateTask(**{name: getattr(event, name) for name in _OF_CREATED})
    estimates = {name: getattr(event, name) for name in _ESTIMATES}
    # Whether its output was free was asked when it came. In another course of things the holder may end later.
    return Submit(
        replace(command, resumable=None, overwrite=True), Intake(can_resume=event.resumable, **estimates), position
    )


def unwatched(event: Created) -> Created:
    """The same without the limits on silence: played attempts say nothing. What those ended, ends as it did."""
    if event.heartbeat_timeout is None and event.no_progress_timeout is None:
        return event
    return replace(event, heartbeat_timeout=None, no_progress_timeout=None)


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
        case LimitsChanged():
            return SetLimits(**{name: getattr(event, name) for name in _OF_LIMITS})
        case _:
            return None
