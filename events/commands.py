"""Commands: what people and programs can ask for. A command may be refused, and then nothing is recorded."""

from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from .system_events import MissedRuns, Role
from .task_events import Checkpoint, DependencyPolicies, NoticeEvent, Original
from .values import TRACEPARENT

MAX_PRIORITY = 10
MAX_GRAPH = 10_000
"""Tasks in one graph."""

_TEN_YEARS = 10 * 365 * 86400


def says(
    text: str, *, default: str | bool = False, value: str = "", example: str = "", in_bytes: bool = False
) -> msgspec.Meta:
    """Describe a field: for /openapi.json, and for the help of its option on the command line.

    Args:
        text: a sentence. A name in backticks may be another field of the same Struct.
        default: the default in words, or True for the Struct's own value; the command line's help shows it.
        value: what stands for the value in help texts, such as SECONDS.
        example: a value as it is typed on a command line.
        in_bytes: the number counts bytes, and may be typed as 4GiB.
    """
    extra = {"default": default, "value": value, "example": example, "in_bytes": in_bytes}
    return msgspec.Meta(description=text, extra=extra)


Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
TaskId: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=_TEN_YEARS)]
Within: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=_TEN_YEARS)] | None
"""A time-out in seconds, or none."""
Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)] | None
Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=4096)]
MAX_COMMAND_ID = 200
CommandId: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_COMMAND_ID)]
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


NodeLabel: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[^=,]+$", max_length=200)]
NodeLabelValue: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[^,]*$", max_length=200)]


TraceContext: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=f"^({TRACEPARENT})?$",
        description="a trace context as of W3C, such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
]
Traceparent: TypeAlias = Annotated[
    TraceContext, says("The trace that it belongs to (W3C).", default="$TRACEPARENT", value="CONTEXT")
]


_SET_NAME = r"[^\s,/\x00-\x1f\x7f-\x9f](?:[^,/\x00-\x1f\x7f-\x9f]*[^\s,/\x00-\x1f\x7f-\x9f])?"
BatchName: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=f"^({_SET_NAME})?$",
        max_length=200,
        description="a name without `/`, commas and control characters",
    ),
]
"""A batch's name: it can be part of an address, and of a list separated by commas."""


class TaskFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The fields of a request for a new task, alone or in a graph. `Created` says what they mean."""

    type: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    input_file: Text = ""
    output_file: Text = ""
    options: dict[str, Any] = {}
    preset: Annotated[
        str,
        msgspec.Meta(max_length=200),
        says("A named set of options; `options` overrides single ones.", value="NAME"),
    ] = ""
    """The options that it stands for are recorded, not its name."""
    priority: Annotated[int, msgspec.Meta(ge=0, le=MAX_PRIORITY), says("0 to 10, higher runs first.", default=True)] = 0
    user_level: Annotated[
        Count, says("The user's rank, up to `max_user_level`; raises the effective priority.", default=True)
    ] = 0
    estimated_time: Annotated[Seconds, says("Expected; above an hour lowers the priority.", value="SECONDS")] = 0.0
    max_retries: Annotated[
        int,
        msgspec.Meta(ge=0, le=1_000_000),
        says("The most retries; automatic ones follow only failures that a rule names.", default=True),
    ] = 3
    """As in the seed's example. Counts retries by a rule and retries by hand."""
    retry_delay: Annotated[Seconds, says("Wait before an automatic retry.", default=True, value="SECONDS")] = 60.0
    retry_backoff: Annotated[
        float,
        msgspec.Meta(ge=1, le=1000),
        says("Each delay is this many times the one before.", default=True, value="FACTOR"),
    ] = 1.0
    retry_max_delay: Annotated[Within, says("The longest delay.", default="none", value="SECONDS")] = None
    retry_jitter: Annotated[
        float,
        msgspec.Meta(ge=0, le=1),
        says("0 to 1: at most this share of a delay is left out at random.", default=True, value="SHARE"),
    ] = 0.0
    resumable: Annotated[bool | None, says("False: always begin at 0 %, even if there is a checkpoint.")] = None
    """None: if the handler can."""
    on_dependency_failure: Annotated[
        DependencyPolicies,
        says(
            "wait, cancel, fail, ignore: what to do when one of them fails or is cancelled; one "
            "policy for all, or one for each of `depends_on`.",
            default=True,
        ),
    ] = "fail"
    notify_email: Annotated[Text, says("Mail to this address at the end.", value="ADDRESS")] = ""
    notify_webhook: Annotated[Text, says("POST events to this address.", value="URL")] = ""
    callback_url: Annotated[Text, says("POST the outcome to this address, once.", value="URL")] = ""
    notify_on: Annotated[
        tuple[NoticeEvent, ...],
        msgspec.Meta(max_length=10),
        says(
            "The events that webhook, mail and targets are notified of.",
            default="started and the end",
            value="EVENT,…",
            example="failed,retried",
        ),
    ] = ()
    notify_targets: Annotated[
        tuple[TargetName, ...],
        msgspec.Meta(max_length=10),
        says("Notify these targets of the configuration.", value="NAME,…"),
    ] = ()
    user_id: Annotated[Count, says("Whose task it is; 0: nobody's.")] = 0
    document_id: Annotated[Count, says("The document it belongs to.")] = 0
    label: Annotated[
        str, msgspec.Meta(max_length=200), says("A group of your own; a limit may be set for it.", value="NAME")
    ] = ""
    batch: Annotated[
        BatchName, says("The batch it belongs to: a named set of tasks, made for many files at once.", value="NAME")
    ] = ""
    worker_label: Annotated[
        str, msgspec.Meta(max_length=200), says("Run on a worker that offers this label.", value="NAME", example="gpu")
    ] = ""
    requires: Annotated[
        dict[NodeLabel, NodeLabelValue],
        msgspec.Meta(max_length=20),
        says("Run on a node with this label; `node` is the node's name.", value="KEY=VALUE", example="zone=a"),
    ] = {}
    unique: Annotated[
        str,
        msgspec.Meta(max_length=200),
        says("If the same user has an unfinished task with this key, return that one, create none.", value="KEY"),
    ] = ""
    scheduled_for: Annotated[
        Moment, says("Not before this time.", example="+10m, 'tomorrow 9:00' or 2026-08-01T22:00:00Z")
    ] = None
    held: Annotated[bool, says("Wait until the task is started by hand.")] = False
    timeout: Annotated[Within, says("Longest time for one attempt.", default="none", value="SECONDS")] = None
    queue_timeout: Annotated[Within, says("Longest wait in the queue.", default="none", value="SECONDS")] = None
    total_timeout: Annotated[
        Within, says("Longest time from the first start to the end, retries included.", default="none", value="SECONDS")
    ] = None
    heartbeat_timeout: Annotated[Within, says("Longest silence of a worker process.", value="SECONDS")] = None
    no_progress_timeout: Annotated[Within, says("Longest time at the same percentage.", value="SECONDS")] = None
    deadline: Annotated[Moment, says("Give up if not started by this time.", example="+2h")] = None
    overwrite: Annotated[bool, says("Replace the output if it exists.")] = False
    original: Annotated[
        Original,
        says(
            "What to do with the input. It is replaced or moved only if the result decodes "
            "completely, lacks nothing and is smaller; otherwise the input stays and the result is "
            "removed.",
            default=True,
        ),
    ] = "keep"
    original_folder: Annotated[Text, says("Where `original` move puts inputs.", value="FOLDER")] = ""


PATH_FIELDS = ("input_file", "output_file", "original_folder")
"""The fields of `TaskFields` that are paths."""


class BaseCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="command"):
    """The base of all commands. The command id makes repeating harmless: one id, one effect."""


class CreateTask(TaskFields, frozen=True, kw_only=True, tag_field="command", tag="create_task", omit_defaults=True):
    """Ask for a new task."""

    parent_task_id: Annotated[TaskId | None, says("The task this one is part of.", value="ID")] = None
    depends_on: Annotated[
        tuple[TaskId, ...],
        msgspec.Meta(max_length=1000),
        says("Not before these tasks have completed.", example="3,7"),
    ] = ()
    command_id: CommandId = ""
    actor: Text = ""
    reason: Text = ""
    correlation_id: Text = ""
    traceparent: Traceparent = ""


class FileTask(TaskFields, frozen=True, kw_only=True, omit_defaults=True):
    """The fields that the tasks of many files share. Each has its own input and output."""

    type: Annotated[
        str, msgspec.Meta(max_length=200), says("The task type. Empty: by each file's kind and the output's suffix.")
    ] = ""


class GraphTask(TaskFields, frozen=True, kw_only=True, omit_defaults=True):
    """One task of a graph. It refers to others of the graph by name, to tasks that exist already by id."""

    name: LocalName
    parent: TaskId | LocalName | None = None
    depends_on: Annotated[tuple[TaskId | LocalName, ...], msgspec.Meta(max_length=1000)] = ()


class CreateGraph(BaseCommand, frozen=True, kw_only=True, tag="create_graph", omit_defaults=True):
    """Ask for several tasks that belong together: all of them or none."""

    tasks: Annotated[tuple[GraphTask, ...], msgspec.Meta(min_length=1, max_length=MAX_GRAPH)]
    command_id: CommandId = ""
    actor: Text = ""
    reason: Text = ""
    correlation_id: Text = ""
    traceparent: Traceparent = ""


class _OnTask(BaseCommand, frozen=True, kw_only=True, omit_defaults=True):
    task_id: TaskId
    command_id: CommandId = ""
    actor: Text = ""
    reason: Text = ""
    correlation_id: Text = ""


class StartTask(_OnTask, frozen=True, kw_only=True, tag="start_task"):
    """Release a held task, or start a waiting one now, ahead of the queue."""


class CancelTask(_OnTask, frozen=True, kw_only=True, tag="cancel_task"):
    """Stop a task, whether it waits or runs; with `children`, also its open tasks below."""

    children: Annotated[bool, says("Also cancel all unfinished tasks below it, in the same step.")] = False


class RetryTask(_OnTask, frozen=True, kw_only=True, tag="retry_task"):
    """Give a failed or cancelled task another life, at once or after `delay`; beyond `max_retries` by `force`."""

    force: Annotated[bool, says("Also beyond the task's `max_retries`; who forced it is recorded.")] = False
    delay: Annotated[Seconds, says("Wait this long first.", default="at once", value="SECONDS")] = 0.0
    """`retry_delay` is not used here: it is meant for automatic retries only."""


class SaveCheckpoint(_OnTask, frozen=True, kw_only=True, tag="save_checkpoint"):
    """Save resume data of a running task from outside its handler."""

    checkpoint: Checkpoint


class AdjustTask(_OnTask, frozen=True, kw_only=True, tag="adjust_task"):
    """Change a waiting task's priority or time, or hold or release it. Fields that are left out stay the same."""

    priority: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=MAX_PRIORITY)] | None, says("0 to 10, higher runs first.")
    ] = None
    scheduled_for: Annotated[
        Moment, says("Not before this time.", example="+10m, 'tomorrow 9:00', 2026-08-01T22:00:00Z")
    ] = None
    held: bool | None = None


class RedeliverNotice(_OnTask, frozen=True, kw_only=True, tag="redeliver_notice"):
    """Send a notice of the task once more, under its old id, whatever its state."""

    notice_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class EnableEndpoint(BaseCommand, frozen=True, kw_only=True, tag="enable_endpoint", omit_defaults=True):
    """Send notices again to an address that had answered that it is gone (HTTP 410)."""

    target: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    command_id: CommandId = ""
    actor: Text = ""
    reason: Text = ""
    correlation_id: Text = ""


LifeCommand: TypeAlias = CreateTask | StartTask | CancelTask | RetryTask | SaveCheckpoint | CreateGraph | AdjustTask
"""The commands that lead to a task's own events."""

NoticeCommand: TypeAlias = RedeliverNotice | EnableEndpoint
"""The commands about notices only."""

TaskCommand: TypeAlias = LifeCommand | NoticeCommand


def id_for_task(command_id: str, task_id: int) -> str:
    """The id of one task's command, if one request with this id leads to a command for each of many tasks.

    It begins with the request's id, or with that one's SHA-256 if both would be longer than an id may be.
    """
    own = f"{command_id}:{task_id}"
    return own if len(own) <= MAX_COMMAND_ID else f"{sha256(command_id.encode()).hexdigest()}:{task_id}"


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
"""The decisions that the Scheduler takes by itself when a limit is reached, or when the service stops."""


class Accepted(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a command: it is in the log, fsynced, at `position` (the last event it caused)."""

    task_id: int
    """The task it was about; for a graph the first that was created."""
    position: int
    command_id: str
    ids: dict[str, int] = {}
    """For a graph: the tasks' ids by their local names. Those below `task_id` existed already."""
    existing: bool = False
    """Nothing was created: an open task has the `unique` key. For a graph: that is so for all of its tasks."""


# --- commands to the service as a whole; each is recorded as an event of the service ---


MAX_MISSED = 100
"""The most missed runs of a schedule that may be made up for at once."""

Number: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
UserKey: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^(0|[1-9][0-9]{0,15})$(?!\n)", description='a user\'s number, such as "7"')
]
"""A user's number, written as a key of a JSON object."""
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

ScheduleName: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(?!\.\.?$)[^/\x00-\x1f\x7f-\x9f]+$",
        min_length=1,
        max_length=200,
        description="a name without `/` and control characters, and not `.` or `..`",
    ),
]
"""A new schedule's name, as it can stand in an address. Names in older logs may be others."""


class _OnService(BaseCommand, frozen=True, kw_only=True, omit_defaults=True):
    command_id: CommandId = ""
    actor: Text = ""
    reason: Text = ""
    correlation_id: Text = ""


RateText: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[1-9][0-9]{0,3}/([1-9][0-9]{0,4})?[smhd]$(?!\n)",  # in Python a line break may follow `$`
        description="a number of starts, at most 9999, per second, minute, hour or day, or per several of these: "
        "`10/m`, `3/15m`",
    ),
]
RateName: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(type:.+|label:.+|user:(\*|0|[1-9][0-9]{0,15}))$(?!\n)",
        max_length=210,
        description="`type:`, `user:` or `label:` and a name, or `*` for each that has no rate of its own",
    ),
]
RateTable: TypeAlias = Annotated[
    dict[RateName, RateText | None],
    says("The most starts in a period.", value="NAME=RATE", example="type:video_convert=10/m or user:*=100/h"),
]
MaxConcurrent: TypeAlias = Annotated[Annotated[int, msgspec.Meta(ge=1, le=1024)] | None, says("Tasks at once.")]
MaxMemory: TypeAlias = Annotated[
    Count | None, says("Memory that running attempts may reserve together, e.g. 4GiB; 0: no limit.", in_bytes=True)
]
MaxTempSize: TypeAlias = Annotated[
    Count | None, says("Temp space that running attempts may reserve together; 0: no limit.", in_bytes=True)
]
MaxPerType: TypeAlias = Annotated[Count | None, says("Tasks of one type at once; 0: any number.")]
MaxPerUser: TypeAlias = Annotated[Count | None, says("Tasks of one user at once; 0: any number.")]
MaxPerLabel: TypeAlias = Annotated[Count | None, says("Tasks of one label at once; 0: any number.")]
FairSharing: TypeAlias = Annotated[bool | None, says("Users take turns, or not.")]


class SetLimits(_OnService, frozen=True, kw_only=True, tag="set_limits"):
    """Change what may run at once. Fields that are left out stay the same.

    A number for one type, user or label overrides the general one.
    `reset` first forgets all earlier changes, so that the configuration holds again.
    """

    reset: Annotated[bool, says("Forget all earlier changes first.")] = False
    max_concurrent: MaxConcurrent = None
    max_memory: MaxMemory = None
    max_cpu: Annotated[
        Annotated[float, msgspec.Meta(ge=1, le=100)] | None,
        says("Start nothing while CPU use is above this percentage."),
    ] = None
    max_temp_size: MaxTempSize = None
    max_per_type: MaxPerType = None
    max_per_user: MaxPerUser = None
    max_per_label: MaxPerLabel = None
    types: Annotated[dict[Name, Number | None], says("A limit for one type.", example="video_convert=1")] = (
        msgspec.field(default_factory=dict)
    )
    """Null removes the number, here and below."""
    users: Annotated[dict[UserKey, Number | None], says("A limit for one user.", example="7=3")] = msgspec.field(
        default_factory=dict
    )
    labels: Annotated[dict[Name, Number | None], says("A limit for one label.", example="night=2")] = msgspec.field(
        default_factory=dict
    )
    rates: RateTable = msgspec.field(default_factory=dict)
    fair_share: FairSharing = None


class PauseQueue(_OnService, frozen=True, kw_only=True, tag="pause_queue"):
    """Start nothing more: at all, or of a type, or of a user. Running attempts go on."""

    type: Annotated[Name | None, says("Only this task type.", value="TYPE")] = None
    user_id: Annotated[Count | None, says("Only this user.")] = None


class ResumeQueue(_OnService, frozen=True, kw_only=True, tag="resume_queue"):
    """Undo a pause of the same scope; without a scope also a drain."""

    type: Annotated[Name | None, says("Only this task type.", value="TYPE")] = None
    user_id: Annotated[Count | None, says("Only this user.")] = None


class DrainQueue(_OnService, frozen=True, kw_only=True, tag="drain_queue"):
    """Pause everything, and record when the last attempt has ended."""


class AddSchedule(_OnService, frozen=True, kw_only=True, tag="add_schedule"):
    """Create a task again and again: at the times of a cron expression, or at a fixed interval."""

    schedule: ScheduleName
    """Its name; an existing schedule is changed only with `replace`."""
    task: CreateTask
    """The task to create. `{fire_time}` in its output file becomes the time, as `20260801T220000Z`."""
    cron: Annotated[
        str, msgspec.Meta(max_length=200), says("Five fields as in cron: '30 2 * * *'.", value="EXPRESSION")
    ] = ""
    """As in Debian's cron; six fields have seconds first."""
    every: Annotated[
        Annotated[float, msgspec.Meta(ge=1, le=_TEN_YEARS)] | None,
        says("Seconds between runs, instead of a cron expression.", value="SECONDS"),
    ] = None
    """Seconds between runs, by elapsed time, counted from `starting_at`."""
    timezone: Annotated[
        str,
        msgspec.Meta(min_length=1, max_length=100),
        says("Zone of the expression, e.g. Europe/Berlin.", default=True, value="ZONE"),
    ] = "UTC"
    starting_at: Annotated[Moment, says("No run before this time.", default="now")] = None
    missed: Annotated[MissedRuns, says("What to do about runs missed while no service ran.", default=True)] = "once"
    """What to do about runs whose time passed while no service ran: `skip`, `once` (the latest), `all`."""
    max_missed: Annotated[
        int, msgspec.Meta(ge=1, le=MAX_MISSED), says("With `all`: at most this many.", default=True)
    ] = 10
    """With `all`: the most runs to make up for, the latest ones."""
    replace: Annotated[bool, says("Change the schedule of this name, if there is one.")] = False
    """With the same times, runs go on where they were."""


class RemoveSchedule(_OnService, frozen=True, kw_only=True, tag="remove_schedule"):
    """End a schedule. Tasks that it has created stay."""

    schedule: Name


TokenName: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class AddToken(_OnService, frozen=True, kw_only=True, tag="add_token"):
    """Let whoever shows a secret do what a role may. The sender makes the secret and never sends it."""

    token: TokenName
    """Its name, which will be the actor of everything done with it."""
    role: Annotated[Role, says("What it may do.")]
    user_id: Annotated[Number | None, says("Only the tasks of this user.")] = None
    expires_at: Annotated[Moment, says("When it expires.", default="never", example="+90d")] = None
    digest: Annotated[
        str, msgspec.Meta(pattern="^[0-9a-f]{64}$", description="SHA-256 of 256 random bits as they are shown, in hex")
    ]


class RevokeToken(_OnService, frozen=True, kw_only=True, tag="revoke_token"):
    """Make a token invalid at once; sessions and streams that it has opened end."""

    token: TokenName


class EraseUser(_OnService, frozen=True, kw_only=True, tag="erase_user"):
    """Erase a user's personal data for ever, by destroying its keys. The user must have no unfinished work."""

    user_id: Number
    partly: Annotated[bool, says("Even if some tasks were recorded before encryption and stay readable.")] = False


SourceName: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=rf"^(?!\.\.?$){_SET_NAME}$",
        min_length=1,
        max_length=200,
        description="a name without `/`, commas and control characters, and not `.` or `..`",
    ),
]
"""A source's name, which is also that of a batch."""


class AddSource(_OnService, frozen=True, kw_only=True, tag="add_source"):
    """Watch folders: each file that is new or has changed becomes one task, once it is no longer being written."""

    source: SourceName
    """Its name, and the batch of its tasks; an existing source is changed only with `replace`."""
    inputs: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=100)]
    """Folders with everything below them, and patterns with `*`, `?`, `[ ]`, `**`."""
    to: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    """The template for the names of the outputs, as for a batch."""
    task: FileTask = msgspec.field(default_factory=FileTask)
    """The fields that its tasks share. Without a type, each file's kind and its output decide the type."""
    settle: Annotated[
        float,
        msgspec.Meta(ge=0, le=86400),
        says("How long a file must stay unchanged.", default=True, value="SECONDS"),
    ] = 5.0
    poll: Annotated[
        float,
        msgspec.Meta(ge=1, le=86400),
        says(
            "Time between full scans, the only way to see changes on network shares.",
            default=True,
            value="SECONDS",
        ),
    ] = 60.0
    replace: Annotated[bool, says("Change the source of this name, if there is one.")] = False


class RemoveSource(_OnService, frozen=True, kw_only=True, tag="remove_source"):
    """Stop watching the folders of a source. Tasks that it has created stay."""

    source: Name


class PauseSource(_OnService, frozen=True, kw_only=True, tag="pause_source"):
    """Stop a source from making tasks for now."""

    source: Name


class ResumeSource(_OnService, frozen=True, kw_only=True, tag="resume_source"):
    """Let a paused source go on, also with files that came meanwhile."""

    source: Name


SourceCommand: TypeAlias = AddSource | RemoveSource | PauseSource | ResumeSource
"""The commands about a watched folder."""


class DrainNode(_OnService, frozen=True, kw_only=True, tag="drain_node"):
    """Start nothing more on a node, until `undrain_node`. Running attempts go on."""

    node: Name


class UndrainNode(_OnService, frozen=True, kw_only=True, tag="undrain_node"):
    """Let attempts start on a node again."""

    node: Name


NodeCommand: TypeAlias = DrainNode | UndrainNode
"""The commands about a node."""

OperatorCommand: TypeAlias = (
    SetLimits
    | PauseQueue
    | ResumeQueue
    | DrainQueue
    | AddSchedule
    | RemoveSchedule
    | AddToken
    | RevokeToken
    | EraseUser
    | SourceCommand
    | NodeCommand
)

Command: TypeAlias = TaskCommand | OperatorCommand
"""All commands that can be sent."""


_encoder = msgspec.json.Encoder(order="deterministic")


def digest(command: Command | FileTask) -> bytes:
    """The digest that two commands with one id share if they are the same. Id, actor, reason and trace do not count.

    A batch is no command, but has a digest, too: its request has the fields of one.

    The trace does not, because a repetition is sent from a span of its own.
    """
    bare = replace(command, command_id="", actor="", reason="", correlation_id="")
    if "traceparent" in bare.__struct_fields__:
        bare = replace(bare, traceparent="")
    return sha256(_encoder.encode(bare)).digest()
