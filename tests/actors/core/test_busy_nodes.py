"""Several nodes under load: samples lag, backlogs are long, nodes come and go, and nobody starves or costs too much."""

from typing import Any

import pytest
from core_harness import Core
from test_nodes import GB, cluster, reason, sample, where

from tasktrail.actors.core.explanation import WaitReason
from tasktrail.actors.core.messages import Sampled
from tasktrail.actors.core.nodes import NodeSample
from tasktrail.actors.core.resources import MachineSample
from tasktrail.events.errors import CannotStartNow
from tasktrail.events.reports import CapacityChanged


class Lagging:
    """A cluster with steady small tasks of two to three seconds, where each sample shows what was `age` seconds ago."""

    def __init__(self, age: float, nodes: dict[str, dict[str, Any]]) -> None:
        self.core = cluster(Core(max_concurrent=50), **nodes)
        self.nodes = nodes
        self.ages = int(age * 4)
        self.used: list[dict[str, int]] = []
        self.ends: dict[int, float] = {}
        for _ in range(20):
            self.core.create(memory=GB)

    def quarter(self, number: int) -> None:
        """A quarter of a second goes by."""
        core, now = self.core, number / 4
        core.wait(0.25)
        for one in core.running():
            self.ends.setdefault(one, now + 2 + (one % 5) / 4)
        for one in [one for one in core.running() if self.ends[one] <= now]:
            core.end(one)
            core.create(memory=GB)
        running = core.state.running.values()
        self.used.append({n: sum(e.reserved_for.memory_needed for e in running if e.node == n) for n in self.nodes})
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
        return NodeSample(total, age=self.ages / 4)


@pytest.mark.parametrize("age", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("large", [9.0, 9.9])
def test_a_large_task_starts_however_old_the_samples_are(age: float, large: float) -> None:
    life = Lagging(age, {"a": {"memory": 10, "workers": 8}, "b": {"memory": 2, "workers": 2}})
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
