"""What is true of a task now: a fold of its events. `evolve` is total and pure; it never refuses an event."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from .system_events import Adjusted
from .task_events import (
    Cancelled,
    Checkpointed,
    Completed,
    Created,
    Failed,
    Progressed,
    Retried,
    Started,
    TaskEvent,
)
from .task_state import FINISHED, WAITING, Status, TaskState

# The seed's messages of recovery, which stand in the reason of the `Retried` as well. They are English for everybody:
# a fold has to come out the same wherever it runs. Whoever shows them may do so in the reader's language.
RECOVERING = "recovering the task"
RESUMING = "resuming from the checkpoint"

REESTIMATED = "waiting for the room that a look into the input has shown to be needed"


def create(task_id: int, event: Created, at: datetime) -> TaskState:
    """The first state of a task."""
    return TaskState(
        id=task_id,
        spec=event,
        created_at=at,
        updated_at=at,
        priority=event.priority,
        held=event.held,
        scheduled_for=event.scheduled_for,
    )


def _started(state: TaskState, event: Started, at: datetime) -> TaskState:
    return replace(
        state,
        status="running",
        version=state.version + 1,
        updated_at=at,
        held=False,
        released_at=None,
        ignored=(),
        attempt=state.attempt + 1,
        resumed=event.resumed,
        started_at=at,
        life_started_at=state.life_started_at or at,
        completed_at=None,
        duration=0.0,
        due_at=None,
        message="",
    )


def _progressed(state: TaskState, event: Progressed, at: datetime) -> TaskState:
    return replace(
        state, version=state.version + 1, updated_at=at, progress=event.progress, message=event.message or state.message
    )


def _checkpointed(state: TaskState, event: Checkpointed, at: datetime) -> TaskState:
    progress = state.progress if event.progress is None else event.progress
    return replace(
        state,
        version=state.version + 1,
        updated_at=at,
        checkpoint=event.checkpoint,
        checkpoint_progress=progress,
        progress=progress,
        message=event.message or state.message,
        crash_count=0,
    )


def _ran_for(state: TaskState, at: datetime) -> float:
    running = state.status == "running" and state.started_at is not None
    return (at - state.started_at).total_seconds() if running and state.started_at else state.duration


def _failed(state: TaskState, event: Failed, at: datetime) -> TaskState:
    crashes = {"lost": state.crash_count + 1, "interrupted": state.crash_count}
    return replace(
        state,
        status="failed" if event.final else "retrying",
        held=state.held and not event.final,
        released_at=None,
        ignored=(),
        version=state.version + 1,
        updated_at=at,
        error=event.error,
        error_type=event.error_type,
        completed_at=at if event.final else None,
        duration=_ran_for(state, at),
        due_at=None,
        crash_count=crashes.get(event.outcome, 0),
        memory_used=event.memory_used,
        cpu_used=event.cpu_used,
        temp_used=event.temp_used,
        time_used=event.time_used,
        estimate=event.estimate or state.estimate,
    )


def _retried(state: TaskState, event: Retried, at: datetime) -> TaskState:
    by_hand = event.cause == "manual"
    resumes = state.resume_from is not None
    progress = state.checkpoint_progress if resumes else 0.0
    return replace(
        state,
        status="retrying",
        version=state.version + 1,
        updated_at=at,
        life=state.life + 1 if by_hand else state.life,
        life_started_at=None if by_hand else state.life_started_at,
        retry_count=state.retry_count + 1 if event.cause in ("rule", "manual") else state.retry_count,
        crash_count=0 if by_hand else state.crash_count,
        due_at=event.due_at,
        last_error=state.last_error if event.cause == "estimate" else state.error or state.last_error,
        estimate=event.estimate or state.estimate,
        error="",
        error_type="",
        completed_at=None,
        result={},
        progress=progress,
        message=REESTIMATED
        if event.cause == "estimate"
        else f"{RESUMING} at {progress:.0f} %"
        if resumes
        else RECOVERING
        if event.cause == "recovery"
        else "",
    )


def _cancelled(state: TaskState, _event: Cancelled, at: datetime) -> TaskState:
    return replace(
        state,
        status="cancelled",
        held=False,
        released_at=None,
        ignored=(),
        version=state.version + 1,
        updated_at=at,
        completed_at=at,
        duration=_ran_for(state, at),
        due_at=None,
    )


def _completed(state: TaskState, event: Completed, at: datetime) -> TaskState:
    return replace(
        state,
        status="completed",
        version=state.version + 1,
        updated_at=at,
        completed_at=at,
        duration=_ran_for(state, at),
        progress=100.0,
        message=event.message or state.message,
        error="",
        error_type="",
        result=event.result,
        memory_used=event.memory_used,
        cpu_used=event.cpu_used,
        temp_used=event.temp_used,
        time_used=event.time_used,
        estimate=event.estimate or state.estimate,
    )


# A table, not a `match`: the fold is the hot path of every replay, and a dictionary is twice as quick.
_EVOLVE: dict[type[Any], Callable[[TaskState, Any, datetime], TaskState]] = {
    Started: _started,
    Progressed: _progressed,
    Checkpointed: _checkpointed,
    Failed: _failed,
    Retried: _retried,
    Cancelled: _cancelled,
    Completed: _completed,
}


def evolve(state: TaskState, event: TaskEvent, at: datetime) -> TaskState:
    """The state after `event`, recorded at `at`. `Created` makes the first state: see `create`."""
    return _EVOLVE[type(event)](state, event, at)


def overlay(state: TaskState, event: Adjusted, at: datetime) -> TaskState:
    """A waiting task with an adjustment laid over it. Its version does not change: this is no event of its own."""
    ignored = () if event.ignored_dependency is None else (event.ignored_dependency,)
    return replace(
        state,
        held=state.held if event.held is None else event.held,
        priority=state.priority if event.priority is None else event.priority,
        scheduled_for=state.scheduled_for if event.scheduled_for is None else event.scheduled_for,
        released_at=at if event.held is False or ignored else state.released_at,
        ignored=state.ignored + ignored,
    )


def fold(task_id: int, events: Iterable[tuple[TaskEvent | Adjusted, datetime]]) -> TaskState | None:
    """All events of one task, in order, folded, with its adjustments where they are among them; none for no events."""
    state: TaskState | None = None
    for event, at in events:
        if isinstance(event, Created):
            state = create(task_id, event, at)
        elif state is not None:
            state = overlay(state, event, at) if isinstance(event, Adjusted) else evolve(state, event, at)
    return state


__all__ = [
    "FINISHED",
    "RECOVERING",
    "RESUMING",
    "WAITING",
    "Status",
    "TaskState",
    "create",
    "evolve",
    "fold",
    "overlay",
]
