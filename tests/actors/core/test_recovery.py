"""Crashes of workers and of the service: which of them count, what continues, and from where."""

import pytest
from core_harness import Core

from tasktrail.actors.core.board import queue_board
from tasktrail.actors.core.messages import Close, Drain, Tick
from tasktrail.events import Accepted, Completed, Failed, Retried, Started
from tasktrail.events.errors import CannotStartNow, NotReady
from tasktrail.events.reports import Run
from tasktrail.events.state import RECOVERING, RESUMING
from tasktrail.events.system_events import ServiceStarted, ServiceStopped


def crash(core: Core, task_id: int) -> Failed:
    """Let the worker of the task's attempt die; then let time pass until the next attempt."""
    failed = core.end(task_id, "lost", error="it died")[0]
    core.wait(60)
    core.tell(Tick())
    assert isinstance(failed, Failed)
    return failed


# --- workers ----------------------------------------------------------------------------------------------------


def test_a_task_whose_worker_died_is_tried_again_whatever_max_retries_says(core: Core) -> None:
    task_id = core.create(max_retries=0)
    events = core.end(task_id, "lost", error="it died")
    assert isinstance(events[0], Failed)
    assert (events[0].outcome, events[0].final) == ("lost", False)
    assert events[1] == Retried(cause="crash")
    assert core.runs() == [(task_id, 2)]


def test_the_third_crash_in_a_row_is_poison(core: Core) -> None:
    task_id = core.create(max_retries=9)
    assert [crash(core, task_id).final for _ in range(3)] == [False, False, True]
    assert core.read(task_id).status == "failed"
    assert "poison: 3 crashes in a row" in [getattr(r.event, "rule", "") for r in core.log.read_task(task_id)]


def test_the_second_crash_costs_a_wait(core: Core) -> None:
    task_id = core.create()
    core.end(task_id, "lost")
    core.end(task_id, "lost")
    assert core.running() == []
    core.wait(1)
    core.tell(Tick())
    assert core.runs() == [(task_id, 3)]


def test_a_new_checkpoint_forgives_the_crashes_before_it(core: Core) -> None:
    task_id = core.create()
    for attempt in range(1, 10):
        core.checkpoint(task_id, attempt, frames=attempt)
        assert not crash(core, task_id).final


def test_the_same_checkpoint_further_on_forgives_them_too(core: Core) -> None:
    task_id = core.create()
    for attempt in range(1, 10):
        core.checkpoint(task_id, attempt, progress=10.0 * attempt)
        assert not crash(core, task_id).final


@pytest.mark.parametrize("progress", [None, 40.0])
def test_the_same_checkpoint_saved_again_forgives_nothing(core: Core, progress: float | None) -> None:
    task_id = core.create()
    finals = []
    for attempt in range(1, 4):
        core.checkpoint(task_id, attempt, progress=progress)
        finals.append(crash(core, task_id).final)
    assert finals == [False, False, True]


def test_a_checkpoint_from_which_nothing_may_go_on_forgives_nothing(core: Core) -> None:
    task_id = core.create(resumable=False)
    finals = []
    for attempt in range(1, 4):
        core.checkpoint(task_id, attempt, frames=attempt, progress=10.0 * attempt)
        finals.append(crash(core, task_id).final)
    assert finals == [False, False, True]


def test_an_ordinary_failure_in_between_ends_the_row(core: Core) -> None:
    task_id = core.create(max_retries=1, retry_delay=0.0)
    crash(core, task_id)
    crash(core, task_id)
    core.end(task_id, "failed", error="connection refused")
    assert [crash(core, task_id).final for _ in range(3)] == [False, False, True]


def test_max_crashes_is_the_operators(make_core: type[Core]) -> None:
    core = make_core(max_crashes=1)
    assert crash(core, core.create()).final


def test_a_retry_by_hand_of_poison_counts_from_nothing(core: Core) -> None:
    task_id = core.create(max_retries=1, retry_delay=0.0)
    for _ in range(3):
        crash(core, task_id)
    core.retry(task_id)
    assert not crash(core, task_id).final


def test_crashes_are_counted_over_restarts(core: Core) -> None:
    task_id = core.create()
    crash(core, task_id)
    crash(core, task_id)
    core = core.again()
    assert crash(core, task_id).final


# --- the service ------------------------------------------------------------------------------------------------


def test_an_open_attempt_is_closed_as_interrupted_and_goes_on_at_once(core: Core) -> None:
    task_id = core.create()
    core.progress(task_id, 40.0)
    core = core.again()
    failed, retried = (record for record in core.log.read_task(task_id)[-3:-1])
    assert isinstance(failed.event, Failed)
    assert (failed.event.outcome, failed.event.final) == ("interrupted", False)
    assert retried.event == Retried(cause="recovery")
    assert (retried.actor, retried.reason) == ("recovery", RECOVERING)
    task = core.state.tasks[task_id]
    assert (task.progress, task.attempt, task.retry_count, task.crash_count) == (0.0, 2, 0, 0)


def test_a_task_with_a_checkpoint_resumes_from_it(core: Core) -> None:
    task_id = core.create()
    core.checkpoint(task_id, progress=40.0)
    core.wait(1)
    core.progress(task_id, 60.0)
    core = core.again()
    order = core.orders[-1]
    assert isinstance(order, Run)
    assert order.checkpoint is not None
    assert order.checkpoint.processed_frames == 7
    records = core.log.read_task(task_id)
    assert records[-2].reason == RESUMING
    assert isinstance(records[-1].event, Started)
    assert records[-1].event.resumed
    assert queue_board(core.state, core.now, 1).running[0].resumed
    assert core.state.tasks[task_id].progress == 40.0


def test_a_task_that_must_not_resume_starts_anew(core: Core) -> None:
    task_id = core.create(resumable=False)
    core.checkpoint(task_id, progress=40.0)
    core = core.again()
    assert isinstance(core.orders[-1], Run)
    assert core.orders[-1].checkpoint is None
    assert core.state.tasks[task_id].progress == 0.0


def test_interruptions_count_nowhere_however_many(core: Core) -> None:
    task_id = core.create()
    for _ in range(20):
        core = core.again()
    task = core.state.tasks[task_id]
    assert (task.attempt, task.status, task.crash_count, task.retry_count) == (21, "running", 0, 0)


def test_the_message_of_recovery_is_the_seeds(core: Core) -> None:
    task_id = core.create()
    core = core.again(slots=0)
    assert core.state.tasks[task_id].message == RECOVERING


def test_memory_after_a_restart_is_that_before_it(core: Core) -> None:
    core.create(held=True)
    core.create(max_retries=1)
    core.end(2, "failed", error="connection refused")
    core.create(depends_on=(1,))
    assert core.again().state.tasks == core.state.tasks


def test_each_start_and_stop_of_the_service_is_recorded(core: Core) -> None:
    core.tell(Close())
    events = [record.event for record in core.again().log.read()]
    assert [type(event) for event in events] == [ServiceStarted, ServiceStopped, ServiceStarted]


# --- drain and close --------------------------------------------------------------------------------------------


def test_drain_asks_what_runs_to_stop_and_starts_nothing(core: Core) -> None:
    task_id, waiting = core.create(), core.create()
    core.tell(Drain())
    assert core.stops() == [(task_id, 1)]
    assert [type(event) for event in core.end(task_id, "stopped")] == [Failed, Retried]
    assert core.running() == []
    answer = core.start(waiting)
    assert isinstance(answer, CannotStartNow)
    assert "ShuttingDown" in str(answer)


def test_an_attempt_stopped_by_drain_is_interrupted_and_counts_nowhere(core: Core) -> None:
    task_id = core.create()
    core.tell(Drain())
    failed = core.end(task_id, "stopped")[0]
    assert isinstance(failed, Failed)
    assert (failed.outcome, failed.final) == ("interrupted", False)
    assert core.again().running() == [task_id]


def test_an_attempt_that_finishes_during_drain_is_completed(core: Core) -> None:
    task_id = core.create()
    core.tell(Drain())
    assert isinstance(core.end(task_id)[0], Completed)


def test_a_publishing_attempt_is_not_asked_to_stop_by_drain(core: Core) -> None:
    task_id = core.create()
    core.want_to_publish(task_id)
    core.tell(Drain())
    assert core.stops() == []
    assert isinstance(core.end(task_id)[0], Completed)


def test_drain_takes_no_new_tasks_and_still_cancels(core: Core) -> None:
    task_id, waiting = core.create(), core.create()
    core.tell(Drain())
    with pytest.raises(AssertionError, match="The service is stopping"):
        core.create()
    assert isinstance(core.cancel(waiting), Accepted)
    assert isinstance(core.cancel(task_id), Accepted)
    assert core.end(task_id, "stopped") == []


def test_draining_twice_stops_nothing_twice(core: Core) -> None:
    core.create()
    core.tell(Drain())
    core.tell(Drain())
    assert core.orders == []


def test_close_interrupts_what_still_runs(core: Core) -> None:
    task_id = core.create()
    assert [type(event) for event in core.tell(Close())] == [Failed, Retried, ServiceStopped]
    assert core.again().running() == [task_id]


def test_after_close_nothing_is_recorded(core: Core) -> None:
    task_id = core.create()
    core.tell(Close())
    assert core.tell(Tick()) == []
    assert isinstance(core.cancel(task_id), NotReady)
    assert core.facts == []
