"""Several nodes: each task runs where it fits and its labels are; one that fits nowhere holds no other up."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from core_harness import Core
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tasktrail.actors.core import dispatch
from tasktrail.actors.core.board import queue_board
from tasktrail.actors.core.explanation import Obstacle, WaitReason
from tasktrail.actors.core.limits import UNLIMITED
from tasktrail.actors.core.load import load_of
from tasktrail.actors.core.messages import Sampled, Tick
from tasktrail.actors.core.node_board import node_boards
from tasktrail.actors.core.nodes import Node, Nodes, NodeSample
from tasktrail.actors.core.recorded_nodes import REMEMBERED
from tasktrail.actors.core.resources import Ceiling, MachineSample, Reserved
from tasktrail.events import Accepted, Started
from tasktrail.events.commands import DrainNode, UndrainNode
from tasktrail.events.errors import CannotStartNow, NothingToChange, UnknownNode
from tasktrail.events.reports import AllFound, AttemptFound, Avoid, CapacityChanged, NodeSeen, NodesSeen, Run
from tasktrail.events.system_events import LOCAL, NodeChanged, NodeDrainEnded, NodeDrainStarted, NodeJoined, NodeLeft

GB = 2**30
HERE = NodeSeen(node=LOCAL, address="host", cpus=4.0)


def cluster(core: Core, **nodes: dict[str, Any]) -> Core:
    """Make nodes: `memory` in GB, `temp` in GB, `workers`, `labels`, `gpus`."""
    core.tell(CapacityChanged(0))
    core.tell(
        NodesSeen(
            tuple(
                NodeSeen(node=name, cpus=8.0, gpus=node.get("gpus", 0.0), labels=node.get("labels", {}))
                for name, node in nodes.items()
            )
        )
    )
    core.tell(Sampled(MachineSample(), nodes={name: sample(**node) for name, node in nodes.items()}))
    places = [(name, offer) for name, node in nodes.items() for offer in offers(node)]
    core.tell(CapacityChanged(len(places), tuple(offer for _, offer in places), tuple(name for name, _ in places)))
    return core


def offers(node: dict[str, Any]) -> list[tuple[str, ...]]:
    return [("gpu",)] * int(node.get("gpus", 0)) + [()] * int(node.get("workers", 2) - node.get("gpus", 0))


def sample(memory: float = 16, temp: float = 100, cpu: float = 5.0, **_others: Any) -> NodeSample:
    size, disk = int(memory * GB), int(temp * GB)
    return NodeSample(
        MachineSample(cpu_percent=cpu, memory_available=size, memory_total=size, temp_free=disk, temp_total=disk)
    )


def three() -> Core:
    return cluster(
        Core(max_concurrent=20),
        small={"memory": 4, "labels": {"zone": "a"}},
        large={"memory": 64, "labels": {"zone": "b"}},
        gpu={"memory": 64, "gpus": 1, "labels": {"zone": "b"}},
    )


def where(core: Core) -> dict[int, str]:
    return {task_id: entry.node for task_id, entry in core.state.running.items()}


def reason(core: Core, task_id: int) -> Obstacle:
    (one,) = core.why(task_id).reasons
    return one


def test_a_task_takes_the_smallest_node_on_which_it_fits_and_leaves_gpus_to_those_that_need_one() -> None:
    core = three()
    anything, big, with_gpu = core.create(memory=GB), core.create(memory=8 * GB), core.create(worker_label="gpu")
    assert where(core) == {anything: "small", big: "large", with_gpu: "gpu"}
    (run,) = (order for order in core.orders if isinstance(order, Run))
    assert (run.node, run.offer) == ("gpu", ("gpu",))
    started = [record.event for record in core.log.read() if isinstance(record.event, Started)]
    assert [event.node for event in started] == ["small", "large", "gpu"]


def test_what_is_promised_on_one_node_is_free_on_another() -> None:
    core = cluster(Core(), a={"memory": 10}, b={"memory": 10})
    first, second, third = (core.create(memory=6 * GB) for _ in range(3))
    assert where(core) == {first: "a", second: "b"}
    one = reason(core, third)
    assert one.reason is WaitReason.MEMORY
    assert one.numbers == {"needed": 6 * GB, "left": 4 * GB, "missing": 2 * GB}
    assert one.detail.startswith("needs 6,442,450,944 bytes, 4,294,967,296 are left of node a: of 10,737,418,240 that")
    assert one.detail.endswith("; of 2 nodes that could take it, it comes nearest")
    core.end(second)
    assert where(core) == {first: "a", third: "b"}


def test_temp_space_and_cpu_are_those_of_the_node() -> None:
    core = cluster(Core(max_cpu=90.0), a={"temp": 1, "memory": 8}, b={"temp": 50, "memory": 64})
    task_id = core.create(temp=10 * GB)
    assert where(core) == {task_id: "b"}
    core.tell(Sampled(MachineSample(), nodes={"a": sample(cpu=99.0, memory=8)}))
    second = core.create()
    assert where(core)[second] == "b"


def test_a_task_that_fits_no_node_says_so_and_holds_nobody_up() -> None:
    core = three()
    huge = core.create(memory=100 * GB, priority=10)
    others = [core.create() for _ in range(4)]
    assert core.running() == others
    one = reason(core, huge)
    assert one.reason is WaitReason.NO_NODE_FITS
    assert one.numbers == {
        "nodes": 3,
        "memory_needed": 100 * GB,
        "memory_there": 64 * GB,
        "memory_missing": 36 * GB,
    }
    assert one.detail == (
        f"none of 3 nodes suits, even when it is empty; gpu comes nearest: it could give {64 * GB:,} bytes of memory, "
        f"it needs {100 * GB:,}"
    )
    assert "No room is kept" in core.why(huge).remark
    assert load_of(core.state).waiting == {"NoNodeFits": 1}
    assert isinstance(core.start(huge), CannotStartNow)
    cluster(core, giant={"memory": 128})
    assert where(core)[huge] == "giant"


def test_a_node_that_joins_is_enough() -> None:
    core = cluster(Core(), a={"labels": {"zone": "a"}})
    task_id = core.create(requires={"zone": "b"})
    one = reason(core, task_id)
    assert (one.reason, one.numbers) == (WaitReason.NO_NODE_FITS, {"nodes": 1})
    assert one.detail == "the only node does not suit, even when it is empty; a has no zone=b"
    cluster(core, a={"labels": {"zone": "a"}}, b={"labels": {"zone": "b"}})
    assert where(core) == {task_id: "b"}


def test_a_node_can_be_asked_for_by_its_name() -> None:
    core = three()
    tasks = [core.create(requires={"node": "large", "zone": "b"}) for _ in range(3)]
    assert where(core) == dict.fromkeys(tasks[:2], "large")
    one = reason(core, tasks[2])
    assert one.reason is WaitReason.NODES_BUSY
    assert one.detail == "all 2 workers of node large are busy"
    assert one.tasks == tuple(tasks[:2])
    assert load_of(core.state).waiting == {"NodesBusy": 1}
    core.end(tasks[0])
    assert where(core) == dict.fromkeys(tasks[1:], "large")


def test_many_that_wait_for_one_node_do_not_hide_what_fits_on_another() -> None:
    """They share a place in the queue, which is skipped as a whole."""
    core = cluster(Core(max_concurrent=20), a={"labels": {"zone": "a"}, "workers": 1}, b={"workers": 1})
    for _ in range(200):
        core.create(requires={"zone": "a"}, priority=9)
    last = core.create()
    assert where(core)[last] == "b"


def test_one_node_is_kept_for_a_large_task_that_was_overtaken_often_enough() -> None:
    core = cluster(Core(max_concurrent=20), a={"memory": 10, "workers": 4}, b={"memory": 10, "workers": 4})
    core.state.backfill_bound = 2
    first, second = core.create(memory=5 * GB), core.create(memory=5 * GB)
    assert where(core) == {first: "a", second: "b"}
    large = core.create(memory=9 * GB, priority=5)
    small = [core.create(memory=2 * GB) for _ in range(4)]
    assert where(core) == {first: "a", second: "b", small[0]: "a", small[1]: "b", small[2]: "b"}
    assert core.why(small[3]).reasons, "of two nodes the nearer one is kept, the other one is full"
    core.end(first)
    core.end(small[0])
    assert where(core)[large] == "a"


def test_a_large_task_is_not_held_to_be_overtaken_on_nodes_that_it_could_not_use() -> None:
    core = cluster(Core(max_concurrent=20), a={"memory": 64, "workers": 1}, b={"memory": 4, "workers": 9})
    core.state.backfill_bound = 1
    core.create(memory=60 * GB)
    large = core.create(memory=50 * GB, priority=9)
    small = [core.create() for _ in range(9)]
    assert core.running()[1:] == small
    assert not core.state.overtaken.get(large)


def test_a_retry_goes_back_to_the_node_with_its_checkpoint() -> None:
    core = cluster(Core(), a={"memory": 8}, b={"memory": 64})
    blocker = [core.create(requires={"node": "a"}) for _ in range(2)]
    task_id = core.create(max_retries=3, retry_delay=0, resumable=True, can_resume=True)
    assert where(core)[task_id] == "b"
    core.checkpoint(task_id)
    for one in blocker:
        core.end(one)
    core.end(task_id, "lost")
    assert where(core) == {task_id: "b"}, "and not to the smaller one, which is free now"
    cluster(core, a={"memory": 8})
    core.end(task_id, "lost")
    core.wait(3600)
    core.tell(Tick())
    assert where(core) == {task_id: "a"}, "its node is gone"


def test_nothing_starts_on_a_drained_node_and_what_runs_goes_on() -> None:
    core = three()
    running = core.create()
    assert where(core) == {running: "small"}
    core.send(DrainNode(node="small", actor="ann", reason="new disk"))
    assert core.orders == [Avoid(("small",))]
    task_id = core.create(requires={"zone": "a"})
    one = reason(core, task_id)
    assert one.reason is WaitReason.NODE_DRAINING
    assert one.detail == "node small, which could take it, is being drained by ann: new disk"
    assert one.commands == (UndrainNode(node="small"),)
    assert [board.state for board in node_boards(core.state, HERE)] == ["ready", "ready", "draining"]
    core.end(running)
    assert [board.state for board in node_boards(core.state, HERE)] == ["ready", "ready", "drained"]
    assert where(core) == {}
    core.send(one.commands[0])
    assert where(core) == {task_id: "small"}


def test_a_drain_holds_over_a_restart_and_when_the_node_is_away_for_a_while() -> None:
    core = cluster(Core(outlived=True), a={}, b={})
    core.send(DrainNode(node="a"))
    core = cluster(core.again(outlived=True), b={})
    assert core.state.durable.nodes.drains.keys() == {"a"}
    core.tell(AllFound())
    cluster(core, a={}, b={})
    first, second, third = core.create(), core.create(), core.create()
    assert where(core) == {first: "b", second: "b"}
    assert WaitReason.CONCURRENCY_LIMIT in {one.reason for one in core.why(third).reasons}


def test_a_drain_of_an_unknown_node_names_those_that_there_are() -> None:
    core = three()
    refused = core.ask(DrainNode(node="smal"))
    assert isinstance(refused, UnknownNode)
    assert "There is no node smal. There are: gpu, large, small" in str(refused)
    assert isinstance(core.ask(UndrainNode(node="small")), NothingToChange)
    core.send(DrainNode(node="small"))
    assert isinstance(core.ask(DrainNode(node="small")), NothingToChange)
    assert isinstance(core.ask(UndrainNode(node="local")), UnknownNode)


def test_the_machine_itself_can_be_drained_where_it_is_the_only_node() -> None:
    core = Core(slots=2)
    first = core.create()
    assert isinstance(core.send(DrainNode(node="local")), Accepted)
    second = core.create()
    one = reason(core, second)
    assert one.reason is WaitReason.NODE_DRAINING
    (board,) = node_boards(core.state, HERE)
    assert (board.node, board.state, board.workers, board.running) == ("local", "draining", 2, 1)
    core.end(first)
    assert node_boards(core.state, HERE)[0].state == "drained"
    assert isinstance(core.start(second), CannotStartNow)
    core = core.again(slots=2)
    assert core.running() == [], "it holds over a restart"
    core.send(UndrainNode(node="local"))
    assert core.running() == [second]


def test_labels_of_the_machine_itself_are_those_that_are_configured() -> None:
    core = Core(slots=2)
    core.state.nodes.labels = {"zone": "a"}
    first = core.create(requires={"zone": "a", "node": "local"})
    assert core.running() == [first]
    task_id = core.create(requires={"zone": "b"})
    one = reason(core, task_id)
    assert one.reason is WaitReason.NO_NODE_FITS
    assert one.detail == "requires zone=b; this machine, the only node, has no zone=b"
    assert load_of(core.state).waiting == {"NoNodeFits": 1}


def test_only_what_has_changed_is_recorded() -> None:
    core = Core()
    a, b = NodeSeen(node="a", cpus=4.0, address="10.0.0.1"), NodeSeen(node="b", labels={"zone": "x"})
    assert core.tell(NodesSeen((a, b))) == [
        NodeJoined(node="a", cpus=4.0, address="10.0.0.1"),
        NodeJoined(node="b", labels={"zone": "x"}),
    ]
    assert core.tell(NodesSeen((b, a))) == []
    assert core.tell(Sampled(MachineSample(), nodes={"a": sample()})) == []
    changed = NodeSeen(node="b", labels={"zone": "y"})
    seen = core.now
    core.wait(5)
    assert core.tell(NodesSeen((changed,))) == [
        NodeLeft(node="a", last_seen=seen),
        NodeChanged(node="b", labels={"zone": "y"}),
    ]
    lost, there = node_boards(core.state, HERE)[::-1]
    assert (lost.node, lost.state, lost.last_seen) == ("a", "lost", seen)
    assert (there.node, there.state, there.labels) == ("b", "ready", {"zone": "y"})
    assert core.tell(NodesSeen((changed, a)))[0] == NodeJoined(node="a", cpus=4.0, address="10.0.0.1")


def test_a_service_that_runs_attempts_itself_records_that_the_nodes_are_gone() -> None:
    core = cluster(Core(), a={}).again()
    events = [record.event for record in core.log.read()]
    assert NodeLeft(node="a") in events
    assert [board.node for board in node_boards(core.state, HERE)] == ["local", "a"]


def test_one_machine_records_nothing_about_nodes() -> None:
    core = Core(slots=2)
    core.tell(Sampled(MachineSample()))
    core.create()
    kinds = (NodeJoined, NodeChanged, NodeLeft, NodeDrainStarted, NodeDrainEnded)
    assert not any(isinstance(record.event, kinds) for record in core.log.read())
    assert core.state.running[1].node == ""


def test_nodes_that_left_are_remembered_but_not_all_for_ever() -> None:
    core = Core()
    for number in range(REMEMBERED + 5):
        core.tell(NodesSeen((NodeSeen(node=f"n{number}"),)))
    assert len(core.state.durable.nodes.by_name) == REMEMBERED + 1
    assert "n0" not in core.state.durable.nodes.by_name


def test_an_attempt_that_is_found_again_is_counted_on_its_node() -> None:
    core = cluster(Core(outlived=True), a={"memory": 10}, b={"memory": 10})
    task_id = core.create(memory=8 * GB)
    assert where(core) == {task_id: "a"}
    core = core.again(outlived=True)
    cluster(core, a={"memory": 10}, b={"memory": 10})
    core.tell(AttemptFound(task_id, 1, publishing=False, node="b"))
    core.tell(AllFound())
    assert where(core) == {task_id: "b"}, "the executor knows better where it is"
    other = core.create(memory=8 * GB)
    assert where(core)[other] == "a"
    core.end(task_id)
    core.end(other)
    assert all(node.reserved.memory == 0 and node.workers.held == 0 for node in core.state.nodes.by_name.values())


def test_a_sample_from_before_a_start_does_not_include_it() -> None:
    core = cluster(Core(), a={"memory": 10})
    core.wait(10)
    core.create(memory=6 * GB)
    core.tell(Sampled(MachineSample(), nodes={"a": NodeSample(sample(memory=10).sample, age=1.0)}))
    assert core.state.nodes.by_name["a"].reserved.unused_memory == 6 * GB
    second = core.create(memory=6 * GB)
    assert second not in core.running()
    core.wait(2)
    core.tell(Sampled(MachineSample(), nodes={"a": NodeSample(sample(memory=4).sample, age=1.0)}))
    assert core.state.nodes.by_name["a"].reserved.unused_memory == 0
    assert core.state.reserved.unused_memory == 0


def test_short_attempts_share_workers_of_their_node() -> None:
    core = cluster(Core(short=("work",)), a={"workers": 1, "memory": 4}, b={"workers": 1, "memory": 4})
    tasks = [core.create() for _ in range(5)]
    assert core.running() == tasks
    spread = Counter(where(core).values())
    assert set(spread) == {"a", "b"}
    assert core.state.workers.shared == 2
    for one in tasks:
        core.end(one)
    assert core.state.workers.held == 0


_NAMES = ("a", "b", "c")
_SETUP = st.dictionaries(
    st.sampled_from(_NAMES),
    st.fixed_dictionaries(
        {
            "memory": st.sampled_from([4, 10, 30]),
            "temp": st.sampled_from([5, 50]),
            "workers": st.integers(0, 3),
            "labels": st.sampled_from([{}, {"zone": "x"}, {"zone": "y"}]),
        }
    ),
    max_size=3,
)
_TASK = st.fixed_dictionaries(
    {
        "memory": st.sampled_from([0, GB, 3 * GB, 8 * GB, 25 * GB, 40 * GB]),
        "temp": st.sampled_from([0, 4 * GB, 20 * GB]),
        "priority": st.integers(0, 10),
        "requires": st.sampled_from([{}, {}, {}, {"zone": "x"}, {"zone": "y"}, {"node": "a"}]),
    }
)
_STEP = st.one_of(
    st.tuples(st.just("create"), _TASK),
    st.tuples(st.just("create"), _TASK),
    st.tuples(st.just("end"), st.integers(0, 9)),
    st.tuples(st.just("drain"), st.sampled_from(_NAMES)),
    st.tuples(st.just("undrain"), st.sampled_from(_NAMES)),
    st.tuples(st.just("sample"), st.sampled_from([0, 50, 100])),
    st.tuples(st.just("nodes"), _SETUP),
)


def live(first: dict[str, Any], steps: list[tuple[str, Any]], bound: int | None) -> None:
    """Play all this on a cluster, with a check after each step."""
    core = cluster(Core(max_concurrent=5), **first)
    core.state.backfill_bound = bound
    for what, given_to in steps:
        before = set(core.state.running)
        match what:
            case "create":
                core.create(**given_to)
            case "end" if core.running():
                core.end(core.running()[given_to % len(core.running())])
            case "drain":
                core.ask(DrainNode(node=given_to))
            case "undrain":
                core.ask(UndrainNode(node=given_to))
            case "sample":
                core.wait(1)
                core.tell(Sampled(MachineSample(), nodes=in_use(core, given_to)))
            case "nodes" if not core.running():
                cluster(core, **given_to)
        check_nodes(core, set(core.state.running) - before)
        if bound is None:
            check_nobody_waits_for_nothing(core)
        for task_id in core.state.tasks:
            why = core.why(task_id)
            assert why.reasons or not why.waiting, task_id


def in_use(core: Core, percent: int) -> dict[str, NodeSample]:
    """Sample all nodes, where running tasks take a share of what they were promised."""
    found = {}
    for name, node in core.state.nodes.by_name.items():
        seen = node.sample
        if node.present and node.sampled_at is not None:
            memory = seen.memory_total - node.reserved.memory * percent // 100
            temp = seen.temp_total - node.reserved.temp * percent // 100
            found[name] = NodeSample(replace(seen, memory_available=memory, temp_free=temp))
    return found


@settings(deadline=None, max_examples=100)
@given(_SETUP, st.lists(_STEP, max_size=25), st.sampled_from([None, 0, 1]))
def test_whatever_comes_no_node_gets_more_than_it_has_and_nobody_waits_for_nothing(
    first: dict[str, Any], steps: list[tuple[str, Any]], bound: int | None
) -> None:
    live(first, steps, bound)


def check_nobody_waits_for_nothing(core: Core) -> None:
    """Check by the setup alone that no waiting task has a node with a free worker and with all that it needs."""
    state, drains = core.state, core.state.durable.nodes.drains
    if len(state.running) >= state.limits.max_concurrent:
        return
    for task in state.tasks.values():
        for name, node in state.nodes.by_name.items():
            there = [entry.reserved_for for entry in state.running.values() if entry.node == name]
            has = {**node.seen.labels, "node": name}
            open_to_it = node.present and name not in drains and len(there) < node.workers.slots
            memory = node.sample.memory_total - sum(other.memory_needed for other in there)
            temp = node.sample.temp_total - sum(other.temp_needed for other in there)
            suits = all(has.get(key) == value for key, value in task.spec.requires.items())
            room = task.memory_needed <= memory and task.temp_needed <= temp and not node.reserved.more_to_come
            assert not (task.waiting and open_to_it and suits and room), f"{task.id} waits, and fits on {name}"


def _drains_forgotten(patch: pytest.MonkeyPatch) -> None:
    drained = Nodes.drained
    patch.setattr(Nodes, "drained", lambda nodes, _: drained(nodes, ()))


def _labels_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Node, "is_asked_for", lambda *_: True)


def _all_memory_on_each_node(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Node, "bytes_left", lambda _: Ceiling(UNLIMITED, UNLIMITED))


def _nothing_given_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Nodes, "give_back", lambda *_, **__: None)


def _set_aside_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dispatch, "_take_back", lambda _: None)


@pytest.mark.parametrize(
    "plant",
    [
        _drains_forgotten,
        _labels_ignored,
        _all_memory_on_each_node,
        _nothing_given_back,
        _set_aside_for_ever,
    ],
    ids=lambda plant: plant.__name__.strip("_"),
)
def test_a_planted_fault_is_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)

    @settings(deadline=None, max_examples=500, phases=[Phase.generate], database=None, derandomize=True)
    @given(_SETUP, st.lists(_STEP, max_size=25), st.none())
    def lived(first: dict[str, Any], steps: list[tuple[str, Any]], bound: None) -> None:
        live(first, steps, bound)

    with pytest.raises((AssertionError, KeyError)):
        lived()


def check_nodes(core: Core, started: set[int]) -> None:
    state = core.state
    for name, node in state.nodes.by_name.items():
        there = [entry for entry in state.running.values() if entry.node == name]
        assert node.workers.held == len(there) <= max(node.workers.slots, 0), name
        assert node.reserved.memory == sum(entry.reserved_for.memory_needed for entry in there)
        assert sum(entry.reserved_for.memory_needed for entry in there) <= node.sample.memory_total
        assert sum(entry.reserved_for.temp_needed for entry in there) <= node.sample.temp_total
    for task_id in started:
        entry = state.running[task_id]
        node = state.nodes.by_name[entry.node]
        assert node.present
        assert node.is_asked_for(entry.reserved_for)
        assert entry.node not in state.durable.nodes.drains


@pytest.mark.parametrize("drained", [False, True])
def test_a_dry_run_with_nodes_names_who_goes_first(drained: bool) -> None:  # noqa: FBT001
    core = cluster(Core(max_concurrent=9), a={"memory": 10, "workers": 1}, b={"memory": 10, "workers": 1})
    if drained:
        core.send(DrainNode(node="b"))
    running = [core.create(memory=GB) for _ in range(2)]
    first, second = core.create(priority=9), core.create()
    if drained:
        assert core.running() == running[:1]
        return
    assert core.running() == running
    named = {one.reason: one.tasks for one in core.why(second).reasons}
    assert named[WaitReason.HIGHER_PRIORITY] == (first,)


def test_the_queue_says_how_far_the_drain_of_a_node_is() -> None:
    core = Core()
    assert queue_board(core.state, core.now, 1).node_drains == {}
    task_id = core.create()
    core.send(DrainNode(node=LOCAL))
    assert queue_board(core.state, core.now, 1).node_drains == {"local": "draining"}
    core.end(task_id, "completed")
    assert queue_board(core.state, core.now, 1).node_drains == {"local": "drained"}


def shows(free: float, used: dict[int, float]) -> NodeSample:
    """Make a sample of a node of 10 GB. `used`: the memory of first attempts, by task."""
    machine = MachineSample(cpu_percent=5.0, memory_available=int(free * GB), memory_total=10 * GB)
    return NodeSample(machine, memory_used={(task_id, 1): int(memory * GB) for task_id, memory in used.items()})


def test_an_attempt_that_is_found_elsewhere_uses_what_was_measured_there() -> None:
    core = cluster(Core(outlived=True), a={"memory": 10}, b={"memory": 10})
    task_id = core.create(memory=8 * GB)
    core = core.again(outlived=True)
    cluster(core, a={"memory": 10}, b={"memory": 10})
    core.wait(2)
    core.tell(Sampled(MachineSample(), nodes={"a": shows(10, {}), "b": shows(7, {task_id: 3})}))
    core.tell(AttemptFound(task_id, 1, publishing=False, node="b"))
    core.tell(AllFound())
    a, b = core.state.nodes.by_name["a"], core.state.nodes.by_name["b"]
    assert a.reserved == Reserved(), "nothing of it was ever there"
    assert (b.reserved.unused_memory, b.ceiling().memory) == (5 * GB, 10 * GB)
    assert core.state.reserved == b.reserved
    core.end(task_id)
    assert (b.reserved.memory, b.reserved.unused_memory, b.reserved.gone_memory) == (0, 0, 3 * GB)
    assert (core.state.reserved.unused_memory, core.state.reserved.gone_memory) == (0, 3 * GB)
