"""What can be wished. A command may be refused, and then nothing is recorded.

The first group comes from people and programs; the second is what an executor reports about the attempt it runs.
"""

from datetime import datetime
from typing import Annotated, Any, TypeAlias

import msgspec

from .task_events import AttemptOutcome, Checkpoint, Estimated, Told

MAX_PRIORITY = 10

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
TaskId: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=10 * 365 * 86400)]
Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=4096)]


class BaseCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="command"):
    """What all commands share. The command id makes repeating harmless: one id, one effect."""


class CreateTask(BaseCommand, frozen=True, kw_only=True, tag="create_task", omit_defaults=True):
    """Ask for a new task. The fields are the seed's; see `Created` for what they mean."""

    type: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    input_file: Text = ""
    output_file: Text = ""
    options: dict[str, Any] = {}
    priority: Annotated[int, msgspec.Meta(ge=0, le=MAX_PRIORITY)] = 0
    user_level: Count = 0
    estimated_time: Seconds = 0.0
    max_retries: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    retry_delay: Seconds = 60.0
    resumable: bool | None = None
    """None: whatever the handler can do."""
    parent_task_id: TaskId | None = None
    depends_on: Annotated[tuple[TaskId, ...], msgspec.Meta(max_length=1000)] = ()
    notify_email: Text = ""
    notify_webhook: Text = ""
    callback_url: Text = ""
    notify_on: Annotated[tuple[Told, ...], msgspec.Meta(max_length=10)] = ()
    """What webhook and mail hear of; empty: the start and the end."""
    user_id: Count = 0
    document_id: Count = 0
    label: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """A group of the sender's own, which a limit may be set for."""
    scheduled_for: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    held: bool = False
    timeout: Annotated[float, msgspec.Meta(gt=0, le=10 * 365 * 86400)] | None = None
    overwrite: bool = False
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
    """Stop a task, whether it waits or runs."""


class RetryTask(_OnTask, frozen=True, kw_only=True, tag="retry_task"):
    """Give a failed or cancelled task another life. Beyond `max_retries` only with `force`."""

    force: bool = False


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


LifeCommand: TypeAlias = CreateTask | StartTask | CancelTask | RetryTask | SaveCheckpoint | AdjustTask
"""What a task's own events follow from."""

NoticeCommand: TypeAlias = RedeliverNotice | EnableEndpoint
"""What only changes who is told."""

TaskCommand: TypeAlias = LifeCommand | NoticeCommand


class RecordProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The running attempt says how far it is."""

    task_id: int
    attempt: int
    progress: float
    message: str = ""


class RecordCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The running attempt has resume data to keep."""

    task_id: int
    attempt: int
    checkpoint: Checkpoint
    progress: float | None = None
    message: str = ""


class EndAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """The running attempt is over. `retryable` false forbids an automatic retry whatever the rules say."""

    task_id: int
    attempt: int
    outcome: AttemptOutcome
    result: dict[str, Any] = {}
    message: str = ""
    error: str = ""
    error_type: str = ""
    retryable: bool = True
    memory_used: int = 0
    cpu_used: float = 0.0
    temp_used: int = 0
    time_used: float = 0.0
    estimate: Estimated | None = None
    outgrown: bool = False
    """Interrupted by itself: its estimate is more than was reserved."""


AttemptReport: TypeAlias = RecordProgress | RecordCheckpoint | EndAttempt


class Accepted(msgspec.Struct, frozen=True):
    """The answer to a command: it is in the log, fsynced, at `position` (the last event it caused)."""

    task_id: int
    position: int
    command_id: str
