"""Counts waiting tasks by reason and running ones by type, at a cost that does not grow with the number of tasks."""

from collections import Counter
from collections.abc import Iterator

import msgspec

from ...events.reports import NodeSeen
from ...events.system_events import LOCAL
from .board import Resources, resources_of
from .dispatch import in_use_without
from .explanation import LIMIT_REASONS, WaitReason, node_obstacles
from .limits import LimitKey, LimitKind, is_full
from .node_board import NodeBoard, node_boards
from .resources import shortages
from .state import SchedulerState

_LACKING = {
    "memory": WaitReason.MEMORY,
    "cpu": WaitReason.CPU,
    "temp": WaitReason.TEMP_SPACE,
    "disk_low": WaitReason.TEMP_SPACE,
}


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The current numbers."""

    waiting: dict[str, int]
    """Reason → tasks that wait for it. Each task counts once; `why` names all its reasons."""
    running: dict[str, int]
    """Task type → attempts that hold a slot."""
    paused: bool
    """Whether an operator has paused everything."""
    resources: Resources
    nodes: tuple[NodeBoard, ...] = ()
    """Empty if there is only this machine."""


def load_of(state: SchedulerState) -> Load:
    """Count the waiting and the running tasks."""
    return Load(
        waiting={str(reason): number for reason, number in _waiting(state).items() if number},
        running=dict(Counter(entry.reserved_for.spec.type for entry in state.running.values())),
        paused=state.durable.pauses.everything is not None,
        resources=resources_of(state),
        nodes=node_boards(state, NodeSeen(node=LOCAL)) if state.nodes.many else (),
    )


def _waiting(state: SchedulerState) -> Counter[WaitReason]:
    waiting: Counter[WaitReason] = Counter()
    for why, number in state.parked.counts.items():
        waiting[WaitReason(why)] += number
    waiting[WaitReason.DEPENDENCY] += len(state.blocked)
    waiting[WaitReason.STOPPING] += sum(state.tasks[task_id].waiting for task_id in state.running)
    if state.nodes.many:
        waiting[WaitReason.NO_NODE_FITS] += len(state.set_aside)
    else:
        waiting[WaitReason.TEMP_SPACE] += len(state.set_aside.for_temp)
        waiting[WaitReason.MEMORY] += len(state.set_aside) - len(state.set_aside.for_temp)
    for reason, number in _ready(state):
        waiting[reason] += number
    return waiting


def _ready(state: SchedulerState) -> Iterator[tuple[WaitReason, int]]:
    """Count the queued tasks by reason: those at a limit, and the rest, by the reason of the first of them."""
    if state.draining or state.durable.pauses.everything is not None:
        yield WaitReason.SHUTTING_DOWN if state.draining else WaitReason.PAUSED, len(state.queue)
        return
    parked, best = state.queue.standing()
    for key, number in parked.items():
        yield _reason_at(state, key), number
    if best is None:
        return
    rest = len(state.queue) - parked.total()
    if not state.has_room(state.tasks[best]):
        yield WaitReason.CONCURRENCY_LIMIT, rest
        return
    task = state.tasks[best]
    lacking = next(shortages(task, state.limits, state.sample, state.reserved), None)
    if lacking is not None:
        yield _LACKING[lacking.resource], rest
        return
    in_the_way = next(node_obstacles(state, task, in_use_without(state, task)), None)
    yield WaitReason.HIGHER_PRIORITY if in_the_way is None else in_the_way.reason, rest


def _reason_at(state: SchedulerState, key: LimitKey) -> WaitReason:
    if key[0] is LimitKind.WORKER:
        return WaitReason.WORKER_LABEL
    if key[0] is LimitKind.NODE:
        return WaitReason.NODES_BUSY if state.nodes.many else WaitReason.NO_NODE_FITS
    if state.durable.pauses.of(key) is not None:
        return WaitReason.PAUSED
    if state.windows.closes(key):
        return WaitReason.WINDOW
    if key in state.shut and not is_full(key, state.limits, state.running_counts):
        return WaitReason.RATE_LIMIT
    return LIMIT_REASONS[key[0]]
