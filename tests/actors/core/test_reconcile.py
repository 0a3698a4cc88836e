"""No slot is held for an attempt that no longer exists, and no unwanted attempt runs."""

import pytest
from core_harness import Core

from tasktrail.actors.core import dispatch
from tasktrail.actors.core.messages import Reconcile
from tasktrail.events import Failed, Retried, priority
from tasktrail.events.reports import AttemptsHeld, Run, Stop, TellHeld


def question(core: Core) -> int:
    """Ask the executor; return the question's number."""
    core.tell(Reconcile())
    (order,) = core.orders
    assert isinstance(order, TellHeld)
    return order.number


def compare(core: Core, *held: tuple[int, int]) -> list[object]:
    """Ask the executor, which lists these attempts; return the resulting events."""
    return list(core.tell(AttemptsHeld(question(core), held)))


def test_an_attempt_that_is_held_goes_on(core: Core) -> None:
    task_id = core.create()
    for _ in range(3):
        assert compare(core, (task_id, 1)) == []
    assert core.running() == [task_id]


def test_an_attempt_that_two_answers_in_a_row_miss_is_lost_and_its_slot_is_free(core: Core) -> None:
    task_id = core.create()
    assert compare(core) == []
    failed, retried = compare(core)[:2]
    assert isinstance(failed, Failed)
    assert (failed.outcome, failed.error_type) == ("lost", "AttemptForgotten")
    assert "no process" in failed.error
    assert isinstance(retried, Retried)
    assert core.runs() == [(task_id, 2)]


def test_an_answer_that_holds_it_begins_the_count_anew(core: Core) -> None:
    task_id = core.create()
    assert compare(core) == []
    assert compare(core, (task_id, 1)) == []
    assert compare(core) == []
    assert core.running() == [task_id]


def test_what_began_after_the_question_is_not_missed(core: Core) -> None:
    first = core.create()
    core.end(first, "completed")
    other = core.create()
    number = question(core)
    core.end(other, "completed")
    later = core.create()
    core.tell(AttemptsHeld(number, ()))
    number = question(core)
    assert core.tell(AttemptsHeld(number, ())) == []
    assert core.running() == [later]


def test_what_ended_between_question_and_answer_is_not_ended_again(core: Core) -> None:
    task_id = core.create(max_retries=0)
    compare(core)
    number = question(core)
    core.end(task_id, "completed")
    assert core.tell(AttemptsHeld(number, ())) == []
    assert core.read(task_id).status == "completed"


def test_the_answer_to_an_older_question_and_a_repeated_answer_count_for_nothing(core: Core) -> None:
    task_id = core.create()
    old = question(core)
    number = question(core)
    assert core.tell(AttemptsHeld(old, ())) == []
    assert core.tell(AttemptsHeld(number, ())) == []
    assert core.tell(AttemptsHeld(number, ())) == []
    assert core.running() == [task_id]


def test_a_cancelled_attempt_that_is_gone_gives_its_slot_back(core: Core) -> None:
    task_id, waiting = core.create(), core.create()
    core.cancel(task_id)
    compare(core)
    compare(core)
    assert core.running() == [waiting]
    assert core.read(task_id).status == "cancelled"


def test_an_attempt_that_nobody_wants_is_stopped(core: Core) -> None:
    task_id = core.create()
    compare(core, (task_id, 1), (99, 4))
    number = question(core)
    core.tell(AttemptsHeld(number, ((task_id, 1), (99, 4))))
    assert core.orders == [Stop(99, 4)]
    assert core.running() == [task_id]


def test_an_older_attempt_of_a_running_task_is_stopped_and_the_newer_goes_on(core: Core) -> None:
    task_id = core.create()
    core.end(task_id, "lost")
    for _ in range(2):
        number = question(core)
        core.tell(AttemptsHeld(number, ((task_id, 1), (task_id, 2))))
    assert core.orders == [Stop(task_id, 1)]
    assert core.state.running[task_id].attempt == 2


def test_while_nothing_runs_nobody_is_asked(core: Core) -> None:
    core.tell(Reconcile())
    assert core.orders == []


def test_a_task_that_cannot_be_ordered_ends_by_name_and_the_next_starts(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever an odd log leads to, one task must not keep the others waiting for ever."""

    def odd(task: object, now: object) -> object:
        if getattr(task, "id", 0) == blocked:
            raise OverflowError("int too large to convert to float")
        return priority.terms(task, now)  # type: ignore[arg-type]  # passed on

    busy = core.create()
    blocked, fine = core.create(), core.create()
    monkeypatch.setattr(dispatch, "terms", odd)
    core.end(busy, "completed")
    task = core.read(blocked)
    assert (task.status, task.error_type) == ("failed", "CannotStart")
    assert "int too large" in task.error
    assert core.running() == [fine]
    assert [order.task_id for order in core.orders if isinstance(order, Run)] == [fine]
