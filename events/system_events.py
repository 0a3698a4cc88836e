"""The second family of facts: what happened to the service itself. They are in the same log, under task id 0.

A task's status never depends on them; only `Adjusted` overlays priority, time and hold of a waiting task.
"""

from typing import Any, Literal, TypeAlias

import msgspec

from .counted import plural
from .task_events import Created
from .values import At, Whole

MissedRuns: TypeAlias = Literal["skip", "once", "all"]
Role: TypeAlias = Literal["reader", "submitter", "operator", "auditor", "admin"]
"""What a token may do, as docs/reference/access.md explains."""


class _SystemEvent(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The base of system events: frozen, defaults left out of the stored form."""


class AcceptedLoss(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Records are missing, and an operator goes on without them. The envelope says who, and why."""

    known_position: Whole
    """The latest record that views or snapshots have seen, or that the replaced log had."""
    known_hash: str = ""
    """Its hash, in hex."""
    log_position: Whole
    """The last position of the log that the service goes on with."""


class ServiceStarted(_SystemEvent, frozen=True, kw_only=True):
    """A service took the log. Recorded before it accepts the first command."""

    version: str
    epoch: Whole
    pid: Whole
    host: str
    accepted_loss: AcceptedLoss | None = None
    rebuilt_indexes: tuple[str, ...] = ()
    """Indexes of the log that were damaged and have been rebuilt from its table."""
    schema: str = ""
    """Fingerprint of the forms of all events that it knows; empty for versions that did not record it."""
    forms: dict[str, dict[str, str]] = {}
    """The forms that the first version did not have. From them an older version tells what it does not know."""


class ServiceStopped(_SystemEvent, frozen=True, kw_only=True):
    """A service let go of the log in good order. If this is missing before the next start, it was killed."""


class ClockJumped(_SystemEvent, frozen=True, kw_only=True):
    """The wall clock was set. Durations that began before count the time that really passed.

    Recorded when a service notices it; at its start when the log's last time is hours ahead of the clock.
    """

    shown: At
    """What the clock would have shown when this was noticed; at a start, the latest time it is known to have shown."""
    shows: At
    """What it shows instead."""


class Adjusted(_SystemEvent, frozen=True, kw_only=True):
    """A waiting task was changed: released from hold, freed from a dependency, or given another priority or time."""

    task_id: Whole
    held: bool | None = None
    priority: Whole | None = None
    scheduled_for: At | None = None
    ignored_dependency: Whole | None = None
    """The task no longer waits for this one, which has ended, because the policy for it is `ignore`."""


class Deduplicated(_SystemEvent, frozen=True, kw_only=True):
    """A task was requested whose `unique` key an open task has. The open task was the answer."""

    task_id: Whole
    """The open task."""
    name: str = ""
    """In a graph: the name of the requested task."""
    schedule: str = ""
    """The schedule that asked, …"""
    fire_time: At | None = None
    """… and the time that its run was for. That run counts as made."""


class LimitsChanged(_SystemEvent, frozen=True, kw_only=True):
    """An operator changed what may run at once. Fields that are none or missing stay as they were; see `SetLimits`."""

    reset: bool = False
    """All earlier changes are forgotten first."""
    max_concurrent: Whole | None = None
    max_memory: Whole | None = None
    max_cpu: float | None = None
    max_temp_size: Whole | None = None
    max_per_type: Whole | None = None
    max_per_user: Whole | None = None
    max_per_label: Whole | None = None
    types: dict[str, Whole | None] = {}
    users: dict[str, Whole | None] = {}
    labels: dict[str, Whole | None] = {}
    rates: dict[str, str | None] = {}
    """`type:`, `user:` or `label:` and a name → the number of starts in a time, as `10/m`."""
    fair_share: bool | None = None


class RatesConfigured(_SystemEvent, frozen=True, kw_only=True):
    """The configured rates differ from those in the last record of this kind. Starts are counted by these."""

    rates: dict[str, str] = {}


class QueuePaused(_SystemEvent, frozen=True, kw_only=True):
    """Nothing more starts: at all, or of a type, or of a user. It lasts over restarts until `QueueResumed`."""

    type: str | None = None
    user_id: Whole | None = None
    drain: bool = False
    """A `QueueDrained` follows when the last attempt has ended."""


class QueueResumed(_SystemEvent, frozen=True, kw_only=True):
    """The pause of this scope is over."""

    type: str | None = None
    user_id: Whole | None = None


class QueueDrained(_SystemEvent, frozen=True, kw_only=True):
    """The queue is being drained, and nothing runs any more."""


class ScheduleAdded(_SystemEvent, frozen=True, kw_only=True, omit_defaults=False):
    """A schedule creates tasks from now on. The `Created` of each names the schedule and its time.

    Stored with all its fields: it is also the answer when schedules are listed, and there are few of them.
    """

    schedule: str
    task: Created
    """The task that is created each time, with the estimates made when the schedule was added."""
    cron: str = ""
    every: float | None = None
    timezone: str = "UTC"
    starting_at: At
    missed: MissedRuns = "once"
    max_missed: Whole = 10
    added_at: At | None = None
    """What the clock showed. Set only if the log's time stood still because the clock had been ahead."""


class ScheduleRemoved(_SystemEvent, frozen=True, kw_only=True):
    """The schedule creates nothing more."""

    schedule: str


class SourceAdded(_SystemEvent, frozen=True, kw_only=True, omit_defaults=False):
    """Files of watched folders become tasks from now on. It replaces an earlier source of the same name.

    Stored with all its fields, as there are few sources.
    """

    source: str
    """Its name, which is also the batch of its tasks."""
    inputs: tuple[str, ...]
    """Folders with everything below them, and patterns."""
    to: str
    """The template for the names of the outputs, as for a batch."""
    task: dict[str, Any] = {}
    """The fields that its tasks share."""
    settle: float = 5.0
    """Seconds that a file has to stay unchanged before it counts as complete."""
    poll: float = 60.0
    """Seconds between two scans of everything, whatever changes the system reports."""


class SourceRemoved(_SystemEvent, frozen=True, kw_only=True):
    """The source makes no more tasks."""

    source: str


class SourcePaused(_SystemEvent, frozen=True, kw_only=True):
    """The source makes no tasks until it is resumed."""

    source: str


class SourceResumed(_SystemEvent, frozen=True, kw_only=True):
    """The source makes tasks again, also of the files that came meanwhile."""

    source: str


class WorkerExited(_SystemEvent, frozen=True, kw_only=True):
    """A worker process ended without being asked to."""

    pid: Whole
    exit_code: Whole
    why: str


LOCAL = "local"
"""The node name of the service's own machine, if attempts run there."""


class NodeJoined(_SystemEvent, frozen=True, kw_only=True):
    """A node appeared or came back. Recorded where attempts run on other machines."""

    node: str
    """Its name."""
    address: str = ""
    cpus: float = 0.0
    """What it offers to all of its workers together."""
    memory: Whole = 0
    """Bytes."""
    gpus: float = 0.0
    labels: dict[str, str] = {}


class NodeChanged(_SystemEvent, frozen=True, kw_only=True):
    """A node's offer has changed. This event holds all of it, not only what is new."""

    node: str
    address: str = ""
    cpus: float = 0.0
    memory: Whole = 0
    gpus: float = 0.0
    labels: dict[str, str] = {}


class NodeLeft(_SystemEvent, frozen=True, kw_only=True):
    """A node is gone. The attempts that ran there have ends of their own."""

    node: str
    last_seen: At | None = None
    """When it was last seen; none: by an earlier service."""


class NodeDrainStarted(_SystemEvent, frozen=True, kw_only=True):
    """Nothing more starts on the node; what runs there goes on. It lasts over restarts until `NodeDrainEnded`."""

    node: str


class NodeDrainEnded(_SystemEvent, frozen=True, kw_only=True):
    """Attempts may start on the node again."""

    node: str


class DeliveryAttempted(_SystemEvent, frozen=True, kw_only=True):
    """The Notifier tried to deliver a notice. `notice_id` is the same over all tries and restarts."""

    notice_id: str
    task_id: Whole
    channel: str
    """email, webhook, callback or apprise."""
    target: str
    ok: bool
    final: bool = False
    """No further try will follow."""
    detail: str = ""
    next_at: At | None = None
    disabled: bool = False
    """The receiver said that it is gone for good: nothing more goes to `target` until somebody enables it."""
    rest_until: At | None = None
    """The receiver asked for no notices until then; that holds for every notice to `target`."""


class DeliveryPostponed(_SystemEvent, frozen=True, kw_only=True):
    """A notice has to wait: its address has had as much mail as it may get in an hour. This does not count as a try."""

    notice_id: str
    task_id: Whole
    channel: str
    target: str
    until: At
    limit: Whole
    """Mails that one address may get within an hour."""


class RedeliveryRequested(_SystemEvent, frozen=True, kw_only=True):
    """Somebody requested a notice again, under its old id. The retry schedule begins anew."""

    notice_id: str
    task_id: Whole
    channel: Literal["webhook", "callback", "email", "apprise"]
    target: str
    told: Whole
    """Position of the event that the notice reports."""


class EndpointEnabled(_SystemEvent, frozen=True, kw_only=True):
    """Somebody says that an endpoint works again. Notices that were not sent meanwhile are sent only on request."""

    target: str


class CommandRefused(_SystemEvent, frozen=True, kw_only=True):
    """Commands of a known sender were refused. Recorded with a later commit, maybe seconds later.

    The envelope's actor says who sent them, its reason why they were refused, in fixed words: nothing that was sent
    is repeated.
    """

    command: str = ""
    """Which kind, such as `cancel_task`, or the route that refused it unseen, such as `POST /v1/limits`.

    Empty: a total over all kinds, beyond the refusals that are recorded one by one.
    """
    code: str = ""
    """The code of the error; empty likewise."""
    named_task: int | None = None
    """The task that it named. This task may not exist, and the event is not part of its history.

    No view has this number, and in older logs it may be of any size.
    """
    times: Whole = 1
    """How many refusals were alike."""


class TokenAdded(_SystemEvent, frozen=True, kw_only=True):
    """Whoever shows the secret of this token may do what its role may. The secret itself is nowhere in the log."""

    token: str
    """Its name, which is the actor of everything done with it."""
    role: Role
    user_id: Whole | None = None
    """It sees and touches the tasks of this user only; none: all tasks."""
    expires_at: At | None = None
    digest: str
    """SHA-256 of the secret, in hex."""


class TokenRevoked(_SystemEvent, frozen=True, kw_only=True):
    """The token, and every session that began with it, is invalid from now on."""

    token: str


class UserErased(_SystemEvent, frozen=True, kw_only=True):
    """Somebody had a user's personal data erased. Its keys are destroyed right after this record.

    The record is a promise: everything that was folded from the log is made anew without the data, if need be after a
    kill. `ErasureFinished` says that this is done. The user is not named.
    """

    keys: tuple[str, ...]
    """The names of the keys, which are in the records of the tasks."""
    tasks: tuple[Whole, ...]
    """The tasks whose personal data can no longer be read."""
    plain: Whole = 0
    """How many tasks of the user stay readable, because they were recorded before personal data was encrypted."""


class ErasureFinished(_SystemEvent, frozen=True, kw_only=True):
    """No file of the data folder holds the data of an erasure any more, except encrypted."""

    erasure: Whole
    """The position of its `UserErased`."""


class RetentionRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which finished tasks are to be forgotten, and when. A status, type or user that is left out may be any."""

    older_than: float | None = None
    """Seconds since the end of the task; none: never."""
    status: Literal["completed", "failed", "cancelled"] | None = None
    type: str | None = None
    user_id: Whole | None = None

    @property
    def words(self) -> str:
        """The rule in words."""
        whose = (self.status, self.type, None if self.user_id is None else f"user {self.user_id}")
        tasks = ", ".join(filter(None, whose)) or "all that is over"
        if self.older_than is None:
            return f"{tasks}: kept"
        return f"{tasks}, older than {age_in_words(self.older_than)}"


def age_in_words(seconds: float) -> str:
    """The age in days if they are whole, else in seconds."""
    days, rest = divmod(seconds, 86400)
    return f"{seconds:.15g} s" if rest or not days else f"{days:g} {plural(days, 'day')}"


class RetentionConfigured(_SystemEvent, frozen=True, kw_only=True):
    """The configured retention rules differ from those in the last record of this kind."""

    rules: tuple[RetentionRule, ...] = ()
    """The first rule that matches a task applies to it. A task that no rule matches is kept."""
    archive_after: float | None = None
    """Seconds after which records are archived; none: never."""


class ScheduleReached(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How far a schedule had come, which its dropped tasks can no longer say."""

    done_until: At
    runs: Whole


class TasksForgotten(_SystemEvent, frozen=True, kw_only=True):
    """Finished tasks were forgotten: from now on stubs stand in the place of their records.

    Numbers are written as ranges, such as `3-17,20`.
    """

    tasks: str
    positions: str
    """The positions of all their records, and of the service's records about them."""
    stubs: str
    """Digest over what is left of those records, in base64; see `events/log/stubs.py`."""
    rule: RetentionRule
    """The rule that applied. If it is configured, the envelope says where that is recorded."""
    schedules: dict[str, ScheduleReached] = {}


class SegmentArchived(_SystemEvent, frozen=True, kw_only=True):
    """A range of the log is in an archive file, which was read back. Its rows are deleted from `log.db` from now on."""

    first: Whole
    last: Whole
    root: str
    """Of the tree (RFC 6962) over the hashes of its records, in hex."""
    sha256: str
    """Of the file, in hex."""
    size: Whole
    """Of the file, in bytes."""
    newest_task: Whole
    """The highest number among the tasks that its records belong to or are about."""
    replaces: str = ""
    """The SHA-256 of the file that it replaces, as some of its records were dropped; empty for a new range."""


SystemEvent: TypeAlias = (
    ServiceStarted
    | ServiceStopped
    | ClockJumped
    | Adjusted
    | Deduplicated
    | LimitsChanged
    | RatesConfigured
    | QueuePaused
    | QueueResumed
    | QueueDrained
    | ScheduleAdded
    | ScheduleRemoved
    | WorkerExited
    | NodeJoined
    | NodeChanged
    | NodeLeft
    | NodeDrainStarted
    | NodeDrainEnded
    | DeliveryAttempted
    | DeliveryPostponed
    | RedeliveryRequested
    | EndpointEnabled
    | CommandRefused
    | TokenAdded
    | TokenRevoked
    | SourceAdded
    | SourceRemoved
    | SourcePaused
    | SourceResumed
    | UserErased
    | ErasureFinished
    | RetentionConfigured
    | TasksForgotten
    | SegmentArchived
)

SYSTEM_TAGS: dict[type[SystemEvent], str] = {
    ServiceStarted: "service_started",
    ServiceStopped: "service_stopped",
    ClockJumped: "clock_jumped",
    Adjusted: "adjusted",
    Deduplicated: "deduplicated",
    LimitsChanged: "limits_changed",
    RatesConfigured: "rates_configured",
    QueuePaused: "queue_paused",
    QueueResumed: "queue_resumed",
    QueueDrained: "queue_drained",
    ScheduleAdded: "schedule_added",
    ScheduleRemoved: "schedule_removed",
    WorkerExited: "worker_exited",
    NodeJoined: "node_joined",
    NodeChanged: "node_changed",
    NodeLeft: "node_left",
    NodeDrainStarted: "node_drain_started",
    NodeDrainEnded: "node_drain_ended",
    DeliveryAttempted: "delivery_attempted",
    DeliveryPostponed: "delivery_postponed",
    RedeliveryRequested: "redelivery_requested",
    EndpointEnabled: "endpoint_enabled",
    CommandRefused: "command_refused",
    TokenAdded: "token_added",
    TokenRevoked: "token_revoked",
    SourceAdded: "source_added",
    SourceRemoved: "source_removed",
    SourcePaused: "source_paused",
    SourceResumed: "source_resumed",
    UserErased: "user_erased",
    ErasureFinished: "erasure_finished",
    RetentionConfigured: "retention_configured",
    TasksForgotten: "tasks_forgotten",
    SegmentArchived: "segment_archived",
}
