"""The eight events of a task's life.

Every event is frozen and past tense. What happened stands here; when, by whom and because of what stands in the
envelope (`recorded.py`). The stored tags (`TAGS`) are frozen by a test: renaming a class is free, a tag is a migration.
"""

from typing import Any, Literal, TypeAlias

import msgspec

from .values import At, Whole, is_sha256

AttemptOutcome: TypeAlias = Literal["completed", "failed", "timed_out", "cancelled", "lost", "interrupted"]
FailureOutcome: TypeAlias = Literal["failed", "timed_out", "lost", "interrupted", "not_started"]
RetryCause: TypeAlias = Literal["rule", "crash", "recovery", "manual", "estimate"]
NoticeEvent: TypeAlias = Literal["created", "started", "retried", "completed", "failed", "cancelled"]
"""Events that a notice can be sent for; of failures only the final one."""
Original: TypeAlias = Literal["keep", "replace", "move"]
DependencyPolicy: TypeAlias = Literal["wait", "cancel", "fail", "ignore"]
ERASED = "[erased]"
"""Stands in place of personal data that can no longer be decrypted."""
DependencyPolicies: TypeAlias = DependencyPolicy | tuple[DependencyPolicy, ...]
"""One for all dependencies, or one for each, in the order of `depends_on`."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A task's resume data. `data` is the handler's own; the rest is the seed's."""

    processed_frames: Whole = 0
    processed_bytes: Whole = 0
    last_position: float = 0.0
    """How far the work is, in the handler's own unit (seconds of the source for video)."""
    temp_files: tuple[str, ...] = ()
    """Files the resume needs, relative to the task's work folder; never swept while the task may resume."""
    data: dict[str, Any] = {}
    input_state: str = ""
    """Inode, size and times of the input when this was made. Set by the worker; not used if the input differs."""


class ReadInput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The input as an attempt has read it, from its first byte to its last."""

    size: Whole
    """Bytes."""
    modified: Whole
    """The file's modification time, in nanoseconds since 1970, or the nearest number that fits."""
    sha256: str = ""
    """Of all its bytes, in hex; empty if it was not asked for, or if the attempt failed."""


class Estimated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """An estimate of an attempt's needs, by its type or by a probe of its input."""

    memory: Whole = 0
    """Bytes at the peak; 0 is unknown, here and below."""
    temp: Whole = 0
    seconds: float = 0.0
    basis: dict[str, Any] = {}
    """What it was made from, for people."""


class _Event(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The base of all events: immutable, defaults left out of the stored form."""


class PriorityTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """The parts whose sum is the effective priority, in points. All are stored, as readers add them up."""

    base: Whole = 0
    user: Whole = 0
    wait: float = 0.0
    duration: Whole = 0
    """Zero, or the penalty for long work: less than zero."""

    @property
    def total(self) -> float:
        """The effective priority."""
        return self.base + self.user + self.wait + self.duration


class Created(_Event, frozen=True, kw_only=True):
    """A task was accepted. Recorded by the Scheduler; from here on the task is never lost.

    It holds everything that was asked for. The static fields are never repeated by later events.
    """

    type: str
    input_file: str = ""
    output_file: str = ""
    output_real: str = ""
    """The output with links and repeated slashes resolved, where that is another path: two names may mean one file."""
    options: dict[str, Any] = {}
    priority: Whole = 0
    user_level: Whole = 0
    estimated_time: float = 0.0
    """Expected run time in seconds; more than an hour lowers the effective priority by 20."""
    max_retries: Whole = 0
    retry_delay: float = 60.0
    """Seconds between a failure and the next attempt, where a rule allows one."""
    retry_backoff: float = 1.0
    """Each delay in a life is longer than the previous one by this factor."""
    retry_max_delay: float | None = None
    """No delay is longer, in seconds."""
    retry_jitter: float = 0.0
    """Up to this share of a delay is left out, drawn anew for each attempt: 0 means none of it, 1 all."""
    resumable: bool = False
    parent_task_id: Whole | None = None
    depends_on: tuple[Whole, ...] = ()
    dependency_names: dict[str, Whole] = {}
    """Name in the graph → task, for the dependencies in the same graph. The handler may use these names."""
    on_dependency_failure: DependencyPolicies = "wait"
    """What happens to the waiting task when a dependency ends without success. The default is `wait`, as older
    logs lack this field and mean that; `CreateTask` has another default."""
    notify_email: str = ""
    notify_webhook: str = ""
    callback_url: str = ""
    notify_on: tuple[NoticeEvent, ...] = ()
    """The events that webhook, mail and targets are notified of; empty: started, completed, failed, cancelled."""
    notify_targets: tuple[str, ...] = ()
    """Names of targets in the configuration; their addresses are never recorded."""
    user_id: Whole = 0
    document_id: Whole = 0
    label: str = ""
    """A group that the sender chooses; a limit may be set for it."""
    original: Original = "keep"
    """What happens to the input when there is a result that has been checked and is smaller."""
    original_folder: str = ""
    """The folder to which the input is moved."""
    batch: str = ""
    """The set of tasks that it was created with; empty when it stands alone."""
    worker_label: str = ""
    """Its attempts run on a worker that offers this label. Empty: on any."""
    requires: dict[str, str] = {}
    """Labels that the node of its attempts has to have; `node` is the node's name. Empty: any node does."""
    unique: str = ""
    """A key that only one open task of its user may have. Empty: no key."""
    schedule: str = ""
    """The schedule that created it; else empty."""
    fire_time: At | None = None
    """The time of the schedule for which it was created."""
    scheduled_for: At | None = None
    held: bool = False
    timeout: float | None = None
    """Longest an attempt may run, in seconds; none means no limit."""
    queue_timeout: float | None = None
    """Longest wait in the queue for an attempt, in seconds; time on hold or waiting for dependencies does not count."""
    total_timeout: float | None = None
    """Longest from the first start of a life to its end, in seconds, over all attempts and the waits between them."""
    heartbeat_timeout: float | None = None
    """Longest silence of a running attempt's worker, in seconds."""
    no_progress_timeout: float | None = None
    """Longest time of a running attempt without a new percentage or a checkpoint, in seconds."""
    deadline: At | None = None
    """A task whose first attempt has not started by then is given up."""
    overwrite: bool = False
    estimated_memory: int = 0
    """Bytes reserved while the task runs. Older logs have numbers here and below that are too large for a `Whole`."""
    estimated_temp: int = 0
    """Bytes of temp space reserved while the task runs."""
    guessed_memory: Whole = 0
    """The type's own estimate, before its history was taken into account; 0: the same as `estimated_memory`."""
    guessed_temp: Whole = 0
    """The same for temp space; 0: the same as `estimated_temp`."""
    guessed_time: float = 0.0
    """The run time that the type itself estimated, before its history or the command changed it; 0 is unknown."""
    estimate_basis: dict[str, Any] = {}
    """What the type made its estimate from, for people."""
    traceparent: str = ""
    """The trace that the sender named for it (W3C trace context); empty: none."""


def is_erased(spec: Created) -> bool:
    """Whether the task's personal data is erased. A real path is absolute or empty, so it cannot look like `ERASED`."""
    return spec.input_file == ERASED


def output_of(spec: Created) -> str:
    """The path that identifies a task's output: one for each file, as far as was known when the task was created."""
    return spec.output_real or spec.output_file


def unique_key_of(spec: Created) -> str:
    """The user and `unique` as one text, which at most one open task may have; empty for a task without a key."""
    return unique_key(spec.user_id, spec.unique)


def unique_key(user_id: int, unique: str) -> str:
    """The same for a task that is requested."""
    return f"{user_id} {unique}" if unique else ""


class Started(_Event, frozen=True, kw_only=True):
    """An attempt was given to an idle worker. Recorded before the work begins; opens attempt `attempt` of the envelope.

    It does not say that the handler has run a single line: a crash may come first.
    """

    worker: str = ""
    effective_priority: float = 0.0
    terms: PriorityTerms = PriorityTerms()
    """The parts of the effective priority."""
    resumed: bool = False
    """Whether the attempt was given a checkpoint to go on from."""
    node: str = ""
    """The node of the worker; empty if there is only one machine."""
    clock: At | None = None
    """What the clock showed. Set only if a rate counts the start and the log's time stood still."""


class Progressed(_Event, frozen=True, kw_only=True):
    """The running attempt reported its progress. Recorded at most twice a second for a task; first and last always."""

    progress: float
    message: str = ""


class Checkpointed(_Event, frozen=True, kw_only=True):
    """The running attempt saved resume data. The next attempt gets it; one that goes further resets the crash count."""

    checkpoint: Checkpoint
    progress: float | None = None
    message: str = ""


class Failed(_Event, frozen=True, kw_only=True):
    """The attempt (or, with outcome `not_started`, the wait for one) ended without success.

    With `final` the life is over. Otherwise a `Retried` follows in the same commit.
    """

    outcome: FailureOutcome
    error: str
    error_type: str = ""
    rule: str = ""
    """The retry rule that matched, by name; empty when none did."""
    final: bool
    memory_used: Whole = 0
    """Peak resident bytes of the attempt's process tree."""
    cpu_used: float = 0.0
    """CPU seconds of the attempt's process tree."""
    temp_used: Whole = 0
    """Peak bytes of its temp files and its unpublished output, as sampled."""
    time_used: float = 0.0
    """Seconds from the handler's call to its end."""
    estimate: Estimated | None = None
    """The estimate of the attempt's probe, if it made one."""
    input_read: ReadInput | None = None
    exit_code: Whole | None = None
    """Of the worker that died, or of the tool that the handler's exception names; negative: the signal."""


class Retried(_Event, frozen=True, kw_only=True):
    """The task goes back to the queue, not before `due_at`. By hand, after the end of a life, it opens the next one."""

    cause: RetryCause
    due_at: At | None = None
    forced: bool = False
    """A retry by hand that was beyond `max_retries`."""
    estimate: Estimated | None = None
    """What is reserved from now on, if not the same: after a probe, or a kill of an attempt that had too little."""


class Cancelled(_Event, frozen=True, kw_only=True):
    """The task was stopped. Recorded at once; from then on reports of the running attempt are refused."""

    attempt_running: bool = False


class Completed(_Event, frozen=True, kw_only=True):
    """The attempt reached its goal; its output has its final name."""

    result: dict[str, Any] = {}
    message: str = ""
    memory_used: Whole = 0
    cpu_used: float = 0.0
    temp_used: Whole = 0
    time_used: float = 0.0
    estimate: Estimated | None = None
    input_read: ReadInput | None = None
    """Set if the type lets its input be watched."""
    tools: dict[str, str] = {}
    """Package → version, for the packages that made the output and that the type names."""
    output_sha256: str = ""
    """Of the output, in hex, if it is not too large; for a folder as in a result. Empty if the result has the same."""

    @property
    def kept_original(self) -> str:
        """Why the original was kept and the output not published; else empty."""
        original = self.result.get("original")
        return str(original.get("kept", "")) if isinstance(original, dict) else ""

    @property
    def made_sha256(self) -> str:
        """The SHA-256 of the output, in hex, as measured, else as the result says. Empty: no output, or not known."""
        if self.kept_original:
            return ""
        in_result = self.result.get("sha256")
        return self.output_sha256 or (str(in_result) if is_sha256(in_result) else "")


TaskEvent: TypeAlias = Created | Started | Progressed | Checkpointed | Failed | Retried | Cancelled | Completed

TAGS: dict[type[TaskEvent], str] = {
    Created: "created",
    Started: "started",
    Progressed: "progressed",
    Checkpointed: "checkpointed",
    Failed: "failed",
    Retried: "retried",
    Cancelled: "cancelled",
    Completed: "completed",
}


_ENDS = frozenset((Completed, Cancelled))


def is_terminal(event: object) -> bool:
    """Whether the event ends a life: completed, cancelled, or failed for good."""
    return type(event) in _ENDS or (isinstance(event, Failed) and event.final)
