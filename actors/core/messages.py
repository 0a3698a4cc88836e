"""What goes into the Scheduler's step and what comes out of it.

In: commands with a token for the answer, reports of the executor (`events/reports`), samples, deliveries, and the
moments of the service's own life. Out: facts to append, and effects to carry out once they are durable.
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
    """What was found out about a command before it reached the Scheduler: from type, options, input and log."""

    can_resume: bool = False
    output_real: str = ""
    """The output with links resolved, where that is another path."""
    estimate: Estimated = Estimated()
    """What the type itself estimates."""
    redelivery: RedeliveryRequested | None = None
    """The notice that is to be sent again, as the log knows it."""
    belongings: Belongings = NOTHING_KNOWN
    """What the log holds of the user who is to be erased, as far as it was looked through."""

    by_name: "dict[str, Intake]" = {}
    """Of a graph: what was found out about each of its tasks."""


class Submit(msgspec.Struct, frozen=True):
    """A command. `token` is handed back untouched with the answer."""

    command: Command
    intake: Intake
    token: Any = None
    only_user: int | None = None
    """Whoever sends it knows only the tasks of this user; None: all."""


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
    """Who has accepted it, or gives up what nobody can read, and why."""
    reason: str = ""
    gives_up_unreadable: bool = False
    """Cancel open tasks, and remove schedules and sources, of which the keys are missing."""
    retention: tuple[RetentionRule, ...] | None = None
    """The configured rules; None: those that are recorded stay."""
    archive_after: float | None = None
    """Configured, as the rules are."""
    started: dict[int, int] | None = None
    """Where attempts outlive the service: running task → where the start of its attempt is recorded. None: no attempt
    of an earlier service lives any more."""


class Refusal(msgspec.Struct, frozen=True):
    """Commands that were refused, and are to be recorded."""

    actor: str
    event: CommandRefused
    why: str
    """In fixed words."""


class RecordRefusals(msgspec.Struct, frozen=True):
    """These are to be recorded."""

    refusals: tuple[Refusal, ...]


class Forget(msgspec.Struct, frozen=True, kw_only=True):
    """Forget tasks for good. `token` is handed back untouched with the answer."""

    tasks: dict[int, TaskState]
    """As they were when it was found that they may go."""
    event: TasksForgotten
    """What is to be recorded, but for the schedules."""
    archives: tuple[SegmentArchived, ...] = ()
    """The archives that take the place of those with records of these tasks; recorded in the same commit."""
    actor: str
    reason: str = ""
    configured_at: int = 0
    """Where the rule is recorded that asks for it; 0: somebody asks for it."""
    token: Any = None


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """Record that a range of the log is archived. `token` is handed back untouched with the answer."""

    event: SegmentArchived
    actor: str
    reason: str = ""
    configured_at: int = 0
    """Where the policy is recorded that asks for it; 0: somebody asks for it."""
    token: Any = None


class WorkOn(msgspec.Struct, frozen=True):
    """A service that leaves other tasks as they are works on this one from now on."""

    task_id: int


class Sampled(msgspec.Struct, frozen=True):
    """The machine was sampled."""

    sample: MachineSample
    temp_used: dict[int, int] = {}
    """Running task → bytes of its temp files and its unpublished output; negative: more than anybody can count."""
    nodes: dict[str, NodeSample] = {}
    """Of each node that was looked at, where attempts run on several. `sample` says nothing of memory and CPU then."""


class Reconcile(msgspec.Struct, frozen=True):
    """Compare the running attempts with those that the executor holds. It comes again and again, every few seconds."""


class LimitsConfigured(msgspec.Struct, frozen=True):
    """Other limits are configured from now on; what operators have changed stays on top of them."""

    limits: Limits


class Delivered(msgspec.Struct, frozen=True):
    """The Notifier tried to deliver a notice, or has to wait with it."""

    fact: DeliveryAttempted | DeliveryPostponed


class ErasureDone(msgspec.Struct, frozen=True):
    """What was folded from the log has been made anew without the data of an erasure."""

    erasure: int
    """The position of its record."""


class Tick(msgspec.Struct, frozen=True):
    """Time has passed: look at the timers."""


class Jumped(msgspec.Struct, frozen=True):
    """The wall clock was set."""

    jump: ClockJumped


class Drain(msgspec.Struct, frozen=True):
    """Start nothing more and ask what runs to stop; attempts that do are recorded as interrupted."""


class Close(msgspec.Struct, frozen=True):
    """The last message: what still runs is recorded as interrupted, the service as stopped."""


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
    """Tell the sender of a command what became of it."""

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
