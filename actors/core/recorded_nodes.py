"""The nodes as the log knows them: which joined and left, what they offered, and which operators drain."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import msgspec

from ...events import Fact
from ...events.commands import DrainNode, UndrainNode
from ...events.errors import NothingToChange, UnknownNode
from ...events.reports import NodeSeen, node_names
from ...events.system_events import LOCAL, NodeChanged, NodeDrainEnded, NodeDrainStarted, NodeJoined, NodeLeft

REMEMBERED = 100
"""How many nodes that have left are remembered."""


class NodeDrain(msgspec.Struct, frozen=True, kw_only=True):
    """A drain that holds: who ordered it, why, and the position of its record."""

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
    """Position of the last record about what it offers, or that it left."""
    left: bool = False
    last_seen: datetime | None = None
    """For a node that has left: when it was last seen."""


class RecordedNodes(msgspec.Struct):
    """The nodes and the drains in the log. A fold of it."""

    by_name: dict[str, RecordedNode] = {}
    drains: dict[str, NodeDrain] = {}

    def apply(self, fact: Fact, position: int) -> None:
        """Fold one record."""
        match fact.event:
            case NodeJoined() | NodeChanged() as event:
                earlier = self.by_name.pop(event.node, None)
                stays = earlier is not None and not earlier.left
                since = earlier.since if earlier is not None and stays else fact.recorded_at
                self.by_name[event.node] = RecordedNode(seen=seen_in(event), since=since, position=position)
            case NodeLeft() as event:
                earlier = self.by_name.pop(event.node, None)
                self.by_name[event.node] = RecordedNode(
                    seen=earlier.seen if earlier is not None else NodeSeen(node=event.node),
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
        """The nodes that have not left."""
        return {name: node for name, node in self.by_name.items() if not node.left}

    def present_name_of(self, name: str, seen: Iterable[NodeSeen]) -> str:
        """The present name of the node with this name; the same name if the node is not present."""
        addresses = {one.node: one.address for one in seen}
        address = self.by_name[name].seen.address if name in self.by_name else ""
        if name in addresses or not address:
            return name
        return next((one for one in node_names(name, address) if addresses.get(one) == address), name)

    def drained_as(self, name: str) -> str:
        """The name under which this node's drain was ordered: its own, or an alternative one. Empty without a drain."""
        if name in self.drains:
            return name
        address = self.by_name[name].seen.address if name in self.by_name else ""
        return min(node_names(name, address) & self.drains.keys(), default="")


def seen_in(event: NodeJoined | NodeChanged) -> NodeSeen:
    """The node as the event describes it."""
    return NodeSeen(**{name: getattr(event, name) for name in NodeSeen.__struct_fields__})


def change_events(
    recorded: RecordedNodes, seen: Iterable[NodeSeen], last_seen: Mapping[str, datetime | None]
) -> Iterator[NodeJoined | NodeChanged | NodeLeft]:
    """Yield the events to record, given the current nodes."""
    current = {node.node: node for node in seen}
    before = recorded.present()
    for name in sorted(before.keys() - current.keys()):
        yield NodeLeft(node=name, last_seen=last_seen.get(name))
    for name, node in sorted(current.items()):
        if name not in before:
            yield NodeJoined(**msgspec.structs.asdict(node))
        elif before[name].seen != node:
            yield NodeChanged(**msgspec.structs.asdict(node))


_LOOK = "`tasktrail nodes` shows the state of each node."


def changed_drain(
    recorded: RecordedNodes, command: DrainNode | UndrainNode, *, many: bool
) -> NodeDrainStarted | NodeDrainEnded:
    """The event for a command about a node. Raises `UnknownNode`, `NothingToChange`."""
    drained_as, names = recorded.drained_as(command.node), sorted(recorded.present()) if many else [LOCAL]
    if isinstance(command, UndrainNode):
        if not drained_as:
            _check_known(command.node, [*names, *recorded.by_name])
            raise NothingToChange(f"The node {command.node} is not being drained", field="node", remedy=_LOOK)
        others = [name for name in names if name != command.node and recorded.drained_as(name) == drained_as]
        if others and drained_as != command.node:
            raise NothingToChange(
                f"The node {command.node} is being drained as `{drained_as}`, as {', '.join(others)}: "
                f"undrain `{drained_as}`, which ends it for all of them",
                field="node",
                remedy=_LOOK,
            )
        return NodeDrainEnded(node=drained_as)
    _check_known(command.node, names)
    if drained_as:
        since = recorded.drains[drained_as].position
        message = f"The node {command.node} is being drained, since position {since}"
        raise NothingToChange(message, field="node", remedy=_LOOK)
    return NodeDrainStarted(node=command.node)


def _check_known(name: str, names: list[str]) -> None:
    if name not in names:
        listed = ", ".join(dict.fromkeys(names)) or "none just now"
        raise UnknownNode(f"There is no node {name}. There are: {listed}", field="node")
