"""Held tasks wait for a StartTask; nothing else releases them."""

from core_harness import Core

from tasktrail.events import Retried
from tasktrail.events.errors import IllegalTransition
from tasktrail.events.system_events import Adjusted


def test_a_held_task_does_not_start_by_itself(core: Core) -> None:
    task_id = core.create(held=True)
    assert core.running() == []
    core.start(task_id)
    assert core.running() == [task_id]


def test_the_release_is_recorded_and_survives_a_restart(core: Core) -> None:
    busy, held = core.create(), core.create(held=True)
    core.start(held)
    assert core.facts[0].event == Adjusted(task_id=held, held=False)
    core = core.again()
    core.end(busy)
    assert core.running() == [held]


def test_a_held_task_is_still_held_after_a_restart(core: Core) -> None:
    core.create(held=True)
    assert core.again().running() == []


def test_a_released_task_that_failed_runs_again_after_a_retry_by_hand(core: Core) -> None:
    task_id = core.create(held=True, max_retries=1, retry_delay=0.0)
    core.start(task_id)
    core.end(task_id, "failed", error="no such codec")
    core.retry(task_id)
    assert core.runs() == [(task_id, 2)]


def test_a_task_cancelled_while_it_was_held_is_released_by_a_retry_by_hand(core: Core) -> None:
    task_id = core.create(held=True, max_retries=1, retry_delay=0.0)
    core.cancel(task_id)
    core.retry(task_id)
    assert core.facts[0].event == Retried(cause="manual")
    assert core.runs() == [(task_id, 1)]


def test_memory_and_log_agree_on_a_task_that_was_held_and_has_ended(core: Core) -> None:
    task_id = core.create(held=True)
    core.start(task_id)
    core.cancel(task_id)
    assert core.state.tasks[task_id] == core.read(task_id)


def test_a_task_that_has_ended_cannot_be_released(core: Core) -> None:
    task_id = core.create(held=True)
    core.cancel(task_id)
    assert isinstance(core.start(task_id), IllegalTransition)
