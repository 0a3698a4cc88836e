"""The messages that go into the Scheduler's step, and the effects that come out of it.

In: commands with a token for the answer, reports of the executor (`events/reports`), samples, deliveries, and the
service's own start and stop. Out: facts to append, and effects to carry out once they are durable.
"""

from typing import Any, TypeAlias

import msgspec

from ...events import Accepted, Command, Fact, TaskState, TasktrailError
from ...events.context import NOTHING_KNOWN, Belongings
from ...events.forms import Forms
from ...events.reports import Order, Report
from ...events.system_events import (
    AcceptedLoss,
    ClockJumped,
    CommandRefused,
    DeliveryAttempted,
    DeliveryPostponed,
    RedeliveryRequested,
    RetentionRule,
    SegmentArchived,
    TasksForgotten,
)
from ...events.task_events import Estimated
from .limits import Limits
from .nodes import NodeSample
from .resources import MachineSample


class Intake(msgspec.Struct, frozen=True, kw_only=True):
    """What the intake has found out about a command, from its type, its options, its input and the log."""

    can_resume: bool = False
    output_real: str = ""
    """The output with links resolved, if that is another path."""
    estimate: Estimated = Estimated()
    """The type's own estimate."""
    redelivery: RedeliveryRequested | None = None
    """The notice to send again, as the log knows it."""
    belongings: Belongings = NOTHING_KNOWN
    """The data of the user to be erased, in the part of the log that was searched."""

    by_name: "dict[str, Intake]" = {}
    """For a graph: the intake of each of its tasks."""


class Submit(msgspec.Struct, frozen=True):
    """A command. `token` is handed back untouched with the answer."""

    command: Command
    intake: Intake
    token: Any = None
    only_user: int | None = None
    """The sender may know only the tasks of this user; None for all tasks."""


class Boot(msgspec.Struct, frozen=True, kw_only=True):
    """The service has the log and has folded it: recover, then accept commands."""

    version: str
    epoch: int
    pid: int
    host: str
    rebuilt_indexes: tuple[str, ...] = ()
    schema: str = ""
    forms: Forms = {}
    accepted_loss: AcceptedLoss | None = None
    actor: str = ""
    """Who accepts the loss, or gives up what cannot be read."""
    reason: str = ""
    gives_up_unreadable: bool = False
    """Cancel the open tasks, and remove the schedules and sources, whose keys are missing."""
    retention: tuple[RetentionRule, ...] | None = None
    """The configured rules; None to keep the recorded ones."""
    archive_after: float | None = None
    """Configured with the rules: seconds after which records are archived; None for never."""
    started: dict[int, int] | None = None
    """If attempts outlive the service: running task → position of its attempt's start. None: no attempt of an earlier
    service is alive."""


class Refusal(msgspec.Struct, frozen=True):
    """Refused commands that are to be recorded."""

    actor: str
    event: CommandRefused
    why: str
    """In fixed words."""


class RecordRefusals(msgspec.Struct, frozen=True):
    """Record these refusals."""

    refusals: tuple[Refusal, ...]


class Forget(msgspec.Struct, frozen=True, kw_only=True):
    """Forget tasks for good. `token` is handed back untouched with the answer."""

    tasks: dict[int, TaskState]
    """The tasks, as they were when they were chosen."""
    event: TasksForgotten
    """The event to record; the step adds the schedules."""
    archives: tuple[SegmentArchived, ...] | None = ()
    """The new archives, which replace those with records of these tasks; recorded in the same commit. None: the log
    reads no archives, although records of a time when it was in a file may name some."""
    actor: str
    reason: str = ""
    configured_at: int = 0
    """Position of the rule that asks for it; 0 if a person asks."""
    token: Any = None


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """Record that a range of the log is archived. `token` is handed back untouched with the answer."""

    event: SegmentArchived
    actor: str
    reason: str = ""
    configured_at: int = 0
    """Position of the policy that asks for it; 0 if a person asks."""
    token: Any = None


class WorkOn(msgspec.Struct, frozen=True):
    """Work on this task from now on. For a service that leaves other tasks as they are."""

    task_id: int


class Sampled(msgspec.Struct, frozen=True):
    """The machine was sampled."""

    sample: MachineSample
    temp_used: dict[int, int] | None = None
    """Running task → bytes of its temp files and its unpublished output; negative if they cannot be counted.

    One that is left out had begun later. None: nothing was measured.
    """
    memory_used: dict[tuple[int, int], int] | None = None
    """Task and number of each running attempt → bytes of memory; one that is left out has no process yet.

    None: nothing can be measured.
    """
    nodes: dict[str, NodeSample] = {}
    """Sampled node → its sample, if attempts run on several nodes. Then `sample` says nothing of memory and CPU."""


class Reconcile(msgspec.Struct, frozen=True):
    """Compare the running attempts with those that the executor holds. It comes every few seconds."""


class LimitsConfigured(msgspec.Struct, frozen=True):
    """Other limits are configured from now on; the operators' changes stay on top of them."""

    limits: Limits


class Delivered(msgspec.Struct, frozen=True):
    """The Notifier tried to deliver a notice, or has to wait with it."""

    fact: DeliveryAttempted | DeliveryPostponed


class ErasureDone(msgspec.Struct, frozen=True):
    """Everything folded from the log was rebuilt without the data of an erasure."""

    erasure: int
    """The position of its record."""


class Tick(msgspec.Struct, frozen=True):
    """Time has passed: look at the timers."""


class Jumped(msgspec.Struct, frozen=True):
    """The wall clock was set."""

    jump: ClockJumped


class Drain(msgspec.Struct, frozen=True):
    """Start nothing more, and ask the running attempts to stop. Those that do are recorded as interrupted."""


class Close(msgspec.Struct, frozen=True):
    """The last message: record the running attempts as interrupted, and the service as stopped."""


Message: TypeAlias = (
    Submit
    | Report
    | Boot
    | WorkOn
    | Forget
    | Archive
    | Sampled
    | LimitsConfigured
    | Delivered
    | RecordRefusals
    | ErasureDone
    | Reconcile
    | Tick
    | Jumped
    | Drain
    | Close
)


class Answered(msgspec.Struct, frozen=True):
    """The answer for the sender of a command."""

    token: Any
    answer: Accepted | TasktrailError


class Commanded(msgspec.Struct, frozen=True):
    """An order for the executor."""

    order: Order


Effect: TypeAlias = Answered | Commanded


class Staged(msgspec.Struct, frozen=True):
    """The result of one step: facts in the order of their positions, and what to do once they are durable."""

    facts: list[Fact]
    effects: list[Effect]
