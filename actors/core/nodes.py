"""The nodes that attempts run on: what each has, how much of it is reserved, and which tasks it could run.

A single machine is one node, called `local`. Nothing is counted for it here: its workers, its sample and what is
reserved are in the Scheduler's own state. Here only its labels matter: are they those that a task requires?
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from ...events import TaskState
from ...events.reports import NodeSeen, node_names
from ...events.system_events import LOCAL
from .limits import UNLIMITED, Limits, requirement
from .resources import Ceiling, MachineSample, Reserved, Shortage, Used, ceiling_of, most_of, shortages, used_of
from .routing import Offer, Workers, offering

NODE_LABEL = "node"
"""The label that each node has: its name."""
_NEEDS = 1024
"""For how many needs the suitable nodes are remembered."""
Need: TypeAlias = tuple[str, str]
"""What a task requires of a node, and the label that it needs of a worker."""
AttemptId: TypeAlias = tuple[int, int]
"""Task and number of an attempt."""


def need_of(task: TaskState) -> Need:
    """What the node and the worker of a task must have, besides resources."""
    return requirement(task.spec.requires) if task.spec.requires else "", task.spec.worker_label


def has_labels(name: str, labels: Mapping[str, str], requires: Mapping[str, str]) -> bool:
    """Whether a node with this name and these labels has what a task requires."""
    return all(labels.get(key) == value or (key == NODE_LABEL and value == name) for key, value in requires.items())


@lru_cache(_NEEDS)
def _required(requirement: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in requirement.split(","))


class NodeSample(msgspec.Struct, frozen=True):
    """What a node has free, and how many seconds ago that was sampled."""

    sample: MachineSample | None
    """None if the node is there but could not be sampled."""
    age: float = 0.0
    memory_used: dict[AttemptId, int] | None = None
    """Attempt there → bytes of memory, measured before the sample. One that is left out was not measured yet.

    None: nothing can be measured there.
    """


class GoneAttempt(msgspec.Struct):
    """An attempt that has ended since its node was last sampled: when it began and ended, and what it may have used.

    If the clock is set, the times are moved with it.
    """

    key: AttemptId
    began: datetime
    ended: datetime
    memory: int
    """Bytes that a sample shows of it if they were not measured for that sample."""
    temp: int

    def is_in_sample(self, sampled_at: datetime) -> bool:
        """Whether a sample of this time still shows its resources as used."""
        return self.began < sampled_at <= self.ended


class Node(msgspec.Struct):
    """What is known of a node now."""

    seen: NodeSeen
    present: bool = False
    """Whether it was in the last list of nodes."""
    draining: bool = False
    workers: Workers = msgspec.field(default_factory=Workers)
    sample: MachineSample = MachineSample()
    sampled_at: datetime | None = None
    """None if it was not sampled since it joined: then nothing can start there."""
    last_seen: datetime | None = None
    memory_used: dict[AttemptId, int] | None = None
    """See `NodeSample`; of the last sample."""
    reserved: Reserved = msgspec.field(default_factory=Reserved)
    over: list[GoneAttempt] = []
    left_before: tuple[object, ...] = ()
    """The values of the previous sample that decide what starts."""
    ceiling_before: Ceiling = Ceiling(0, 0)

    @property
    def name(self) -> str:
        """Its name."""
        return self.seen.node

    def is_asked_for(self, task: TaskState) -> bool:
        """Whether it has the labels that the task requires."""
        return not task.spec.requires or has_labels(self.name, self.seen.labels, task.spec.requires)

    def ceiling(self) -> Ceiling:
        """What a task could have there once all our attempts have ended."""
        return ceiling_of(_NO_LIMITS, self.sample, self.reserved)

    def surely_left(self) -> int:
        """Bytes of memory that a task can surely have there once all our attempts have ended.

        Unlike for the ceiling, what the sample may show of ours counts only as far as it was measured. Where nothing
        can be, attempts with more than was reserved for them would pass for other programs: then it is all there is.
        """
        total = self.sample.memory_total
        if self.memory_used is None or self.sampled_at is None:
            return total
        ours = self.reserved.memory - self.reserved.unused_memory + self.reserved.beyond
        gone = [one.key for one in self.over if one.is_in_sample(self.sampled_at)]
        return min(total, self.sample.memory_available + ours + sum(self.memory_used.get(key, 0) for key in gone))

    def left(self) -> tuple[object, ...]:
        """The values of its sample that decide what starts there."""
        sample = self.sample
        return sample.memory_available, sample.temp_free, sample.cpu_percent, sample.disk_low

    def suits(self, task: TaskState) -> bool:
        """Whether the task could run there, regardless of its resources."""
        label = task.spec.worker_label
        return (
            self.present
            and self.sampled_at is not None
            and self.workers.slots > 0
            and self.is_asked_for(task)
            and (not label or offering(self.workers.offers, label) > 0)
        )

    def could_hold(self, task: TaskState) -> bool:
        """Whether the task would fit if none of our attempts ran there."""
        return self.suits(task) and self.ceiling().suffices_for(task)

    def shortages(self, task: TaskState, limits: Limits) -> Iterator[Shortage]:
        """Yield what it lacks to start the task now, except a worker."""
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
        """Bytes of memory and of temp space that it lacks for the task now, because they are used or reserved."""
        left = self.bytes_left()
        return max(0, task.memory_needed - left.memory) + max(0, task.temp_needed - left.temp)

    def bytes_left(self) -> Ceiling:
        """The bytes that are free and not reserved."""
        sample, reserved = self.sample, self.reserved
        memory = min(sample.memory_available - reserved.unused_memory, sample.memory_total - reserved.memory)
        temp = min(sample.temp_free - reserved.unused_temp, sample.temp_total - reserved.temp)
        return Ceiling(memory, temp)

    def take_samples_of(self, other: "Node") -> None:
        """Take over the samples of the other node: it is the same one under its former name."""
        self.sample, self.sampled_at, self.last_seen, self.memory_used, self.over = (
            other.sample,
            other.sampled_at,
            other.last_seen,
            other.memory_used,
            other.over,
        )

    def use_of(self, task: TaskState, key: AttemptId, since: datetime, *, short: bool) -> Used:
        """What an attempt uses by the last sample. A sample includes what had begun by then."""
        in_sample = self.sampled_at is not None and self.sampled_at > since
        shown = None if in_sample else 0
        if self.memory_used is None or short:  # short ones, which share a worker, run one after another
            return used_of(task, shown, shown)
        if key in self.memory_used:
            return used_of(task, self.memory_used[key], shown)
        return used_of(task, 0, shown)._replace(unmeasured=task.memory_needed if in_sample else 0)

    def ended(self, task: TaskState, key: AttemptId, began: datetime, now: datetime) -> None:
        """Note the end of an attempt. The next sample may be older than the end and still show the attempt."""
        measured = key in (self.memory_used or ())
        self.over.append(GoneAttempt(key, began, now, 0 if measured else task.memory_needed, task.temp_needed))

    def count_over(self) -> None:
        """Count the ended attempts that the sample still shows, and forget those that no later sample can show."""
        if self.sampled_at is None:
            return
        self.over = [one for one in self.over if one.ended >= self.sampled_at]
        shown = [one for one in self.over if one.is_in_sample(self.sampled_at)]
        measured = self.memory_used or {}
        self.reserved.gone_memory = sum(measured.get(one.key, one.memory) for one in shown)
        self.reserved.gone_temp = sum(one.temp for one in shown)

    def copy(self) -> "Node":
        """An independent copy."""
        return replace(self, workers=self.workers.copy(), reserved=replace(self.reserved), over=[*self.over])


_NO_LIMITS = Limits()
"""The operators' limits apply to all nodes together, and are checked elsewhere."""


class Spot(NamedTuple):
    """Where an attempt starts: the node, and what its worker there offers."""

    node: str
    offer: Offer


class Nodes:
    """The current nodes.

    Args:
        labels: the labels of this machine, for when it is the only node.
    """

    def __init__(self, labels: Mapping[str, str] | None = None) -> None:
        self.labels = dict(labels or {})
        self.many = False
        """Whether attempts run on nodes that an executor reports. Otherwise there is only this machine."""
        self.local_drains = False
        self.by_name: dict[str, Node] = {}
        self.changes = 0
        """Counts everything that may let another task start."""
        self.growth = 0
        """Counts everything that may make a task fit that no node could hold before."""
        self._suiting: dict[Need, tuple[Node, ...]] = {}
        """Need → the nodes that suit it. Kept until nodes or workers change."""
        self._counted: dict[str, tuple[int, Counter[Offer], int]] = {}
        """Node → what was last counted of its workers: see `count_into`."""
        self._to_count: set[str] = set()
        self._together: tuple[int, Counter[Offer], int] = (0, Counter(), 0)

    # --- what changes ----------------------------------------------------------------------------------------------

    def set_nodes(self, seen: Collection[NodeSeen], drains: Collection[str]) -> None:
        """Take the complete list of the current nodes. A node that has got another name keeps its samples."""
        self.many = True
        before = {name: node for name, node in self.by_name.items() if node.present}
        gone = before.keys() - {one.node for one in seen}
        for node in before.values():
            node.present = False
        for one in seen:
            node = self._of(one.node)
            node.seen, node.present = one, True
            if one.node in before:
                continue
            node.sample, node.sampled_at, node.memory_used = MachineSample(), None, None
            alike = node_names(one.node, one.address) & gone
            for old in [name for name in alike if before[name].seen.address == one.address]:  # there is one at most
                node.take_samples_of(before[old])
        self.drained(drains)
        self._forget_gone()

    def drained(self, drains: Collection[str]) -> None:
        """Take the complete list of the nodes that are being drained."""
        self.local_drains = LOCAL in drains
        for node in self.by_name.values():
            node.draining = not node_names(node.name, node.seen.address).isdisjoint(drains)
        self.have_changed()

    def workers_changed(self, slots: int, offers: Iterable[Offer], nodes: tuple[str, ...]) -> None:
        """Take the current workers: the node of each, and what it offers."""
        offers_of_nodes: dict[str, list[Offer]] = {name: [] for name in self.by_name}
        for offer, name in zip(tuple(offers) or ((),) * slots, nodes, strict=True):
            offers_of_nodes.setdefault(name, []).append(offer)
        for name, offers_there in offers_of_nodes.items():
            self._of(name).workers.change(len(offers_there), offers_there if any(offers_there) else ())
        self._forget_gone()
        self.have_changed()

    def have_changed(self) -> None:
        """Note that nodes or their workers have changed."""
        self.changes += 1
        self.growth += 1
        self._suiting.clear()
        self._to_count.update(self.by_name)

    def _forget_gone(self) -> None:
        """Drop the nodes that are gone and hold nothing: as machines come and go, these would pile up."""
        for name, node in list(self.by_name.items()):
            workers = node.workers
            if not (node.present or workers.slots or workers.held or workers.short):
                del self.by_name[name]
                self._to_count.add(name)

    def sampled(self, samples: Mapping[str, NodeSample], now: datetime, limits: Limits) -> None:
        """Take samples of nodes. They do not include what started since; see `count_anew`."""
        for name, one in samples.items():
            node = self.by_name.get(name)
            if node is None:
                continue  # it is gone
            node.last_seen = now - timedelta(seconds=one.age)
            if one.sample is None:
                continue
            if node.sampled_at is None:
                self.have_changed()
            node.sample, node.sampled_at = one.sample.after(node.sample, limits), node.last_seen
            node.memory_used = one.memory_used

    def count_anew(self, running: Iterable[tuple[str, TaskState, Used]]) -> None:
        """Compute what is reserved. `running`: each attempt's node and task, and its use by the last sample."""
        before = {name: node.reserved for name, node in self.by_name.items()}
        for node in self.by_name.values():
            node.reserved = Reserved()
        for name, task, used in running:
            reserved = self._of(name).reserved
            reserved.take(task)
            reserved.show(used)
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
        """Move all times with the wall clock, which was set."""
        for node in self.by_name.values():
            node.sampled_at = node.sampled_at and node.sampled_at + by
            node.last_seen = node.last_seen and node.last_seen + by
            for one in node.over:
                one.began += by
                one.ended += by

    def take(self, spot: Spot, task: TaskState, room: int, *, short: bool) -> None:
        """Reserve a worker and the resources for an attempt."""
        self.changes += 1
        node = self._of(spot.node)
        node.workers.take(spot.offer, node.workers.held + max(0, room), short=short)
        node.reserved.take(task)
        self._to_count.add(spot.node)

    def give_back(self, spot: Spot, task: TaskState, used: Used, *, short: bool) -> None:
        """Free the worker and the resources of an attempt that is over."""
        self.changes += 1
        node = self._of(spot.node)
        node.workers.give_back(spot.offer, short=short)
        node.reserved.give_back(task, used)
        self._to_count.add(spot.node)
        if not node.present:
            self._forget_gone()

    def ended(self, name: str, task: TaskState, key: AttemptId, began: datetime, now: datetime) -> None:
        """Note the end of an attempt: for a while, samples may show as used what `give_back` has freed."""
        if name in self.by_name:
            self.by_name[name].ended(task, key, began, now)

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
        """An independent copy."""
        others = self.without_attempts()
        others.by_name = {name: node.copy() for name, node in self.by_name.items()}
        return others

    # --- questions -------------------------------------------------------------------------------------------------

    def count_into(self, together: Workers) -> None:
        """Set `together` to the workers of all nodes. Those held on a gone or drained node take nothing from others."""
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
        """How many workers are really there."""
        return sum(node.workers.slots for node in self.by_name.values())

    def is_open_for(self, requirement: str) -> bool:
        """Whether any node has what is required, and a worker free now."""
        if not self.many:
            return has_labels(LOCAL, self.labels, _required(requirement))
        return any(self.opens(node.name, requirement) for node in self.by_name.values())

    def opens(self, name: str, requirement: str) -> bool:
        """Whether this node has what is required, and a worker free."""
        node = self.by_name.get(name)
        if node is None or not node.present or node.draining or not node.workers.has_room(UNLIMITED, short=True):
            return False
        return has_labels(name, node.seen.labels, _required(requirement))

    def suiting(self, task: TaskState) -> tuple[Node, ...]:
        """The nodes that are not being drained and could run the task, regardless of its resources."""
        need = need_of(task)
        suiting = self._suiting.get(need)
        if suiting is None:
            if len(self._suiting) > _NEEDS:
                self._suiting.clear()
            suiting = tuple(node for node in self.by_name.values() if not node.draining and node.suits(task))
            self._suiting[need] = suiting
        return suiting

    def able(self, task: TaskState) -> list[Node]:
        """The suitable nodes where the task would fit if none of our attempts ran there."""
        return [node for node in self.suiting(task) if node.ceiling().suffices_for(task)]

    def could_hold(self, task: TaskState) -> bool:
        """Whether there is such a node."""
        return any(node.ceiling().suffices_for(task) for node in self.suiting(task))

    def ceiling(self, task: TaskState) -> Ceiling:
        """The most memory, and the most temp space, that any node could give to tasks with the same need."""
        return most_of(node.ceiling() for node in self.suiting(task))

    def nearest(self, task: TaskState, among: Iterable[Node]) -> Node | None:
        """The node that lacks the least for the task now."""
        return min(among, key=lambda node: (node.missing(task), node.name), default=None)
