"""A cluster without machines: nodes come, go and change their names, and attempts outlive the service.

The executor's own `Placement` decides the names of nodes and which are avoided; the seed plays the rest.
"""

from collections import Counter
from random import Random
from typing import NamedTuple

from broken import must
from ledger import Key, Ledger
from sim_executor import Attempt, SimulatedExecutor

from tasktrail.actors.cluster.placement import HostNeeds, Placement
from tasktrail.actors.cluster.wire import Node
from tasktrail.actors.core.nodes import NodeSample
from tasktrail.actors.core.resources import MachineSample
from tasktrail.actors.core.routing import Offer
from tasktrail.events.reports import (
    AllFound,
    AttemptCheckpointed,
    AttemptEnded,
    AttemptFound,
    Avoid,
    CapacityChanged,
    Grant,
    NodesSeen,
    Order,
    PublishWanted,
    Report,
    Run,
    Saved,
    Settled,
    Stop,
    TellHeld,
)


class Machine(NamedTuple):
    """A machine that can be a node. Its address identifies it, whatever its name is."""

    address: str
    name: str
    labels: dict[str, str]
    memory: int
    temp: int
    offers: tuple[Offer, ...]
    """The labels that each of its workers offers."""
    measures: bool = True
    """Whether the memory of attempts can be measured there."""

    def suits(self, requires: dict[str, str], node: str) -> bool:
        """Return whether it meets the requirement; `node`: its present name."""
        return all(self.labels.get(key) == value or (key, value) == ("node", node) for key, value in requires.items())

    def is_one_of(self, drains: set[str]) -> bool:
        """Return whether one of these drains holds for it, whatever its present name."""
        return not drains.isdisjoint(self.names)

    @property
    def names(self) -> set[str]:
        """Return its possible names."""
        return {self.name, f"{self.name}-{self.address}"}


MACHINES = {
    machine.address: machine
    for machine in (
        Machine("1", "box", {"zone": "a"}, 10, 10, ((), ())),
        Machine("2", "box", {"zone": "b"}, 20, 20, ((), ("gpu",))),
        Machine("3", "small", {"zone": "a"}, 4, 7, ((),), measures=False),
        Machine("4", "big", {"zone": "b"}, 15, 10, ((), ())),
    )
}
REQUIREMENTS: tuple[dict[str, str], ...] = (
    *({},) * 6,
    {"zone": "a"},
    {"zone": "b"},
    {"node": "big"},
    {"node": "box"},
    {"zone": "nowhere"},
)
DRAINED = ("box", "box-1", "box-2", "small", "big")
"""Names that operators may give to a drain."""


class Cluster:
    """Everything that outlives the services."""

    def __init__(self, rng: Random) -> None:
        self.there = rng.sample(sorted(MACHINES), rng.randint(1, 4))
        """Addresses of the machines that are present."""
        self.most = 9
        """The most workers of each machine."""
        self.live: dict[Key, Attempt] = {}
        self.where: dict[Key, str] = {}
        """Attempt that began → address of its machine."""
        self.said: dict[Key, Report] = {}
        """The latest report of an attempt that waits for an answer."""
        self.ends: dict[Key, AttemptEnded] = {}
        """The ends that no service has settled."""
        self.seen: set[Key] = set()

    def clear(self) -> None:
        """Remove everything, as a service does that stops normally."""
        self.live.clear()
        self.ends.clear()


class ClusterExecutor(SimulatedExecutor):
    """The executor of one service on the cluster, which finds what runs there."""

    outlives = True

    def __init__(self, rng: Random, cluster: Cluster, ledger: Ledger) -> None:
        self._cluster = cluster
        self._placement = Placement(HostNeeds())
        self._place_all()
        super().__init__(rng, 99, ledger)
        self.live, self.seen = cluster.live, cluster.seen
        self.waiting: dict[Key, Run] = {}
        """Runs that have not begun: not all has been found, or an earlier attempt takes its time to end."""
        self.kept_stopping = {key for key, attempt in self.live.items() if attempt.stop_wanted}
        self.all_found = False
        """Whether the Scheduler knows everything that outlived the last service."""
        self.channel.clear()
        self._begin()

    def _begin(self) -> None:
        """Report the nodes, then machine by machine the attempts there and the workers."""
        tell, there = self.channel.append, list(self._cluster.there)
        for key in [key for key in self.live if self._cluster.where[key] not in there]:
            del self.live[key]  # its lease is over, and no machine can be asked
        self._rng.shuffle(there)
        tell(NodesSeen(self._placement.seen()))
        for number, address in enumerate(there, start=1):
            for key, attempt in self.live.items():
                if self._cluster.where[key] == address:
                    tell(AttemptFound(*key, attempt.granted, attempt.run.offer, self._placement.name_of(address)))
                    if attempt.waits_for is not None:
                        tell(self._cluster.said[key])
            for end in self._cluster.ends.values():
                if self._cluster.where[end.task_id, end.attempt] == address:
                    tell(end)
            tell(self._capacity(there[:number]))
        for end in self._cluster.ends.values():
            if self._cluster.where[end.task_id, end.attempt] not in there:
                tell(end)
        tell(AllFound())

    # --- nodes ------------------------------------------------------------------------------------------------

    def _place_all(self) -> bool:
        nodes = tuple(
            Node(address, MACHINES[address].name, address, {"CPU": 4.0}, {"CPU": 4.0}, MACHINES[address].labels)
            for address in self._cluster.there
        )
        return self._placement.set_nodes(nodes) is not None

    def _capacity(self, addresses: list[str] | None = None) -> CapacityChanged:
        """Report capacity; idle workers leave a node that is being drained."""
        offers, nodes = [], []
        for address in self._cluster.there if addresses is None else addresses:
            held = Counter(one.run.offer for key, one in self.live.items() if self._cluster.where[key] == address)
            shared = any(
                one.run.shared_workers for key, one in self.live.items() if self._cluster.where[key] == address
            )
            for offer in MACHINES[address].offers[: self._cluster.most]:
                if not self._placement.is_avoided(address) or held[offer] or shared:
                    offers.append(offer)
                    nodes.append(self._placement.name_of(address))
        return CapacityChanged(len(offers), tuple(offers) if any(offers) else (), tuple(nodes))

    def _nodes_changed(self) -> None:
        if self._place_all():
            self.channel.append(NodesSeen(self._placement.seen()))
        self.channel.append(self._capacity())
        self._hand_out()

    def lose_or_gain_a_node(self) -> None:
        """Remove a machine with everything that ran there, or add one."""
        there = self._cluster.there
        gone = [address for address in MACHINES if address not in there]
        if gone and (not there or self._rng.random() < 0.6):
            there.append(self._rng.choice(gone))
        elif there:
            address = self._rng.choice(there)
            there.remove(address)
            for key, attempt in self.live.items():
                attempt.doomed |= self._cluster.where[key] == address
        self._nodes_changed()

    def change_capacity(self, slots: int) -> None:
        """Change the most workers of the machines."""
        self._cluster.most = slots
        self._nodes_changed()

    def be_kind(self) -> None:
        """Let all machines be present, with all of their workers."""
        self._cluster.there[:] = MACHINES
        self.change_capacity(9)

    def samples(self, *, kind: bool = False) -> dict[str, NodeSample]:
        """Return each node's free room: it may be old, others may take some, and running attempts take some."""
        found = {}
        for address in self._cluster.there if kind or self._rng.random() < 0.7 else self._cluster.there[:1]:
            machine = MACHINES[address]
            share = 1.0 if kind else self._rng.choice((0.0, 0.5, 1.0))
            memory = temp = 0
            measured: dict[Key, int] = {}
            for key in [key for key in self.live if self._cluster.where[key] == address]:
                task = self._ledger.tasks[key[0]]
                needed, beyond = task.memory_needed, 0 if kind else self._rng.choice((0, 0, 0, 4))
                has = int(needed * share) + beyond
                memory, temp = memory + has, temp + task.temp_needed
                if kind or self._rng.random() < 0.8:  # hosts look at their attempts one by one, before the sample
                    measured[key] = has if kind else self._rng.randint(0, has)
            others = 0 if kind else self._rng.choice((0, 0, 0, 3))
            found[self._placement.name_of(address)] = NodeSample(
                MachineSample(
                    cpu_percent=5.0 if kind else self._rng.choice((5.0, 5.0, 5.0, 99.0)),
                    memory_available=max(0, machine.memory - memory - others),
                    memory_total=machine.memory,
                    temp_free=machine.temp - int(temp * share),
                    temp_total=machine.temp,
                ),
                age=0.0 if kind else self._rng.choice((0.0, 0.5, 2.0)),
                memory_used=measured if machine.measures else None,
            )
        return found

    # --- orders -----------------------------------------------------------------------------------------------

    def _do(self, order: Order) -> None:
        if self.closed:
            return
        match order:
            case Avoid():
                self._placement.avoided = frozenset(order.nodes)
                self.channel.append(self._capacity())
            case TellHeld():
                super()._do(order)
            case Settled():
                key = (order.task_id, order.attempt)
                task = self._ledger.tasks.get(order.task_id)
                over = task is None or task.attempt != order.attempt or task.status != "running"
                must(over, f"I1: the end of attempt {key} is settled and not recorded")
                self._cluster.ends.pop(key, None)
            case Stop() if (order.task_id, order.attempt) in self.waiting:
                self._give_back((order.task_id, order.attempt), "stopped")
            case _:
                super()._do(order)
                if isinstance(order, Saved | Grant):
                    self._cluster.said.pop((order.task_id, order.attempt), None)
        self._hand_out()

    @property
    def avoided(self) -> frozenset[str]:
        """Return the nodes that are being drained, as far as the executor knows."""
        return self._placement.avoided

    def held(self) -> tuple[Key, ...]:
        """Return running and waiting attempts."""
        return (*self.live, *self.waiting)

    def _run(self, run: Run) -> None:
        self.waiting[run.task_id, run.attempt] = run

    def _hand_out(self) -> None:
        if not self.all_found:
            return
        for key, run in list(self.waiting.items()):
            older = [attempt for other, attempt in self.live.items() if other[0] == key[0]]
            for attempt in older:
                ending = (
                    attempt.stop_wanted or attempt.doomed or any(self._stops(order, attempt) for order in self.orders)
                )
                must(ending, f"I7: task {key[0]} has two live attempts")
            if older:
                continue  # the earlier one takes its time to end
            address = self._has_place_for(run)
            if address is None:
                self._give_back(key, "interrupted")
                continue
            del self.waiting[key]
            super()._run(run)
            self._cluster.where[key] = address

    def _stops(self, order: Order, attempt: Attempt) -> bool:
        return isinstance(order, Stop) and (order.task_id, order.attempt) == attempt.key

    def _has_place_for(self, run: Run) -> str | None:
        """Return the machine of that name, if it has such a worker."""
        for address in self._cluster.there:
            if self._placement.name_of(address) == run.node:
                offers = MACHINES[address].offers[: self._cluster.most]
                return address if run.offer in offers else None
        return None

    def _give_back(self, key: Key, outcome: str) -> None:
        """Give back an attempt that has not begun: no host knows of it, so no one has to settle its end."""
        del self.waiting[key]
        self.channel.append(AttemptEnded(*key, "stopped" if outcome == "stopped" else "interrupted", error="not begun"))

    def received(self, report: Report) -> None:
        """Note that the Scheduler has received this."""
        if isinstance(report, AllFound):
            self.all_found = True
            self._hand_out()

    def close(self) -> None:
        """End the service; running attempts continue."""
        self.closed = True
        self.live = {}
        self.waiting.clear()
        self.forgotten.clear()

    # --- what attempts do -------------------------------------------------------------------------------------

    def act(self) -> None:
        """Let an attempt act; before all was found, no one listens to a single attempt."""
        if self.all_found:
            super().act()
            self._hand_out()

    def finish_all(self) -> bool:
        """Make the world kind again."""
        went_on = super().finish_all()
        self._hand_out()
        return went_on

    def _tell(self, report: Report) -> None:
        if isinstance(report, AttemptEnded):
            self._cluster.ends[report.task_id, report.attempt] = report
        elif isinstance(report, AttemptCheckpointed | PublishWanted):
            self._cluster.said[report.task_id, report.attempt] = report
        super()._tell(report)

    def unsettled(self) -> list[Key]:
        """Return the ends that hosts still keep."""
        return list(self._cluster.ends)

    def forget(self) -> None:
        """Lose an attempt without a report."""
        super().forget()
        self._hand_out()
