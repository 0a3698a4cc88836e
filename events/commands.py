"""Commands: what people and programs can ask for. A command may be refused, and then nothing is recorded."""

from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from .system_events import MissedRuns
from .task_events import Checkpoint, DependencyPolicies, Told

MAX_PRIORITY = 10
MAX_GRAPH = 10_000
"""Tasks in one graph."""

_TEN_YEARS = 10 * 365 * 86400

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
TaskId: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=_TEN_YEARS)]
Within: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=_TEN_YEARS)] | None
"""A time-out in seconds, or none."""
Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)] | None
Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=4096)]
TargetName: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=50)]
LocalName: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[^\W\d][\w.-]*$",
        max_length=100,
        description="a name: a letter or `_`, then letters, digits, `_`, `.`, `-`",
    ),
]
"""A task's name within its graph."""


class TaskFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What may be asked of a new task, alone or in a graph. See `Created` for what the fields mean."""

    type: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    input_file: Text = ""
    output_file: Text = ""
    options: dict[str, Any] = {}
    priority: Annotated[int, msgspec.Meta(ge=0, le=MAX_PRIORITY)] = 0
    user_level: Count = 0
    estimated_time: Seconds = 0.0
    max_retries: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 3
    """As in the seed's example. Of failures that a rule calls retryable, and of retries by hand."""
    retry_delay: Seconds = 60.0
    retry_backoff: Annotated[float, msgspec.Meta(ge=1, le=1000)] = 1.0
    retry_max_delay: Within = None
    retry_jitter: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    resumable: bool | None = None
    """None: whatever the handler can do."""
    on_dependency_failure: DependencyPolicies = "fail"
    notify_email: Text = ""
    notify_webhook: Text = ""
    callback_url: Text = ""
    notify_on: Annotated[tuple[Told, ...], msgspec.Meta(max_length=10)] = ()
    """What webhook, mail and targets hear of; empty: the start and the end."""
    notify_targets: Annotated[tuple[TargetName, ...], msgspec.Meta(max_length=10)] = ()
    """Names of targets that the operator has configured."""
    user_id: Count = 0
    document_id: Count = 0
    label: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """A group of the sender's own, which a limit may be set for."""
    scheduled_for: Moment = None
    held: bool = False
    timeout: Within = None
    queue_timeout: Within = None
    total_timeout: Within = None
    heartbeat_timeout: Within = None
    no_progress_timeout: Within = None
    deadline: Moment = None
    overwrite: bool = False


class BaseCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="command"):
    """What all commands share. The command id makes repeating harmless: one id, one effect."""


class CreateTask(TaskFields, frozen=True, kw_only=True, tag_field="command", tag="create_task", omit_defaults=True):
    """Ask for a new task."""

    parent_task_id: TaskId | None = None
    depends_on: Annotated[tuple[TaskId, ...], msgspec.Meta(max_length=1000)] = ()
    command_id: Annotated[str, msgspec.Meta(max_length=200)] = ""
    actor: Text = ""
    reason: Text = ""
    correlation_id: Text = ""


class GraphTask(TaskFields, frozen=True, kw_only=True, omit_defaults=True):
    """One task of a graph. It refers to others of the graph by name, to tasks that exist already by id."""

    name: LocalName
    parent: TaskId | LocalName | None = None
    depends_on: Annotated[tuple[TaskId | LocalName, ...], msgspec.Meta(max_length=1000)] = ()


class CreateGraph(BaseCommand, frozen=True, kw_only=True, tag="create_graph", omit_defaults=True):
    """Ask for several tasks that belong together: all of them or none."""

    tasks: Annotated[tuple[GraphTask, ...], msgspec.Meta(min_length=1, max_length=MAX_GRAPH)]
    command_id: Annotated[str, msgspec.Meta(max_length=200)] = ""
    actor: Text = ""
    reason: Text = ""
    correlation_id: Text = ""


class _OnTask(BaseCommand, frozen=True, kw_only=True, omit_defaults=True):
    task_id: TaskId
    command_id: Annotated[str, msgspec.Meta(max_length=200)] = ""
    actor: Text = ""
    reason: Text = ""
    correlation_id: Text = ""


class StartTask(_OnTask, frozen=True, kw_only=True, tag="start_task"):
    """Release a held task, or start a waiting one now, ahead of the queue."""


class CancelTask(_OnTask, frozen=True, kw_only=True, tag="cancel_task"):
    """Stop a task, whether it waits or runs; with `children` also all below it that are not over."""

    children: bool = False


class RetryTask(_OnTask, frozen=True, kw_only=True, tag="retry_task"):
    """Give a failed or cancelled task another life, at once or after `delay`; beyond `max_retries` by `force`."""

    force: bool = False
    delay: Seconds = 0.0
    """Seconds to wait first. What is between automatic retries (`retry_delay`) is not meant for people."""


class SaveCheckpoint(_OnTask, frozen=True, kw_only=True, tag="save_checkpoint"):
    """Save resume data of a running task from outside its handler."""

    checkpoint: Checkpoint


class AdjustTask(_OnTask, frozen=True, kw_only=True, tag="adjust_task"):
    """Change a waiting task's priority or time, or hold or release it. What is left out stays."""

    priority: Annotated[int, msgspec.Meta(ge=0, le=MAX_PRIORITY)] | None = None
    scheduled_for: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    held: bool | None = None


class RedeliverNotice(_OnTask, frozen=True, kw_only=True, tag="redeliver_notice"):
    """Send a notice of the task once more, under its old id, whatever became of it."""

    notice_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class EnableEndpoint(BaseCommand, frozen=True, kw_only=True, tag="enable_endpoint", omit_defaults=True):
    """Send notices again to an address that had said that it is gone (HTTP 410)."""

    target: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    command_id: Annotated[str, msgspec.Meta(max_length=200)] = ""
    actor: Text = ""
    reason: Text = ""
    correlation_id: Text = ""


LifeCommand: TypeAlias = CreateTask | StartTask | CancelTask | RetryTask | SaveCheckpoint | CreateGraph | AdjustTask
"""What a task's own events follow from."""

NoticeCommand: TypeAlias = RedeliverNotice | EnableEndpoint
"""What only changes who is told."""

TaskCommand: TypeAlias = LifeCommand | NoticeCommand


class GiveUp(msgspec.Struct, frozen=True, kw_only=True):
    """The Scheduler ends a task that has waited for too long, without an attempt."""

    task_id: int
    error: str
    error_type: str
    rule: str


class AbortAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """The Scheduler ends the running attempt, whatever its worker may say later."""

    task_id: int
    outcome: Literal["timed_out", "failed", "interrupted"]
    error: str
    error_type: str = ""
    retryable: bool = True
    """False forbids an automatic retry, whatever the rules say."""


SchedulerCommand: TypeAlias = GiveUp | AbortAttempt
"""What the Scheduler decides by itself when a limit is reached, or when the service stops."""


class Accepted(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a command: it is in the log, fsynced, at `position` (the last event it caused)."""

    task_id: int
    """The task it was about; of a graph the first that was created."""
    position: int
    command_id: str
    ids: dict[str, int] = {}
    """Of a graph: the tasks' ids by their local names."""


# --- commands to the service as a whole; each is recorded as an event of the service ---


MAX_MISSED = 100
"""Missed runs of a schedule that may be made up for at once."""

Number: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
UserKey: TypeAlias = Annotated[
    str, msgspec.Meta(pattern="^(0|[1-9][0-9]{0,15})$", description='a user\'s number, such as "7"')
]
"""A user's number, as a key of a JSON object is written."""
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

ScheduleName: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(?!\.\.?$)[^/]+$",
        min_length=1,
        max_length=200,
        description="a name without `/`, and not `.` or `..`",
    ),
]
"""A new schedule's name, as it can stand in an address. One that a log has already may be otherwise."""


class _OnService(BaseCommand, frozen=True, kw_only=True, omit_defaults=True):
    command_id: Annotated[str, msgspec.Meta(max_length=200)] = ""
    actor: Text = ""
    reason: Text = ""
    correlation_id: Text = ""


class SetLimits(_OnService, frozen=True, kw_only=True, tag="set_limits"):
    """Change what may run at once. What is left out stays.

    A number for one type, user or label goes before the general one.
    `reset` first forgets all earlier changes, so that the configuration holds again.
    """

    reset: bool = False
    max_concurrent: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    max_memory: Count | None = None
    """Bytes; 0: no limit. So are those below."""
    max_cpu: Annotated[float, msgspec.Meta(ge=1, le=100)] | None = None
    max_temp_size: Count | None = None
    max_per_type: Count | None = None
    max_per_user: Count | None = None
    max_per_label: Count | None = None
    types: dict[Name, Number | None] = msgspec.field(default_factory=dict)
    """Type → how many may run; null takes the number away."""
    users: dict[UserKey, Number | None] = msgspec.field(default_factory=dict)
    labels: dict[Name, Number | None] = msgspec.field(default_factory=dict)
    fair_share: bool | None = None


class PauseQueue(_OnService, frozen=True, kw_only=True, tag="pause_queue"):
    """Start nothing more: of all, or of a type, or of a user. What runs goes on."""

    type: Name | None = None
    user_id: Count | None = None


class ResumeQueue(_OnService, frozen=True, kw_only=True, tag="resume_queue"):
    """Undo a pause of the same scope; without a scope also a drain."""

    type: Name | None = None
    user_id: Count | None = None


class DrainQueue(_OnService, frozen=True, kw_only=True, tag="drain_queue"):
    """Pause everything, and record when the last attempt has ended."""


class AddSchedule(_OnService, frozen=True, kw_only=True, tag="add_schedule"):
    """Create a task again and again: at the times of a cron expression, or every so many seconds."""

    schedule: ScheduleName
    """Its name; a schedule that exists must be removed first."""
    task: CreateTask
    """What is created. `{fire_time}` in its output file becomes the time, as `20260801T220000Z`."""
    cron: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Five fields as in Debian's cron, or six with seconds first."""
    every: Annotated[float, msgspec.Meta(ge=1, le=10 * 365 * 86400)] | None = None
    """Seconds between runs, by elapsed time, counted from `starting_at`."""
    timezone: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] = "UTC"
    """IANA name of the zone that the cron expression is read in."""
    starting_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    """No run before; by default the moment it is added."""
    missed: MissedRuns = "once"
    """What to do about runs whose time passed while no service ran: `skip`, `once` (the latest), `all`."""
    max_missed: Annotated[int, msgspec.Meta(ge=1, le=MAX_MISSED)] = 10
    """With `all`: at most so many, the latest ones."""


class RemoveSchedule(_OnService, frozen=True, kw_only=True, tag="remove_schedule"):
    """End a schedule. Tasks that it has created stay."""

    schedule: Name


OperatorCommand: TypeAlias = SetLimits | PauseQueue | ResumeQueue | DrainQueue | AddSchedule | RemoveSchedule

Command: TypeAlias = TaskCommand | OperatorCommand
"""Everything that can be sent."""


_encoder = msgspec.json.Encoder(order="deterministic")


def digest(command: Command) -> bytes:
    """Two commands under one id are the same when this is. Everything counts but id, actor and reason."""
    bare = replace(command, command_id="", actor="", reason="", correlation_id="")
    return sha256(_encoder.encode(bare)).digest()
