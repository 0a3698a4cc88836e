"""The Scheduler's memory. Everything durable in it is a fold of the log; the rest describes the present only."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from ...events import Completed, Created, Fact, Started, TaskState
from ...events.clock_jumps import Jumps
from ...events.decide import is_met
from ...events.errors import UnusableOrder
from ...events.estimates import Correction, Experience
from ...events.recorded import Stub
from ...events.reports import NodeSeen
from ...events.retry import RetryRule
from ...events.state import FINISHED, WAITING, create, overlay
from ...events.system_events import (
    Adjusted,
    ClockJumped,
    Deduplicated,
    DeliveryAttempted,
    EndpointEnabled,
    ErasureFinished,
    LimitsChanged,
    NodeChanged,
    NodeDrainEnded,
    NodeDrainStarted,
    NodeJoined,
    NodeLeft,
    QueueDrained,
    QueuePaused,
    QueueResumed,
    RatesConfigured,
    RetentionConfigured,
    ScheduleAdded,
    ScheduleRemoved,
    SegmentArchived,
    ServiceStarted,
    ServiceStopped,
    SourceAdded,
    SourcePaused,
    SourceRemoved,
    SourceResumed,
    TasksForgotten,
    TokenAdded,
    TokenRevoked,
    UserErased,
)
from ...events.task_events import Estimated, output_of, unique_key_of
from ...events.timeouts import End, Signs, attempt_ends, waiting_ends
from ...handlers.urls import is_url
from .limits import (
    LimitChanges,
    LimitKey,
    LimitKind,
    Limits,
    Pauses,
    RunningCounts,
    effective_limits,
    is_closed,
    is_full,
    limit_keys_of,
    rates_over,
)
from .messages import Submit
from .nodes import AttemptId, Nodes, NodeSample, Spot
from .queue import EQUAL, FairShare, ReadyQueue, Share
from .rates import Rates, Starts
from .recorded_nodes import RecordedNodes
from .resources import NOTHING_USED, MachineSample, Reserved, SetAside, Used, used_of
from .routing import Offer, Workers, labels_of, pick
from .schedules import NextRuns, Schedules
from .sources import Sources
from .tasks import Tasks
from .tokens import Tokens
from .windows import Windows

PUBLISH_PATIENCE = timedelta(seconds=60)
"""How long publishing may take, as a file is only renamed. After that it counts as hung."""
PUBLISH_PATIENCE_ELSEWHERE = timedelta(minutes=30)
"""The same if a server has to make the file appear: a large object takes minutes, and lost answers mean repetitions."""
SHORT_MEMORY = 64 * 1024 * 1024
"""Bytes: an attempt that may need more has a worker to itself, whatever its type says."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
MAX_BEAT = 15.0
"""The most seconds between two signs of life."""


def publish_patience(output_file: str) -> timedelta:
    """How long publishing this output may take."""
    return PUBLISH_PATIENCE_ELSEWHERE if is_url(output_file) else PUBLISH_PATIENCE


class Running(msgspec.Struct):
    """An attempt that holds a slot, from its `Started` until the executor reports its process tree gone."""

    task_id: int
    attempt: int
    started_position: int
    reserved_for: TaskState
    since: datetime
    """When it began. If the clock is set, all times here are moved with it."""
    used: Used = NOTHING_USED
    """What it uses of its reservation by the last sample; nothing if it started later."""
    stopping: bool = False
    granted_at: datetime | None = None
    """When it was allowed to publish its output."""
    estimate: Estimated | None = None
    """The estimate after probing the input."""
    temp_peak: int = 0
    """The most temp space that it used in any sample."""
    reported_at: datetime | None = None
    """When its progress was last recorded."""
    deferred: list[Submit] = []
    """Commands that wait for the end of publishing."""
    heard_at: datetime | None = None
    """Its last sign of life; None if there was none yet."""
    moved_at: datetime | None = None
    """When its percentage last changed, bytes of a file elsewhere were moved, or a checkpoint came."""
    doubted: End | None = None
    """The limit on silence that was reached at the last check; the next check acts on it."""
    percent: float = 0.0
    """The last percentage that it reported, recorded or not."""
    moved: int = 0
    """Bytes moved of a file elsewhere, by its last report."""
    offer: Offer = ()
    """The labels of its worker."""
    node: str = ""
    """The node of its worker; empty if there is only this machine."""
    short: bool = False
    """Whether it shares the worker with others."""
    queued_at: datetime | None = None
    """Since when the task waited only for free resources; None if started by hand while it waited for more."""
    sought: bool = False
    """Whether an earlier service has started it, and the executor has not reported yet whether it is alive."""
    outlived: bool = False
    """Whether an earlier service has started it, which may already have recorded the checkpoint reported next."""

    def signs(self) -> Signs:
        """The times that the limits of an attempt are measured from."""
        since = self.since
        return Signs(started_at=since, heard_at=self.heard_at or since, moved_at=self.moved_at or since)

    def set_clock(self, by: timedelta) -> None:
        """Move all times with the wall clock, which was set, so that elapsed time stays the same."""
        self.since += by
        for name in ("granted_at", "reported_at", "heard_at", "moved_at", "queued_at"):
            moment = getattr(self, name)
            if moment is not None:
                setattr(self, name, moment + by)

    @property
    def publishing(self) -> bool:
        """Whether its output may appear at any moment. An earlier service may have granted it."""
        return self.granted_at is not None or self.sought


class Reconciliation(msgspec.Struct):
    """The state of the comparison between the running attempts and those that the executor holds."""

    number: int = 0
    """The number of the last question."""
    asked: frozenset[AttemptId] = frozenset()
    """The attempts that ran at the time of that question."""
    held: bool = False
    """Whether the executor held anything when it answered last."""
    missing: frozenset[AttemptId] = frozenset()
    """The attempts that the last answer did not name."""
    strange: frozenset[AttemptId] = frozenset()
    """The attempts that only the last answer named."""


def beat_every(spec: Created) -> float:
    """Seconds between two signs of life of a task's worker; 0 if it gives none."""
    return 0.0 if spec.heartbeat_timeout is None else beat_in(spec.heartbeat_timeout)


def beat_in(limit: float) -> float:
    """Seconds between two signs of life: four of them in the time that may pass without one."""
    return min(MAX_BEAT, limit / 4)


class Timer(msgspec.Struct, frozen=True, order=True):
    """When to check a task again. With `attempt` 0 it may be due; otherwise that attempt may have run too long."""

    at: datetime
    task_id: int
    attempt: int = 0


class Families:
    """Links from parent tasks to children, kept while the child or any task below it is open."""

    def __init__(self) -> None:
        self.parents: dict[int, int] = {}
        self._children: dict[int, set[int]] = {}

    def link(self, task_id: int, parent_of: Callable[[int], int | None]) -> None:
        """Link an open task to all tasks above it. `parent_of` must know them all."""
        while task_id not in self.parents and (parent := parent_of(task_id)) is not None:
            self.parents[task_id] = parent
            self._children.setdefault(parent, set()).add(task_id)
            task_id = parent

    def unlink(self, task_id: int, is_open: Callable[[int], bool]) -> None:
        """Drop the links of a finished task that lead to no open task any more."""
        while task_id in self.parents and task_id not in self._children and not is_open(task_id):
            parent = self.parents.pop(task_id)
            siblings = self._children[parent]
            siblings.discard(task_id)
            if siblings:
                return
            del self._children[parent]
            task_id = parent

    def below(self, task_id: int) -> Iterator[int]:
        """All tasks below one, parents before their children. Some of them may be finished."""
        generation = [task_id]
        while generation:
            generation = [child for parent in generation for child in sorted(self._children.get(parent, ()))]
            yield from generation


class Outputs:
    """Knows which unfinished task writes which file. Built from the open tasks at each start."""

    def __init__(self) -> None:
        self.first: dict[str, int] = {}
        """Output → the task that will write it. If several will (they set `overwrite`), the lowest id."""
        self._others: dict[str, set[int]] = {}
        """Output → its other writers. Only files with several are in here: there may be a million files."""

    def claim(self, task: TaskState) -> None:
        """Note the output of an unfinished task. A repetition changes nothing."""
        output = output_of(task.spec)
        holder = self.first.setdefault(output, task.id) if output else task.id
        if holder != task.id:
            self.first[output] = min(holder, task.id)
            self._others.setdefault(output, set()).update({holder, task.id} - {self.first[output]})

    def give_back(self, task: TaskState) -> None:
        """Forget the output of a finished task."""
        output = output_of(task.spec)
        others = self._others.get(output)
        if others is None:
            if self.first.get(output) == task.id:
                del self.first[output]
            return
        others.discard(task.id)
        if self.first[output] == task.id:
            self.first[output] = min(others)
            others.remove(self.first[output])
        if not others:
            del self._others[output]


ParkedBy: TypeAlias = Literal["Held", "NoHandler", "NotBefore", "RetryDelay"]
"""Reasons to wait, named as in `explanation.WaitReason`."""


class Parked:
    """Waiting tasks that enter the queue only through an operator, a handler or time; and their number by reason."""

    def __init__(self) -> None:
        self._why: dict[int, ParkedBy] = {}
        self.counts: Counter[ParkedBy] = Counter()

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._why

    def put(self, task_id: int, why: ParkedBy | None) -> None:
        """Park the task for this reason; with None it is not parked."""
        old = self._why.get(task_id)
        if old == why:
            return
        if old is not None:
            self.counts[old] -= 1
        if why is None:
            del self._why[task_id]
        else:
            self._why[task_id] = why
            self.counts[why] += 1


class Durable(msgspec.Struct):
    """Everything folded from the log, except the tasks. A snapshot holds it as it is: its writer only folds the log.

    The Scheduler also notes here which missed runs of a schedule it has given up.
    """

    position: int = 0
    """The log is folded up to here."""
    last_task_id: int = 0
    system_version: int = 0
    last_at: datetime | None = None
    limit_changes: LimitChanges = msgspec.field(default_factory=LimitChanges)
    pauses: Pauses = msgspec.field(default_factory=Pauses)
    schedules: Schedules = msgspec.field(default_factory=Schedules)
    jumps: Jumps = msgspec.field(default_factory=Jumps)
    fair_share: FairShare = msgspec.field(default_factory=FairShare)
    adjusted_at: dict[int, int] = {}
    """Open task that was adjusted → position of its last adjustment."""
    experience: dict[str, Experience] = {}
    """Task type → how good its estimates were."""
    configured_rates: dict[str, str] = {}
    """The configured rates that a service recorded last."""
    starts: Starts = msgspec.field(default_factory=Starts)
    open_keys: dict[str, int] = {}
    """Key (`unique_key_of`) → the open task that has it."""
    disabled: dict[str, int] = {}
    """Endpoint that has reported itself gone → position of that record."""
    tokens: Tokens = msgspec.field(default_factory=Tokens)
    sources: Sources = msgspec.field(default_factory=Sources)
    nodes: RecordedNodes = msgspec.field(default_factory=RecordedNodes)
    erasures: dict[int, UserErased] = {}
    """Position → the unfinished erasure that is recorded there."""
    retention: RetentionConfigured = RetentionConfigured()
    """The configured rules that a service recorded last."""
    retention_at: int = 0
    """Position of that record."""
    archives: dict[int, SegmentArchived] = {}
    """First position of each archive → the latest event about it, which names its file."""


class SchedulerState:
    """The Scheduler's memory: the fold of the log (`durable` and `tasks`), and what holds only now.

    `tasks` holds the unfinished tasks and, briefly, the finished tasks that a message is about. Everything else is
    built at each start, from the tasks, the executor and the machine.
    """

    def __init__(  # noqa: PLR0915 - a line for each thing that it knows
        self,
        limits: Limits,
        *,
        grace: Mapping[str, float],
        short: Collection[str] = (),
        probing: Collection[str] = (),
        work_root: str = "",
        retry_rules: tuple[RetryRule, ...] = (),
        own: set[int] | None = None,
        outlived: bool = False,
        node_labels: Mapping[str, str] | None = None,
    ) -> None:
        self.durable = Durable()
        self.tasks = Tasks()
        self.configured = self.limits = limits
        """`limits` are in force: the configured ones, with the operators' changes on top."""
        self.retry_rules = retry_rules
        """The user's own rules, which come before the built-in ones."""
        self.own = own
        """The only tasks that this service works on; None for all."""
        self.outlived = outlived
        """Whether the executor's attempts outlive the service. Then it is informed which ends are recorded."""
        self.work_root = work_root
        """Folder that holds the work folder of each task."""
        self.grace = grace
        """Task type with a handler here → seconds between the order to stop and the kill."""
        self.short = short
        """Task types whose attempts take milliseconds: several share a worker."""
        self.probing = probing
        """Task types that look into the input before the work begins."""
        self.sample = MachineSample()
        self.sampled_at: datetime | None = None
        self.reserved = Reserved()
        self.running_counts = RunningCounts()
        self.rates = Rates({})
        """The rates in force, by the log: starts are counted against them."""
        self.shut: dict[LimitKey, datetime] = {}
        """Type, user or label whose rate is reached → when its next attempt may start."""
        self._openings: list[tuple[datetime, LimitKey]] = []
        self.windows = Windows(limits.windows, limits.windows_timezone)
        self.looked_at = _LONG_AGO
        """The time of the last step."""
        self.workers = Workers()
        self.nodes = Nodes(node_labels)
        self.draining = self.closed = False
        self.stopped_at = 0
        """Position of the last service's stop; 0 if a service has the log, or the last one was killed."""
        self.queue = ReadyQueue(self.is_closed, self._share)
        self.next_runs = NextRuns(self.durable.schedules)
        self.timers: list[Timer] = []
        self._tidy_at = 64
        self.running: dict[int, Running] = {}
        self.reconciliation = Reconciliation()
        self.blocked: dict[int, set[int]] = {}
        """Task → the dependencies it still waits for."""
        self.dependents: dict[int, set[int]] = {}
        self.unblocked_at: dict[int, datetime] = {}
        """Waiting task with a limit on its time in the queue → when the last dependency was met."""
        self.parked = Parked()
        self.families = Families()
        self.outputs = Outputs()
        self.overtaken: dict[int, int] = {}
        """Queued task that did not fit → how many later tasks have started before it."""
        self.backfill_bound: int | None = None
        """How many may; None for the dispatch's own bound."""
        self.memory_next: int | None = None
        """Bytes to reserve if the next attempt that ends was killed for lack of memory; None to find out by samples."""
        self.set_aside = SetAside()
        """Tasks that were next but would not fit if nothing ran; they come back when limits or machine allow it."""
        self.looked_in_vain_at: object = None
        """What the dispatch saw when it last found no task that could start."""
        self._passing: set[int] = set()
        """Tasks that were loaded, or whose attempt is gone, since the last call of `forget_finished`."""

    @property
    def position(self) -> int:
        """The log is folded up to here."""
        return self.durable.position

    def restore(self, durable: Durable, tasks: Tasks) -> None:
        """Fill a new state with the content of a snapshot."""
        self.durable = durable
        self.tasks = tasks
        self.next_runs = NextRuns(durable.schedules)
        self.nodes.drained(durable.nodes.drains)
        self.configure(self.configured)
        self.rates = Rates(rates_over(durable.configured_rates, durable.limit_changes.merged))

    def configure(self, limits: Limits) -> None:
        """Set the configured limits; the operators' changes stay on top of them."""
        self.configured = limits
        self.limits = effective_limits(limits, self.durable.limit_changes.merged)
        self.windows = Windows(limits.windows, limits.windows_timezone)

    def _set_rates(self) -> None:
        """Compute the rates in force, after a record has changed them."""
        try:
            self.rates = Rates(rates_over(self.durable.configured_rates, self.durable.limit_changes.merged))
        except ValueError as error:
            raise UnusableOrder(self.durable.position, f"the rate {error} cannot be followed here") from error
        self.rates.keep_to(self.durable.starts)

    def apply(self, fact: Fact, position: int) -> None:
        """Fold one event, which is in the log at `position`, or will be once this step is durable."""
        durable, event, task_id, at = self.durable, fact.event, fact.task_id, fact.recorded_at
        durable.position = position
        durable.last_at = at
        if not task_id:
            durable.system_version = fact.version
            self._apply_system(fact, position)
            return
        kind = type(event)
        if kind is Created:
            durable.last_task_id = task_id
            task = create(task_id, event, at)  # type: ignore[arg-type]  # it is one
            self.tasks.put(task)
            if task.spec.unique:
                self._hold_key(task)
            if task.spec.fire_time is not None:
                self._apply_to_schedules(fact, position)
            return
        if kind is Stub:
            durable.last_task_id = max(task_id, durable.last_task_id)
            return
        task = self.tasks.evolve(task_id, event, at)  # type: ignore[arg-type]  # a task's facts hold task events
        status, spec = task.status, task.spec
        if status not in WAITING and task_id in self.parked:
            self.parked.put(task_id, None)
        if durable.adjusted_at and status in FINISHED:
            durable.adjusted_at.pop(task_id, None)
        if spec.unique:
            self._hold_key(task)
        if kind is Started:
            forgotten = durable.fair_share.take(spec.user_id, position)
            if forgotten is not None:
                self.queue.share_changed(forgotten)
            if self.rates:
                self.rates.count(durable.starts, task, event.clock or at)  # type: ignore[union-attr]  # of a start
        elif kind is Completed:
            experience = durable.experience.get(spec.type)
            if experience is None:
                experience = durable.experience[spec.type] = Experience()
            experience.learn(task, event)  # type: ignore[arg-type]  # it is one

    def _hold_key(self, task: TaskState) -> None:
        """Note the key of an open task, and free the key of a finished one."""
        keys, key = self.durable.open_keys, unique_key_of(task.spec)
        if not task.finished:
            keys[key] = task.id
        elif keys.get(key) == task.id:
            del keys[key]

    def _apply_system(self, fact: Fact, position: int) -> None:
        durable, event = self.durable, fact.event
        match event:
            case Adjusted():
                if event.task_id in self.tasks:
                    self.tasks[event.task_id] = overlay(self.tasks[event.task_id], event, fact.recorded_at)
                    durable.adjusted_at[event.task_id] = position
            case LimitsChanged():
                durable.limit_changes.apply(event, position)
                self.configure(self.configured)
                self._set_rates()
            case RatesConfigured():
                durable.configured_rates = event.rates
                self._set_rates()
            case DeliveryAttempted():
                if event.disabled:
                    durable.disabled[event.target] = position
            case EndpointEnabled():
                durable.disabled.pop(event.target, None)
            case ClockJumped():
                durable.jumps.apply(event)
                durable.starts.set_clock(event.shows - event.shown)
                self._apply_to_schedules(fact, position)
            case ScheduleAdded() | ScheduleRemoved() | Deduplicated():
                self._apply_to_schedules(fact, position)
            case QueuePaused() | QueueResumed() | QueueDrained():
                durable.pauses.apply(fact, position)
            case TokenAdded() | TokenRevoked():
                durable.tokens.apply(fact, position)
            case RetentionConfigured():
                durable.retention = event
                durable.retention_at = position
            case TasksForgotten():
                durable.schedules.reached(event.schedules)
            case SegmentArchived():
                durable.archives[event.first] = event
            case SourceAdded() | SourceRemoved() | SourcePaused() | SourceResumed():
                durable.sources.apply(fact, position)
            case NodeJoined() | NodeChanged() | NodeLeft():
                durable.nodes.apply(fact, position)
            case NodeDrainStarted() | NodeDrainEnded():
                durable.nodes.apply(fact, position)
                self.nodes.drained(durable.nodes.drains)
                if self.nodes.many:
                    self.nodes.count_into(self.workers)
            case UserErased():
                durable.erasures[position] = event
            case ErasureFinished():
                durable.erasures.pop(event.erasure, None)
            case ServiceStarted() | ServiceStopped():
                self.stopped_at = position if type(event) is ServiceStopped else 0

    def _apply_to_schedules(self, fact: Fact, position: int) -> None:
        for name in self.durable.schedules.apply(fact, position):
            self.next_runs.changed(name)

    def correction(self, task_type: str) -> Correction:
        """The correction of the type's estimates, from its history."""
        experience = self.durable.experience.get(task_type)
        return Correction() if experience is None else experience.correction()

    def is_closed(self, key: LimitKey) -> bool:
        """Whether anything keeps all of this type, user or label from starting now."""
        if key[0] is LimitKind.WORKER:
            return pick(self.workers.free(), str(key[1])) is None
        if key[0] is LimitKind.NODE:
            return not self.nodes.is_open_for(str(key[1]))
        if key in self.shut or self.windows.closes(key):
            return True
        return is_closed(key, self.limits, self.running_counts, self.durable.pauses)

    def closed_by(self, key: LimitKey) -> str:
        """What keeps all of this type, user or label from starting now, in words; empty if nothing does."""
        kind, name = key
        if not self.is_closed(key):
            return ""
        if kind in (LimitKind.WORKER, LimitKind.NODE):
            return f"{kind} {name}"
        if self.durable.pauses.of(key) is not None:
            what = "pause"
        elif self.windows.closes(key):
            what = "window"
        else:
            what = "limit" if is_full(key, self.limits, self.running_counts) else "rate"
        return f"{what} of {kind} {name}"

    def is_own(self, task_id: int) -> bool:
        """Whether this service works on the task."""
        return self.own is None or task_id in self.own

    def _share(self, user_id: int) -> Share:
        if not self.limits.fair_share:
            return EQUAL
        return Share(self.running_counts.counts[LimitKind.USER, user_id], self.durable.fair_share.of(user_id))

    def load(self, task: TaskState) -> None:
        """Take in a task that `tasks_to_load` has named; it stays until the next commit."""
        self.tasks[task.id] = task
        self._passing.add(task.id)

    def forget_finished(self, task_ids: set[int]) -> None:
        """Drop finished tasks from memory; the log has them when they are needed.

        Call it after each commit, with the tasks that it was about.
        """
        task_ids = task_ids | self._passing  # the end of a cancelled attempt is recorded nowhere
        self.passed()
        for task_id in task_ids:
            if task_id in self.tasks.over and task_id not in self.running:
                del self.tasks[task_id]

    def passed(self) -> None:
        """Forget which tasks were loaded or have ended since: the caller knows which of them may be dropped."""
        self._passing = set()

    def look_at(
        self,
        sample: MachineSample,
        nodes: Mapping[str, NodeSample],
        memory_used: Mapping[tuple[int, int], int] | None,
        temp_used: Mapping[int, int] | None,
        now: datetime,
    ) -> None:
        """Take a sample of the machine or of the nodes, and what running attempts use by it."""
        self.sample, self.sampled_at = sample.after(self.sample, self.limits), now
        if not self.nodes.many:
            for one in self.running.values():
                memory = None  # short ones, which share a worker, run one after another
                if memory_used is not None and not one.short:
                    memory = memory_used.get((one.task_id, one.attempt), 0)
                temp = None if temp_used is None else temp_used.get(one.task_id, 0)
                one.used = used_of(one.reserved_for, memory, temp)
            self.reserved.sampled(one.used for one in self.running.values())
            return
        self.nodes.sampled(nodes, now, self.limits)
        self.count_nodes_anew()

    def count_nodes_anew(self) -> None:
        """Compute what is reserved, and how much of it is used by the last sample of each attempt's node."""
        if not self.nodes.many:
            return
        for one in self.running.values():
            if (node := self.nodes.by_name.get(one.node)) is not None:
                one.used = node.use_of(one.reserved_for, (one.task_id, one.attempt), one.since, short=one.short)
        self.reserved.sampled(one.used for one in self.running.values())
        self.nodes.count_anew((one.node, one.reserved_for, one.used) for one in self.running.values())
        for node in self.nodes.by_name.values():
            self.reserved.gone_memory += node.reserved.gone_memory
            self.reserved.gone_temp += node.reserved.gone_temp

    def hold(self, running: Running) -> None:
        """Give an attempt its slot and its resources."""
        task = running.reserved_for
        self.running[running.task_id] = running
        self._take_worker(running)
        self.reserved.take(task)
        self.running_counts.take(task)
        self.queue.share_changed(task.spec.user_id)

    def _take_worker(self, running: Running) -> None:
        room = self.free_slots
        self.workers.take(running.offer, self.limits.max_concurrent, short=running.short)
        if self.nodes.many:
            self.nodes.take(Spot(running.node, running.offer), running.reserved_for, room, short=running.short)
            self.nodes.count_into(self.workers)

    def _give_worker_back(self, running: Running) -> None:
        self.workers.give_back(running.offer, short=running.short)
        if self.nodes.many:
            spot = Spot(running.node, running.offer)
            self.nodes.give_back(spot, running.reserved_for, running.used, short=running.short)
            self.nodes.count_into(self.workers)

    def shut_by_rates(self, task: TaskState) -> None:
        """Shut what has reached its rate with the start of an attempt of the task."""
        for key in limit_keys_of(task) if self.rates else ():
            at = self.rates.opens_at(key, self.durable.starts)
            if at is not None:
                self._shut(key, at)

    def look_at_rates(self) -> None:
        """Find out anew what rates keep from starting, after the rates or the clock have changed."""
        self.shut.clear()
        self._openings.clear()
        for key, at in self.rates.reached(self.durable.starts):
            self._shut(key, at)
        self.open_due(self.looked_at)

    def look_at_windows(self) -> None:
        """Find out anew which types may start, after the windows or the clock have changed."""
        self.windows.look(self.looked_at)

    def _shut(self, key: LimitKey, at: datetime) -> None:
        if at > self.looked_at:
            self.shut[key] = at
            heappush(self._openings, (at, key))

    def open_due(self, now: datetime) -> None:
        """Begin a step: reopen the rates and the windows whose time has come."""
        self.looked_at = now
        if self.windows.are_outdated(now):
            before = self.windows.closed
            self.look_at_windows()
            if before.keys() - self.windows.closed.keys():
                self.queue.wake_all()
        while self._openings and self._openings[0][0] <= now:
            at, key = heappop(self._openings)
            if self.shut.get(key) == at:
                del self.shut[key]
                self.queue.wake(key)

    def expect(self, running: Running, estimate: Estimated) -> None:
        """Take the estimate of an attempt's probe. If it needs less than was reserved, the rest is free for others."""
        running.estimate = estimate
        before = running.reserved_for
        memory, temp = min(estimate.memory, before.memory_needed), min(estimate.temp, before.temp_needed)
        running.reserved_for = replace(before, estimate=replace(estimate, memory=memory, temp=temp))
        running.used = self.reserved.change(before, running.reserved_for, running.used)
        self.count_nodes_anew()

    def release(self, running: Running) -> None:
        """Free the slot and the resources of an attempt whose process tree is gone."""
        task = running.reserved_for
        del self.running[running.task_id]
        self._give_worker_back(running)
        if self.nodes.many:
            attempt = running.task_id, running.attempt
            self.nodes.ended(running.node, task, attempt, running.since, self.looked_at)
        self.reserved.give_back(task, running.used)
        self.running_counts.give_back(task)
        for key in limit_keys_of(task):
            self.queue.wake(key)
        for label in running.offer:
            self.queue.wake((LimitKind.WORKER, label))
        for gate in self.queue.parked_at(LimitKind.NODE) if self.nodes.many else ():  # one machine's labels are fixed
            if self.nodes.opens(running.node, str(gate[1])):
                self.queue.wake(gate)
        self.queue.share_changed(task.spec.user_id)
        self._passing.add(running.task_id)

    def move(self, running: Running, offer: Offer, node: str) -> None:
        """Correct the offer and the node of an attempt's worker. What is reserved has to be counted anew after it."""
        self._give_worker_back(running)
        running.offer, running.node = offer, node
        self._take_worker(running)

    def link(self, task: TaskState) -> None:
        """Link an open task to the tasks above it. Memory must hold them, up to the first that is already linked."""
        self.families.link(task.id, lambda task_id: self.tasks[task_id].spec.parent_task_id)

    def unlink(self, task_id: int) -> None:
        """Drop the links of a finished task."""
        self.families.unlink(task_id, lambda other: other in self.tasks and not self.tasks[other].finished)

    def block(self, task: TaskState) -> None:
        """Note which dependencies a waiting task still waits for. Their states must be in memory."""
        unmet = {other for other in task.spec.depends_on if not is_met(task, self.tasks[other])}
        if unmet:
            self.blocked[task.id] = unmet
            for other in unmet:
                self.dependents.setdefault(other, set()).add(task.id)
        elif task.spec.depends_on and task.spec.queue_timeout is not None:
            ends = [self.tasks[other].completed_at for other in task.spec.depends_on]
            self.unblocked_at[task.id] = max(at for at in (*ends, task.updated_at) if at is not None)

    def unblock(self, completed: int) -> list[TaskState]:
        """Note that a task is completed. Returns the tasks that waited for it and now wait for no other one."""
        waiting = sorted(self.dependents.get(completed, ()))
        return [self.tasks[task_id] for task_id in waiting if self.free(task_id, completed)]

    def free(self, task_id: int, dependency: int) -> bool:
        """Note that the task no longer waits for this dependency. Returns whether it waits for no other one."""
        waiting = self.dependents.get(dependency, set())
        waiting.discard(task_id)
        if not waiting:
            self.dependents.pop(dependency, None)
        unmet = self.blocked.get(task_id, set())
        unmet.discard(dependency)
        if unmet:
            return False
        self.blocked.pop(task_id, None)
        if self.tasks[task_id].spec.queue_timeout is not None and self.durable.last_at is not None:
            self.unblocked_at[task_id] = self.durable.last_at
        return True

    def queued_at(self, task: TaskState) -> datetime | None:
        """Since when a waiting task waits only for free resources; None while it is held or waits for other tasks."""
        if task.held or self.blocked.get(task.id):
            return None
        return self.durable.jumps.moved(max(task.queued_since, self.unblocked_at.get(task.id, task.queued_since)))

    def not_before(self, task: TaskState) -> datetime | None:
        """The time that the next attempt waits for. A retry delay set by a clock that was far ahead counts as over."""
        at = task.not_before
        if at is None or task.due_at is None or not self.durable.jumps.kept:
            return at
        if task.due_at < task.updated_at or self.durable.jumps.reached(task.updated_at) == task.updated_at:
            return at
        return task.scheduled_for if task.started_at is None else None

    def waiting_ends(self, task: TaskState) -> Iterator[End]:
        """The limits of a waiting task."""
        began = task.life_started_at and self.durable.jumps.moved(task.life_started_at)
        return waiting_ends(task, queued_at=self.queued_at(task), life_began_at=began)

    def attempt_ends(self, running: Running) -> Iterator[End]:
        """The limits of a running attempt."""
        task = self.tasks[running.task_id]
        began = task.life_started_at
        began = running.since if began in (None, task.started_at) else self.durable.jumps.moved(began)
        return attempt_ends(task, running.signs(), began)

    def workers_changed(self, slots: int, offers: tuple[Offer, ...], nodes: tuple[str, ...] = ()) -> None:
        """Take the current workers: their number, what each offers, and on which node it is."""
        if self.nodes.many:
            self.nodes.workers_changed(slots, offers, nodes)
            self.nodes.count_into(self.workers)
        else:
            self.workers.change(slots, offers)
        for label in labels_of(self.workers.offers):
            self.queue.wake((LimitKind.WORKER, label))
        if self.nodes.many:
            self._wake_by_node()

    def set_nodes(self, seen: tuple[NodeSeen, ...]) -> None:
        """Take the complete list of the current nodes."""
        first = not self.nodes.many
        self.nodes.set_nodes(seen, self.durable.nodes.drains)
        now = {name: self.durable.nodes.present_name_of(name, seen) for name in {e.node for e in self.running.values()}}
        if first:  # attempts that an earlier service has started are not counted on their nodes yet
            for entry in self.running.values():
                entry.node = now[entry.node]
                spot = Spot(entry.node, entry.offer)
                self.nodes.take(spot, entry.reserved_for, self.free_slots, short=entry.short)
        for entry in self.running.values():
            if now.get(entry.node, entry.node) != entry.node:
                self.move(entry, entry.offer, now[entry.node])
        self.count_nodes_anew()
        self.nodes.count_into(self.workers)
        self._wake_by_node()

    def _wake_by_node(self) -> None:
        """Wake the tasks that require something of a node."""
        for key in self.queue.parked_at(LimitKind.NODE):
            self.queue.wake(key)

    @property
    def free_slots(self) -> int:
        """How many attempts could start now, each on a worker of its own, if resources and limits allowed it."""
        return self.workers.room(self.limits.max_concurrent)

    def has_room(self, task: TaskState) -> bool:
        """Whether there is a worker for an attempt of the task, or a share of one, regardless of labels."""
        return self.workers.has_room(self.limits.max_concurrent, short=self.is_short(task))

    def is_short(self, task: TaskState) -> bool:
        """Whether attempts of the task may share a worker. Those that move a file may not, as that can take long."""
        spec = task.spec
        if spec.type not in self.short or spec.worker_label or task.memory_needed > SHORT_MEMORY:
            return False
        return not (is_url(spec.input_file) or is_url(spec.output_file))

    def set_timer(self, at: datetime, task_id: int, attempt: int = 0) -> None:
        """Look at the task again at `at`."""
        heappush(self.timers, Timer(at, task_id, attempt))
        if len(self.timers) > self._tidy_at:
            self.timers = sorted({timer for timer in self.timers if self._is_of_use(timer)})
            self._tidy_at = 2 * len(self.timers) + 64

    def _is_of_use(self, timer: Timer) -> bool:
        if timer.attempt:
            running = self.running.get(timer.task_id)
            return running is not None and running.attempt == timer.attempt
        task = self.tasks.get(timer.task_id)
        if task is None or not task.waiting:
            return False
        return self.not_before(task) == timer.at or any(end.at == timer.at for end in self.waiting_ends(task))

    def due_timers(self, now: datetime) -> list[Timer]:
        """Take out the timers whose time has come, earliest first."""
        due = []
        while self.timers and self.timers[0].at <= now:
            due.append(heappop(self.timers))
        return due

    def next_wake(self, *, windows: bool = True) -> datetime | None:
        """When the next timer or run of a schedule is due, or a rate or window opens; windows only with `windows`."""
        fires = self.next_runs.first() if self.own is None else None
        opening = self._openings[0][0] if self._openings and len(self.queue) else None
        window = self.windows.until if windows and self.windows.closed and len(self.queue) else None
        moments = (self.timers[0].at if self.timers else None, fires, opening, window)
        return min((at for at in moments if at is not None), default=None)
