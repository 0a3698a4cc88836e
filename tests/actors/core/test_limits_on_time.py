"""Each limit on waiting and running ends in a failure that names it, and survives a restart."""

from datetime import timedelta
from math import nan
from typing import Any

import pytest
from core_harness import Core

from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import Boot, Tick
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.core.step import step
from tasktrail.events import Event, Failed, Started
from tasktrail.events.commands import CreateTask
from tasktrail.events.errors import InvalidValue
from tasktrail.events.reports import AttemptBeat, AttemptProgressed, Run
from tasktrail.events.system_events import ServiceStarted


def after(core: Core, seconds: float) -> list[Event]:
    """Let time pass and check the timers."""
    core.wait(seconds)
    return core.tell(Tick())


def looked_at_twice(core: Core, seconds: float) -> list[Event]:
    """Reach the limit and check again a second later, because reports may be read after the timer."""
    assert after(core, seconds) == []
    return after(core, 1)


def beat(core: Core, task_id: int, attempt: int = 1) -> list[Event]:
    return core.tell(AttemptBeat(task_id, attempt))


def failure(events: list[Event], name: str, error_type: str, *, outcome: str = "timed_out", final: bool = True) -> None:
    (failed, *_rest) = events
    assert isinstance(failed, Failed)
    assert failed.error.startswith(f"{name}: ")
    assert (failed.error_type, failed.outcome, failed.final) == (error_type, outcome, final)


def busy(core: Core) -> int:
    """Occupy the only slot."""
    return core.create(priority=10)


def test_an_attempt_that_is_too_long_says_so(core: Core) -> None:
    core.create(timeout=30.0)
    failure(after(core, 30), "timeout", "AttemptTimeout")


def test_waiting_too_long_in_the_queue_ends_a_task_without_an_attempt(core: Core) -> None:
    busy(core)
    task_id = core.create(queue_timeout=60.0)
    assert after(core, 59.9) == []
    events = after(core, 0.1)
    failure(events, "queue_timeout", "QueueTimeout", outcome="not_started")
    assert core.facts[0].actor == "scheduler"
    assert task_id not in core.state.queue


@pytest.mark.parametrize("restart", [False, True])
def test_time_held_or_behind_a_dependency_is_no_wait_in_the_queue(core: Core, *, restart: bool) -> None:
    one = busy(core)
    behind = core.create(queue_timeout=60.0, depends_on=(one,), held=True)
    assert after(core, 100) == []
    core.end(one)
    other = busy(core)
    assert after(core, 100) == []
    core.start(behind)
    if restart:
        core.create(priority=10)  # first in the queue, it has the slot of the next service
        core.end(other, "stopped")
        core = core.again()
    assert after(core, 59) == []
    failure(after(core, 1), "queue_timeout", "QueueTimeout", outcome="not_started")


def test_the_delay_before_a_retry_is_no_wait_in_the_queue_either(core: Core) -> None:
    task_id = core.create(queue_timeout=10.0, max_retries=1, retry_delay=60.0)
    core.end(task_id, "failed", error="connection refused")
    busy(core)
    assert after(core, 69) == []
    failure(after(core, 1), "queue_timeout", "QueueTimeout", outcome="not_started")


def test_a_deadline_binds_whatever_the_task_waits_for(core: Core) -> None:
    for fields in ({"held": True}, {"depends_on": (busy(core),)}, {"type": "unknown"}, {}):
        core.create(**({"deadline": core.now + timedelta(seconds=60)} | fields))
    events = after(core, 60)
    assert len(events) == 4
    for event in events:
        failure([event], "deadline", "DeadlinePassed", outcome="not_started")


def test_a_deadline_is_kept_by_starting_in_time(core: Core) -> None:
    task_id = core.create(deadline=core.now + timedelta(seconds=60), max_retries=1, retry_delay=100.0)
    core.end(task_id, "failed", error="connection refused")
    assert [type(event) for event in after(core, 100)] == [Started]


def test_a_retry_by_hand_is_free_of_the_deadline(core: Core) -> None:
    task_id = core.create(deadline=core.now + timedelta(seconds=60), max_retries=1, retry_delay=0.0, held=True)
    after(core, 60)
    core.retry(task_id)
    assert core.running() == [task_id]


def test_what_ran_out_while_nobody_looked_is_ended_before_it_could_start(core: Core) -> None:
    busy(core)
    task_id = core.create(deadline=core.now + timedelta(seconds=60), priority=10)
    behind = core.create(depends_on=(task_id,))
    again = core.again(after=61.0)
    assert [again.read(other).status for other in (task_id, behind)] == ["failed", "failed"]
    assert again.read(task_id).attempt == 0


@pytest.mark.parametrize("deadline", [0, -1])
def test_a_deadline_that_is_over_already_is_refused(core: Core, deadline: float) -> None:
    answer = core.ask(CreateTask(type="work", deadline=core.now + timedelta(seconds=deadline)))
    assert isinstance(answer, InvalidValue)
    assert answer.field == "deadline"


def test_a_deadline_before_the_scheduled_time_is_refused(core: Core) -> None:
    moments = {"deadline": core.now + timedelta(seconds=1), "scheduled_for": core.now + timedelta(seconds=2)}
    answer = core.ask(CreateTask(type="work", **moments))  # type: ignore[arg-type]  # two times
    assert isinstance(answer, InvalidValue)


def test_the_total_time_bounds_all_attempts_and_allows_no_retry(core: Core) -> None:
    task_id = core.create(total_timeout=100.0, max_retries=9, retry_delay=0.0)
    core.wait(50)
    core.end(task_id, "failed", error="connection refused")
    assert after(core, 49) == []
    failure(after(core, 1), "total_timeout", "TotalTimeout")
    assert core.stops() == [(task_id, 2)]


@pytest.mark.parametrize("restart", [False, True])
def test_the_total_time_ends_a_task_that_waits_for_its_retry(core: Core, *, restart: bool) -> None:
    task_id = core.create(total_timeout=100.0, max_retries=9, retry_delay=1000.0)
    core.end(task_id, "failed", error="connection refused")
    core = core.again() if restart else core
    assert after(core, 99) == []
    failure(after(core, 1), "total_timeout", "TotalTimeout", outcome="not_started")


def test_the_total_time_counts_from_the_first_start_and_anew_in_another_life(core: Core) -> None:
    one = busy(core)
    task_id = core.create(total_timeout=100.0, max_retries=1, retry_delay=0.0)
    assert after(core, 1000) == []
    core.end(one)
    failure(after(core, 100), "total_timeout", "TotalTimeout")
    core.end(task_id, "stopped")
    core.retry(task_id)
    assert after(core, 99) == []
    failure(after(core, 1), "total_timeout", "TotalTimeout")


def test_a_silent_worker_is_given_up_and_tried_again_by_the_rules(core: Core) -> None:
    task_id = core.create(heartbeat_timeout=20.0, max_retries=1, retry_delay=0.0)
    (run,) = [order for order in core.orders if isinstance(order, Run)]
    assert run.beat == 5.0
    for _ in range(10):
        assert after(core, 15) == []
        assert beat(core, task_id) == []
    assert after(core, 19.9) == []
    failure(looked_at_twice(core, 0.1), "heartbeat_timeout", "HeartbeatTimeout", final=False)
    assert core.stops() == [(task_id, 1)]


def test_a_worker_is_not_silent_while_nobody_listens(core: Core) -> None:
    """The service was stopped, or starved: heartbeats of that time are read after the timer went off."""
    task_id = core.create(heartbeat_timeout=20.0)
    assert after(core, 20 + 5) == [], "later than a beat: the Scheduler was away itself"
    beat(core, task_id)
    assert after(core, 19.9) == []
    failure(looked_at_twice(core, 0.1), "heartbeat_timeout", "HeartbeatTimeout")


@pytest.mark.parametrize("limit", ["heartbeat_timeout", "no_progress_timeout"])
@pytest.mark.parametrize("away", [31, 45, 46, 50, 60, 61, 70, 300])
def test_however_long_the_service_was_stopped_a_worker_that_goes_on_is_heard(
    core: Core, limit: str, away: float
) -> None:
    limits: dict[str, Any] = {limit: 60.0}
    task_id = core.create(**limits)
    core.wait(15)
    core.progress(task_id, 1.0)
    assert after(core, 14 + away) == []
    core.wait(0.1)
    core.progress(task_id, 2.0)
    assert after(core, 1) == []
    assert core.running() == [task_id]


def test_a_worker_that_stays_silent_after_nobody_listened_is_given_up(core: Core) -> None:
    core.create(heartbeat_timeout=20.0)
    assert after(core, 3600) == []
    assert after(core, 19.9) == []
    failure(looked_at_twice(core, 0.1), "heartbeat_timeout", "HeartbeatTimeout")


def test_anything_said_is_a_sign_of_life_and_a_beat_of_an_old_attempt_is_none(core: Core) -> None:
    task_id = core.create(heartbeat_timeout=20.0)
    core.wait(15)
    core.progress(task_id, 1.0)
    core.wait(15)
    core.checkpoint(task_id)
    core.wait(15)
    assert core.tell(AttemptProgressed(task_id, 1, nan)) == []  # refused, but a worker that reports a sign of life
    assert after(core, 15) == []
    beat(core, task_id, attempt=7)
    failure(looked_at_twice(core, 5), "heartbeat_timeout", "HeartbeatTimeout")


def test_beats_are_not_asked_for_where_nobody_watches(core: Core) -> None:
    core.create(timeout=9.0)
    assert [order.beat for order in core.orders if isinstance(order, Run)] == [0.0]


def test_an_attempt_that_beats_but_stands_still_is_given_up(core: Core) -> None:
    task_id = core.create(no_progress_timeout=60.0)
    core.progress(task_id, 10.0)
    for _ in range(5):
        core.wait(10)
        beat(core, task_id)
        assert core.progress(task_id, 10.0) != []
    assert after(core, 9.9) == []
    failure(looked_at_twice(core, 0.1), "no_progress_timeout", "NoProgressTimeout")


def test_an_attempt_does_not_stand_still_while_nobody_listens(core: Core) -> None:
    """The service was stopped, or starved: reports of that time are read after the timer went off."""
    task_id = core.create(no_progress_timeout=60.0)
    assert after(core, 60 + 15) == [], "later than a beat: the Scheduler was away itself"
    core.progress(task_id, 10.0)
    assert after(core, 59.9) == []
    failure(looked_at_twice(core, 0.1), "no_progress_timeout", "NoProgressTimeout")


def test_an_attempt_that_stands_still_after_nobody_listened_is_given_up(core: Core) -> None:
    core.create(no_progress_timeout=60.0)
    assert after(core, 3600) == []
    failure(looked_at_twice(core, 60), "no_progress_timeout", "NoProgressTimeout")


def test_another_percentage_or_a_checkpoint_is_progress_even_if_it_is_too_soon_to_be_recorded(core: Core) -> None:
    task_id = core.create(no_progress_timeout=60.0)
    core.wait(50)
    core.progress(task_id, 10.0)
    core.wait(0.1)
    assert core.progress(task_id, 11.0) == []
    core.wait(59)
    core.checkpoint(task_id)
    assert after(core, 59) == []
    failure(looked_at_twice(core, 1), "no_progress_timeout", "NoProgressTimeout")


def test_bytes_of_a_file_elsewhere_are_progress(core: Core) -> None:
    task_id = core.create(no_progress_timeout=60.0)
    for moved in (1, 2, 2):
        core.wait(50)
        core.tell(AttemptProgressed(task_id, 1, 0.0, "fetching", moved))
    assert after(core, 9) == []
    failure(looked_at_twice(core, 1), "no_progress_timeout", "NoProgressTimeout")


def test_a_publishing_attempt_is_bounded_by_publishing_alone(core: Core) -> None:
    task_id = core.create(heartbeat_timeout=5.0, no_progress_timeout=5.0, total_timeout=5.0)
    core.want_to_publish(task_id)
    assert after(core, 59) == []
    failure(after(core, 1), "timeout", "AttemptTimeout")


def test_those_behind_a_task_that_ran_out_of_time_end_too(core: Core) -> None:
    busy(core)
    task_id = core.create(queue_timeout=60.0)
    behind = core.create(depends_on=(task_id,))
    assert len(after(core, 60)) == 2
    assert core.read(behind).error == f"DependencyFailed: task {task_id} has failed"


def test_a_task_has_few_timers_however_often_it_is_looked_at(core: Core) -> None:
    busy(core)
    for _ in range(300):
        core.cancel(core.create(queue_timeout=60.0, deadline=core.now + timedelta(seconds=90), total_timeout=9.0))
    assert len(core.state.timers) < 200


def test_what_the_start_itself_ends_stays_in_memory_until_it_is_in_the_log(core: Core) -> None:
    """Otherwise the next command of the same commit would read it back from the log as still waiting."""
    task_id = core.create(deadline=core.now + timedelta(seconds=60), held=True)
    state = SchedulerState(Limits(), grace={"work": 0.5})
    for record in core.log.read():
        state.apply(record, record.position)
    staged = step(state, Boot(version="1", epoch=2, pid=1, host="here"), core.now + timedelta(seconds=61))
    assert [type(fact.event) for fact in staged.facts] == [ServiceStarted, Failed]
    assert state.tasks[task_id].status == "failed"


def test_publishing_elsewhere_may_take_as_long_as_a_server_needs(core: Core) -> None:
    task_id = core.create(output_file="s3://results/a")
    core.want_to_publish(task_id)

    assert after(core, 1799) == []
    failure(after(core, 1), "timeout", "AttemptTimeout")
