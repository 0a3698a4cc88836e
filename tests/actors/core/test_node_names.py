"""Nodes change their name when another one with the same name joins or leaves: everything that holds for them stays."""

from core_harness import Core
from test_nodes import GB, HERE, cluster, sample, where

from tasktrail.actors.cluster.placement import HostNeeds, Placement
from tasktrail.actors.cluster.wire import Node
from tasktrail.actors.core.messages import Sampled
from tasktrail.actors.core.node_board import node_boards
from tasktrail.actors.core.resources import MachineSample
from tasktrail.events import Accepted
from tasktrail.events.commands import DrainNode, UndrainNode
from tasktrail.events.errors import NothingToChange
from tasktrail.events.reports import CapacityChanged, NodeSeen, NodesSeen

BOX = NodeSeen(node="box", address="ip3")
BOX_3 = NodeSeen(node="box-ip3", address="ip3")
BOX_7 = NodeSeen(node="box-ip7", address="ip7")


def told(core: Core, *nodes: NodeSeen, memory: int = 10) -> Core:
    """Report these nodes, with two workers each."""
    core.tell(NodesSeen(nodes))
    places = tuple(one.node for one in nodes for _ in range(2))
    core.tell(CapacityChanged(len(places), (), places))
    core.tell(Sampled(MachineSample(), nodes={one.node: sample(memory=memory) for one in nodes}))
    return core


def alike(*addresses: str) -> tuple[Node, ...]:
    return tuple(Node(address, "box", address, {"CPU": 4.0}, {"CPU": 4.0}) for address in addresses)


def states(core: Core) -> dict[str, str]:
    return {board.node: board.state for board in node_boards(core.state, HERE)}


def test_a_drain_stays_with_its_machine_when_the_other_one_of_the_name_goes() -> None:
    core = told(Core(outlived=True), BOX_3, BOX_7)
    core.send(DrainNode(node="box-ip3"))
    told(core, BOX)
    core.create()
    assert where(core) == {}
    assert states(core)["box"] == "drained"
    assert isinstance(core.ask(DrainNode(node="box")), NothingToChange)
    assert isinstance(core.send(UndrainNode(node="box")), Accepted)
    assert where(core) == {1: "box"}


def test_a_drain_of_a_name_holds_for_all_that_have_it() -> None:
    core = told(Core(outlived=True), BOX)
    core.send(DrainNode(node="box"))
    told(core, BOX_3, BOX_7)
    core.create()
    assert where(core) == {}
    assert states(core) == {"box-ip3": "drained", "box-ip7": "drained", "box": "lost"}
    refused = core.ask(UndrainNode(node="box-ip7"))
    assert "`box`" in str(refused)
    core.send(UndrainNode(node="box"))
    assert where(core) == {1: "box-ip3"}


def test_no_worker_is_made_on_a_drained_node_whatever_it_is_called_now() -> None:
    placement = Placement(HostNeeds())
    placement.set_nodes(alike("ip3", "ip7"))
    placement.avoided = frozenset({"box-ip3"})
    placement.set_nodes(alike("ip3"))
    assert placement.is_avoided("ip3")
    placement.set_nodes(alike("ip7"))
    assert not placement.is_avoided("ip7")
    placement.avoided = frozenset({"box"})
    placement.set_nodes(alike("ip3", "ip7"))
    assert placement.is_avoided("ip3")
    assert placement.is_avoided("ip7")


def test_what_is_promised_on_a_node_stays_promised_there() -> None:
    core = told(Core(max_concurrent=9, outlived=True), BOX)
    first, second = core.create(memory=5 * GB), core.create(memory=5 * GB)
    core.tell(NodesSeen((BOX_3, NodeSeen(node="box-ip7", address="ip7"))))
    assert where(core) == {first: "box-ip3", second: "box-ip3"}
    core.tell(CapacityChanged(3, (), ("box-ip3",) * 3))
    core.tell(Sampled(MachineSample(), nodes={"box-ip3": sample(memory=10)}))
    third = core.create(memory=5 * GB)
    assert third not in core.running()
    core.end(first)
    assert where(core) == {second: "box-ip3", third: "box-ip3"}
    assert set(core.state.nodes.by_name) == {"box-ip3", "box-ip7"}


def test_a_drain_of_a_node_that_is_forgotten_is_still_shown() -> None:
    core = told(Core(outlived=True), BOX)
    core.send(DrainNode(node="box"))
    for number in range(102):
        core.tell(NodesSeen((NodeSeen(node=f"spot-{number}"),)))
    (board,) = (board for board in node_boards(core.state, HERE) if board.node == "box")
    assert board.state == "lost"
    assert board.drain is not None
    core.send(UndrainNode(node="box"))
    assert "box" not in states(core)


def test_a_node_keeps_what_was_seen_of_it() -> None:
    core = cluster(Core(max_concurrent=9, outlived=True), other={"memory": 1})
    told(core, BOX, memory=10)
    core.tell(NodesSeen((BOX_3,)))
    core.tell(CapacityChanged(2, (), ("box-ip3",) * 2))
    core.create(memory=8 * GB)
    assert where(core) == {1: "box-ip3"}, "nobody has looked at it under this name, and nobody has to"


def test_what_is_promised_moves_with_the_name_that_changed_while_no_service_ran() -> None:
    core = told(Core(max_concurrent=9, outlived=True), BOX)
    core.create(memory=8 * GB)
    core = told(core.again(max_concurrent=9, outlived=True), BOX_3, BOX_7)
    assert where(core) == {1: "box-ip3"}
    assert core.state.nodes.by_name["box-ip3"].reserved.memory == 8 * GB
