"""Records changes of the nodes: which there are, as the executor reports, and which operators drain."""

from ...events.commands import NodeCommand
from ...events.reports import Avoid, NodeSeen
from .recorded_nodes import change_events, changed_drain
from .unit_of_work import BY_SCHEDULER, Origin, UnitOfWork


def nodes_seen(work: UnitOfWork, seen: tuple[NodeSeen, ...]) -> None:
    """Take the complete list of the current nodes."""
    note_nodes(work, seen)
    work.state.set_nodes(seen)
    _order_drains(work)


def note_nodes(work: UnitOfWork, seen: tuple[NodeSeen, ...]) -> None:
    """Record what has changed since the last record; nothing if nothing has."""
    last_seen = {name: node.last_seen for name, node in work.state.nodes.by_name.items()}
    for event in change_events(work.state.durable.nodes, seen, last_seen):
        work.record(0, event, BY_SCHEDULER)


def change_drain(work: UnitOfWork, command: NodeCommand, origin: Origin) -> int:
    """Begin or end a drain. Returns the position of its record. Raises `UnknownNode`, `NothingToChange`."""
    state = work.state
    event = changed_drain(state.durable.nodes, command, many=state.nodes.many or state.outlived)
    position = work.record(0, event, origin)
    work.look_again()
    _order_drains(work)
    return position


def _order_drains(work: UnitOfWork) -> None:
    if work.state.nodes.many:
        work.order(Avoid(tuple(sorted(work.state.durable.nodes.drains))))
