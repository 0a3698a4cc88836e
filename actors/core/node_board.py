"""The board of the nodes: what each has, how much of it is free or reserved, and its state."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from ...events.reports import NodeSeen
from ...events.system_events import LOCAL
from .board import machine_now
from .recorded_nodes import NodeDrain, RecordedNode
from .state import SchedulerState

NodeStateName: TypeAlias = Literal["ready", "draining", "drained", "lost"]


class NodeBoard(msgspec.Struct, frozen=True, kw_only=True):
    """A node: what it has, how much of it is free or reserved, and its state. Bytes; `None` for unknown values."""

    node: str
    """Its name; `local` is the machine of the service."""
    state: NodeStateName
    """`ready`; `draining`: attempts still run there; `drained`: none runs, and none starts; `lost`."""
    address: str = ""
    labels: dict[str, str] = {}
    cpus: float = 0.0
    """The CPUs that the cluster's engine offers there; for `local` those that the service may use."""
    gpus: float = 0.0
    memory: int | None = None
    """The memory that the cluster's engine offers there; for `local` the machine's."""
    workers: int = 0
    """How many attempts can run there at once now."""
    running: int = 0
    """How many attempts run there, including those whose end is not reported yet."""
    cpu_percent: float | None = None
    memory_free: int | None = None
    reserved_memory: int = 0
    temp_free: int | None = None
    temp: int | None = None
    reserved_temp: int = 0
    disk_low: bool = False
    last_seen: datetime | None = None
    """When it was last sampled; for a lost node, when it was last known to be there."""
    since: datetime | None = None
    """When it joined or was lost; None for `local`."""
    drain: NodeDrain | None = None
    position: int = 0
    """Position of the last record about what it offers, or that it left; for `local`, of its drain; 0 if none."""


def node_boards(state: SchedulerState, local: NodeSeen) -> tuple[NodeBoard, ...]:
    """All nodes by name: first the present ones, then the lost ones that are still remembered.

    `local`: what this machine has, for when it is the only node.
    """
    recorded = state.durable.nodes
    running = Counter(entry.node for entry in state.running.values())
    present = sorted(recorded.present())
    left = sorted(name for name, node in recorded.by_name.items() if node.left)
    gone = [_lost(state, recorded.by_name[name], running) for name in left]
    gone += [_forgotten(state, name, running) for name in sorted(recorded.drains) if name not in recorded.by_name]
    if not (state.nodes.many or state.outlived or present):
        return (_local_board(state, local), *(board for board in gone if board.node != LOCAL))
    return (*(_board_of(state, name, running) for name in present), *gone)


def _local_board(state: SchedulerState, local: NodeSeen) -> NodeBoard:
    sample, drain, running = machine_now(state.sample), state.durable.nodes.drains.get(LOCAL), len(state.running)
    return NodeBoard(
        node=LOCAL,
        state=_state_name(drain, running),
        address=local.address,
        labels=state.nodes.labels,
        cpus=local.cpus,
        gpus=local.gpus,
        memory=sample.memory_total,
        workers=state.workers.slots,
        running=running,
        cpu_percent=sample.cpu_percent,
        memory_free=sample.memory_available,
        reserved_memory=state.reserved.memory,
        temp_free=sample.temp_free,
        temp=sample.temp_total,
        reserved_temp=state.reserved.temp,
        disk_low=sample.disk_low,
        last_seen=state.sampled_at,
        drain=drain,
        position=drain.position if drain is not None else 0,
    )


def _drain_of(state: SchedulerState, name: str) -> NodeDrain | None:
    return state.durable.nodes.drains.get(state.durable.nodes.drained_as(name))


def _board_of(state: SchedulerState, name: str, running: Mapping[str, int]) -> NodeBoard:
    recorded = state.durable.nodes.by_name[name]
    drain, node = _drain_of(state, name), state.nodes.by_name.get(name)
    seen = recorded.seen
    board = NodeBoard(
        node=name,
        state=_state_name(drain, running[name]),
        address=seen.address,
        labels=seen.labels,
        cpus=seen.cpus,
        gpus=seen.gpus,
        memory=seen.memory,
        running=running[name],
        since=recorded.since,
        drain=drain,
        position=recorded.position,
    )
    if node is None:
        return board
    board = replace(
        board,
        workers=node.workers.slots,
        reserved_memory=node.reserved.memory,
        reserved_temp=node.reserved.temp,
        last_seen=node.last_seen,
    )
    if node.sampled_at is None:
        return board
    sample = machine_now(node.sample)
    return replace(
        board,
        cpu_percent=sample.cpu_percent,
        memory_free=sample.memory_available,
        temp_free=sample.temp_free,
        temp=sample.temp_total,
        disk_low=sample.disk_low,
    )


def _forgotten(state: SchedulerState, name: str, running: Mapping[str, int]) -> NodeBoard:
    """The board of a forgotten node, of which only the drain is left: it holds if the node comes back."""
    drain = state.durable.nodes.drains[name]
    return NodeBoard(node=name, state="lost", running=running[name], drain=drain, position=drain.position)


def _lost(state: SchedulerState, recorded: RecordedNode, running: Mapping[str, int]) -> NodeBoard:
    seen = recorded.seen
    return NodeBoard(
        node=seen.node,
        state="lost",
        address=seen.address,
        labels=seen.labels,
        cpus=seen.cpus,
        gpus=seen.gpus,
        memory=seen.memory,
        running=running[seen.node],
        last_seen=recorded.last_seen,
        since=recorded.since,
        drain=_drain_of(state, seen.node),
        position=recorded.position,
    )


def _state_name(drain: NodeDrain | None, running: int) -> NodeStateName:
    if drain is None:
        return "ready"
    return "draining" if running else "drained"
