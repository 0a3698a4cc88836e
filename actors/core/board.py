"""Boards that show the Scheduler's memory to people: the queue, the running attempts, the limits, the schedules."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, TypeVar

import msgspec

from ...events.priority import terms
from ...events.system_events import LOCAL, LimitsChanged, Role, ScheduleAdded
from ...events.task_events import PriorityTerms
from .limits import UNLIMITED, Limits, Pause, limit_keys_of, queue_keys_of
from .nodes import Nodes
from .rates import rate_name
from .resources import MachineSample
from .routing import labels_of, offering
from .schedules import Schedule, next_run
from .sources import WatchedFolder
from .state import Durable, SchedulerState
from .tokens import Tokens

T = TypeVar("T")


class Queued(msgspec.Struct, frozen=True, kw_only=True):
    """A task that only waits for free resources."""

    place: int
    task_id: int
    type: str
    input_file: str
    user_id: int
    label: str
    waiting_since: datetime
    effective_priority: float
    terms: PriorityTerms
    shut_by: tuple[str, ...] = ()
    """Everything that holds back its whole type, user or label now: `pause of type video_convert`, `window of …`,
    `rate of …` or `limit of …`; `worker gpu` or `node zone=a` if none of these is free."""


class RunningNow(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that holds a slot."""

    task_id: int
    attempt: int
    type: str
    input_file: str
    user_id: int
    label: str
    started_at: datetime | None
    progress: float
    message: str
    memory: int
    """Bytes reserved for it; `temp` the same."""
    temp: int
    stopping: bool
    expected: float = 0.0
    """Seconds that it is expected to take, by the estimate of its type or of the task's creator; 0 if unknown."""
    node: str = ""
    """Where it runs; empty if there is only one machine."""
    resumed: bool = False
    """Whether it resumed from a checkpoint, so that it did not begin at 0 %."""


class MachineNow(msgspec.Struct, frozen=True, kw_only=True):
    """The last sample: bytes, CPU in percent of the whole machine, `None` for unknown values."""

    cpu_percent: float | None
    memory_available: int | None
    temp_free: int | None
    memory_total: int | None
    temp_total: int | None
    disk_low: bool


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """The resources that there are, and how much of them is reserved. Bytes; a limit of 0 means no limit."""

    slots: int
    held: int = 0
    """Workers that run attempts; short attempts share one."""
    worker_labels: dict[str, int] = {}
    """Label → how many of the workers offer it."""
    max_concurrent: int
    reserved_memory: int
    max_memory: int
    reserved_temp: int
    max_temp_size: int
    max_cpu: float
    sample: MachineNow


class QueueBoard(msgspec.Struct, frozen=True, kw_only=True):
    """The queue in its order, and the running attempts."""

    position: int
    live: bool
    """Whether a running service answers. Without one nothing runs, and the machine is unknown."""
    ready: int
    """How many tasks only wait for free resources."""
    blocked: int
    """How many tasks wait for another one."""
    aside: int
    """How many tasks need more than there would be if none of our attempts ran. They are not among the ready."""
    entries: tuple[Queued, ...]
    """The first of the ready tasks, best first."""
    running: tuple[RunningNow, ...]
    resources: Resources
    pauses: tuple[Pause, ...]
    node_drains: dict[str, Literal["draining", "drained"]] = {}
    """Node → state of its drain. Nothing starts there."""
    fair_share: bool = False
    """Whether users take turns. Then `entries` are in the order in which they would start if nothing ended."""
    at: datetime | None = None
    """The time that the board describes."""
    stopped_at: int = 0
    """Position at which the last service had stopped by then; 0 if one ran, or was killed."""


class LimitsBoard(msgspec.Struct, frozen=True, kw_only=True):
    """The limits in force (0 for no limit), and the operators' changes."""

    limits: Limits
    reached: dict[str, datetime] = {}
    """Reached rate, such as `type:video_convert` → when the next attempt may start."""
    changes: LimitsChanged
    pauses: tuple[Pause, ...]
    position: int


class ScheduleBoard(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule, and how far it has come."""

    schedule: str
    spec: ScheduleAdded
    added_at: datetime
    actor: str
    position: int
    runs: int
    next_at: datetime | None


class TokenBoard(msgspec.Struct, frozen=True, kw_only=True):
    """A token that was added and not revoked, without its hash."""

    token: str
    """Its name."""
    role: Role
    user_id: int | None
    """The only user whose tasks it may read and change; None for all tasks."""
    expires_at: datetime | None
    added_at: datetime
    actor: str
    """Who added it; `reason` says why."""
    reason: str
    position: int


def queue_board(state: SchedulerState, now: datetime, limit: int, *, live: bool = True) -> QueueBoard:
    """The first `limit` tasks of the queue, and all running attempts."""
    first = state.queue.first(limit, fair=state.limits.fair_share)
    return QueueBoard(
        position=state.position,
        live=live,
        ready=len(state.queue),
        blocked=len(state.blocked),
        aside=len(state.set_aside),
        entries=tuple(_queued(state, task_id, place, now, live=live) for place, task_id in enumerate(first, 1)),
        running=tuple(_running(state, task_id) for task_id in state.running),
        resources=resources_of(state),
        pauses=state.durable.pauses.all(),
        node_drains=_node_drains(state),
        fair_share=state.limits.fair_share,
        at=now,
        stopped_at=state.stopped_at,
    )


def _node_drains(state: SchedulerState) -> dict[str, Literal["draining", "drained"]]:
    nodes = state.durable.nodes
    if not nodes.drains:
        return {}
    busy = {nodes.drained_as(entry.node or LOCAL) for entry in state.running.values()}
    return {name: "draining" if name in busy else "drained" for name in sorted(nodes.drains)}


def queue_of_user(state: SchedulerState, now: datetime, user_id: int, limit: int, *, live: bool) -> QueueBoard:
    """The same for a reader who may know only the tasks of one user. Places count only these tasks."""

    def own(task_ids: Iterable[int]) -> list[int]:
        return [task_id for task_id in task_ids if state.tasks[task_id].spec.user_id == user_id]

    first, ready = state.queue.first_of(user_id, limit)
    return QueueBoard(
        position=state.position,
        live=live,
        ready=ready,
        blocked=len(own(state.blocked)),
        aside=len(own(state.set_aside)),
        entries=tuple(_queued(state, task_id, place, now, live=live) for place, task_id in enumerate(first, 1)),
        running=tuple(_running(state, task_id) for task_id in own(state.running)),
        resources=resources_of(state),
        pauses=_pauses_for(state.durable.pauses.all(), user_id),
        fair_share=state.limits.fair_share,
        at=now,
        stopped_at=state.stopped_at,
    )


def _pauses_for(pauses: tuple[Pause, ...], user_id: int) -> tuple[Pause, ...]:
    return tuple(pause for pause in pauses if pause.user_id in (None, user_id))


def limits_for(board: LimitsBoard, user_id: int) -> LimitsBoard:
    """The board without entries about other users."""
    key = str(user_id)

    def own(named: dict[str, T]) -> dict[str, T]:
        """The entries without other users'. Names are a user's id, or a kind and a name: `user:7`, `user:*` for all."""
        others = {name for name in named if name.partition(":")[0] in ("user", name)}
        return {name: value for name, value in named.items() if name not in others - {key, f"user:{key}", "user:*"}}

    limits, changes = board.limits, board.changes
    return LimitsBoard(
        limits=msgspec.structs.replace(limits, users=own(limits.users), rates=own(limits.rates)),
        reached=own(board.reached),
        changes=msgspec.structs.replace(changes, users=own(changes.users), rates=own(changes.rates)),
        pauses=_pauses_for(board.pauses, user_id),
        position=board.position,
    )


def limits_board(state: SchedulerState) -> LimitsBoard:
    """The limits and pauses that hold."""
    return LimitsBoard(
        limits=msgspec.structs.replace(
            state.limits,
            max_memory=state.limits.max_memory % UNLIMITED,
            max_temp_size=state.limits.max_temp_size % UNLIMITED,
        ),
        reached={rate_name(key): at for key, at in sorted(state.shut.items())},
        changes=state.durable.limit_changes.merged,
        pauses=state.durable.pauses.all(),
        position=state.position,
    )


def schedule_boards(state: SchedulerState, then: datetime | None = None) -> tuple[ScheduleBoard, ...]:
    """All schedules, by name. With `then`, next is the first run after that time: the runs may be forgotten by now."""

    def next_of(name: str, schedule: Schedule) -> datetime | None:
        return state.next_runs.of(name) if then is None else next_run(schedule, max(schedule.done_until, then))

    return tuple(
        ScheduleBoard(
            schedule=name,
            spec=schedule.spec,
            added_at=schedule.added_at,
            actor=schedule.actor,
            position=schedule.position,
            runs=schedule.runs,
            next_at=next_of(name, schedule),
        )
        for name, schedule in sorted(state.durable.schedules.by_name.items())
    )


def source_boards(orders: Durable) -> tuple[WatchedFolder, ...]:
    """All sources, by name."""
    return tuple(source for _name, source in sorted(orders.sources.by_name.items()))


def token_boards(orders: Durable) -> tuple[TokenBoard, ...]:
    """All tokens, by name."""
    return boards_of_tokens(orders.tokens)


def boards_of_tokens(tokens: Tokens) -> tuple[TokenBoard, ...]:
    """The tokens, by name."""
    return tuple(
        TokenBoard(**{name: getattr(token, name) for name in TokenBoard.__struct_fields__})
        for _name, token in sorted(tokens.by_name.items())
    )


def _queued(state: SchedulerState, task_id: int, place: int, now: datetime, *, live: bool) -> Queued:
    task = state.tasks[task_id]
    parts = terms(task, now)
    # Only a running service knows the workers and nodes.
    keys = queue_keys_of(task) if live else limit_keys_of(task)
    return Queued(
        place=place,
        task_id=task_id,
        type=task.spec.type,
        input_file=task.spec.input_file,
        user_id=task.spec.user_id,
        label=task.spec.label,
        waiting_since=task.waiting_since,
        effective_priority=round(parts.total, 3),
        terms=parts,
        shut_by=tuple(filter(None, map(state.closed_by, keys))),
    )


def _running(state: SchedulerState, task_id: int) -> RunningNow:
    entry, task = state.running[task_id], state.tasks[task_id]
    spec = task.spec
    return RunningNow(
        task_id=task_id,
        attempt=entry.attempt,
        type=spec.type,
        input_file=spec.input_file,
        user_id=spec.user_id,
        label=spec.label,
        started_at=task.started_at,
        progress=task.progress,
        message=task.message,
        memory=entry.reserved_for.memory_needed,
        temp=entry.reserved_for.temp_needed,
        stopping=entry.stopping,
        expected=task.seconds_needed or spec.estimated_time,
        node=entry.node,
        resumed=task.resumed,
    )


def machine_now(sample: MachineSample) -> MachineNow:
    """The sample as people see it, with None for unknown values."""
    numbers = {name: getattr(sample, name) for name in ("memory_available", "temp_free", "memory_total", "temp_total")}
    bytes_of = {name: None if number >= UNLIMITED else number for name, number in numbers.items()}
    never = all(number is None for number in bytes_of.values())
    cpu = None if never else sample.cpu_percent
    return MachineNow(cpu_percent=cpu, disk_low=sample.disk_low, **bytes_of)


def resources_of(state: SchedulerState) -> Resources:
    """The resources that there are, and how much of them is reserved."""
    limits = state.limits
    return Resources(
        slots=state.nodes.slots if state.nodes.many else state.workers.slots,
        held=state.workers.held,
        worker_labels={label: offering(state.workers.offers, label) for label in labels_of(state.workers.offers)},
        max_concurrent=limits.max_concurrent,
        reserved_memory=state.reserved.memory,
        max_memory=limits.max_memory % UNLIMITED,
        reserved_temp=state.reserved.temp,
        max_temp_size=limits.max_temp_size % UNLIMITED,
        max_cpu=limits.max_cpu,
        sample=machine_now(state.sample) if not state.nodes.many else _sum_of_nodes(state.nodes),
    )


def _sum_of_nodes(nodes: Nodes) -> MachineNow:
    """The sum over all present nodes; for CPU the average, weighted by their CPUs."""
    sampled = [node for node in nodes.by_name.values() if node.present and node.sampled_at is not None]
    if not sampled:
        return MachineNow(
            cpu_percent=None, memory_available=None, temp_free=None, memory_total=None, temp_total=None, disk_low=False
        )
    cpus = sum(node.seen.cpus for node in sampled) or 1.0
    used = sum(node.sample.cpu_percent * node.seen.cpus for node in sampled) / cpus
    sums = {
        name: sum(min(getattr(node.sample, name), UNLIMITED) for node in sampled)
        for name in ("memory_available", "temp_free", "memory_total", "temp_total")
    }
    totals: dict[str, int | None] = {name: number if number < UNLIMITED else None for name, number in sums.items()}
    low = all(node.sample.disk_low for node in sampled)
    return MachineNow(cpu_percent=used, disk_low=low, **totals)
