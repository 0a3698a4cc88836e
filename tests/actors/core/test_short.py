"""Short attempts share workers, in the core: how many, with whom, and which tasks they must not delay."""

from typing import Any

import pytest
from core_harness import Core

from tasktrail.actors.core.explanation import WaitReason
from tasktrail.events import StartTask
from tasktrail.events.reports import CapacityChanged, Run

TYPES = {"work": 0.5, "quick": 0.5}


def made(*offers: tuple[str, ...], at_once: int = 4, max_concurrent: int = 100, **limits: Any) -> Core:
    core = Core(slots=0, grace=TYPES, short=("quick",), max_concurrent=max_concurrent, **limits)
    core.state.workers.at_once = at_once
    core.tell(CapacityChanged(len(offers), offers if any(offers) else ()))
    return core


def quick(core: Core, number: int) -> list[int]:
    return [core.create(type="quick") for _ in range(number)]


def test_short_ones_take_free_workers_first_and_then_share() -> None:
    core = made((), (), at_once=4)
    tasks = quick(core, 9)
    assert core.running() == tasks[:8]
    assert core.state.workers.held == 2
    for task in tasks[:7]:
        core.end(task)
    assert core.state.workers.held == 2
    core.end(tasks[7])
    assert (core.running(), core.state.workers.held) == ([tasks[8]], 1)


def test_the_executor_learns_how_many_workers_they_may_keep_busy() -> None:
    core = made((), (), at_once=4)
    runs = []
    for _ in range(3):
        core.create(type="quick")
        runs += [order.shared_workers for order in core.orders if isinstance(order, Run)]
    assert runs == [1, 2, 2]
    alone = made((), ())
    alone.create(type="work")
    assert [order.shared_workers for order in alone.orders if isinstance(order, Run)] == [0]


def test_one_that_needs_a_worker_to_itself_waits_for_a_free_one_and_nothing_passes_it() -> None:
    core = made((), (), at_once=4)
    tasks = quick(core, 2)
    alone = core.create(type="work")
    behind = quick(core, 3)
    assert core.running() == tasks
    assert [one.reason for one in core.why(alone).reasons] == [WaitReason.CONCURRENCY_LIMIT]
    assert [one.tasks for one in core.why(behind[0]).reasons] == [(alone,)]
    core.end(tasks[0])
    assert alone in core.running()


def test_one_that_fits_nowhere_keeps_nobody_waiting() -> None:
    core = made((), at_once=4, max_memory=6)
    tasks = quick(core, 1)
    too_big = core.create(type="work", memory=9)
    tasks += quick(core, 1)
    assert core.running() == tasks
    assert WaitReason.MEMORY in [one.reason for one in core.why(too_big).reasons]


def test_max_concurrent_counts_the_workers_that_they_share() -> None:
    core = made((), (), (), (), at_once=4, max_concurrent=1)
    tasks = quick(core, 6)
    assert core.running() == tasks[:4]
    assert core.state.workers.held == 1


def test_workers_with_labels_are_not_shared() -> None:
    """Otherwise a task that needs the label might never get one."""
    core = made((), ("gpu",), at_once=4)
    quick(core, 20)
    labelled = core.create(type="work", worker_label="gpu", priority=10)
    assert sum(entry.offer == ("gpu",) for entry in core.state.running.values()) == 1
    (on_gpu,) = (entry.task_id for entry in core.state.running.values() if entry.offer)
    core.end(on_gpu)
    assert labelled in core.running()


def test_workers_that_are_gone_are_not_shared_any_more() -> None:
    core = made((), (), at_once=4)
    tasks = quick(core, 2)
    core.tell(CapacityChanged(1))
    quick(core, 3)
    assert core.running() == tasks
    core.end(tasks[0])
    assert len(core.running()) == 4
    assert core.state.workers.held == 1


def test_one_that_needs_much_memory_or_a_label_shares_with_nobody() -> None:
    core = made((), ())
    core.create(type="quick", memory=65 * 1024 * 1024)
    assert not any(entry.short for entry in core.state.running.values())


@pytest.mark.parametrize("where", [{"input_file": "s3://films/a"}, {"output_file": "s3://films/a"}])
def test_one_whose_file_is_elsewhere_shares_with_nobody(where: dict[str, Any]) -> None:
    """The attempts after it would wait for bytes on their way, or be killed because they get no answer."""
    core = made((), ())
    core.create(type="quick", **where)
    assert not any(entry.short for entry in core.state.running.values())


def test_one_that_is_started_by_hand_shares_too() -> None:
    core = made((), at_once=4)
    quick(core, 2)
    by_hand = core.create(type="quick", held=True)
    core.ask(StartTask(task_id=by_hand))
    assert core.state.running[by_hand].short
    assert core.state.workers.held == 1
