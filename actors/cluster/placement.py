"""On which nodes hosts are made: what the engine says that nodes have, and what our hosts have been promised there.

Which host an attempt goes to is not decided here: the Scheduler names the node.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec

from ...events.reports import NodeSeen
from .wire import Node

GPU = "gpu"
"""The label of a worker that has booked GPUs."""
_SETTLES_IN = 3.0
"""Seconds after which a new host stands in what the engine says to be free."""


class HostNeeds(msgspec.Struct, frozen=True, kw_only=True):
    """What a host books on its node: as much as its one attempt may use."""

    cpus: float = 1.0
    memory: int = 0
    resources: dict[str, float] = {}
    gpus: int = 0
    """Where the node has so many free; elsewhere a host has none, and its worker does not offer `gpu`."""

    def of(self, name: str) -> float:
        """How much of a resource."""
        return {"CPU": self.cpus, "memory": float(self.memory), **self.resources}.get(name, 0.0)

    def missing_in(self, there: Mapping[str, float]) -> list[str]:
        """The resources of which there is not enough."""
        names = ("CPU", "memory", *self.resources)
        return [name for name in names if there.get(name, 0.0) < self.of(name)]

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPU"]
        parts += [f"{self.memory:,} bytes of memory"] if self.memory else []
        parts += [f"{number:g} {name}" for name, number in sorted(self.resources.items())]
        return ", ".join(parts)


class Home(NamedTuple):
    """What counts of a host here."""

    node: str
    """The engine's name for it."""
    gpus: int
    made_at: float
    is_lasting: bool
    """Whether it is there, or will be."""


class Placement:
    """The nodes of the cluster, as the engine told last."""

    def __init__(self, needs: HostNeeds) -> None:
        self.needs = needs
        self.nodes: tuple[Node, ...] = ()
        self.avoided: frozenset[str] = frozenset()
        """Nodes that are being drained."""
        self._names: dict[str, str] = {}
        self._shunned: dict[str, float] = {}
        """Node → until when no host is made there, if another one has room."""

    def told(self, nodes: tuple[Node, ...]) -> tuple[NodeSeen, ...] | None:
        """These nodes live; what is to be told of them, if that has changed.

        A node is called as the engine calls it. Of two that are called alike, the one that came later gets a part of
        its id behind its name.
        """
        before = self.seen()
        self.nodes = nodes
        alive = {node.id for node in nodes}
        taken = {name for node_id, name in self._names.items() if node_id in alive}
        for node in sorted(nodes, key=lambda node: node.id):
            if node.id not in self._names:
                name = node.name if node.name not in taken else f"{node.name}-{node.id[:8]}"
                self._names[node.id] = name
                taken.add(name)
        now = self.seen()
        return now if now != before else None

    def seen(self) -> tuple[NodeSeen, ...]:
        """The nodes, as the Scheduler is told of them."""
        return tuple(
            NodeSeen(
                node=self._names[node.id],
                address=node.address,
                cpus=node.total.get("CPU", 0.0),
                memory=int(node.total.get("memory", 0)),
                gpus=node.total.get("GPU", 0.0),
                labels=node.labels,
            )
            for node in sorted(self.nodes, key=lambda node: self._names[node.id])
        )

    def name_of(self, node: str) -> str:
        """What the node with this id is called; the id itself where it is not known."""
        return self._names.get(node, node)

    def shun(self, node: str, until: float) -> None:
        """Prefer other nodes, until a host there answers."""
        self._shunned[node] = until

    def trust(self, node: str) -> None:
        """A host there has answered."""
        self._shunned.pop(node, None)

    def choose(self, homes: Iterable[Home], now: float) -> tuple[Node, int] | None:
        """Where the next host is made, and how many GPUs it books; None: nowhere is room.

        Nodes without any host come first, so that each can be asked for; of the others the one with the most CPUs free.
        Those of which hosts were lost of late come last.
        """
        homes = list(homes)
        peopled = Counter(home.node for home in homes if home.is_lasting)
        best: tuple[tuple[bool, bool, float, str], Node, int] | None = None
        for node in self.nodes:
            if self._names[node.id] in self.avoided:
                continue
            free = self._free(node, homes, now)
            if self.needs.missing_in(free):
                continue
            gpus = self.needs.gpus if self.needs.gpus and free.get("GPU", 0.0) >= self.needs.gpus else 0
            is_trusted = self._shunned.get(node.id, now) <= now
            rank = (is_trusted, not peopled[node.id], free.get("CPU", 0.0), node.id)
            if best is None or rank > best[0]:
                best = (rank, node, gpus)
        return None if best is None else best[1:]

    def _free(self, node: Node, homes: Collection[Home], now: float) -> dict[str, float]:
        """What is free there, less what hosts have been promised that the engine may not have counted yet."""
        recent = [home for home in homes if home.node == node.id and now - home.made_at < _SETTLES_IN]
        free = {name: number - len(recent) * self.needs.of(name) for name, number in node.free.items()}
        if "GPU" in free:
            free["GPU"] -= sum(home.gpus for home in recent)
        return free

    def why_nowhere(self, missing: int, slots: int) -> str:
        """Why so many of the workers cannot be made."""
        if not self.nodes:
            return "The cluster has no node that lives"
        open_ones = [node for node in self.nodes if self._names[node.id] not in self.avoided]
        if not open_ones:
            return f"{missing} of {slots} workers have no node: all that there are are being drained"
        if all(self.needs.missing_in(node.total) for node in open_ones):
            return f"No node of the cluster is large enough for a worker, which needs {self.needs}"
        return f"{missing} of {slots} workers have no node: none has {self.needs} free"
