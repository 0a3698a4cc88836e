"""The task as readers see it: every field of the seed's model under the seed's JSON names, and a few more."""

from datetime import datetime
from typing import Any

import msgspec

from .priority import effective_priority, terms
from .state import Status, TaskState
from .task_events import Checkpoint, Created, DependencyPolicies, Estimated, Original, PriorityTerms, ReadInput, Told


class Children(msgspec.Struct, frozen=True, kw_only=True):
    """How far the tasks are whose parent a task is."""

    total: int
    progress: float
    """Their mean, 0 to 100."""
    by_status: dict[Status, int]
    """How many there are in each status that any is in."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One task at one moment. Times are UTC, durations seconds, sizes bytes, progress 0 to 100."""

    id: int
    created_at: datetime
    updated_at: datetime
    type: str
    status: Status
    priority: int
    effective_priority: float
    """Moves while the task waits (+1 a minute); stands still at what it was started with."""
    priority_terms: PriorityTerms
    """What the effective priority is made of."""
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
    notify_email: str
    notify_webhook: str
    callback_url: str
    notify_on: tuple[Told, ...]
    notify_targets: tuple[str, ...]
    user_id: int
    document_id: int
    label: str
    batch: str
    worker_label: str
    requires: dict[str, str]
    node: str
    """Where the last attempt was started, among several nodes; else empty."""
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
    """What the last attempt that ended read as its input, where that was watched."""
    version: int
    children: Children | None = None
    """Told when one task is asked for, and it has any."""


# Whatever `Created` says and nothing changes afterwards.
_FROM_SPEC = tuple(
    name
    for name in Task.__struct_fields__
    if name in Created.__struct_fields__ and name not in TaskState.__struct_fields__
)


def view(state: TaskState, now: datetime) -> Task:
    """The reader's view of a state. `now` only matters to the effective priority of a waiting task."""
    spec = state.spec
    moment = now if state.waiting else (state.started_at or state.updated_at)
    return Task(
        **{name: getattr(spec, name) for name in _FROM_SPEC},
        id=state.id,
        created_at=state.created_at,
        updated_at=state.updated_at,
        status=state.status,
        priority=state.priority,
        effective_priority=round(effective_priority(state, moment), 3),
        priority_terms=terms(state, moment),
        progress=state.progress,
        message=state.message,
        error=state.error,
        started_at=state.started_at,
        completed_at=state.completed_at,
        duration=state.duration,
        retry_count=state.retry_count,
        last_error=state.last_error,
        checkpoint=state.checkpoint,
        scheduled_for=state.scheduled_for,
        held=state.held,
        attempt=state.attempt,
        node=state.node,
        life=state.life,
        crash_count=state.crash_count,
        due_at=state.due_at,
        error_type=state.error_type,
        result=state.result,
        memory_used=state.memory_used,
        cpu_used=state.cpu_used,
        temp_used=state.temp_used,
        time_used=state.time_used,
        estimate=state.estimate,
        input_read=state.input_read,
        version=state.version,
    )
