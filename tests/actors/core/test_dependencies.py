"""A task waits until all its dependencies are completed; failed ones can be repaired by hand."""

from typing import Any

import pytest
from core_harness import Core

from tasktrail.events import CreateTask
from tasktrail.events.errors import CannotStartNow, UnknownDependency


def failed(core: Core, **fields: Any) -> int:
    """Create a task that has failed for good."""
    task_id = core.create(**fields)
    core.end(task_id, "failed", error="no such codec")
    return task_id


def test_a_task_starts_when_all_it_depends_on_is_completed(core: Core) -> None:
    one, two = core.create(), core.create()
    waiting = core.create(depends_on=(one, two), priority=10)
    core.end(one)
    assert core.running() == [two]
    core.end(two)
    assert core.running() == [waiting]


def test_what_is_completed_already_is_not_waited_for(core: Core) -> None:
    one = core.create()
    core.end(one)
    two = core.create(depends_on=(one,))
    assert core.running() == [two]


def test_a_dependency_that_failed_can_be_retried_by_hand_and_completed(core: Core) -> None:
    one = failed(core, max_retries=1, retry_delay=0.0)
    waiting = core.create(depends_on=(one,), on_dependency_failure="wait")
    assert core.running() == []
    core.retry(one)
    core.end(one)
    assert core.running() == [waiting]


def test_so_it_can_after_a_restart(core: Core) -> None:
    one = failed(core, max_retries=1, retry_delay=0.0)
    waiting = core.create(depends_on=(one,), on_dependency_failure="wait")
    core = core.again()
    assert core.running() == []
    core.retry(one)
    core.end(one)
    assert core.running() == [waiting]


def test_a_cancelled_dependency_can_be_mended_too(core: Core) -> None:
    busy, one = core.create(), core.create(max_retries=1, retry_delay=0.0)
    waiting = core.create(depends_on=(one,), on_dependency_failure="wait")
    core.cancel(one)
    core.end(busy)
    assert core.running() == []
    core.retry(one)
    core.end(one)
    assert core.running() == [waiting]


def test_a_chain_runs_link_by_link(core: Core) -> None:
    last = core.create()
    chain = [last] + [last := core.create(depends_on=(last,)) for _ in range(5)]
    for link in chain:
        assert core.running() == [link]
        core.end(link)


def test_a_diamond_waits_for_both_sides(core: Core) -> None:
    top = core.create()
    left, right = core.create(depends_on=(top,)), core.create(depends_on=(top,))
    bottom = core.create(depends_on=(left, right))
    for link in (top, left, right, bottom):
        assert core.running() == [link]
        core.end(link)


@pytest.mark.parametrize("field", ["depends_on", "parent_task_id"])
@pytest.mark.parametrize("unknown", [2, 3, 999])
def test_what_does_not_exist_cannot_be_depended_on(core: Core, field: str, unknown: int) -> None:
    core.create()
    value = (1, unknown) if field == "depends_on" else unknown
    head = core.log.head()
    answer = core.ask(CreateTask(type="work", **{field: value}))  # type: ignore[arg-type]  # one of two fields
    assert isinstance(answer, UnknownDependency)
    assert answer.field == field
    assert core.log.head() == head


def test_a_parent_is_not_waited_for(core: Core) -> None:
    parent = failed(core)
    child = core.create(parent_task_id=parent)
    assert core.running() == [child]


def test_a_dependency_named_twice_counts_once(core: Core) -> None:
    one = core.create()
    waiting = core.create(depends_on=(one, one))
    assert core.state.tasks[waiting].spec.depends_on == (one,)
    core.end(one)
    assert core.running() == [waiting]


def test_a_blocked_task_can_be_cancelled_and_does_not_come_back(core: Core) -> None:
    one = core.create()
    waiting = core.create(depends_on=(one,))
    core.cancel(waiting)
    core.end(one)
    assert core.running() == []


def test_a_blocked_task_that_was_cancelled_waits_again_after_a_retry(core: Core) -> None:
    one = core.create()
    waiting = core.create(depends_on=(one,), max_retries=1, retry_delay=0.0)
    core.cancel(waiting)
    core.retry(waiting)
    assert core.running() == [one]
    core.end(one)
    assert core.running() == [waiting]


def test_a_blocked_task_cannot_be_started_by_hand(core: Core) -> None:
    over, one = failed(core), core.create()
    waiting = core.create(depends_on=(one, over), on_dependency_failure="wait")
    answer = core.start(waiting)
    assert isinstance(answer, CannotStartNow)
    assert f"Dependency: waits for task {one}; DependencyFailed: task {over} has ended" in str(answer)


def test_a_held_task_released_while_it_is_blocked_starts_later(core: Core) -> None:
    one = core.create()
    waiting = core.create(depends_on=(one,), held=True)
    core.start(waiting)
    assert core.running() == [one]
    core.end(one)
    assert core.running() == [waiting]


def test_a_held_task_whose_dependencies_are_completed_is_still_held(core: Core) -> None:
    one = core.create()
    core.create(depends_on=(one,), held=True)
    core.end(one)
    assert core.running() == []


def test_what_nobody_waits_for_any_more_leaves_no_trace(core: Core) -> None:
    one = failed(core)
    for _ in range(3):
        core.cancel(core.create(depends_on=(one,), on_dependency_failure="wait"))
    assert (core.state.blocked, core.state.dependents) == ({}, {})
