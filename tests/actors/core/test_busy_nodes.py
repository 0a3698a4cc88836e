"""Several nodes under load: samples lag, backlogs are long, nodes come and go; no task starves or costs too much."""

from collections.abc import Callable
from typing import Any

import pytest
from core_harness import Core
from msgspec.structs import replace
from test_nodes import GB, cluster, reason, sample, where

from tasktrail.actors.core import dispatch, node_search
from tasktrail.actors.core.explanation import WaitReason
from tasktrail.actors.core.messages import Sampled
from tasktrail.actors.core.node_board import node_boards
from tasktrail.actors.core.node_search import DEPTH
from tasktrail.actors.core.nodes import Node, Nodes, NodeSample
from tasktrail.actors.core.queue import ReadyQueue
from tasktrail.actors.core.resources import Ceiling, MachineSample
from tasktrail.actors.core.routing import Workers
from tasktrail.events import Accepted
from tasktrail.events.commands import DrainNode
from tasktrail.events.errors import CannotStartNow, UnknownNode
from tasktrail.events.reports import AllFound, CapacityChanged, NodeSeen, NodesSeen
from tasktrail.events.system_events import LOCAL


class Lagging:
    """A cluster with a steady flow of tasks of two to three seconds. Each sample is `age` seconds old.

    What attempts use was measured `measured` seconds before each sample, if at all.
    """

    def __init__(self, age: float, nodes: dict[str, dict[str, Any]], measured: float | None = None) -> None:
        self.core = cluster(Core(max_concurrent=50), **nodes)
        self.nodes = nodes
        self.ages = int(age * 4)
        self.measured = None if measured is None else self.ages + int(measured * 4)
        self.used: list[dict[str, int]] = []
        self.ran: list[dict[tuple[int, int], int]] = []
        self.ends: dict[int, float] = {}
        for _ in range(20):
            self.core.create(memory=GB)

    def quarter(self, number: int) -> None:
        """Let a quarter of a second pass."""
        core, now = self.core, number / 4
        core.wait(0.25)
        for one in core.running():
            self.ends.setdefault(one, now + 2 + (one % 5) / 4)
        for one in [one for one in core.running() if self.ends[one] <= now]:
            core.end(one)
            core.create(memory=GB)
        running = core.state.running.values()
        self.used.append({n: sum(e.reserved_for.memory_needed for e in running if e.node == n) for n in self.nodes})
        self.ran.append({(e.task_id, e.attempt): e.reserved_for.memory_needed for e in running})
        if number % 4 == 0:
            core.tell(Sampled(MachineSample(), nodes={name: self.sample(name) for name in self.nodes}))

    def sample(self, name: str) -> NodeSample:
        size = self.nodes[name]["memory"]
        used = self.used[max(0, len(self.used) - 1 - self.ages)][name] / GB
        shown = sample(memory=size - used).sample
        assert shown is not None
        total = MachineSample(
            cpu_percent=5.0,
            memory_available=shown.memory_available,
            memory_total=size * GB,
            temp_free=shown.temp_free,
            temp_total=shown.temp_total,
        )
        ran = None if self.measured is None else self.ran[max(0, len(self.ran) - 1 - self.measured)]
        return NodeSample(total, age=self.ages / 4, memory_used=ran)


@pytest.mark.parametrize("measured", [None, 0.0, 1.0, 3.0])
@pytest.mark.parametrize("age", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("large", [9.0, 9.9])
def test_a_large_task_starts_however_old_the_samples_are(age: float, large: float, measured: float | None) -> None:
    life = Lagging(age, {"a": {"memory": 10, "workers": 8}, "b": {"memory": 2, "workers": 2}}, measured)
    for number in range(40):
        life.quarter(number)
    task_id = life.core.create(memory=int(large * GB), priority=10)
    for number in range(40, 240):
        life.quarter(number)
        if task_id in life.core.running():
            return
        assert WaitReason.NO_NODE_FITS not in {one.reason for one in life.core.why(task_id).reasons}
    pytest.fail("it has not started in 50 s")


def test_a_sample_of_another_node_does_not_forget_what_has_ended_here() -> None:
    core = cluster(Core(), a={"memory": 10}, b={"memory": 4})
    first = core.create(memory=8 * GB)
    core.wait(2)
    full = MachineSample(cpu_percent=5.0, memory_available=2 * GB, memory_total=10 * GB)
    core.tell(Sampled(MachineSample(), nodes={"a": NodeSample(full, age=1.0)}))
    core.end(first)
    core.tell(Sampled(MachineSample(), nodes={"b": sample(memory=4)}))
    core.wait(0.5)
    core.tell(Sampled(MachineSample(), nodes={"a": NodeSample(full, age=1.0)}))
    second = core.create(memory=9 * GB)
    assert reason(core, second).reason is WaitReason.MEMORY
    core.wait(2)
    core.tell(Sampled(MachineSample(), nodes={"a": NodeSample(sample(memory=10).sample, age=1.0)}))
    assert where(core) == {second: "a"}


def test_a_task_that_was_overtaken_stays_so_while_its_node_has_no_worker_for_a_moment() -> None:
    core = cluster(Core(max_concurrent=20), a={"memory": 10, "workers": 4}, b={"memory": 2, "workers": 1})
    core.create(memory=5 * GB)
    large = core.create(memory=9 * GB, priority=9)
    core.create(memory=GB)
    core.create(memory=GB)
    count = core.state.overtaken[large]
    assert count
    core.tell(CapacityChanged(1, (), ("b",)))
    core.tell(CapacityChanged(5, (), ("a", "a", "a", "a", "b")))
    assert core.state.overtaken[large] == count


def test_a_node_is_promised_no_more_than_it_has_though_what_runs_takes_little_yet() -> None:
    core = cluster(Core(max_concurrent=20), a={"memory": 16, "temp": 16, "workers": 4})
    core.create(memory=12 * GB, temp=12 * GB)
    core.wait(2)
    little = MachineSample(
        cpu_percent=5.0, memory_available=15 * GB, memory_total=16 * GB, temp_free=15 * GB, temp_total=16 * GB
    )
    core.tell(Sampled(MachineSample(), nodes={"a": NodeSample(little)}))
    second, third = core.create(memory=12 * GB), core.create(temp=12 * GB)
    assert len(core.running()) == 1
    one = reason(core, second)
    assert (one.reason, one.numbers["left"], one.commands) == (WaitReason.MEMORY, 4 * GB, ())
    assert "node a" in one.detail
    assert WaitReason.TEMP_SPACE in {one.reason for one in core.why(third).reasons}


def look(core: Core, free: float, used: dict[int, float], after: float = 2) -> None:
    """Sample node `a`, which has 8 GB. `used`: the memory of first attempts, by task."""
    core.wait(after)
    machine = sample(memory=8).sample
    assert machine is not None
    machine = replace(machine, memory_available=int(free * GB))
    measured = {(task_id, 1): int(memory * GB) for task_id, memory in used.items()}
    core.tell(Sampled(MachineSample(), nodes={"a": NodeSample(machine, age=1.0, memory_used=measured)}))


def test_what_is_reserved_on_a_node_stays_so_until_it_is_used() -> None:
    """Once a sample had shown an attempt, the next one started into the memory that the first took minutes later."""
    core = cluster(Core(max_concurrent=20), a={"memory": 8, "workers": 8})
    look(core, free=4, used={})
    first, second, third = (core.create(memory=2 * GB) for _ in range(3))
    look(core, free=3.75, used={first: 0.25})
    look(core, free=3.5, used={first: 0.25, second: 0.25})
    assert core.running() == [first, second]
    one = reason(core, third)
    assert (one.reason, one.numbers["left"]) == (WaitReason.MEMORY, 0)
    look(core, free=2, used={first: 2, second: 5})
    assert core.running() == [first, second, third], "what it has beyond its own lessens what is kept for none"


def test_an_attempt_that_a_sample_may_show_is_kept_room_for_until_it_is_measured() -> None:
    """Each host reports what its own attempt has; the node's sample may be of another host, which looked later."""
    core = cluster(Core(max_concurrent=20), a={"memory": 8, "workers": 8})
    look(core, free=6, used={})
    first, large = core.create(memory=4 * GB), core.create(memory=6 * GB)
    look(core, free=3, used={})
    second = core.create(memory=GB)
    assert core.running() == [first]
    node = core.state.nodes.by_name["a"]
    assert node.reserved.unused_memory == 4 * GB
    assert node.ceiling().memory == 7 * GB, "it may have its 4 GB by now"
    assert reason(core, large).reason is WaitReason.MEMORY
    look(core, free=3, used={first: 1})
    assert node.ceiling().memory == 4 * GB
    assert reason(core, large).reason is WaitReason.NO_NODE_FITS
    look(core, free=4, used={first: 1})
    assert core.running() == [first, second]


def test_no_room_is_kept_on_a_node_for_a_task_that_other_programs_leave_too_little() -> None:
    """What an attempt had reserved and did not use seemed to come free at its end, hours later."""
    core = cluster(Core(max_concurrent=20), a={"memory": 8, "workers": 8})
    look(core, free=6, used={})
    film, large = core.create(memory=5 * GB), core.create(memory=13 * GB // 2, priority=9)
    small = [core.create(memory=GB // 4) for _ in range(dispatch.BACKFILL_BOUND + 10)]
    look(core, free=5, used={film: 1})
    for one in small:
        assert one in core.running()
        core.end(one)
        look(core, free=5, used={film: 1})
    assert reason(core, large).reason is WaitReason.NO_NODE_FITS


def test_what_an_attempt_had_is_free_at_its_end_as_far_as_it_was_measured() -> None:
    core = cluster(Core(max_concurrent=20), a={"memory": 8, "workers": 8})
    first, second = core.create(memory=4 * GB), core.create(memory=3 * GB)
    look(core, free=4, used={first: 1, second: 2})
    node = core.state.nodes.by_name["a"]
    assert node.ceiling().memory == 7 * GB
    core.end(first)
    assert (node.reserved.gone_memory, node.ceiling().memory) == (GB, 7 * GB)
    look(core, free=2, used={first: 3, second: 2}, after=0.5)
    assert (node.reserved.gone_memory, node.ceiling().memory) == (3 * GB, 7 * GB), "it had taken more"
    look(core, free=5, used={second: 2}, after=0.1)
    assert (node.reserved.gone_memory, node.ceiling().memory) == (0, 7 * GB), "that sample no longer shows it"


LONG = 200


def test_a_backlog_for_a_node_without_memory_leaves_no_other_node_idle() -> None:
    core = cluster(
        Core(max_concurrent=20), a={"memory": 4, "labels": {"zone": "a"}}, b={"memory": 64, "labels": {"zone": "b"}}
    )
    for _ in range(LONG):
        core.create(requires={"zone": "a"}, memory=3 * GB, priority=9)
    last = core.create(requires={"zone": "b"}, priority=5)
    assert where(core)[last] == "b"


def test_a_backlog_for_a_large_node_leaves_no_small_one_idle() -> None:
    core = cluster(Core(max_concurrent=20), big={"memory": 64, "workers": 4}, small={"memory": 4, "workers": 4})
    for _ in range(LONG):
        core.create(memory=40 * GB, priority=9)
    small = [core.create(memory=GB) for _ in range(3)]
    assert {where(core).get(one) for one in small} == {"small"}


def test_a_share_of_a_worker_does_not_open_a_node_to_a_backlog_of_long_tasks() -> None:
    core = Core(max_concurrent=40, short=("quick",), grace={"work": 0.5, "quick": 0.5})
    cluster(core, a={"workers": 1, "labels": {"zone": "a"}}, b={"workers": 2})
    core.create(type="quick", requires={"zone": "a"})
    for _ in range(LONG):
        core.create(requires={"zone": "a"}, priority=9)
    last = core.create()
    assert where(core)[last] == "b"


def test_a_backlog_for_a_label_and_a_zone_that_no_free_worker_has_together() -> None:
    zones = {zone: {"memory": 64, "gpus": 1, "labels": {"zone": zone}} for zone in ("a", "b")}
    core = cluster(Core(max_concurrent=40), **zones)
    for _ in range(LONG):
        core.create(worker_label="gpu", requires={"zone": "a"}, priority=9)
    there, plain = core.create(worker_label="gpu", requires={"zone": "b"}), core.create()
    assert where(core)[there] == "b"
    assert plain in core.running()


def test_who_waits_behind_a_backlog_is_told_so() -> None:
    core = cluster(Core(max_concurrent=20), a={"memory": 4, "labels": {"zone": "a"}}, b={"workers": 1})
    for _ in range(LONG):
        core.create(requires={"zone": "a"}, memory=3 * GB, priority=9)
    core.create(requires={"node": "b"})
    last = core.create(requires={"node": "b"})
    assert [one.reason for one in core.why(last).reasons] == [WaitReason.NODES_BUSY]


class Count:
    """Counts the calls of a function."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.calls = 0
        real = getattr(owner, name)

        def counted(*given: Any, **named: Any) -> Any:
            self.calls += 1
            return real(*given, **named)

        patch.setattr(owner, name, counted)

    def during(self, act: Callable[[], object]) -> int:
        """Return how often a function is called in the meantime."""
        before = self.calls
        act()
        return self.calls - before


def looked_at(core: Core, size: int, **nodes: float) -> None:
    samples = {name: sample(memory=size + more) for name, more in nodes.items()}
    core.tell(Sampled(MachineSample(), nodes=samples))


@pytest.mark.slow
def test_a_look_at_a_backlog_asks_each_node_so_often_and_not_for_each_other_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = {f"n{number}": {"memory": 10, "workers": 4} for number in range(12)}
    core = cluster(Core(max_concurrent=100), **nodes)
    for _ in range(12 + 12 * 64 + 200):
        core.create(memory=8 * GB)
    assert len(core.running()) == 12
    asked = Count(monkeypatch, Ceiling, "suffices_for")
    each = DEPTH * (2 * len(nodes) + 2)
    used = MachineSample(cpu_percent=5.0, memory_available=2 * GB, memory_total=10 * GB, temp_free=GB, temp_total=GB)
    message = Sampled(MachineSample(), nodes=dict.fromkeys(nodes, NodeSample(used)))
    core.wait(1)
    assert 0 < asked.during(lambda: core.tell(message)) <= each
    assert asked.during(lambda: core.tell(message)) == 0, "nothing has changed"
    assert 0 < asked.during(lambda: core.end(core.running()[0])) <= 2 * each, "one starts, then none"


def test_tasks_that_fit_nowhere_are_asked_again_only_when_a_node_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    core = cluster(Core(max_concurrent=20), a={"memory": 10}, b={"memory": 20})
    big = [core.create(memory=(30 + number) * GB) for number in range(50)]
    strange = [core.create(requires={"zone": "nowhere"}) for _ in range(50)]
    assert list(core.state.set_aside) == big, "what requires a strange label is parked in the queue, all together"
    asked = Count(monkeypatch, Nodes, "could_hold")
    one = core.create()
    assert asked.during(lambda: core.end(one)) == 0
    assert asked.during(lambda: looked_at(core, 10, a=0.5, b=9)) == 0, "it has grown, and not enough for any"
    assert asked.during(lambda: looked_at(core, 10, a=0, b=25)) < 20, "six of them may fit now"
    core.tell(Sampled(MachineSample(), nodes={"b": NodeSample(sample(memory=35).sample)}))
    assert where(core) == {big[0]: "b"}
    assert all(core.state.tasks[one].waiting for one in strange)


def test_nodes_that_are_gone_are_forgotten_unless_something_runs_there() -> None:
    core = cluster(Core(), a={})
    task_id = core.create()
    for number in range(20):
        core.tell(NodesSeen((NodeSeen(node=f"spot-{number}"),)))
        core.tell(CapacityChanged(1, (), (f"spot-{number}",)))
    assert set(core.state.nodes.by_name) == {"a", "spot-19"}
    core.end(task_id)
    assert set(core.state.nodes.by_name) == {"spot-19"}
    assert (core.state.workers.slots, core.state.workers.held) == (1, 0)


def test_a_start_counts_the_workers_of_its_node_and_of_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    core = cluster(Core(max_concurrent=100), **{f"n{number}": {} for number in range(20)})
    counted = Count(monkeypatch, Workers, "standing")
    assert counted.during(core.create) == 1
    assert counted.during(lambda: core.end(core.running()[0])) == 1


def test_one_machine_looks_for_nothing_that_waits_for_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core(slots=2)
    core.create(requires={"zone": "a"})
    first = core.create()
    parked = Count(monkeypatch, ReadyQueue, "parked_at")
    assert parked.during(lambda: core.end(first)) == 0


def test_a_share_of_a_worker_on_another_node_is_no_place_for_a_start_by_hand() -> None:
    core = cluster(Core(max_concurrent=1, short=("work",)), a={"workers": 1}, b={"workers": 1})
    first = core.create()
    other = "b" if where(core)[first] == "a" else "a"
    task_id = core.create(requires={"node": other})
    assert reason(core, task_id).reason is WaitReason.CONCURRENCY_LIMIT
    assert isinstance(core.start(task_id), CannotStartNow)
    core.end(first)
    assert where(core) == {task_id: other}


@pytest.mark.parametrize("short", [(), ("work",)])
def test_that_no_worker_is_there_is_said_of_the_workers_and_not_of_the_nodes(short: tuple[str, ...]) -> None:
    core = cluster(Core(short=short, max_concurrent=9), a={"workers": 1}, b={"workers": 1})
    core.create()
    core.create()
    core.tell(CapacityChanged(0))
    third = core.create()
    one = reason(core, third)
    assert (one.reason, one.detail, one.numbers["workers"]) == (
        WaitReason.CONCURRENCY_LIMIT,
        "no worker is ready",
        0,
    )
    assert "others go ahead" not in core.why(third).remark


def test_before_the_cluster_is_reached_nothing_is_said_of_this_machine() -> None:
    core = cluster(Core(outlived=True), a={"labels": {"zone": "a"}})
    core = core.again(outlived=True, slots=0)
    core.tell(AllFound())
    task_id = core.create(requires={"zone": "a"})
    assert reason(core, task_id).detail == "no worker is ready"
    assert isinstance(core.ask(DrainNode(node=LOCAL)), UnknownNode)
    assert isinstance(core.ask(DrainNode(node="a")), Accepted)
    (board,) = node_boards(core.state, NodeSeen(node=LOCAL))
    assert (board.node, board.state) == ("a", "drained")


# --- a large task among small ones ----------------------------------------------------------------------------------

BOUND = 4


def of_node(core: Core, name: str) -> list[int]:
    return [task_id for task_id, node in where(core).items() if node == name]


def starts_within(core: Core, large: int, rounds: int, another: Callable[[], object]) -> bool:
    for _ in range(rounds):
        if large in core.running():
            return True
        another()
    return large in core.running()


def two_of_which_one_is_kept_in_vain(**first: Any) -> Core:
    """Make a node with enough free bytes for a task of 9 GB that cannot take it, and another full of small tasks."""
    core = cluster(Core(max_concurrent=50, max_cpu=90.0), a=first, b={"memory": 10, "workers": 8})
    core.state.backfill_bound = BOUND
    return core


def test_no_room_is_kept_on_a_node_where_nothing_starts_anyway() -> None:
    """All its memory is free because of that, so it always seemed the nearest."""
    core = two_of_which_one_is_kept_in_vain(memory=64, workers=4, cpu=99.0)
    for _ in range(12):
        core.create(memory=GB)
    large = core.create(memory=9 * GB, priority=10)

    def another() -> None:
        core.wait(1)
        core.end(of_node(core, "b")[0])
        core.create(memory=GB)
        core.tell(Sampled(MachineSample(), nodes={"a": sample(memory=64, cpu=99.0), "b": in_use(core)}))

    assert starts_within(core, large, 3 * BOUND + 8, another)


def in_use(core: Core) -> NodeSample:
    used = sum(entry.reserved_for.memory_needed for entry in core.state.running.values() if entry.node == "b")
    size = MachineSample(memory_available=10 * GB - used, memory_total=10 * GB, temp_free=GB, temp_total=GB)
    return NodeSample(size)


def test_more_nodes_are_kept_the_longer_a_task_is_overtaken_when_the_workers_of_the_nearest_are_held() -> None:
    core = two_of_which_one_is_kept_in_vain(memory=64, workers=2)
    hours = [core.create(memory=GB, requires={"node": "a"}) for _ in range(2)]
    for _ in range(12):
        core.create(memory=GB)
    large = core.create(memory=9 * GB, priority=10)

    def another() -> None:
        core.end(of_node(core, "b")[0])
        core.create(memory=GB)

    assert starts_within(core, large, 3 * BOUND + 8, another)
    assert set(hours) <= set(core.running())


def test_more_nodes_are_kept_when_the_nearest_is_filled_again_by_tasks_that_come_first() -> None:
    core = two_of_which_one_is_kept_in_vain(memory=10, workers=4)
    for _ in range(4):
        core.create(memory=GB, requires={"node": "a"}, priority=20)
    for _ in range(12):
        core.create(memory=GB)
    large = core.create(memory=9 * GB, priority=10)

    def another() -> None:
        core.end(of_node(core, "a")[0])
        core.create(memory=GB, requires={"node": "a"}, priority=20)
        core.end(of_node(core, "b")[0])
        core.create(memory=GB)

    assert starts_within(core, large, 3 * BOUND + 8, another)


# --- what a look costs ----------------------------------------------------------------------------------------------


def mixed(core: Core, waiting: int, **large: Any) -> int:
    """Make small nodes, and one large one, with large tasks in front; a small task waits after them."""
    core.tell(CapacityChanged(0))
    for _ in range(waiting):
        core.create(memory=40 * GB, priority=9)
    last = core.create(memory=GB)
    cluster(core, **{f"n{number}": {"memory": 8, "workers": 2} for number in range(12)}, z={"memory": 64, **large})
    return last


def test_a_large_task_asks_no_small_node_and_asks_the_large_one_until_it_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = Core(max_concurrent=100)
    small = mixed(core, waiting=300, workers=2)
    assert where(core)[small] in {f"n{number}" for number in range(12)}
    asked, ceilings = Count(monkeypatch, Ceiling, "suffices_for"), Count(monkeypatch, Node, "ceiling")
    message = Sampled(MachineSample(), nodes={"n0": sample(memory=7.9)})
    assert 0 < asked.during(lambda: core.tell(message)) < 3 * 300
    assert 0 < ceilings.during(lambda: looked_at(core, 7, n0=0.5)) < 4 * 13


def test_why_tries_to_name_fewer_only_where_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_search, "SKIPPED", 20)
    monkeypatch.setattr(node_search, "DEPTH", 4)
    core = Core(max_concurrent=100)
    last = mixed(core, waiting=40)
    tried = Count(monkeypatch, dispatch, "_goes_first")
    named = {one.reason: one.tasks for one in core.why(last).reasons}
    assert len(named[WaitReason.HIGHER_PRIORITY]) > 16, named
    assert tried.calls < 4


def test_tasks_that_no_node_could_hold_do_not_end_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_search, "SKIPPED", 5)
    core = Core(max_concurrent=100)
    core.tell(CapacityChanged(0))
    for _ in range(10):
        core.create(memory=99 * GB, priority=9)
    first, waits = core.create(memory=9 * GB, priority=10), core.create(memory=9 * GB, priority=6)
    last = core.create(memory=GB)
    cluster(core, a={"memory": 10, "workers": 9})
    assert where(core) == {first: "a", last: "a"}
    assert reason(core, waits).reason is WaitReason.MEMORY


def test_an_end_wakes_what_requires_its_node_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    core = cluster(Core(max_concurrent=100), **{f"n{number}": {"workers": 1} for number in range(20)}, free={})
    for _ in range(2):
        for number in range(20):
            core.create(requires={"node": f"n{number}"})
    asked = Count(monkeypatch, Nodes, "is_open_for")
    assert asked.during(lambda: core.end(core.running()[0])) < 6
    assert len(core.running()) == 20
