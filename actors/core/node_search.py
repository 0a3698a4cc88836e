"""Searches several nodes for a place for a task, and says which tasks need not be looked at.

Of the nodes on which a task fits now it gets the one that holds its checkpoint. Otherwise it gets one without GPUs,
then one of the smallest size, so that large nodes stay free for large tasks. Of equals, the one with the most free
memory is taken.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from msgspec.structs import replace

from ...events import TaskState
from ...events.reports import NodeSeen
from .limits import UNLIMITED, Limits
from .nodes import Need, Node, Nodes, Spot, need_of
from .resources import Ceiling, MachineSample, machine_is_busy, most_of
from .routing import pick

DEPTH = 64
"""How many tasks that do not fit on a node are passed in search of one that does."""
SKIPPED = 1024
"""How many tasks, or buckets of the queue, one search passes over because all suitable nodes are closed."""
_EVER = datetime.max.replace(tzinfo=UTC)


class _Open:
    """The nodes that are open to one need, those with the most memory to give first."""

    def __init__(self, nodes: Iterable[Node], ceilings: dict[str, Ceiling], left: dict[str, Ceiling]) -> None:
        self.nodes = sorted(nodes, key=lambda node: -ceilings[node.name].memory)
        self.names = [node.name for node in self.nodes]
        self.most_left = most_of(left[name] for name in self.names)
        """The most memory that any of them has left, and the most temp space."""
        self._ceilings = [ceilings[name] for name in self.names]
        self._memories = [-one.memory for one in self._ceilings]
        self._least_temp = min((one.temp for one in self._ceilings), default=0)

    def able(self, memory: int, temp: int) -> list[str]:
        """The names of the nodes where this much would fit if none of our attempts ran there."""
        number = bisect_right(self._memories, -memory)
        if temp <= self._least_temp:
            return self.names[:number]
        return [name for name, most in zip(self.names, self._ceilings[:number], strict=False) if temp <= most.temp]


class Search:
    """One search. Nothing starts meanwhile, so what a node has refused, it goes on refusing.

    A node with a free worker that has refused `DEPTH` tasks, because they need more than it has left, is closed for the
    rest of the search. So is a node that is kept for a task. Tasks that suit only closed nodes are passed over.
    """

    def __init__(self, nodes: Nodes, limits: Limits, room: int) -> None:
        self._nodes = nodes
        self._limits = limits
        self._room = room
        self._open: dict[tuple[Need, bool], _Open] = {}
        self._highest: dict[Need, list[Ceiling]] = {}
        self._ceilings: dict[str, Ceiling] = {}
        self._left: dict[str, Ceiling] = {}
        self._refused: Counter[str] = Counter()
        self._kept: set[str] = set()
        self._closed: set[str] = set()
        self._not_closed = {node.name for node in nodes.by_name.values() if self._is_usable(node)}
        self._skipped = 0

    def _open_to(self, need: Need, task: TaskState, *, short: bool) -> _Open:
        """The nodes that are not closed and have a worker for tasks with the same need as this one."""
        key = (need, short)
        open_nodes = self._open.get(key)
        if open_nodes is None:
            label = need[1]
            suiting = self._nodes.suiting(task)
            nodes = [node for node in suiting if self._takes(node, label, short=short)]
            self._look_at(nodes)
        elif self._closed.isdisjoint(open_nodes.names):
            return open_nodes
        else:
            nodes = open_nodes.nodes
        open_nodes = _Open((node for node in nodes if node.name not in self._closed), self._ceilings, self._left)
        self._open[key] = open_nodes
        return open_nodes

    def _look_at(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if node.name not in self._ceilings:
                self._ceilings[node.name], self._left[node.name] = node.ceiling(), node.bytes_left()

    def _takes(self, node: Node, label: str, *, short: bool) -> bool:
        """Whether the node would take one more attempt now, regardless of bytes."""
        place = node.workers.place(label, self._most(node), short=short)
        return place is not None and not machine_is_busy(node.sample, self._limits)

    def _is_usable(self, node: Node) -> bool:
        open_to_any = node.present and not node.draining and node.sampled_at is not None
        has_room = node.workers.has_room(self._most(node), short=True)
        return open_to_any and has_room and not machine_is_busy(node.sample, self._limits)

    def _close(self, name: str) -> None:
        self._closed.add(name)
        self._not_closed.discard(name)

    def _most(self, node: Node) -> int:
        return node.workers.held + max(0, self._room)

    def could_hold(self, task: TaskState) -> bool:
        """Whether the task would fit on any node if none of our attempts ran there."""
        need = need_of(task)
        highest = self._highest.get(need)
        if highest is None:
            suiting = self._nodes.suiting(task)
            self._look_at(suiting)
            highest = self._highest[need] = _highest(self._ceilings[node.name] for node in suiting)
        return any(one.suffices_for(task) for one in highest)

    def place(self, task: TaskState, *, short: bool) -> Spot | None:
        """Where the task starts. None if nowhere: then the nodes that could hold it have refused one more task."""
        open_nodes = self._open_to(need_of(task), task, short=short)
        able = open_nodes.able(task.memory_needed, task.temp_needed)
        if not able:
            self._skipped += self.could_hold(task)
            return None
        best: tuple[tuple[object, ...], Node] | None = None
        for name in able if open_nodes.most_left.suffices_for(task) else ():
            if self._left[name].suffices_for(task):
                node = self._nodes.by_name[name]
                shares = short and node.workers.room(self._most(node)) <= 0
                rank = (shares, *_preference(node, task), name)
                if best is None or rank < best[0]:
                    best = (rank, node)
        if best is not None:
            node = best[1]
            offer = node.workers.place(task.spec.worker_label, self._most(node), short=short)
            assert offer is not None, "it is open"
            return Spot(node.name, offer)
        self._refused.update(able)
        for name in able:
            if self._refused[name] >= DEPTH:
                self._close(name)
        return None

    def keep_for(self, task: TaskState, number: int) -> None:
        """Keep `number` nodes for the task, of those not kept for another task: those that lack the least for it.

        Nodes on which nothing can start anyway come last, because there room would be kept in vain.
        """
        label = task.spec.worker_label
        for node in sorted(
            (node for node in self._nodes.able(task) if node.name not in self._kept),
            key=lambda node: (not self._takes(node, label, short=False), node.missing(task), node.name),
        )[:number]:
            self._kept.add(node.name)
            self._close(node.name)

    def passes_over(self, task: TaskState, *, short: bool) -> bool:
        """Whether no task with the same need can start. The first task with a need is always looked at."""
        need = need_of(task)
        if (need, short) not in self._open or self._open_to(need, task, short=short).nodes:
            return False
        if not self._nodes.suiting(task):
            return False
        self._skipped += 1
        return True

    def can_start_more(self) -> bool:
        """Whether any further task may start, as far as a search goes."""
        return bool(self._not_closed) and self._skipped <= SKIPPED


def _highest(ceilings: Iterable[Ceiling]) -> list[Ceiling]:
    """The ceilings that no other one exceeds: what fits under any ceiling fits under one of these."""
    highest: list[Ceiling] = []
    for one in sorted(ceilings, reverse=True):
        if not highest or one.temp > highest[-1].temp:
            highest.append(one)
    return highest


def _preference(node: Node, task: TaskState) -> tuple[bool, bool, int, int]:
    """The rank of a node for the task; lower is better."""
    elsewhere = task.resume_from is None or task.node != node.name
    free = node.sample.memory_available - node.reserved.unused_memory
    return elsewhere, node.seen.gpus > 0, node.sample.memory_total.bit_length(), -free


def place(nodes: Nodes, task: TaskState, limits: Limits, room: int, *, short: bool) -> Spot | None:
    """Where the task starts now; None if it fits nowhere. `room`: how many more workers may be held in all."""
    return Search(nodes, limits, room).place(task, short=short)


def lift_for(nodes: Nodes, task: TaskState, limits: Limits, *, short: bool, room: int) -> None:
    """Make room for the task on the node that lacks the least for it; if no node could hold it, add one that can."""
    if place(nodes, task, limits, room, short=short) is not None:
        return
    node = nodes.nearest(task, nodes.able(task))
    if node is None:
        node = nodes.by_name[""] = Node(NodeSeen(node="", labels=dict(task.spec.requires)), present=True)
        node.workers.change(1, (tuple(filter(None, (task.spec.worker_label,))),) if task.spec.worker_label else ())
        node.sample, node.sampled_at = MachineSample(memory_available=0, temp_free=0), _EVER
    workers, label = node.workers, task.spec.worker_label
    if workers.place(label, UNLIMITED, short=short) is None:
        workers.add((label,) if label else (), max(1, workers.held + 1 - workers.slots))
        if pick(workers.free(), label) is None:
            workers.add((label,) if label else (), 1)
    reserved, sample = node.reserved, node.sample
    node.sample = replace(
        sample,
        cpu_percent=min(sample.cpu_percent, limits.max_cpu),
        memory_available=max(sample.memory_available, reserved.unused_memory + task.memory_needed),
        memory_total=max(sample.memory_total, reserved.memory + task.memory_needed),
        temp_free=max(sample.temp_free, reserved.unused_temp + task.temp_needed),
        temp_total=max(sample.temp_total, reserved.temp + task.temp_needed),
        disk_low=False,
    )
    nodes.have_changed()
