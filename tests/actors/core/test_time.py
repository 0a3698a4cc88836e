"""Timers, schedules and timeouts; and a clock that is set back."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from core_harness import Core

from tasktrail.actors.core.messages import Tick
from tasktrail.events import Accepted, Completed, Failed, Progressed, Retried

HOUR = 3600.0


def names(events: Sequence[object]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_a_task_does_not_start_before_its_time(core: Core) -> None:
    core.create(scheduled_for=core.now + timedelta(seconds=60))
    core.wait(59.999)
    assert core.tell(Tick()) == []
    core.wait(0.001)
    assert names(core.tell(Tick())) == ["Started"]


def test_the_next_wake_is_the_earliest_timer(core: Core) -> None:
    for seconds in (60, 30, 90):
        core.create(scheduled_for=core.now + timedelta(seconds=seconds))
    assert core.state.next_wake() == core.now + timedelta(seconds=30)
    core.wait(90)
    core.tell(Tick())
    assert core.state.next_wake() is None


def test_a_time_that_has_passed_is_no_reason_to_wait(core: Core) -> None:
    task_id = core.create(scheduled_for=core.now)
    assert core.running() == [task_id]


def test_a_failure_that_may_be_tried_again_waits_for_its_delay(core: Core) -> None:
    task_id = core.create(max_retries=1, retry_delay=60.0)
    core.end(task_id, "failed", error="connection refused")
    core.wait(59)
    assert core.tell(Tick()) == []
    core.wait(1)
    core.tell(Tick())
    assert core.runs() == [(task_id, 2)]


def test_the_delay_survives_a_restart(core: Core) -> None:
    task_id = core.create(max_retries=1, retry_delay=60.0)
    core.end(task_id, "failed", error="connection refused")
    core = core.again()
    assert core.running() == []
    core.wait(60)
    core.tell(Tick())
    assert core.runs() == [(task_id, 2)]


def test_a_schedule_survives_a_restart(core: Core) -> None:
    task_id = core.create(scheduled_for=core.now + timedelta(seconds=60))
    core = core.again()
    core.wait(60)
    core.tell(Tick())
    assert core.runs() == [(task_id, 1)]


def test_an_attempt_that_takes_too_long_has_failed_and_keeps_its_slot_until_it_is_gone(core: Core) -> None:
    task_id, next_id = core.create(timeout=30.0, memory=4), core.create()
    core.wait(30)
    (failed,) = core.tell(Tick())
    assert isinstance(failed, Failed)
    assert (failed.outcome, failed.final, failed.rule) == ("timed_out", True, "timeout")
    assert core.stops() == [(task_id, 1)]
    assert (core.running(), core.state.reserved.memory) == ([task_id], 4)
    assert names(core.end(task_id, "stopped")) == ["Started"]
    assert core.running() == [next_id]


def test_a_timeout_is_tried_again_while_there_are_retries_after_the_old_attempt_is_gone(core: Core) -> None:
    task_id = core.create(timeout=30.0, max_retries=1, retry_delay=0.0)
    core.wait(30)
    assert names(core.tell(Tick())) == ["Failed", "Retried"]
    assert core.runs() == []
    core.end(task_id, "stopped")
    assert core.runs() == [(task_id, 2)]


def test_a_timeout_ends_only_the_attempt_it_was_set_for(core: Core) -> None:
    task_id = core.create(timeout=30.0, max_retries=1, retry_delay=0.0)
    core.wait(20)
    core.end(task_id, "failed", error="connection refused")
    core.wait(10)
    assert core.tell(Tick()) == []
    core.wait(20)
    assert names(core.tell(Tick())) == ["Failed"]


def test_a_publishing_attempt_is_not_timed_out_at_once(core: Core) -> None:
    task_id = core.create(timeout=30.0)
    core.want_to_publish(task_id)
    core.wait(30)
    assert core.tell(Tick()) == []
    assert isinstance(core.end(task_id)[0], Completed)


def test_publishing_that_hangs_is_timed_out_and_a_cancel_that_waited_for_it_is_answered(core: Core) -> None:
    task_id = core.create(retry_delay=0.0, max_retries=1)
    core.want_to_publish(task_id)
    assert core.cancel(task_id) is None
    core.wait(59.999)
    assert core.tell(Tick()) == []
    core.wait(0.001)
    assert names(core.tell(Tick())) == ["Failed", "Retried"]
    assert core.stops() == [(task_id, 1)]
    assert names(core.end(task_id, "stopped")) == ["Cancelled"]
    assert isinstance(list(core.answers.values())[-1], Accepted)


def test_a_cancel_after_publishing_has_hung_still_waits_until_the_attempt_is_gone(core: Core) -> None:
    task_id = core.create(retry_delay=0.0, max_retries=1)
    core.want_to_publish(task_id)
    core.wait(60)
    core.tell(Tick())
    assert core.cancel(task_id) is None
    assert names(core.end(task_id, "stopped")) == ["Cancelled"]


def test_recorded_time_never_runs_backwards(core: Core) -> None:
    core.create()
    before = core.now
    core.wait(-HOUR)
    core.create()
    core.wait(HOUR / 2)
    core.create()
    assert [record.recorded_at for record in core.log.read()] == [before] * core.log.head().position


def test_progress_is_recorded_after_the_clock_was_set_back(core: Core) -> None:
    task_id = core.create()
    core.progress(task_id, 10.0)
    core.wait(-HOUR)
    assert names(core.progress(task_id, 20.0)) == ["Progressed"]
    core.wait(1)
    assert names(core.progress(task_id, 30.0)) == ["Progressed"]


def test_a_delay_is_no_longer_after_the_clock_was_set_back(core: Core) -> None:
    task_id = core.create(max_retries=1, retry_delay=60.0)
    core.wait(-HOUR)
    core.end(task_id, "failed", error="connection refused")
    core.wait(60)
    core.tell(Tick())
    assert core.runs() == [(task_id, 2)]


def test_a_timeout_is_no_longer_after_the_clock_was_set_back(core: Core) -> None:
    core.wait(-HOUR)
    core.create(timeout=30.0)
    core.wait(30)
    assert names(core.tell(Tick())) == ["Failed"]


def test_the_clock_may_stand_still(core: Core) -> None:
    """Equal times everywhere: create, start, retry without delay, a schedule for the present time."""
    task_id = core.create(max_retries=1, retry_delay=0.0, scheduled_for=core.now)
    core.end(task_id, "failed", error="connection refused")
    events = [record.event for record in core.log.read_task(task_id)]
    assert names(events) == ["Created", "Started", "Failed", "Retried", "Started"]
    assert isinstance(events[3], Retried)
    assert events[3].due_at is None


@pytest.mark.parametrize("seconds", [0.1, 0.449])
def test_progress_too_soon_after_the_last_is_dropped(core: Core, seconds: float) -> None:
    task_id = core.create()
    assert names(core.progress(task_id, 1.0)) == ["Progressed"], "the first is always kept"
    core.wait(seconds)
    assert core.progress(task_id, 2.0) == []


def test_two_reports_of_progress_a_second_are_kept(core: Core) -> None:
    task_id = core.create()
    kept = 0
    for _ in range(101):
        kept += len(core.progress(task_id, 5.0))
        core.wait(0.1)
    assert kept == 21


def test_the_last_progress_is_kept_however_soon(core: Core) -> None:
    task_id = core.create()
    core.progress(task_id, 99.0)
    assert core.progress(task_id, 100.0) == [Progressed(progress=100.0, message="working")]


def test_a_flood_of_last_progress_is_thinned_like_any_other(core: Core) -> None:
    task_id = core.create()
    kept = sum(len(core.progress(task_id, 100.0)) for _ in range(10))
    assert kept == 1


def test_the_first_progress_of_the_next_attempt_is_kept(core: Core) -> None:
    task_id = core.create(max_retries=1, retry_delay=0.0)
    core.progress(task_id, 10.0)
    core.end(task_id, "failed", error="connection refused")
    assert names(core.progress(task_id, 1.0, attempt=2)) == ["Progressed"]


def test_a_task_started_by_hand_before_its_time_goes_on_at_once_after_a_crash(core: Core) -> None:
    task_id = core.create(scheduled_for=core.now + timedelta(seconds=HOUR))
    core.start(task_id)
    assert names(core.end(task_id, "lost")) == ["Failed", "Retried", "Started"]


def test_a_task_started_by_hand_before_its_time_goes_on_at_once_after_a_restart(core: Core) -> None:
    task_id = core.create(scheduled_for=core.now + timedelta(seconds=HOUR))
    core.start(task_id)
    assert core.again().running() == [task_id]


def test_timers_of_attempts_that_are_over_do_not_pile_up(core: Core) -> None:
    for _ in range(500):
        core.end(core.create(timeout=HOUR))
    assert len(core.state.timers) < 100


def test_timers_of_tasks_that_were_cancelled_do_not_pile_up(core: Core) -> None:
    for _ in range(500):
        core.cancel(core.create(scheduled_for=core.now + timedelta(seconds=HOUR)))
    assert len(core.state.timers) < 100


def test_forgetting_old_timers_forgets_no_other(core: Core) -> None:
    late = core.create(scheduled_for=core.now + timedelta(seconds=HOUR))
    slow = core.create(timeout=HOUR / 2)
    for _ in range(500):
        core.cancel(core.create(scheduled_for=core.now + timedelta(seconds=HOUR)))
    core.wait(HOUR / 2)
    assert names(core.tell(Tick())) == ["Failed"]
    core.end(slow, "stopped")
    core.wait(HOUR / 2)
    core.tell(Tick())
    assert core.runs() == [(late, 1)]
