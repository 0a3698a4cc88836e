"""The state of a task now: a fold of its events. `evolve` is total and pure: it never refuses an event."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from .recorded import Stub
from .system_events import Adjusted
from .task_events import (
    Cancelled,
    Checkpoint,
    Checkpointed,
    Completed,
    Created,
    Estimated,
    Failed,
    Progressed,
    ReadInput,
    Retried,
    Started,
    TaskEvent,
)

Status: TypeAlias = Literal["pending", "running", "completed", "failed", "cancelled", "retrying"]

WAITING: frozenset[Status] = frozenset({"pending", "retrying"})
FINISHED: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})


class TaskState(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One task as the Scheduler holds it. `spec` is shared with the log's `Created`, so a change copies little."""

    id: int
    spec: Created
    created_at: datetime
    updated_at: datetime
    priority: int
    held: bool
    """Waits for a `StartTask`. The start of an attempt and the end of the task make it false, too."""
    scheduled_for: datetime | None
    status: Status = "pending"
    version: int = 1
    life: int = 1
    attempt: int = 0
    progress: float = 0.0
    message: str = ""
    error: str = ""
    error_type: str = ""
    last_error: str = ""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration: float = 0.0
    due_at: datetime | None = None
    retry_count: int = 0
    crash_count: int = 0
    checkpoint: Checkpoint | None = None
    checkpoint_progress: float = 0.0
    result: dict[str, Any] = {}
    memory_used: int = 0
    cpu_used: float = 0.0
    temp_used: int = 0
    time_used: float = 0.0
    node: str = ""
    """The node of the last attempt, if there are several nodes."""
    resumed: bool = False
    """Whether the last attempt went on from a checkpoint."""
    estimate: Estimated | None = None
    """The best estimate, once an attempt has probed the input or was killed for lack of memory."""
    input_read: ReadInput | None = None
    """The input as the last attempt that ended read it, if it was watched."""
    life_started_at: datetime | None = None
    """The first start of this life."""
    released_at: datetime | None = None
    """When a waiting task was last released from hold, or freed from a dependency."""
    ignored: tuple[int, ...] = ()
    """Dependencies that a waiting task no longer waits for although they are not completed."""

    @property
    def memory_needed(self) -> int:
        """Bytes to reserve for the next attempt."""
        return self.spec.estimated_memory if self.estimate is None else self.estimate.memory

    @property
    def temp_needed(self) -> int:
        """Bytes of temp space to reserve for the next attempt."""
        return self.spec.estimated_temp if self.estimate is None else self.estimate.temp

    @property
    def seconds_needed(self) -> float:
        """The expected run time in seconds; 0 if the type estimates none. The creator's counts only if longer."""
        by_type = self.spec.guessed_time if self.estimate is None else self.estimate.seconds
        return max(by_type, self.spec.estimated_time) if by_type else 0.0

    @property
    def needed(self) -> Estimated:
        """The space to reserve for the next attempt, and its expected run time."""
        return Estimated(memory=self.memory_needed, temp=self.temp_needed, seconds=self.seconds_needed)

    @property
    def waiting(self) -> bool:
        """Whether it stands in the queue, or would if nothing held it."""
        return self.status in WAITING

    @property
    def finished(self) -> bool:
        """Whether its current life is over."""
        return self.status in FINISHED

    @property
    def resume_from(self) -> Checkpoint | None:
        """The checkpoint for the next attempt; None if the task must not resume."""
        return self.checkpoint if self.spec.resumable else None

    @property
    def not_before(self) -> datetime | None:
        """The moment that the next attempt waits for, if any. `scheduled_for` binds the first attempt only."""
        scheduled = self.scheduled_for if self.started_at is None else None
        if scheduled is None:
            return self.due_at  # nearly always; a start asks this of a million tasks
        return max((at for at in (self.due_at, scheduled) if at is not None), default=None)

    @property
    def queued_since(self) -> datetime:
        """Of a waiting task: since when it stands in the queue, leaving dependencies aside."""
        moments = (self.updated_at, self.not_before, self.released_at)
        return max(at for at in moments if at is not None)

    @property
    def waiting_since(self) -> datetime:
        """The time from which the wait bonus counts; retries do not reset it."""
        if self.scheduled_for is not None and self.scheduled_for > self.created_at:
            return self.scheduled_for
        return self.created_at


# The seed's messages of recovery, which are also the reason of the `Retried`. They are always English, because a fold
# has to give the same result wherever it runs. A user interface may translate them.
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
        node=event.node,
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
    crashes = state.crash_count
    if crashes and _goes_further(state, event.checkpoint, progress):
        crashes = 0
    return replace(
        state,
        version=state.version + 1,
        updated_at=at,
        checkpoint=event.checkpoint,
        checkpoint_progress=progress,
        progress=progress,
        message=event.message or state.message,
        crash_count=crashes,
    )


def _goes_further(state: TaskState, checkpoint: Checkpoint, progress: float) -> bool:
    """Whether the next attempt has less left to do. A handler may save where it began, and crash there each time."""
    return state.spec.resumable and (checkpoint != state.checkpoint or progress > state.checkpoint_progress)


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
        input_read=event.input_read,
    )


def _retried(state: TaskState, event: Retried, at: datetime) -> TaskState:
    by_hand = event.cause == "manual"
    too_little_memory = event.cause == "crash" and event.estimate is not None
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
        crash_count=0 if by_hand else state.crash_count - too_little_memory,
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
        input_read=event.input_read,
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
    """A waiting task with an adjustment laid over it. Its version stays: this is not one of its own events."""
    ignored = () if event.ignored_dependency is None else (event.ignored_dependency,)
    return replace(
        state,
        held=state.held if event.held is None else event.held,
        priority=state.priority if event.priority is None else event.priority,
        scheduled_for=state.scheduled_for if event.scheduled_for is None else event.scheduled_for,
        released_at=at if event.held is False or ignored else state.released_at,
        ignored=state.ignored + ignored,
    )


def fold(task_id: int, events: Iterable[tuple[TaskEvent | Adjusted | Stub, datetime]]) -> TaskState | None:
    """Fold all events of one task, in order, with its adjustments if they are among them.

    None if there are no events, or only stubs.
    """
    state: TaskState | None = None
    for event, at in events:
        if isinstance(event, Stub):
            continue
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
