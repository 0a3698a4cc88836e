"""One task as the Scheduler holds it, and the words for where it stands."""

from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec

from .task_events import Checkpoint, Created, Estimated

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
    """Waits for a `StartTask`. Never once an attempt has started or the task has ended: no own event releases it."""
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
    resumed: bool = False
    """Whether the last attempt went on from a checkpoint."""
    estimate: Estimated | None = None
    """The best one there is, once an attempt has looked into the input."""
    life_started_at: datetime | None = None
    """The first start of this life."""
    released_at: datetime | None = None
    """When a waiting task was last released from hold, or freed from a dependency."""
    ignored: tuple[int, ...] = ()
    """Dependencies that a waiting task waits for no longer although they are not completed."""

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
        """How long an attempt may be expected to run; what the creator said counts only when it is more."""
        by_type = self.spec.guessed_time if self.estimate is None else self.estimate.seconds
        return max(by_type, self.spec.estimated_time) if by_type else 0.0

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
        """The checkpoint the next attempt gets; none when the task must not resume."""
        return self.checkpoint if self.spec.resumable else None

    @property
    def not_before(self) -> datetime | None:
        """The next attempt waits for this moment, if for any. A schedule binds the first attempt only."""
        scheduled = self.scheduled_for if self.started_at is None else None
        if scheduled is None:
            return self.due_at  # nearly always; it is asked of a million tasks at a start
        return max((at for at in (self.due_at, scheduled) if at is not None), default=None)

    @property
    def queued_since(self) -> datetime:
        """Of a waiting task: its place in the queue counts from here, dependencies apart."""
        moments = (self.updated_at, self.not_before, self.released_at)
        return max(at for at in moments if at is not None)

    @property
    def waiting_since(self) -> datetime:
        """The wait bonus counts from here; retries do not reset it."""
        if self.scheduled_for is not None and self.scheduled_for > self.created_at:
            return self.scheduled_for
        return self.created_at
