"""Why a task is not running: every reason with its numbers, its evidence in the log, and what would lift it."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from ...events import AdjustTask, RetryTask, StartTask, Status, TaskState
from ...events.commands import ResumeQueue, SetLimits, UndrainNode
from ...events.counted import plural
from ...events.priority import terms
from ...events.recorded import to_the_second
from ...events.system_events import LOCAL
from ...events.task_events import PriorityTerms
from .dispatch import InUse, in_use_without, who_goes_first
from .limits import LIMIT_TABLES, UNLIMITED, LimitKey, LimitKind, Limits, Pause, is_full, limit_keys_of, limit_of
from .node_search import place
from .nodes import Node, Nodes, has_labels
from .rates import MOST_STARTS, rate_name
from .resources import MachineSample, Reserved, Shortage, ceiling_of, never_fits, shortages
from .routing import offering, pick
from .state import SchedulerState
from .unit_of_work import UnitOfWork
from .windows import Windows


class WaitReason(StrEnum):
    """Why a task is not running."""

    DEPENDENCY = "Dependency"
    DEPENDENCY_FAILED = "DependencyFailed"
    NOT_BEFORE = "NotBefore"
    RETRY_DELAY = "RetryDelay"
    CONCURRENCY_LIMIT = "ConcurrencyLimit"
    TYPE_LIMIT = "TypeLimit"
    USER_LIMIT = "UserLimit"
    LABEL_LIMIT = "LabelLimit"
    RATE_LIMIT = "RateLimit"
    WINDOW = "Window"
    WORKER_LABEL = "WorkerLabel"
    PAUSED = "Paused"
    MEMORY = "Memory"
    CPU = "Cpu"
    TEMP_SPACE = "TempSpace"
    NO_NODE_FITS = "NoNodeFits"
    NODES_BUSY = "NodesBusy"
    NODE_DRAINING = "NodeDraining"
    HIGHER_PRIORITY = "HigherPriority"
    HELD = "Held"
    STOPPING = "Stopping"
    NO_HANDLER = "NoHandler"
    SHUTTING_DOWN = "ShuttingDown"


Lifting: TypeAlias = AdjustTask | ResumeQueue | RetryTask | SetLimits | StartTask | UndrainNode


class Obstacle(msgspec.Struct, frozen=True):
    """One reason why a task waits, with the numbers behind it."""

    reason: WaitReason
    detail: str
    """The reason in words."""
    lifts: str = ""
    """What would end it, in words."""
    numbers: dict[str, float] = {}
    evidence: tuple[int, ...] = ()
    """Positions of the records that show it; empty if it follows from the machine or the configuration."""
    tasks: tuple[int, ...] = ()
    """The other tasks that it is about."""
    commands: tuple[Lifting, ...] = ()
    """Commands that would end it, ready to be sent; empty if only time or the machine can."""


class Ahead(msgspec.Struct, frozen=True):
    """A waiting task that comes before this one."""

    task_id: int
    type: str
    effective_priority: float
    terms: PriorityTerms


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why a task is not running. It starts when all the reasons are gone; while any one is left it waits."""

    task_id: int
    status: Status
    waiting: bool
    """False if it runs or has ended: then there is nothing to explain."""
    reasons: tuple[Obstacle, ...] = ()
    effective_priority: float = 0.0
    terms: PriorityTerms = PriorityTerms()
    place: int | None = None
    """Its place among the tasks that only wait for free resources; None while it waits for something else."""
    ahead: tuple[Ahead, ...] = ()
    """The first tasks before it."""
    position: int = 0
    """The log was folded up to here."""
    live: bool = True
    """Whether a running service answers, which knows the machine."""
    remark: str = ""


_FROM_THE_LOG = (
    "The reasons come from the log; only a running service knows the slots, the limits in use, the handlers, the "
    "machine's samples and the order among tasks that could start."
)
NOT_LIVE = f"No service runs. {_FROM_THE_LOG}"
CUT_OFF = (
    "No service runs, so nothing works on it: the log has no end of its attempt. The next start of a service goes on "
    "from the last checkpoint, or begins it anew."
)
NOT_ASKED = f"No service was asked: one on another machine may have the log. {_FROM_THE_LOG}"
THEN = (
    "This is how it was, as far as the log shows. Limits and windows of the configuration are today's. The machine, "
    "the workers and the handlers of that time are not recorded, and tasks forgotten since are unknown: they may have "
    "kept it waiting, too."
)
STANDS_ASIDE = (
    "It would not fit even once everything that runs here has ended, so no room is kept for it and others go ahead. It "
    "starts when other programs on the machine release what they hold."
)
NEVER_FITS = "It would not fit even if nothing else ran: it starts only once a limit is raised or the machine has more."
NO_ROOM_KEPT = "No room is kept for it on any node, and others go ahead: it starts once a node has what it needs."
SHOWN = 10
"""How many tasks ahead are named."""
LIMIT_REASONS = {
    LimitKind.TYPE: WaitReason.TYPE_LIMIT,
    LimitKind.USER: WaitReason.USER_LIMIT,
    LimitKind.LABEL: WaitReason.LABEL_LIMIT,
}
_RESOURCES = {
    WaitReason.MEMORY: "max_memory",
    WaitReason.TEMP_SPACE: "max_temp_size",
    WaitReason.CPU: "max_cpu",
}


def explain(
    state: SchedulerState, task_id: int, now: datetime, *, live: bool = True, not_live: str = NOT_LIVE
) -> Callable[[], Why] | None:
    """Explain why the task waits; None if memory does not hold it, because it has ended or never existed.

    `not_live` is the remark about a task that waits, if the state is not that of a running service.

    The result is a function. Calling it counts the place in the queue, which takes a look at each waiting task. It may
    be called later and in another thread; it describes the state at the time of `explain`.
    """
    task = state.tasks.get(task_id)
    if task is None:
        return None
    if not task.waiting:
        why = Why(task_id=task_id, status=task.status, waiting=False, position=state.position, live=live)
        return lambda: why
    parts, queued = terms(task, now), task_id in state.queue
    why = Why(
        task_id=task_id,
        status=task.status,
        waiting=True,
        reasons=reasons_of(state, task, now, live=live),
        effective_priority=round(parts.total, 3),
        terms=parts,
        ahead=_ahead(state, task, now) if queued else (),
        position=state.position,
        live=live,
        remark=_remark(state, task) if live else not_live,
    )
    if not queued:
        return lambda: why
    count = state.queue.ahead_of(task, fair=state.limits.fair_share)
    return lambda: replace(why, place=count() + 1)


def explain_past(state: SchedulerState, task_id: int, moment: datetime) -> Why | None:
    """Explain why a task waited at an earlier time, as far as the log shows; None if it had ended or did not exist.

    `state` is the state at that time, from `folded_state`. The past cannot be changed, so no commands are given.
    """
    answer = explain(state, task_id, moment, live=False)
    why = None if answer is None else answer()
    if why is None or not why.waiting:
        return why
    reasons = (*why.reasons, *_past_obstacles(state, state.tasks[task_id], moment))
    return replace(why, reasons=tuple(replace(one, commands=()) for one in reasons), remark=THEN)


def _past_obstacles(state: SchedulerState, task: TaskState, moment: datetime) -> Iterator[Obstacle]:
    """Yield what kept such a task from starting: a stopped service, and limits that log and configuration show."""
    limits, in_use = state.limits, in_use_without(state, task)
    if state.stopped_at:
        text, lifts = "no service ran: the last one had stopped", "the next start of the service"
        yield Obstacle(WaitReason.SHUTTING_DOWN, text, lifts, {}, (state.stopped_at,))
    used = len(state.running)
    if used >= limits.max_concurrent:
        yield Obstacle(
            WaitReason.CONCURRENCY_LIMIT,
            f"{_attempts(used)} run{'s' * (used == 1)}, max_concurrent is {limits.max_concurrent}",
            "the end of an attempt, or a higher max_concurrent",
            {"running": used, "limit": limits.max_concurrent},
            (
                *(entry.started_position for entry in state.running.values()),
                *state.durable.limit_changes.set_at("max_concurrent"),
            ),
            tuple(state.running),
        )
    yield from _limit_obstacles(state, task, in_use, moment)
    if state.nodes.local_drains and not state.durable.nodes.present():  # otherwise attempts ran on a cluster
        yield _drained(state, LOCAL, "the machine of the service")
    yield from _with_holders(state, task, limits, in_use)


def _limit_obstacles(state: SchedulerState, task: TaskState, in_use: InUse, now: datetime) -> Iterator[Obstacle]:
    """Yield the reached limits and rates, and the closed windows, that apply to the task."""
    for key in limit_keys_of(task):
        if is_full(key, state.limits, in_use.running_counts):
            yield _full(state, key)
    for key in limit_keys_of(task):
        if state.shut.get(key, now) > now:
            yield _rate_reached(state, key, now)
    windows = state.windows.as_of(now)
    if windows.closes((LimitKind.TYPE, task.spec.type)):
        yield _outside_windows(windows, task.spec.type, now)


def reasons_of(state: SchedulerState, task: TaskState, now: datetime, *, live: bool = True) -> tuple[Obstacle, ...]:
    """All reasons why a waiting task waits, but not its place in the queue: that takes a look at the whole queue."""
    reasons = [*own_timers(state, task, now), *recorded_obstacles(state, task)]
    if live:
        reasons += [*live_obstacles(state, task, now), *_order(state, task)]
    if len(reasons) == 1 and reasons[0].reason is WaitReason.NOT_BEFORE:  # other reasons would refuse a start by hand
        reasons = [replace(reasons[0], commands=(StartTask(task_id=task.id),))]
    return tuple(reasons)


def for_user(why: Why, is_own: Callable[[int], bool]) -> Why:
    """Reduce the answer for a reader who may know only some of the tasks: the others are counted, but not named."""
    return replace(
        why,
        reasons=tuple(_without_foreign_tasks(one, is_own) for one in why.reasons),
        ahead=tuple(one for one in why.ahead if is_own(one.task_id)),
    )


_OF_THE_TASK_ALONE = frozenset(
    {
        WaitReason.HELD,
        WaitReason.NOT_BEFORE,
        WaitReason.RETRY_DELAY,
        WaitReason.PAUSED,
        WaitReason.STOPPING,
        WaitReason.WINDOW,
    }
)
_OF_DEPENDENCIES = frozenset({WaitReason.DEPENDENCY, WaitReason.DEPENDENCY_FAILED})


def _without_foreign_tasks(one: Obstacle, is_own: Callable[[int], bool]) -> Obstacle:
    """The dependencies are part of the task itself, so they are named; their status is not shown."""
    if one.reason in _OF_THE_TASK_ALONE:
        return one
    if one.reason in _OF_DEPENDENCIES:
        if all(map(is_own, one.tasks)):
            return one
        waited = f"{plural(len(one.tasks), 'task')} {_listed(set(one.tasks))}"
        return Obstacle(WaitReason.DEPENDENCY, f"waits for {waited}", f"{waited} completed", one.numbers)
    detail = one.detail
    if one.reason == WaitReason.HIGHER_PRIORITY:
        detail = f"{len(one.tasks)} of the waiting tasks would start first, or have resources kept for them"
    return replace(one, detail=detail, evidence=(), tasks=tuple(filter(is_own, one.tasks)))


def why_not_now(work: UnitOfWork, task: TaskState) -> tuple[Obstacle, ...]:
    """Why the task cannot be started by hand now, ahead of the queue and of its own times."""
    return (*recorded_obstacles(work.state, task), *live_obstacles(work.state, task, work.now))


def own_timers(state: SchedulerState, task: TaskState, now: datetime) -> tuple[Obstacle, ...]:
    """The hold and the times that the task waits for. `StartTask` overrides them."""
    timers = []
    adjusted = state.durable.adjusted_at.get(task.id)
    evidence = () if adjusted is None else (adjusted,)
    if task.held:
        release = (StartTask(task_id=task.id),)
        text = "is held until it is started"
        timers.append(Obstacle(WaitReason.HELD, text, "its release", {}, evidence, commands=release))
    scheduled = task.scheduled_for if task.started_at is None else None
    if scheduled is not None and scheduled > now:
        sooner = AdjustTask(task_id=task.id, scheduled_for=now)
        timers.append(replace(_until(WaitReason.NOT_BEFORE, scheduled, now, evidence), commands=(sooner,)))
    not_before = state.not_before(task)
    if task.due_at is not None and task.due_at > now and not_before is not None and not_before >= task.due_at:
        by_hand = StartTask(task_id=task.id)
        timers.append(replace(_until(WaitReason.RETRY_DELAY, task.due_at, now, ()), commands=(by_hand,)))
    return tuple(timers)


def recorded_obstacles(state: SchedulerState, task: TaskState) -> tuple[Obstacle, ...]:
    """The reasons that follow from the log alone: pauses and dependencies."""
    paused = [_paused(pause) for pause in pauses_of(state, task)]
    return (*paused, *unmet(state, task))


def live_obstacles(state: SchedulerState, task: TaskState, now: datetime) -> tuple[Obstacle, ...]:
    """The reasons that only a running service knows: handlers, slots, limits in use, the machine."""
    listed = []
    kind = task.spec.type
    if kind not in state.grace:
        text = f"no handler is installed for type {kind}"
        listed.append(Obstacle(WaitReason.NO_HANDLER, text, "a restart with the handler installed"))
    if state.draining:
        listed.append(Obstacle(WaitReason.SHUTTING_DOWN, "the service is stopping", "the next start of the service"))
    own = state.running.get(task.id)
    if own is not None:
        text = f"attempt {own.attempt} is still being stopped"
        position = (own.started_position,)
        listed.append(Obstacle(WaitReason.STOPPING, text, "the end of its process tree", evidence=position))
    in_use = in_use_without(state, task)
    if not in_use.has_room(short=state.is_short(task)):
        listed.append(_no_slot(state))
    if task.spec.worker_label and pick(in_use.workers.free(), task.spec.worker_label) is None:
        listed.append(_no_worker(state, task))
    listed += [*_limit_obstacles(state, task, in_use, now), *node_obstacles(state, task, in_use)]
    return (*listed, *_with_holders(state, task, state.limits, in_use))


def pauses_of(state: SchedulerState, task: TaskState) -> tuple[Pause, ...]:
    """The pauses that keep the task from starting."""
    pauses = [state.durable.pauses.everything, *(state.durable.pauses.of(key) for key in limit_keys_of(task))]
    return tuple(pause for pause in pauses if pause is not None)


def _with_holders(state: SchedulerState, task: TaskState, limits: Limits, in_use: InUse) -> tuple[Obstacle, ...]:
    """The shortages, with the positions at which the holding attempts started and a limit was set."""
    starts = tuple(entry.started_position for entry in state.running.values() if entry.task_id != task.id)
    listed = []
    for one in obstacles(task, limits, state.sample, in_use.reserved):
        holders = starts if "missing" in one.numbers else ()
        # If a limit is the reason, there is a command that raises it.
        changed = state.durable.limit_changes.set_at(_RESOURCES[one.reason]) if one.commands else ()
        listed.append(replace(one, evidence=(*holders, *changed)))
    return tuple(listed)


def _until(reason: WaitReason, at: datetime, now: datetime, evidence: tuple[int, ...]) -> Obstacle:
    left = round((at - now).total_seconds(), 3)
    text = to_the_second(at)
    return Obstacle(reason, f"not before {text}, in {_distance(left)}", f"the time {text}", {"seconds": left}, evidence)


def _distance(seconds: float) -> str:
    """A time span in words, in one unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def _paused(pause: Pause) -> Obstacle:
    scope = "everything" if pause.user_id is None else f"user {pause.user_id}"
    scope = scope if pause.type is None else f"type {pause.type}"
    who = f" by {pause.actor}" if pause.actor else ""
    why = f": {pause.reason}" if pause.reason else ""
    word, end = ("being drained", "the end of the drain") if pause.drain else ("paused", "the end of the pause")
    resume = ResumeQueue(type=pause.type, user_id=pause.user_id)
    text = f"{scope} is {word}{who}{why}"
    return Obstacle(WaitReason.PAUSED, text, end, {}, (pause.position,), commands=(resume,))


def _no_slot(state: SchedulerState) -> Obstacle:
    used, limit = len(state.running), state.limits.max_concurrent
    workers = state.nodes.slots if state.nodes.many else state.workers.slots
    starts = (entry.started_position for entry in state.running.values())
    more = state.workers.held + 1
    lacking = ["more workers (`workers` of the configuration)"] * (workers < more)
    lacking += ["a higher max_concurrent"] * (limit < more)
    return Obstacle(
        WaitReason.CONCURRENCY_LIMIT,
        f"{_attempts(used)} hold{'s' * (used == 1)} all the slots" if workers else "no worker is ready",
        "the end of an attempt" + f", or {' and '.join(lacking)}" * bool(lacking),
        {"running": used, "held": more - 1, "workers": workers, "limit": limit},
        (*starts, *state.durable.limit_changes.set_at("max_concurrent")),
        tuple(state.running),
        # If workers are missing, a higher limit would change nothing.
        (SetLimits(max_concurrent=more),) if limit < more <= workers else (),
    )


def _no_worker(state: SchedulerState, task: TaskState) -> Obstacle:
    label = task.spec.worker_label
    workers = offering(state.workers.offers, label)
    holders = [entry for entry in state.running.values() if label in entry.offer and entry.task_id != task.id]
    busy = f"all {workers} workers with {label} are busy" if workers > 1 else f"the worker with {label} is busy"
    return Obstacle(
        WaitReason.WORKER_LABEL,
        busy if workers else f"no worker offers {label}",
        f"the end of an attempt on a worker with {label}, or more workers that offer it"
        if workers
        else f'a start of the service with `worker_labels = ["{label}=1"]`',
        {"workers": workers, "busy": len(holders)},
        tuple(entry.started_position for entry in holders),
        tuple(entry.task_id for entry in holders),
    )


def node_obstacles(state: SchedulerState, task: TaskState, in_use: InUse) -> Iterator[Obstacle]:
    """Yield what keeps the task from starting on any node now."""
    nodes = in_use.nodes
    if not nodes.many:
        yield from _machine_obstacles(state, task, nodes)
        return
    # Limits on all nodes together, and a lack of workers on them, are reasons of their own.
    short = state.is_short(task)
    one_more = place(nodes, task, state.limits, max(1, in_use.room), short=short) is not None
    here = one_more and place(nodes, task, state.limits, in_use.room, short=short) is not None
    if here:
        return
    if one_more or not nodes.slots:
        if in_use.has_room(short=short):  # a worker could be shared, but it is on another node or gone
            yield _no_slot(state)
        return
    able = nodes.able(task)
    nearest = nodes.nearest(task, able)
    if nearest is not None:
        yield from _full_node(state, task, nearest, len(able))
        return
    drained = [node for node in nodes.by_name.values() if node.draining and node.could_hold(task)]
    for node in drained:
        yield _drained(state, node.name, "which could take it" if len(drained) == 1 else "which could take it, too")
    if not drained:
        yield _no_node_fits(state, task, nodes)


def _machine_obstacles(state: SchedulerState, task: TaskState, nodes: Nodes) -> Iterator[Obstacle]:
    if state.outlived:  # attempts run on a cluster that has not reported its nodes yet, so no worker is ready either
        return
    if nodes.local_drains:
        yield _drained(state, LOCAL, "the machine of the service")
    requires = task.spec.requires
    if requires and not has_labels(LOCAL, nodes.labels, requires):
        lacking = _lacking_labels(LOCAL, nodes.labels, requires)
        yield Obstacle(
            WaitReason.NO_NODE_FITS,
            f"requires {_listed_labels(requires)}; this machine, the only node, has no {lacking}",
            "a start of the service with other `node_labels`, or on a cluster with such a node",
            {"nodes": 1},
        )


def _drained(state: SchedulerState, name: str, what: str) -> Obstacle:
    drained_as = state.durable.nodes.drained_as(name)
    drain = state.durable.nodes.drains.get(drained_as)
    who = f" by {drain.actor}" if drain is not None and drain.actor else ""
    why = f": {drain.reason}" if drain is not None and drain.reason else ""
    return Obstacle(
        WaitReason.NODE_DRAINING,
        f"node {name}, {what}, is being drained{who}{why}",
        f"the end of the drain (`tasktrail nodes undrain {drained_as or name}`)",
        {},
        (drain.position,) if drain is not None else (),
        commands=(UndrainNode(node=drained_as or name),),
    )


def _full_node(state: SchedulerState, task: TaskState, node: Node, able: int) -> Iterator[Obstacle]:
    """Yield why the task does not start on the node that lacks the least for it."""
    others = f"; of {able} nodes that could take it, it comes nearest" if able > 1 else ""
    entries = [entry for entry in state.running.values() if entry.node == node.name and entry.task_id != task.id]
    starts, ids = tuple(entry.started_position for entry in entries), tuple(entry.task_id for entry in entries)
    lacks_bytes = False
    for lacking in node.shortages(task, state.limits):
        one = _in_words(lacking, state.limits, node.sample, f"node {node.name}")
        detail = one.detail if lacking.resource in ("memory", "temp") else f"node {node.name}: {one.detail}"
        holders = starts if "missing" in one.numbers else ()
        yield replace(one, detail=f"{detail}{others}", evidence=holders)
        lacks_bytes = True
    if not lacks_bytes:
        number = node.workers.slots
        yield Obstacle(
            WaitReason.NODES_BUSY,
            f"{'all' if number > 1 else 'the'} {f'{number} workers' if number > 1 else 'worker'} of node {node.name} "
            f"{'are' if number > 1 else 'is'} busy{others}",
            "the end of an attempt there, or more workers (`workers` of the configuration)",
            {"nodes": able, "workers": number, "running": len(entries)},
            starts,
            ids,
        )


def _no_node_fits(state: SchedulerState, task: TaskState, nodes: Nodes) -> Obstacle:
    present = [node for node in nodes.by_name.values() if node.present]
    if not present:
        return Obstacle(WaitReason.NO_NODE_FITS, "no node is there", "a node that joins the cluster", {"nodes": 0})
    nearest = min(present, key=lambda node: _distance_to_fit(node, task))
    best, sample = nearest.ceiling(), nearest.sample
    lacks = []
    if not nearest.is_asked_for(task):
        lacks.append(f"has no {_lacking_labels(nearest.name, nearest.seen.labels, task.spec.requires)}")
    if not nearest.workers.slots:
        lacks.append("has no worker")
    elif nearest.sampled_at is None:
        lacks.append("has not been looked at yet")
    elif task.spec.worker_label and not offering(nearest.workers.offers, task.spec.worker_label):
        lacks.append(f"has no worker with {task.spec.worker_label}")
    numbers: dict[str, float] = {"nodes": len(present)}
    for what, needed, most, total in (
        ("memory", task.memory_needed, best.memory, sample.memory_total),
        ("temp", task.temp_needed, best.temp, sample.temp_total),
    ):
        if needed > most:
            word = "temp space" if what == "temp" else what
            others = f" ({total:,} in all, less what others use)" if total >= needed else ""
            lacks.append(f"could give {most:,} bytes of {word}{others}, it needs {needed:,}")
            numbers |= {f"{what}_needed": needed, f"{what}_there": most, f"{what}_missing": needed - most}
    recorded = state.durable.nodes.by_name.get(nearest.name)
    among = f"none of {len(present)} nodes" if len(present) > 1 else "the only node does not suit"
    nearest_is = f"{nearest.name} comes nearest: it" if len(present) > 1 else f"{nearest.name}"
    return Obstacle(
        WaitReason.NO_NODE_FITS,
        f"{among}{' suits' if len(present) > 1 else ''}, even when it is empty; {nearest_is} {' and '.join(lacks)}",
        "a node with more, or with what is required",
        numbers,
        (recorded.position,) if recorded is not None else (),
    )


def _distance_to_fit(node: Node, task: TaskState) -> tuple[bool, int, bool, int, str]:
    """How far a node is from ever being able to hold the task."""
    best = node.ceiling()
    missing = max(0, task.memory_needed - best.memory) + max(0, task.temp_needed - best.temp)
    labels = len(_lacking(node.name, node.seen.labels, task.spec.requires))
    blind = not node.workers.slots or node.sampled_at is None
    return node.draining, labels, blind, missing, node.name


def _lacking(name: str, labels: Mapping[str, str], requires: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in requires.items() if not has_labels(name, labels, {key: value})}


def _lacking_labels(name: str, labels: Mapping[str, str], requires: Mapping[str, str]) -> str:
    return _listed_labels(_lacking(name, labels, requires))


def _listed_labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _attempts(number: int) -> str:
    return f"{number} attempt{'s' * (number != 1)}"


def _full(state: SchedulerState, key: LimitKey) -> Obstacle:
    kind, name = key
    limit = limit_of(key, state.limits)
    holders = [entry for entry in state.running.values() if key in limit_keys_of(entry.reserved_for)]
    own = state.durable.limit_changes.set_at(LIMIT_TABLES[kind], str(name))
    recorded = own or state.durable.limit_changes.set_at(f"max_per_{kind}")
    higher: dict[str, Any] = {LIMIT_TABLES[kind]: {str(name): len(holders) + 1}}
    return Obstacle(
        LIMIT_REASONS[kind],
        f"{_attempts(len(holders))} of {kind} {name} run{'s' * (len(holders) == 1)}, {limit} may",
        f"the end of one of them, or a higher limit of {kind} {name}",
        {"running": len(holders), "limit": limit},
        (*(entry.started_position for entry in holders), *recorded),
        tuple(entry.task_id for entry in holders),
        (SetLimits(**higher),),
    )


def _rate_reached(state: SchedulerState, key: LimitKey, now: datetime) -> Obstacle:
    kind, name = key
    rates, durable = state.rates, state.durable
    rate, at, set_for = rates.of(key), state.shut[key], rates.set_for(key)
    assert rate is not None
    started = rate.starts - (rates.left(key, durable.starts, now) or 0)
    _, _, period = rates.texts[set_for].partition("/")
    span = period if period[0].isdigit() else f"1{period}"
    more = f"{rate.starts + 1}/{period}"
    then = to_the_second(at)
    return Obstacle(
        WaitReason.RATE_LIMIT,
        f"{started} of {rate.starts} starts in {span} of {kind} {name} are used; the next may be at {then}",
        f"the time {then}, or a higher rate of {kind} {name}",
        {
            "started": started,
            "limit": rate.starts,
            "period": rate.period.total_seconds(),
            "seconds": round((at - now).total_seconds(), 3),
        },
        durable.limit_changes.set_at("rates", set_for),
        commands=(SetLimits(rates={rate_name(key): more}),) if rate.starts < MOST_STARTS else (),
    )


def _outside_windows(windows: Windows, task_type: str, now: datetime) -> Obstacle:
    name = windows.named(task_type)
    opens, texts = windows.closed[name], ", ".join(windows.texts[name])
    then = f"at {to_the_second(opens)}" if opens else "not within a week"
    return Obstacle(
        WaitReason.WINDOW,
        f"type {task_type} starts {texts} ({windows.timezone}); the window opens {then}",
        f"the time {to_the_second(opens)}" if opens else "other windows in the configuration",
        {"seconds": round((opens - now).total_seconds(), 3)} if opens else {},
    )


def obstacles(task: TaskState, limits: Limits, sample: MachineSample, reserved: Reserved) -> tuple[Obstacle, ...]:
    """The shortages that keep the task from starting now, as reasons to wait."""
    return tuple(_in_words(one, limits, sample) for one in shortages(task, limits, sample, reserved))


def _in_words(lacking: Shortage, limits: Limits, sample: MachineSample, node: str = "") -> Obstacle:
    match lacking.resource:
        case "cpu":
            return _busy(sample.cpu_percent, limits.max_cpu)
        case "disk_low":
            return _disk_low(sample.temp_free, lacking.needed)
        case "memory":
            return _too_few_bytes(WaitReason.MEMORY, lacking, limits, node or "the machine", sample.memory_available)
        case "temp":
            return _too_few_bytes(WaitReason.TEMP_SPACE, lacking, limits, node or "the disk", sample.temp_free)


def _too_few_bytes(reason: WaitReason, lacking: Shortage, limits: Limits, machine: str, free: int) -> Obstacle:
    missing = lacking.needed - lacking.left  # exceeds the need if more is reserved than there is by now
    left = max(0, lacking.left)
    owner = lacking.limit or machine
    promised = ""
    if not lacking.limit and left < free < UNLIMITED:
        promised = f": of {free:,} that are free, {free - left:,} are reserved for attempts that run"
    higher: dict[str, Any] = {}
    if lacking.limit:
        higher[lacking.limit] = getattr(limits, lacking.limit) + missing
    return Obstacle(
        reason,
        f"needs {lacking.needed:,} bytes, {left:,} are left of {owner}{promised}",
        f"{missing:,} bytes more of {owner}",
        {"needed": lacking.needed, "left": left, "missing": missing},
        commands=(SetLimits(**higher),) if higher else (),
    )


def _busy(used: float, limit: float) -> Obstacle:
    return Obstacle(
        WaitReason.CPU,
        f"{used:.0f} % is used, max_cpu is {limit:.0f} %",
        f"a sample of at most {limit:g} %, or a higher max_cpu",
        {"used": used, "limit": limit},
        commands=(SetLimits(max_cpu=100.0),),
    )


def _disk_low(free: int, high: int) -> Obstacle:
    return Obstacle(
        WaitReason.TEMP_SPACE,
        f"temp space has run low: {free:,} bytes are free, and nothing starts until there are {high:,}",
        f"{max(0, high - free):,} bytes more of free temp space",
        {"free": free, "until": high},
    )


def unmet(state: SchedulerState, task: TaskState) -> Iterator[Obstacle]:
    """Yield the dependencies that the task waits for. One that ended without success must be retried."""
    blocked = state.blocked.get(task.id, set())
    over = {other for other in blocked if other not in state.tasks or state.tasks[other].finished}
    if blocked - over:
        yield _obstacle(WaitReason.DEPENDENCY, blocked - over, "waits for {}", "{} completed")
    if over:
        text, lifts = "{} has ended without success; retry it", "a retry of {}, and its completion"
        if len(over) > 1:
            text, lifts = "{} have ended without success; retry them", "a retry of {}, and their completion"
        yield _obstacle(WaitReason.DEPENDENCY_FAILED, over, text, lifts)


def _obstacle(reason: WaitReason, ids: set[int], detail: str, lifts: str) -> Obstacle:
    listed = f"{plural(len(ids), 'task')} {_listed(ids)}"
    return Obstacle(reason, detail.format(listed), lifts.format(listed), {"unmet": len(ids)}, tasks=tuple(sorted(ids)))


def _listed(ids: set[int]) -> str:
    return ", ".join(str(task_id) for task_id in sorted(ids))


def _remark(state: SchedulerState, task: TaskState) -> str:
    if state.nodes.many and not state.nodes.could_hold(task):
        return NO_ROOM_KEPT if state.nodes.slots else ""
    if never_fits(task, state.limits, state.sample):
        return NEVER_FITS
    return "" if ceiling_of(state.limits, state.sample, state.reserved).suffices_for(task) else STANDS_ASIDE


def _order(state: SchedulerState, task: TaskState) -> tuple[Obstacle, ...]:
    first = who_goes_first(state, task)
    if not first:
        return ()
    ids = ", ".join(map(str, first[:SHOWN]))
    return (
        Obstacle(
            WaitReason.HIGHER_PRIORITY,
            f"task {ids} would start first, or has resources kept for it"
            if len(first) == 1
            else f"tasks {ids} would start first, or have resources kept for them",
            "their start or their end, or a start by hand, which goes ahead of the queue",
            {"first": len(first)},
            tasks=first,
            commands=(StartTask(task_id=task.id),),
        ),
    )


def _ahead(state: SchedulerState, task: TaskState, now: datetime) -> tuple[Ahead, ...]:
    """The first tasks before it in the queue."""
    shown = []
    for task_id in state.queue.first(SHOWN, fair=state.limits.fair_share):
        if task_id == task.id:
            break
        parts = terms(state.tasks[task_id], now)
        shown.append(Ahead(task_id, state.tasks[task_id].spec.type, round(parts.total, 3), parts))
    return tuple(shown)
