"""The nodes that attempts run on: what each has, what of it is promised, and which of them gets the next attempt.

One machine is one node, called `local`. Nothing is counted for it here: its workers, its sample and what is reserved
are the Scheduler's own, and the only question is whether it has the labels that a task requires.

Of the nodes on which a task fits now it gets the one that holds its checkpoint; else one without GPUs, then one of the
smallest size, so that large nodes stay free for large tasks; and of equals the one with the most memory free.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from ...events import Fact, TaskState
from ...events.commands import DrainNode, UndrainNode
from ...events.errors import NothingToChange, UnknownNode
from ...events.reports import NodeSeen
from ...events.system_events import NodeChanged, NodeDrainEnded, NodeDrainStarted, NodeJoined, NodeLeft
from .limits import UNLIMITED, Limits, requirement
from .resources import Ceiling, MachineSample, Reserved, Shortage, ceiling_of, machine_is_busy, shortages
from .routing import Offer, Workers, offering, pick

LOCAL = "local"
"""The name of the machine of the service, where attempts run there."""
NODE_LABEL = "node"
"""The label that each node has: its name."""
REMEMBERED = 100
"""How many nodes that have left are remembered."""


DEPTH = 64
"""How many tasks that do not fit on a node are passed when one is looked for that does."""
SKIPPED = 1024
"""How many tasks, or buckets of the queue, are passed over in one look because all nodes that suit are closed."""
_NEEDS = 1024
"""Of how many needs it is remembered which nodes suit."""
Need: TypeAlias = tuple[str, str]
"""What a task requires of a node, and the label that it needs of a worker."""


def need_of(task: TaskState) -> Need:
    """What the node and the worker of a task must have, resources aside."""
    return requirement(task.spec.requires) if task.spec.requires else "", task.spec.worker_label


class NodeDrain(msgspec.Struct, frozen=True, kw_only=True):
    """A drain that holds: who ordered it, why, and where it is recorded."""

    since: datetime
    actor: str
    reason: str
    position: int


class RecordedNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node as the log knows it."""

    seen: NodeSeen
    since: datetime
    """When it joined or left."""
    position: int
    """Where the log says last what it offers, or that it left."""
    left: bool = False
    last_seen: datetime | None = None
    """Of one that has left."""


class RecordedNodes(msgspec.Struct):
    """The nodes and the drains that the log knows of. A fold of it."""

    by_name: dict[str, RecordedNode] = {}
    drains: dict[str, NodeDrain] = {}

    def apply(self, fact: Fact, position: int) -> None:
        """Fold one record."""
        match fact.event:
            case NodeJoined() | NodeChanged() as event:
                there = self.by_name.pop(event.node, None)
                stays = there is not None and not there.left
                since = there.since if there is not None and stays else fact.recorded_at
                self.by_name[event.node] = RecordedNode(seen=seen_in(event), since=since, position=position)
            case NodeLeft() as event:
                there = self.by_name.pop(event.node, None)
                self.by_name[event.node] = RecordedNode(
                    seen=there.seen if there is not None else NodeSeen(node=event.node),
                    since=fact.recorded_at,
                    position=position,
                    left=True,
                    last_seen=event.last_seen,
                )
                gone = [name for name, node in self.by_name.items() if node.left]
                if len(gone) > REMEMBERED:
                    del self.by_name[gone[0]]
            case NodeDrainStarted() as event:
                self.drains[event.node] = NodeDrain(
                    since=fact.recorded_at, actor=fact.actor, reason=fact.reason, position=position
                )
            case NodeDrainEnded() as event:
                self.drains.pop(event.node, None)

    def present(self) -> dict[str, RecordedNode]:
        """Those that have not left."""
        return {name: node for name, node in self.by_name.items() if not node.left}


def seen_in(event: NodeJoined | NodeChanged) -> NodeSeen:
    """What the event says of its node."""
    return NodeSeen(**{name: getattr(event, name) for name in NodeSeen.__struct_fields__})


def what_changed(
    known: RecordedNodes, seen: Iterable[NodeSeen], last_seen: Mapping[str, datetime | None]
) -> Iterator[NodeJoined | NodeChanged | NodeLeft]:
    """What is to be recorded when these are the nodes that are there."""
    there = {node.node: node for node in seen}
    before = known.present()
    for name in sorted(before.keys() - there.keys()):
        yield NodeLeft(node=name, last_seen=last_seen.get(name))
    for name, node in sorted(there.items()):
        if name not in before:
            yield NodeJoined(**msgspec.structs.asdict(node))
        elif before[name].seen != node:
            yield NodeChanged(**msgspec.structs.asdict(node))


def changed_drain(
    recorded: RecordedNodes, command: DrainNode | UndrainNode, *, many: bool
) -> NodeDrainStarted | NodeDrainEnded:
    """The event of a command about a node. Raises `UnknownNode`, `NothingToChange`."""
    drain, known = recorded.drains.get(command.node), sorted(recorded.present()) if many else [LOCAL]
    if isinstance(command, UndrainNode):
        if drain is None:
            _check_known(command.node, [*known, *recorded.by_name])
            raise NothingToChange(f"The node {command.node} is not being drained", field="node")
        return NodeDrainEnded(node=command.node)
    _check_known(command.node, known)
    if drain is not None:
        raise NothingToChange(
            f"The node {command.node} is being drained, since position {drain.position}", field="node"
        )
    return NodeDrainStarted(node=command.node)


def _check_known(name: str, known: list[str]) -> None:
    if name not in known:
        there = ", ".join(dict.fromkeys(known)) or "none just now"
        raise UnknownNode(f"There is no node {name}. There are: {there}", field="node")


def has_labels(name: str, labels: Mapping[str, str], requires: Mapping[str, str]) -> bool:
    """Whether a node of this name and with these labels is one that a task asks for."""
    return all(labels.get(key) == value or (key == NODE_LABEL and value == name) for key, value in requires.items())


class NodeSample(msgspec.Struct, frozen=True):
    """What a node has free, and how many seconds ago that was looked at."""

    sample: MachineSample | None
    """None: it is there, and nobody on it could look."""
    age: float = 0.0


class Over(msgspec.Struct):
    """An attempt that has ended since its node was last looked at: when it began and ended, and what it was promised.

    The times are moved with the clock when that is set.
    """

    began: datetime
    ended: datetime
    memory: int
    temp: int

    def is_shown_by(self, sampled_at: datetime) -> bool:
        """Whether a sample of this moment shows as used what it has given back."""
        return self.began < sampled_at <= self.ended


class Node(msgspec.Struct):
    """What is known of a node just now."""

    seen: NodeSeen
    present: bool = False
    """Whether it was among the nodes that are there, when they were told last."""
    draining: bool = False
    workers: Workers = msgspec.field(default_factory=Workers)
    sample: MachineSample = MachineSample()
    sampled_at: datetime | None = None
    """None: it has not been looked at since it joined, and nothing can start there."""
    last_seen: datetime | None = None
    reserved: Reserved = msgspec.field(default_factory=Reserved)
    over: list[Over] = []
    left_before: tuple[object, ...] = ()
    """What of the last sample but one decides what starts."""
    ceiling_before: Ceiling = Ceiling(0, 0)

    @property
    def name(self) -> str:
        """Its name."""
        return self.seen.node

    def is_asked_for(self, task: TaskState) -> bool:
        """Whether it has the labels that the task requires."""
        return not task.spec.requires or has_labels(self.name, self.seen.labels, task.spec.requires)

    def ceiling(self) -> Ceiling:
        """What a task could have there once everything of ours has ended."""
        return ceiling_of(_NO_LIMITS, self.sample, self.reserved)

    def left(self) -> tuple[object, ...]:
        """What of its sample decides what starts there."""
        sample = self.sample
        return sample.memory_available, sample.temp_free, sample.cpu_percent, sample.disk_low

    def suits(self, task: TaskState) -> bool:
        """Whether the task could run there, its resources aside."""
        label = task.spec.worker_label
        return (
            self.present
            and self.sampled_at is not None
            and self.workers.slots > 0
            and self.is_asked_for(task)
            and (not label or offering(self.workers.offers, label) > 0)
        )

    def could_hold(self, task: TaskState) -> bool:
        """Whether the task would fit if nothing of ours ran there."""
        return self.suits(task) and self.ceiling().suffices_for(task)

    def shortages(self, task: TaskState, limits: Limits) -> Iterator[Shortage]:
        """What it lacks for starting the task now, but for a worker."""
        own = replace(
            _NO_LIMITS,
            max_memory=self.sample.memory_total,
            max_temp_size=self.sample.temp_total,
            max_cpu=limits.max_cpu,
            temp_low=limits.temp_low,
            temp_high=limits.temp_high,
        )
        worst: dict[str, Shortage] = {}
        for one in shortages(task, own, self.sample, self.reserved):
            before = worst.get(one.resource)
            if before is None or one.left < before.left:
                worst[one.resource] = one if one.resource == "cpu" else one._replace(limit="")
        yield from worst.values()

    def missing(self, task: TaskState) -> int:
        """Bytes of memory and of temp space that it lacks for the task now: free ones, or ones not promised."""
        left = self.bytes_left()
        return max(0, task.memory_needed - left.memory) + max(0, task.temp_needed - left.temp)

    def bytes_left(self) -> Ceiling:
        """What it has free and has not promised."""
        sample, reserved = self.sample, self.reserved
        memory = min(sample.memory_available - reserved.unseen_memory, sample.memory_total - reserved.memory)
        temp = min(sample.temp_free - reserved.unseen_temp, sample.temp_total - reserved.temp)
        return Ceiling(memory, temp)

    def ended(self, task: TaskState, began: datetime, now: datetime) -> None:
        """An attempt is over. The next sample may be from before that, and show it still."""
        self.over.append(Over(began, now, task.memory_needed, task.temp_needed))

    def count_over(self) -> None:
        """Of what has ended, count what the sample still shows, and forget what no later one can show."""
        if self.sampled_at is None:
            return
        self.over = [one for one in self.over if one.ended >= self.sampled_at]
        shown = [one for one in self.over if one.is_shown_by(self.sampled_at)]
        self.reserved.gone_memory = sum(one.memory for one in shown)
        self.reserved.gone_temp = sum(one.temp for one in shown)

    def copy(self) -> "Node":
        """One that changes by itself."""
        return replace(self, workers=self.workers.copy(), reserved=replace(self.reserved), over=[*self.over])


_EVER = datetime.max.replace(tzinfo=UTC)
_NO_LIMITS = Limits()
"""What operators allow holds for all nodes together, and is looked at elsewhere."""


class Spot(NamedTuple):
    """Where an attempt starts: the node, and what its worker there offers."""

    node: str
    offer: Offer


class Nodes:
    """The nodes just now.

    Args:
        labels: those of this machine, where it is the only node.
    """

    def __init__(self, labels: Mapping[str, str] | None = None) -> None:
        self.labels = dict(labels or {})
        self.many = False
        """Whether attempts run on nodes that an executor tells of. Otherwise there is this machine, and no more."""
        self.local_drains = False
        self.by_name: dict[str, Node] = {}
        self.changes = 0
        """Counts everything that may let another task start."""
        self.growth = 0
        """Counts everything that may let a task fit that no node could ever hold."""
        self._suiting: dict[Need, tuple[Node, ...]] = {}
        """Found out once, until nodes or workers change."""
        self._counted: dict[str, tuple[int, Counter[Offer], int]] = {}
        """What each node adds to the workers of all, as far as it was counted: see `count_into`."""
        self._to_count: set[str] = set()
        self._together: tuple[int, Counter[Offer], int] = (0, Counter(), 0)

    # --- what changes ----------------------------------------------------------------------------------------------

    def told(self, seen: Iterable[NodeSeen], drains: Collection[str]) -> None:
        """These are there now, and no others."""
        self.many = True
        before = {name for name, node in self.by_name.items() if node.present}
        for node in self.by_name.values():
            node.present = False
        for one in seen:
            node = self._of(one.node)
            node.seen, node.present = one, True
            if one.node not in before:
                node.sample, node.sampled_at = MachineSample(), None
        self.drained(drains)
        self._forget_gone()

    def drained(self, drains: Collection[str]) -> None:
        """These are being drained, and no others."""
        self.local_drains = LOCAL in drains
        for node in self.by_name.values():
            node.draining = node.name in drains
        self._changed()

    def workers_changed(self, slots: int, offers: Iterable[Offer], nodes: tuple[str, ...]) -> None:
        """Where each of the workers is, and what it offers."""
        found: dict[str, list[Offer]] = {name: [] for name in self.by_name}
        for offer, name in zip(tuple(offers) or ((),) * slots, nodes, strict=True):
            found.setdefault(name, []).append(offer)
        for name, there in found.items():
            self._of(name).workers.change(len(there), there if any(there) else ())
        self._forget_gone()
        self._changed()

    def _changed(self) -> None:
        """Nodes or their workers are others than before."""
        self.changes += 1
        self.growth += 1
        self._suiting.clear()
        self._to_count.update(self.by_name)

    def _forget_gone(self) -> None:
        """Drop the nodes that are gone and hold nothing: where machines come and go there is no end of them."""
        for name, node in list(self.by_name.items()):
            workers = node.workers
            if not (node.present or workers.slots or workers.held or workers.short):
                del self.by_name[name]
                self._to_count.add(name)

    def sampled(self, samples: Mapping[str, NodeSample], now: datetime, limits: Limits) -> None:
        """Nodes were looked at. What started since is not in it; see `count_anew`."""
        for name, one in samples.items():
            node = self.by_name.get(name)
            if node is None:
                continue  # it is gone
            node.last_seen = now - timedelta(seconds=one.age)
            if one.sample is None:
                continue
            if node.sampled_at is None:
                self._changed()
            node.sample, node.sampled_at = one.sample.after(node.sample, limits), node.last_seen

    def was_sampled_since(self, name: str, since: datetime) -> bool:
        """Whether the node was looked at after this."""
        node = self.by_name.get(name)
        return node is not None and node.sampled_at is not None and node.sampled_at > since

    def count_anew(self, running: Iterable[tuple[str, TaskState, bool]]) -> None:
        """What is promised: of each attempt its node, its task, and whether the last sample of that includes it."""
        before = {name: node.reserved for name, node in self.by_name.items()}
        for node in self.by_name.values():
            node.reserved = Reserved()
        for name, task, seen in running:
            reserved = self._of(name).reserved
            reserved.take(task)
            if seen:
                reserved.unseen_memory -= task.memory_needed
                reserved.unseen_temp -= task.temp_needed
        for node in self.by_name.values():
            node.count_over()
            left, ceiling = node.left(), node.ceiling()
            if left != node.left_before or node.reserved != before.get(node.name):
                node.left_before = left
                self.changes += 1
            if ceiling.memory > node.ceiling_before.memory or ceiling.temp > node.ceiling_before.temp:
                self.growth += 1
            node.ceiling_before = ceiling

    def set_clock(self, by: timedelta) -> None:
        """The wall clock was set: move all times with it."""
        for node in self.by_name.values():
            node.sampled_at = node.sampled_at and node.sampled_at + by
            node.last_seen = node.last_seen and node.last_seen + by
            for one in node.over:
                one.began += by
                one.ended += by

    def take(self, spot: Spot, task: TaskState, room: int, *, short: bool) -> None:
        """An attempt begins."""
        self.changes += 1
        node = self._of(spot.node)
        node.workers.take(spot.offer, node.workers.held + max(0, room), short=short)
        node.reserved.take(task)
        self._to_count.add(spot.node)

    def give_back(self, spot: Spot, task: TaskState, *, short: bool, seen: bool) -> None:
        """It is over."""
        self.changes += 1
        node = self._of(spot.node)
        node.workers.give_back(spot.offer, short=short)
        node.reserved.give_back(task, seen=seen)
        self._to_count.add(spot.node)
        if not node.present:
            self._forget_gone()

    def ended(self, name: str, task: TaskState, began: datetime, now: datetime) -> None:
        """What `give_back` has given back may be shown as used by samples for a while."""
        if name in self.by_name:
            self.by_name[name].ended(task, began, now)

    def _of(self, name: str) -> Node:
        if name not in self.by_name:
            self.by_name[name] = Node(NodeSeen(node=name))
        return self.by_name[name]

    def without_attempts(self) -> "Nodes":
        """The same nodes with nothing running on them, for a memory that is folded anew."""
        others = Nodes(self.labels)
        others.many, others.local_drains = self.many, self.local_drains
        others.changes, others.growth = self.changes + 1, self.growth + 1
        for name, node in self.by_name.items():
            workers = Workers(slots=node.workers.slots, offers=node.workers.offers.copy())
            others.by_name[name] = replace(node, workers=workers, reserved=Reserved())
        others._to_count.update(others.by_name)
        return others

    def copy(self) -> "Nodes":
        """Others that change by themselves."""
        others = self.without_attempts()
        others.by_name = {name: node.copy() for name, node in self.by_name.items()}
        return others

    # --- questions -------------------------------------------------------------------------------------------------

    def count_into(self, together: Workers) -> None:
        """The workers of all nodes. Those that are held on a node that is gone or drained take nothing from others."""
        slots, kinds, shared = self._together
        for name in self._to_count:
            before_slots, before_kinds, before_shared = self._counted.pop(name, (0, Counter[Offer](), 0))
            slots, shared = slots - before_slots, shared - before_shared
            kinds.subtract(before_kinds)
            node = self.by_name.get(name)
            if node is not None:
                there, of_kind = node.workers.standing(usable=node.present and not node.draining)
                self._counted[name] = (there, of_kind, node.workers.shared)
                slots, shared = slots + there, shared + node.workers.shared
                kinds.update(of_kind)
        self._to_count.clear()
        kinds = Counter({offer: number for offer, number in kinds.items() if number})
        self._together = slots, kinds, shared
        together.slots, together.shared = slots, shared
        together.offers = kinds.copy() if any(kinds) else Counter()

    @property
    def slots(self) -> int:
        """Workers that are really there."""
        return sum(node.workers.slots for node in self.by_name.values())

    def is_open_for(self, requirement: str) -> bool:
        """Whether a node that has what is required has a worker free now."""
        requires = dict(pair.split("=", 1) for pair in requirement.split(","))
        if not self.many:
            return has_labels(LOCAL, self.labels, requires)
        return any(
            node.present
            and not node.draining
            and has_labels(node.name, node.seen.labels, requires)
            and node.workers.has_room(UNLIMITED, short=True)
            for node in self.by_name.values()
        )

    def suiting(self, task: TaskState) -> tuple[Node, ...]:
        """Those that are not being drained, and on which the task could run, its resources aside."""
        need = need_of(task)
        found = self._suiting.get(need)
        if found is None:
            if len(self._suiting) > _NEEDS:
                self._suiting.clear()
            found = tuple(node for node in self.by_name.values() if not node.draining and node.suits(task))
            self._suiting[need] = found
        return found

    def able(self, task: TaskState) -> list[Node]:
        """Those where the task would fit if nothing of ours ran there."""
        return [node for node in self.suiting(task) if node.ceiling().suffices_for(task)]

    def could_hold(self, task: TaskState) -> bool:
        """Whether there is one."""
        return any(node.ceiling().suffices_for(task) for node in self.suiting(task))

    def ceiling(self, task: TaskState) -> Ceiling:
        """The most memory, and the most temp space, that any node could give to what needs the same as this task."""
        found = [node.ceiling() for node in self.suiting(task)]
        return Ceiling(max((one.memory for one in found), default=-1), max((one.temp for one in found), default=-1))

    def place(self, task: TaskState, limits: Limits, room: int, *, short: bool) -> Spot | None:
        """Where the task starts now; None: it fits nowhere. `room`: so many more workers may be held in all."""
        return Search(self, limits, room).place(task, short=short)

    def nearest(self, task: TaskState, among: Iterable[Node]) -> Node | None:
        """The one that lacks the least for the task now."""
        return min(among, key=lambda node: (node.missing(task), node.name), default=None)

    def lift_for(self, task: TaskState, limits: Limits, *, short: bool, room: int) -> None:
        """What keeps the task from starting is gone, on the node that comes nearest; or one more is there for it."""
        if self.place(task, limits, room, short=short) is not None:
            return
        node = self.nearest(task, self.able(task))
        if node is None:
            node = self.by_name[""] = Node(NodeSeen(node="", labels=dict(task.spec.requires)), present=True)
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
            memory_available=max(sample.memory_available, reserved.unseen_memory + task.memory_needed),
            memory_total=max(sample.memory_total, reserved.memory + task.memory_needed),
            temp_free=max(sample.temp_free, reserved.unseen_temp + task.temp_needed),
            temp_total=max(sample.temp_total, reserved.temp + task.temp_needed),
            disk_low=False,
        )
        self._changed()


class Search:
    """One look for a task that can start. Nothing starts meanwhile, so what a node has refused, it goes on refusing.

    A node that has a worker free and has refused `DEPTH` tasks, because they need more than it has left, is closed for
    the rest of it, and so is one that is kept for a task. What needs none but closed nodes is passed over.
    """

    def __init__(self, nodes: Nodes, limits: Limits, room: int) -> None:
        self._nodes = nodes
        self._limits = limits
        self._room = room
        self._open: dict[tuple[Need, bool], list[Node]] = {}
        self._ceilings: dict[str, Ceiling] = {}
        self._left: dict[str, Ceiling] = {}
        self._refused: Counter[str] = Counter()
        self._kept: set[str] = set()
        self._closed: set[str] = set()
        self._not_closed = {node.name for node in nodes.by_name.values() if self._is_usable(node)}
        self._shown: set[tuple[Need, bool]] = set()
        self._skipped = 0

    def open_to(self, need: Need, task: TaskState, *, short: bool) -> list[Node]:
        """The nodes that are not closed and have a worker for what needs the same as this task."""
        key = (need, short)
        if key not in self._open:
            label = need[1]
            self._open[key] = [
                node
                for node in self._nodes.suiting(task)
                if node.workers.place(label, self._most(node), short=short) is not None
                and node.name not in self._closed
                and not machine_is_busy(node.sample, self._limits)
            ]
        elif any(node.name in self._closed for node in self._open[key]):
            self._open[key] = [node for node in self._open[key] if node.name not in self._closed]
        return self._open[key]

    def _is_usable(self, node: Node) -> bool:
        return node.present and not node.draining and node.workers.has_room(self._most(node), short=True)

    def _close(self, name: str) -> None:
        self._closed.add(name)
        self._not_closed.discard(name)

    def _most(self, node: Node) -> int:
        return node.workers.held + max(0, self._room)

    def place(self, task: TaskState, *, short: bool) -> Spot | None:
        """Where the task starts; None: nowhere, and the nodes that could hold it have refused one more."""
        best: tuple[tuple[object, ...], Node] | None = None
        there = self.open_to(need_of(task), task, short=short)
        self._shown.add((need_of(task), short))
        able = [node for node in there if self._most_of(node).suffices_for(task)]
        for node in able:
            if self._left_of(node).suffices_for(task):
                shares = short and node.workers.room(self._most(node)) <= 0
                rank = (shares, *_preference(node, task), node.name)
                if best is None or rank < best[0]:
                    best = (rank, node)
        if best is not None:
            node = best[1]
            offer = node.workers.place(task.spec.worker_label, self._most(node), short=short)
            assert offer is not None, "it is open"
            return Spot(node.name, offer)
        for node in able:
            self._refused[node.name] += 1
            if self._refused[node.name] >= DEPTH:
                self._close(node.name)
        self._skipped += not able
        return None

    def _most_of(self, node: Node) -> Ceiling:
        if node.name not in self._ceilings:
            self._ceilings[node.name] = node.ceiling()
        return self._ceilings[node.name]

    def _left_of(self, node: Node) -> Ceiling:
        if node.name not in self._left:
            self._left[node.name] = node.bytes_left()
        return self._left[node.name]

    def keep_for(self, task: TaskState) -> None:
        """Keep the node that is nearest to having room for the task, of those that are not kept for another one."""
        nearest = self._nodes.nearest(task, (node for node in self._nodes.able(task) if node.name not in self._kept))
        if nearest is not None:
            self._kept.add(nearest.name)
            self._close(nearest.name)

    def passes_over(self, task: TaskState, *, short: bool) -> bool:
        """Whether nothing that needs the same as this task can start. The first of them is looked at all the same."""
        need = need_of(task)
        if (need, short) not in self._shown or self.open_to(need, task, short=short) or not self._nodes.suiting(task):
            return False
        self._skipped += 1
        return True

    def goes_on(self) -> bool:
        """Whether any further task may start, as far as a search goes."""
        return bool(self._not_closed) and self._skipped <= SKIPPED


def _preference(node: Node, task: TaskState) -> tuple[bool, bool, int, int]:
    """The lower, the better."""
    elsewhere = task.resume_from is None or task.node != node.name
    free = node.sample.memory_available - node.reserved.unseen_memory
    return elsewhere, node.seen.gpus > 0, node.sample.memory_total.bit_length(), -free
