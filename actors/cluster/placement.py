"""Chooses the nodes on which hosts are made, by what the engine reports as free and what our hosts have booked.

It does not decide which host an attempt goes to: the Scheduler names the node.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec

from ...events.counted import counted, plural
from ...events.reports import NodeSeen, node_names
from .wire import Node

GPU = "gpu"
"""The label of a worker that has booked GPUs."""
_SETTLES_IN = 3.0
"""Seconds after which the engine's free resources take account of a new host."""


class HostNeeds(msgspec.Struct, frozen=True, kw_only=True):
    """The resources that a host books on its node: as much as its one attempt may use."""

    cpus: float = 1.0
    memory: int = 0
    resources: dict[str, float] = {}
    gpus: int = 0
    """Booked if the node has this many free. Otherwise the host has none, and its worker does not offer `gpu`."""

    def of(self, name: str) -> float:
        """How much of a resource it books."""
        return {"CPU": self.cpus, "memory": float(self.memory), **self.resources}.get(name, 0.0)

    def missing_in(self, free: Mapping[str, float]) -> list[str]:
        """The resources that are not sufficient there."""
        names = ("CPU", "memory", *self.resources)
        return [name for name in names if free.get(name, 0.0) < self.of(name)]

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPU"]
        parts += [f"{self.memory:,} bytes of memory"] if self.memory else []
        parts += [f"{number:g} {name}" for name, number in sorted(self.resources.items())]
        return ", ".join(parts)


class Home(NamedTuple):
    """The facts about a host that a placement needs."""

    node: str
    """The engine's id of its node."""
    gpus: int
    made_at: float
    is_lasting: bool
    """See `KnownHost`."""


class Placement:
    """The nodes of the cluster, by the engine's last report."""

    def __init__(self, needs: HostNeeds) -> None:
        self.needs = needs
        self.nodes: tuple[Node, ...] = ()
        self.avoided: frozenset[str] = frozenset()
        """Nodes that are being drained."""
        self._names: dict[str, str] = {}
        self._shunned: dict[str, float] = {}
        """Node → until when no host is made there if another node has room."""

    def set_nodes(self, nodes: tuple[Node, ...]) -> tuple[NodeSeen, ...] | None:
        """Take the living nodes. Returns what to report of them, or None if that has not changed.

        A node has its name from the engine, in whatever order nodes come: a drain belongs to the name, and has to hold
        over restarts of the service and of the node. Nodes with the same name and address are one, because the engine
        may list a machine that came back beside its former entry. If nodes at different addresses share a name, each
        gets its address appended.
        """
        before = self.seen()
        self.nodes = nodes
        addresses: dict[str, set[str]] = {}
        for node in nodes:
            addresses.setdefault(node.name, set()).add(node.address)
        for node in nodes:
            alone = len(addresses[node.name]) == 1
            self._names[node.id] = node.name if alone else f"{node.name}-{node.address}"
        now = self.seen()
        return now if now != before else None

    def seen(self) -> tuple[NodeSeen, ...]:
        """The nodes, as they are reported to the Scheduler."""
        alike: dict[str, list[Node]] = {}
        for node in sorted(self.nodes, key=lambda node: (self._names[node.id], node.id)):
            alike.setdefault(self._names[node.id], []).append(node)
        return tuple(
            NodeSeen(
                node=name,
                address=nodes[0].address,
                cpus=max(node.total.get("CPU", 0.0) for node in nodes),
                memory=int(max(node.total.get("memory", 0) for node in nodes)),
                gpus=max(node.total.get("GPU", 0.0) for node in nodes),
                labels={label: value for node in nodes for label, value in node.labels.items()},
            )
            for name, nodes in alike.items()
        )

    def name_of(self, node: str) -> str:
        """The name of the node with this id; the id itself if it is unknown."""
        return self._names.get(node, node)

    def is_avoided(self, node: str) -> bool:
        """Whether it is being drained, perhaps under the name that it had before another node came or went."""
        address = next((one.address for one in self.nodes if one.id == node), "")
        return not self.avoided.isdisjoint(node_names(self.name_of(node), address))

    def shun(self, node: str, until: float) -> None:
        """Prefer other nodes, until a host there answers."""
        self._shunned[node] = until

    def trust(self, node: str) -> None:
        """Stop shunning a node: a host there has answered."""
        self._shunned.pop(node, None)

    def choose(self, homes: Iterable[Home], now: float) -> tuple[Node, int] | None:
        """Where the next host is made, and how many GPUs it books; None if there is no room anywhere.

        Nodes without any host come first, so that tasks can require each; then the nodes with the most free CPUs.
        Nodes that have recently lost hosts come last.
        """
        homes = list(homes)
        peopled = Counter(home.node for home in homes if home.is_lasting)
        recent: dict[str, list[Home]] = {}
        for home in homes:
            if now - home.made_at < _SETTLES_IN:
                recent.setdefault(home.node, []).append(home)
        best: tuple[tuple[bool, bool, float, str], Node, int] | None = None
        for node in self.nodes:
            if self.is_avoided(node.id):
                continue
            free = self._free(node, recent.get(node.id, ()))
            if self.needs.missing_in(free):
                continue
            gpus = self.needs.gpus if self.needs.gpus and free.get("GPU", 0.0) >= self.needs.gpus else 0
            is_trusted = self._shunned.get(node.id, now) <= now
            rank = (is_trusted, not peopled[node.id], free.get("CPU", 0.0), node.id)
            if best is None or rank > best[0]:
                best = (rank, node, gpus)
        return None if best is None else best[1:]

    def _free(self, node: Node, recent: Collection[Home]) -> dict[str, float]:
        """What is free there, less what new hosts have booked, as the engine may not have counted them yet."""
        free = {name: number - len(recent) * self.needs.of(name) for name, number in node.free.items()}
        if "GPU" in free:
            free["GPU"] -= sum(home.gpus for home in recent)
        return free

    def why_nowhere(self, missing: int, slots: int) -> str:
        """Why `missing` of the workers cannot be made."""
        if not self.nodes:
            return "The cluster has no live node"
        lacking = f"{missing} of {counted(slots, 'worker')} {plural(missing, 'has', 'have')} no node"
        open_ones = [node for node in self.nodes if not self.is_avoided(node.id)]
        if not open_ones:
            return f"{lacking}: all nodes are being drained"
        if all(self.needs.missing_in(node.total) for node in open_ones):
            return f"No node of the cluster is large enough for a worker, which needs {self.needs}"
        return f"{lacking}: none has {self.needs} free"
