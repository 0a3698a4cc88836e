"""Start, cancel and retry, on tasks in every state."""

from datetime import timedelta

from core_harness import Core

from tasktrail.actors.core.messages import Tick
from tasktrail.events import (
    Accepted,
    Cancelled,
    CancelTask,
    Checkpoint,
    CreateTask,
    Retried,
    SaveCheckpoint,
    Started,
    StartTask,
)
from tasktrail.events.errors import (
    CannotStartNow,
    IllegalTransition,
    RetriesExhausted,
    TasktrailError,
    UnknownTask,
)
from tasktrail.events.reports import Run


def test_the_answer_names_the_task_and_the_last_position(core: Core) -> None:
    core.create(retry_delay=0.0, max_retries=1)
    core.end(1, "failed", error="no such codec")
    answer = core.retry(1)
    assert answer == Accepted(1, core.log.head().position - 1, "retry"), "Started follows and is the Scheduler's"
    assert core.log.read_task(1)[-2].command_id == "retry"


def test_the_run_order_carries_what_the_handler_needs(core: Core) -> None:
    core.create(input_file="/in", output_file="/out", options={"a": 1}, overwrite=True)
    assert core.orders == [Run(1, 1, "work", "/in", "/out", {"a": 1}, None, "/data/tmp/1", overwrite=True, grace=0.5)]


def test_an_unknown_task_is_refused_and_nothing_is_recorded(core: Core) -> None:
    head = core.log.head()
    for answer in (core.start(7), core.cancel(7), core.retry(7)):
        assert isinstance(answer, UnknownTask)
    assert core.log.head() == head


# --- start ------------------------------------------------------------------------------------------------------


def test_start_puts_a_task_ahead_of_the_queue_and_of_its_own_timer(core: Core) -> None:
    core.create()
    core.create(priority=10)
    late = core.create(max_retries=1)
    core.cancel(late)
    core.retry(late, delay=3600.0)
    core.cancel(2)
    core.end(1)
    assert core.running() == []
    assert isinstance(core.start(late), Accepted)
    assert core.running() == [late]
    assert core.log.read_task(late)[-1].command_id == "start"


def test_start_of_a_task_that_cannot_start_now_says_why_and_changes_nothing(core: Core) -> None:
    core.create()
    waiting, head = core.create(), core.log.head()
    answer = core.start(waiting)
    assert isinstance(answer, CannotStartNow)
    assert "ConcurrencyLimit: 1 attempt holds all the slots" in str(answer)
    assert core.log.head() == head
    core.end(1)
    assert core.running() == [waiting]


def test_start_is_refused_for_a_task_that_runs_or_has_ended(core: Core) -> None:
    task_id = core.create()
    assert isinstance(core.start(task_id), IllegalTransition)
    core.end(task_id)
    assert isinstance(core.start(task_id), IllegalTransition)


def test_start_is_refused_without_a_handler(core: Core) -> None:
    answer = core.start(core.create(type="absent"))
    assert isinstance(answer, CannotStartNow)
    assert "no handler is installed for type absent" in str(answer)


def test_a_task_without_a_handler_burns_no_attempt_and_starts_when_one_is_there(core: Core) -> None:
    task_id = core.create(type="absent")
    assert core.again().running() == []
    later = core.again(grace={"absent": 2.0})
    assert later.runs() == [(task_id, 1)]
    assert later.orders[0].grace == 2.0  # type: ignore[union-attr]  # a Run


# --- cancel -----------------------------------------------------------------------------------------------------


def test_a_pending_task_is_cancelled_at_once(core: Core) -> None:
    core.create()
    waiting = core.create()
    assert isinstance(core.cancel(waiting), Accepted)
    assert core.orders == []
    core.end(1)
    assert core.running() == []


def test_a_running_task_is_cancelled_at_once_and_holds_its_slot_until_it_is_gone(core: Core) -> None:
    task_id, waiting = core.create(), core.create()
    core.cancel(task_id)
    assert [fact.event for fact in core.facts] == [Cancelled(attempt_running=True)]
    assert core.stops() == [(task_id, 1)]
    assert core.running() == [task_id]
    core.end(task_id, "stopped")
    assert core.running() == [waiting]


def test_a_second_cancel_is_refused_and_stops_nothing_twice(core: Core) -> None:
    task_id = core.create()
    core.cancel(task_id)
    assert isinstance(core.cancel(task_id), IllegalTransition)
    assert core.orders == []


def test_a_cancel_waits_for_the_end_of_publishing_and_is_refused_when_that_went_well(core: Core) -> None:
    task_id = core.create()
    core.want_to_publish(task_id)
    assert core.cancel(task_id) is None
    assert core.stops() == []
    core.end(task_id)
    (answer,) = [answer for answer in core.answers.values() if isinstance(answer, TasktrailError)]
    assert isinstance(answer, IllegalTransition)
    assert "is completed" in str(answer)


def test_a_cancel_that_waited_for_publishing_wins_over_a_retry(core: Core) -> None:
    task_id = core.create(max_retries=1)
    core.want_to_publish(task_id)
    core.cancel(task_id)
    core.end(task_id, "lost")
    names = [type(record.event).__name__ for record in core.log.read_task(task_id)]
    assert names == ["Created", "Started", "Failed", "Retried", "Cancelled"]
    assert core.running() == []


def test_a_cancel_sent_twice_while_publishing_is_carried_out_once_and_both_senders_hear_the_same(core: Core) -> None:
    task_id = core.create(max_retries=1)
    core.want_to_publish(task_id)
    core.cancel(task_id)
    core.cancel(task_id)
    core.end(task_id, "lost")
    first, second = list(core.answers.values())[-2:]
    assert isinstance(first, Accepted)
    assert second == first


def test_a_grant_asked_for_after_the_cancel_is_not_given(core: Core) -> None:
    task_id = core.create()
    core.cancel(task_id)
    core.want_to_publish(task_id)
    assert core.orders == []
    assert core.facts == []


# --- retry by hand ----------------------------------------------------------------------------------------------


def test_a_retry_by_hand_opens_another_life_at_once_whatever_the_delay_between_attempts(core: Core) -> None:
    task_id = core.create(max_retries=1, retry_delay=3600.0)
    core.end(task_id, "failed", error="no such codec")
    core.retry(task_id)
    assert core.facts[0].event == Retried(cause="manual")
    assert (core.runs(), core.state.tasks[task_id].life) == ([(task_id, 2)], 2)


def test_a_new_task_may_be_retried_by_hand_as_often_as_the_seeds_example(core: Core) -> None:
    task_id = core.create(max_retries=CreateTask(type="slow").max_retries)
    for attempt in (1, 2, 3):
        core.end(task_id, "failed", error="no such codec")
        core.retry(task_id)
        assert core.runs() == [(task_id, attempt + 1)]
    core.end(task_id, "failed", error="no such codec")
    assert isinstance(core.retry(task_id), RetriesExhausted)


def test_a_retry_by_hand_waits_for_the_delay_that_it_asks_for(core: Core) -> None:
    task_id = core.create(max_retries=1, retry_delay=5.0)
    core.end(task_id, "failed", error="no such codec")
    core.retry(task_id, delay=60.0)
    assert core.running() == []
    core.wait(60)
    core.tell(Tick())
    assert (core.runs(), core.state.tasks[task_id].life) == ([(task_id, 2)], 2)


def test_a_retry_beyond_max_retries_needs_force_and_says_who_forced_it(core: Core) -> None:
    task_id = core.create(retry_delay=0.0)
    core.end(task_id, "failed", error="no such codec")
    assert isinstance(core.retry(task_id), RetriesExhausted)
    core.retry(task_id, force=True)
    assert core.facts[0].event == Retried(cause="manual", forced=True)
    assert core.runs() == [(task_id, 2)]


def test_a_forced_retry_that_was_not_beyond_is_not_called_forced(core: Core) -> None:
    task_id = core.create(retry_delay=0.0, max_retries=1)
    core.end(task_id, "failed", error="no such codec")
    core.retry(task_id, force=True)
    assert core.facts[0].event == Retried(cause="manual")


def test_a_retry_waits_until_the_cancelled_attempt_is_gone(core: Core) -> None:
    task_id = core.create(max_retries=1, retry_delay=0.0)
    core.cancel(task_id)
    core.retry(task_id)
    assert core.runs() == []
    core.tell(Tick())
    assert core.runs() == []
    core.end(task_id, "stopped")
    assert core.runs() == [(task_id, 2)]


def test_nor_can_it_be_started_by_hand_before(core: Core) -> None:
    task_id = core.create(max_retries=1, retry_delay=0.0)
    core.cancel(task_id)
    core.retry(task_id)
    answer = core.start(task_id)
    assert isinstance(answer, CannotStartNow)
    assert "Stopping: attempt 1 is still being stopped" in str(answer)


def test_the_delay_of_a_retry_goes_on_after_the_old_attempt_is_gone(core: Core) -> None:
    task_id = core.create(max_retries=1)
    core.cancel(task_id)
    core.retry(task_id, delay=60.0)
    core.wait(30)
    core.end(task_id, "stopped")
    core.wait(29)
    assert core.tell(Tick()) == []
    core.wait(1)
    assert isinstance(core.tell(Tick())[0], Started)


def test_a_task_that_waits_or_runs_or_is_completed_cannot_be_retried(core: Core) -> None:
    running, waiting = core.create(max_retries=9), core.create(max_retries=9)
    assert isinstance(core.retry(waiting), IllegalTransition)
    assert isinstance(core.retry(running), IllegalTransition)
    core.end(running)
    assert isinstance(core.retry(running), IllegalTransition)


def test_a_checkpoint_from_outside_belongs_to_a_running_task(core: Core) -> None:
    running, waiting = core.create(), core.create()
    checkpoint = Checkpoint(processed_frames=1)
    assert isinstance(core.ask(SaveCheckpoint(task_id=waiting, checkpoint=checkpoint)), IllegalTransition)
    assert isinstance(core.ask(SaveCheckpoint(task_id=running, checkpoint=checkpoint)), Accepted)
    assert core.state.tasks[running].checkpoint == checkpoint


def test_the_envelope_says_who_why_and_because_of_what(core: Core) -> None:
    core.create()
    core.ask(CancelTask(task_id=1, command_id="x", actor="ann", reason="because", correlation_id="c"))
    (fact,) = core.facts
    assert (fact.actor, fact.reason, fact.command_id, fact.correlation_id) == ("ann", "because", "x", "c")
    assert fact.causation_id == "command:x"


def test_the_second_event_of_a_decision_is_caused_by_the_first(core: Core) -> None:
    core.create()
    core.end(1, "lost")
    failed, retried = core.log.read_task(1)[2:4]
    assert retried.causation_id == f"event:{failed.position}"


def test_the_start_of_a_task_by_hand_is_in_the_name_of_who_asked(core: Core) -> None:
    core.create()
    core.create()
    core.cancel(2)
    core.end(1)
    core.create(scheduled_for=core.now + timedelta(days=1))
    core.ask(StartTask(task_id=3, actor="ann"))
    assert [(type(fact.event), fact.actor) for fact in core.facts] == [(Started, "ann")]
