"""The wall clock is set: durations follow the time that really passed, the calendar follows the clock."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from core_harness import Core
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.actors.core.messages import Tick
from tasktrail.events import Created, Event, Failed, Started
from tasktrail.events.clock_jumps import JUMPS_KEPT, Jumps
from tasktrail.events.commands import AddSchedule, CreateTask
from tasktrail.events.reports import AttemptBeat
from tasktrail.events.system_events import ClockJumped

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = 3600.0
ATTEMPT_LIMITS = ("timeout", "heartbeat_timeout", "no_progress_timeout", "total_timeout")


def look(core: Core, seconds: float = 0.0) -> list[Event]:
    core.wait(seconds)
    return core.tell(Tick())


def created(events: list[Event]) -> list[Created]:
    return [event for event in events if isinstance(event, Created)]


def error(events: list[Event]) -> str:
    (failed, *_rest) = events
    assert isinstance(failed, Failed)
    return failed.error.partition(":")[0]


# --- what lasts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ATTEMPT_LIMITS)
@pytest.mark.parametrize("jump", [HOUR, 24 * HOUR, -HOUR])
def test_an_attempt_has_all_the_time_it_was_given_and_no_more(core: Core, limit: str, jump: float) -> None:
    limits: dict[str, Any] = {limit: 60.0}
    core.create(**limits)
    core.wait(20)
    assert [type(event) for event in core.set_clock(jump)] == [ClockJumped]
    assert look(core, 39.9) == []
    ended = look(core, 0.1) or look(core, 1)  # a silent attempt is looked at twice
    assert error(ended) == limit


def test_a_retry_is_not_forgotten_when_the_limit_that_came_before_it_moves_behind_it(core: Core) -> None:
    task_id = core.create(max_retries=1, retry_delay=100.0, total_timeout=60.0)
    core.end(task_id, "failed", error="timeout")
    core.set_clock(50.0)
    core.state._tidy_at = 0
    core.create(type="other", deadline=core.now + timedelta(hours=1))  # one more timer, and useless ones are dropped
    look(core, 49.9)
    assert core.running() == []
    look(core, 0.1)
    assert core.running() == [task_id]


def test_a_task_whose_time_had_come_waits_again_when_the_clock_is_set_back(core: Core) -> None:
    busy = core.create()
    later = core.create(scheduled_for=core.now + timedelta(seconds=60))
    assert look(core, 60) == []
    core.set_clock(-HOUR)
    core.end(busy)
    assert core.running() == []
    assert [type(event) for event in look(core, HOUR)] == [Started]
    assert core.running() == [later]


def test_signs_of_life_before_and_after_a_jump_count_as_ever(core: Core) -> None:
    task_id = core.create(heartbeat_timeout=20.0)
    core.wait(15)
    core.tell(AttemptBeat(task_id, 1))
    core.set_clock(HOUR)
    assert look(core, 19) == []
    core.tell(AttemptBeat(task_id, 1))
    core.set_clock(-2 * HOUR)
    assert look(core, 19) == []
    assert look(core, 1) == []
    assert error(look(core, 1)) == "heartbeat_timeout"


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_publishing_may_take_as_long_as_ever(core: Core, jump: float) -> None:
    task_id = core.create()
    core.want_to_publish(task_id)
    core.wait(20)
    core.set_clock(jump)
    assert look(core, 39) == []
    assert error(look(core, 1)) == "timeout"


@pytest.mark.parametrize("restart", [False, True])
def test_the_total_time_and_the_wait_in_the_queue_are_counted_over_a_jump_forward(core: Core, *, restart: bool) -> None:
    """Also by the next service, because the jump is in the log."""
    retried = core.create(total_timeout=100.0, max_retries=1, retry_delay=2 * HOUR)
    core.end(retried, "failed", error="connection refused")
    core.create(priority=10)
    waiting = core.create(queue_timeout=110.0)
    core.wait(20)
    core.set_clock(HOUR)
    core = core.again(slots=0) if restart else core
    assert look(core, 79) == []
    assert error(look(core, 1)) == "total_timeout"
    assert core.read(retried).status == "failed"
    assert look(core, 9) == []
    assert error(look(core, 1)) == "queue_timeout"
    assert core.read(waiting).status == "failed"


def test_a_clock_that_is_put_right_again_changes_nothing(core: Core) -> None:
    core.create(priority=10)
    core.create(queue_timeout=110.0)
    core.wait(20)
    core.set_clock(HOUR)
    core.wait(20)
    core.set_clock(-HOUR)
    assert look(core, 69) == []
    assert error(look(core, 1)) == "queue_timeout"


def test_time_in_the_queue_that_begins_while_the_clock_is_behind_is_not_cut_short(core: Core) -> None:
    """The log's time stands still until the clock has caught up; a wait that begins then is not shortened by it."""
    other = core.create()
    core.set_clock(-HOUR)
    core.wait(60)
    core.create(queue_timeout=600.0, depends_on=(other,))
    core.end(other)
    core = core.again(slots=0)
    core.set_clock(HOUR)
    assert look(core, 599) == []


def test_an_attempt_that_is_timed_by_nothing_needs_no_timer(core: Core) -> None:
    core.create()
    core.set_clock(HOUR)
    assert core.state.timers == []


# --- what is about the calendar ---------------------------------------------------------------------------------


def test_deadlines_times_and_delays_go_by_the_clock_and_are_looked_at_when_it_is_set(core: Core) -> None:
    failed = core.create(max_retries=1, retry_delay=HOUR)
    core.end(failed, "failed", error="connection refused")
    core.create(deadline=core.now + timedelta(seconds=HOUR), held=True)
    core.create(scheduled_for=core.now + timedelta(seconds=HOUR))
    core.send(AddSchedule(schedule="s", task=CreateTask(type="work"), every=HOUR))
    events = core.set_clock(HOUR)
    assert [type(event).__name__ for event in events] == ["ClockJumped", "Failed", "Created", "Started"]
    assert error(events[1:]) == "deadline"


def test_what_is_scheduled_waits_for_the_clock_when_that_is_set_back(core: Core) -> None:
    core.create(scheduled_for=core.now + timedelta(seconds=60))
    core.set_clock(-HOUR)
    assert look(core, HOUR + 59) == []
    assert [type(event) for event in look(core, 1)] == [Started]


# --- moments past jumps -----------------------------------------------------------------------------------------


def jumps(*seconds: tuple[float, float]) -> Jumps:
    """Make jumps at some seconds of true time after noon, by some seconds."""
    made, ahead = Jumps(), 0.0
    for at, by in seconds:
        shown = NOON + timedelta(seconds=at + ahead)
        ahead += by
        made.apply(ClockJumped(shown=shown, shows=shown + timedelta(seconds=by)))
    return made


def test_a_time_that_no_clock_ever_showed_is_taken_for_the_moment_of_the_jump() -> None:
    assert jumps((0, HOUR)).moved(NOON + timedelta(minutes=20)) == NOON + timedelta(hours=1)


def test_a_time_that_was_there_twice_is_taken_for_the_later() -> None:
    assert jumps((0, -HOUR)).moved(NOON - timedelta(minutes=20)) == NOON - timedelta(minutes=20)


@given(
    st.lists(st.tuples(st.integers(1, 10_000), st.integers(-5000, 5000).filter(bool)), max_size=5),
    st.integers(0, 50_000),
)
def test_no_moment_is_ever_moved_to_before_its_own(steps: list[tuple[int, int]], moment: int) -> None:
    """Whatever the clock showed at a true moment, the moved time is that moment by today's clock, or later."""
    at, made = 0, []
    for pause, by in steps:
        at += pause
        made.append((at, by))
    shown = moment + sum(by for when, by in made if when <= moment)
    true = moment + sum(by for _, by in made)
    assert jumps(*made).moved(NOON + timedelta(seconds=shown)) >= NOON + timedelta(seconds=true)


def test_only_so_many_jumps_are_remembered() -> None:
    made = jumps(*((10 * number, 1) for number in range(JUMPS_KEPT + 9)))
    assert len(made.kept) == JUMPS_KEPT
    assert made.kept[-1].shows > made.kept[0].shows


# --- a clock that was far ahead ---------------------------------------------------------------------------------

AHEAD = timedelta(days=400).total_seconds()


def set_right(core: Core, *, while_running: bool) -> Core:
    """Correct the clock of a service that runs 400 days ahead, or that of the next service."""
    if while_running:
        core.set_clock(-AHEAD)
        return core
    right = core.now - timedelta(seconds=AHEAD)
    return core.again(at=right)


@pytest.mark.parametrize("while_running", [True, False])
def test_schedules_run_at_the_right_times_again(core: Core, *, while_running: bool) -> None:
    core.send(AddSchedule(schedule="daily", task=CreateTask(type="work"), cron="0 15 * * *", actor="ops"))
    core.set_clock(AHEAD)
    assert len(created(look(core, 24 * HOUR))) == 1
    core = set_right(core, while_running=while_running)
    assert created(look(core)) == []
    assert [len(created(look(core, 24 * HOUR))) for _ in range(3)] == [1, 1, 1]
    assert [len(created(look(core.again(at=core.now), hours * HOUR))) for hours in (0, 24)] == [0, 1]


@pytest.mark.parametrize("while_running", [True, False])
def test_a_schedule_that_is_added_while_the_logs_time_stands_still_runs(core: Core, *, while_running: bool) -> None:
    core.set_clock(AHEAD)
    core = set_right(core, while_running=while_running)
    core.send(AddSchedule(schedule="often", task=CreateTask(type="work"), every=60.0, actor="ops"))
    assert [len(created(look(core, 30.0))) for _ in range(4)] == [0, 1, 0, 1]
    again = core.again(at=core.now)
    assert [len(created(look(again, 30.0))) for _ in range(2)] == [0, 1]


@pytest.mark.parametrize("while_running", [True, False])
def test_a_retry_does_not_wait_for_a_time_that_only_a_wrong_clock_was_near(core: Core, *, while_running: bool) -> None:
    core.set_clock(AHEAD)
    task_id = core.create(max_retries=2, retry_delay=60.0)
    core.end(task_id, "failed", error="timeout")
    core = set_right(core, while_running=while_running)
    assert core.running() == [task_id]
    core.end(task_id, "failed", error="timeout")
    assert core.running() == [], "this delay was set by the right clock"
    look(core, 125.0)
    assert core.running() == [task_id]


def test_a_start_records_once_that_the_clock_was_ahead(core: Core) -> None:
    core.set_clock(AHEAD)
    core.create()
    right = core.now - timedelta(seconds=AHEAD)
    for seconds in (0.0, 60.0, 3600.0):
        core = core.again(at=right + timedelta(seconds=seconds))
        core.set_clock(-2.0)
    jumps = [record.event for record in core.log.read() if isinstance(record.event, ClockJumped)]
    assert [jump.shows for jump in jumps if jump.shown - jump.shows > timedelta(hours=3)] == [right]
    core = core.again(at=right - timedelta(days=1))
    last = [record.event for record in core.log.read() if isinstance(record.event, ClockJumped)][-1]
    assert last.shows == right - timedelta(days=1), "it was ahead even then"


def test_a_clock_that_was_a_little_ahead_makes_no_run_twice(core: Core) -> None:
    core.send(AddSchedule(schedule="daily", task=CreateTask(type="work"), cron="0 13 * * *", actor="ops"))
    assert len(created(look(core, 13 * HOUR))) == 1
    core.set_clock(-HOUR)
    assert created(look(core, HOUR)) == []
