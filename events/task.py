"""The task as readers see it: every field of the seed's model under the seed's JSON names, and a few more."""

from collections.abc import Callable
from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec

from .priority import terms
from .state import Status, TaskState
from .task_events import Checkpoint, DependencyPolicies, Estimated, NoticeEvent, Original, PriorityTerms, ReadInput


class Children(msgspec.Struct, frozen=True, kw_only=True):
    """A summary of a task's child tasks."""

    total: int
    progress: float
    """Their mean, 0 to 100."""
    by_status: dict[Status, int]
    """The number of children in each status; a status without any is left out."""


class Task(msgspec.Struct, frozen=True):
    """One task at one moment. Durations are seconds, sizes bytes, progress 0 to 100.

    Times are UTC, and only `scheduled_for` and `deadline` have the offset that they were given with.
    """

    id: int
    created_at: datetime
    updated_at: datetime
    type: str
    status: Status
    priority: int
    effective_priority: float
    """Grows while the task waits (+1 a minute); after the start it stays at the value of the start."""
    priority_terms: PriorityTerms
    """The parts of the effective priority."""
    input_file: str
    output_file: str
    options: dict[str, Any]
    progress: float
    message: str
    error: str
    started_at: datetime | None
    completed_at: datetime | None
    duration: float
    retry_count: int
    max_retries: int
    retry_delay: float
    retry_backoff: float
    retry_max_delay: float | None
    retry_jitter: float
    last_error: str
    checkpoint: Checkpoint | None
    resumable: bool
    parent_task_id: int | None
    depends_on: tuple[int, ...]
    on_dependency_failure: DependencyPolicies
    """Without `depends_on` always `wait`, and without meaning: what the command said is not recorded then."""
    notify_email: str
    notify_webhook: str
    callback_url: str
    notify_on: tuple[NoticeEvent, ...]
    notify_targets: tuple[str, ...]
    user_id: int
    document_id: int
    label: str
    batch: str
    worker_label: str
    requires: dict[str, str]
    node: str
    """The node of the last attempt, if there are several nodes; else empty."""
    unique: str
    schedule: str
    fire_time: datetime | None
    user_level: int
    estimated_time: float
    estimated_memory: int
    estimated_temp: int
    scheduled_for: datetime | None
    held: bool
    timeout: float | None
    queue_timeout: float | None
    total_timeout: float | None
    heartbeat_timeout: float | None
    no_progress_timeout: float | None
    deadline: datetime | None
    overwrite: bool
    original: Original
    original_folder: str
    attempt: int
    life: int
    crash_count: int
    due_at: datetime | None
    error_type: str
    result: dict[str, Any]
    memory_used: int
    cpu_used: float
    temp_used: int
    time_used: float
    estimate: Estimated | None
    input_read: ReadInput | None
    """The input as the last attempt that ended read it, if it was watched."""
    version: int
    children: Children | None = None
    """Filled in only when a single task is asked for and it has children."""

    def __repr__(self) -> str:
        """Name the fields that say something: most of a task's are empty, and `print` would fill a screen."""
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__)
        told = (f"{name}={value!r}" for name, value in fields if value or name in {"id", "status"})
        return f"{type(self).__name__}({', '.join(told)})"


def reserved_space(task: Task) -> Estimated:
    """The space reserved for its current or next attempt: as its probe estimated, else as it was created."""
    return task.estimate or Estimated(memory=task.estimated_memory, temp=task.estimated_temp)


def _reads(names: tuple[str, ...]) -> Callable[[TaskState], tuple[Any, ...]]:
    """A getter of these fields from a state, and from its spec where the state has no such field."""
    return attrgetter(*(name if name in TaskState.__struct_fields__ else f"spec.{name}" for name in names))


# A page shows many tasks, and a keyword argument costs more than a positional one.
_FIELDS = Task.__struct_fields__
_COMPUTED = ("effective_priority", "priority_terms")
_AT = _FIELDS.index(_COMPUTED[0])
_BEFORE = _reads(_FIELDS[:_AT])
_BEHIND = _reads(_FIELDS[_AT + len(_COMPUTED) : -1])
"""All but the last field, `children`, which the caller fills in."""


def view(state: TaskState, now: datetime) -> Task:
    """The reader's view of a state. `now` only matters to the effective priority of a waiting task."""
    moment = now if state.waiting else (state.started_at or state.updated_at)
    parts = terms(state, moment)
    values: tuple[Any, ...] = (*_BEFORE(state), round(parts.total, 3), parts, *_BEHIND(state))
    return Task(*values)
