"""Recurring schedules: at the right wall-clock times, once each, also over restarts and when runs were missed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from core_harness import Core
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tasktrail.actors.core.messages import Tick
from tasktrail.actors.core.schedules import latest, next_after, times_after
from tasktrail.events import Accepted, Created, CreateTask, TasktrailError
from tasktrail.events.commands import AddSchedule, PauseQueue, RemoveSchedule
from tasktrail.events.errors import InvalidValue, NothingToChange, ScheduleExists, UnknownSchedule, UnusableOrder
from tasktrail.events.system_events import ScheduleAdded
from tasktrail.events.task_events import Estimated

MakeCore = Callable[..., Core]
TASK = CreateTask(type="work", priority=3, output_file="/out/{fire_time}.txt")


def add(core: Core, **fields: Any) -> Any:
    command = AddSchedule(**{"schedule": "nightly", "task": TASK, "actor": "ops"} | fields)  # type: ignore[arg-type]  # the caller's fields
    return core.ask(command, estimate=Estimated(memory=7), can_resume=True)


def spec(cron: str = "", *, zone: str = "UTC", every: float | None = None, start: str = "2026-01-01") -> ScheduleAdded:
    begin = datetime.fromisoformat(start).replace(tzinfo=UTC)
    return ScheduleAdded(
        schedule="s", task=Created(type="work"), cron=cron, every=every, timezone=zone, starting_at=begin
    )


def ticks(core: Core, until: datetime) -> list[Created]:
    """Ring the alarm whenever it is due; return the tasks that result."""
    made: list[Created] = []
    while (wake := core.state.next_wake()) is not None and wake <= until:
        core.now = max(core.now, wake)
        made += [event for event in core.tell(Tick()) if isinstance(event, Created)]
    core.now = max(core.now, until)
    return made


def restarted(core: Core) -> Core:
    """Return the next service, at the same time of the day."""
    again = core.again()
    again.now = core.now
    return again


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "unusable",
    [
        spec("0 9 * * *", zone="Europe/Newtown"),
        spec("0 9 * * *", zone="../../etc/passwd"),
        spec("0 61 * * *"),
        spec(),
        *(spec(every=seconds) for seconds in (0.0, -5.0, 1e-9, 1e-6, 1e300)),
        replace(spec("0 9 * * *"), starting_at=datetime.max.replace(tzinfo=UTC)),
        replace(spec("0 9 * * *"), starting_at=datetime.min.replace(tzinfo=UTC)),
    ],
)
def test_a_recorded_schedule_that_cannot_run_here_is_told_with_its_position(
    core: Core, unusable: ScheduleAdded
) -> None:
    """Another machine may know more zones, a newer version more expressions; or somebody may have altered it."""
    position = core.alter(unusable)
    with pytest.raises(UnusableOrder, match=rf"Position {position}: the schedule s cannot run here: .*tzdata.*restore"):
        core.again().state.next_wake()


def test_a_schedule_whose_runs_would_all_write_one_file_is_refused(core: Core) -> None:
    fixed = replace(TASK, output_file="/out/same.txt")
    refused = add(core, task=fixed, every=60.0)
    assert isinstance(refused, InvalidValue)
    assert refused.field == "task.output_file"
    assert "{fire_time}" in refused.advice
    assert not core.state.durable.schedules.by_name
    for wanted in (replace(fixed, overwrite=True), replace(fixed, output_file="")):
        assert isinstance(add(core, schedule=f"s{wanted.overwrite}", task=wanted, every=60.0), Accepted)


# --- when -----------------------------------------------------------------------------------------------------------


def test_a_daily_run_keeps_its_wall_clock_time_over_both_changes_of_the_clock() -> None:
    daily = spec("30 7 * * *", zone="Europe/Berlin")
    march = list(islice(times_after(daily, at("2026-03-28T00:00")), 3))
    assert march == [at("2026-03-28T06:30"), at("2026-03-29T05:30"), at("2026-03-30T05:30")]
    october = list(islice(times_after(daily, at("2026-10-24T00:00")), 3))
    assert october == [at("2026-10-24T05:30"), at("2026-10-25T06:30"), at("2026-10-26T06:30")]


def test_a_run_in_the_hour_that_is_left_out_comes_right_after_it() -> None:
    daily = spec("30 2 * * *", zone="Europe/Berlin")
    assert next_after(daily, at("2026-03-28T12:00")) == at("2026-03-29T01:00")
    assert next_after(daily, at("2026-03-29T01:00")) == at("2026-03-30T00:30")


@pytest.mark.parametrize("after", ["2026-10-25T00:00", "2026-10-25T00:29:59"])
def test_a_run_in_the_hour_that_is_there_twice_comes_once(after: str) -> None:
    daily = spec("30 2 * * *", zone="Europe/Berlin")
    assert next_after(daily, at(after)) == at("2026-10-25T00:30")
    for later in ("2026-10-25T00:30", "2026-10-25T00:45", "2026-10-25T01:15", "2026-10-25T01:30"):
        assert next_after(daily, at(later)) == at("2026-10-26T01:30")


def test_every_quarter_of_an_hour_goes_by_elapsed_time_through_both_changes() -> None:
    quarters = spec("*/15 * * * *", zone="Europe/Berlin")
    for day in ("2026-03-29T00:00", "2026-10-25T00:00"):
        times = list(islice(times_after(quarters, at(day)), 16))
        assert times == [at(day) + timedelta(minutes=15 * number) for number in range(1, 17)]


def test_an_interval_counts_from_its_start_without_drift() -> None:
    hourly = spec(every=3600.5)
    times = list(islice(times_after(hourly, at("2026-01-01T00:00")), 3))
    assert times == [at("2026-01-01T00:00") + timedelta(seconds=3600.5 * number) for number in (1, 2, 3)]
    assert next_after(hourly, at("2025-01-01T00:00")) == at("2026-01-01T00:00")


ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu")
CRONS = ("0 * * * *", "30 2 * * *", "*/7 * * * *", "15 1,2,3 * * *", "0 12 1 * *", "0 0 * * MON", "10 */5 * * *")


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(CRONS),
    st.sampled_from(ZONES),
    st.integers(0, 365 * 24 * 4),
    st.integers(0, 40 * 24 * 4),
    st.integers(1, 12),
)
def test_the_last_missed_runs_are_those_that_a_walk_would_find(
    cron: str, zone: str, begin: int, length: int, count: int
) -> None:
    one = spec(cron, zone=zone, start="2025-01-01")
    after = at("2026-01-01T00:00") + timedelta(minutes=15 * begin)
    until = after + timedelta(minutes=15 * length)
    walked = []
    for moment in times_after(one, after):
        if moment > until:
            break
        walked.append(moment)
    assert latest(one, after, until, count) == walked[-count:]
    assert walked == sorted(set(walked))
    wanted = {moment.astimezone(ZoneInfo(zone)).minute for moment in walked if cron == "0 * * * *"}
    assert wanted <= {0}


def test_years_of_missed_minutes_are_not_walked_through() -> None:
    one = spec("* * * * *", start="1990-01-01")
    until = at("2026-01-01T00:00")
    assert latest(one, at("1990-01-01T00:00"), until, 2) == [until - timedelta(minutes=1), until]


# --- adding and removing --------------------------------------------------------------------------------------------


def test_a_schedule_is_recorded_with_the_whole_task_and_its_estimates(core: Core) -> None:
    add(core, cron="0 3 * * *", timezone="Europe/Berlin")
    (fact,) = core.facts
    event = fact.event
    assert isinstance(event, ScheduleAdded)
    assert (fact.task_id, fact.actor) == (0, "ops")
    assert (event.task.priority, event.task.estimated_memory, event.task.resumable) == (3, 7, True)
    assert event.starting_at == core.now


def test_whoever_gives_no_time_or_no_zone_is_told_what_one_looks_like(core: Core) -> None:
    for fields, said in (({}, "--every"), ({"cron": "0 3 * * *", "timezone": "CEST"}, "Europe/Berlin")):
        answer = add(core, **fields)
        assert isinstance(answer, InvalidValue)
        assert said in answer.advice


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "cron"),
        ({"cron": "* * * * *", "every": 60.0}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "not a cron"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "L-3 * * * *"}, "cron"),
        ({"cron": "*/0 * * * *"}, "cron"),
        ({"cron": "0 0 * * LL"}, "cron"),
        ({"cron": "0 3 * * *", "timezone": "Mars/Olympus"}, "timezone"),
        ({"cron": "0 3 * * *", "timezone": "../../etc/passwd"}, "timezone"),
        ({"cron": "0 3 * * *", "task": CreateTask(type="work", depends_on=(1,))}, "task.depends_on"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused(core: Core, fields: dict[str, Any], field: str) -> None:
    answer = add(core, **fields)
    assert isinstance(answer, InvalidValue)
    assert answer.field == field
    assert core.facts == []


def test_a_name_is_taken_until_it_is_removed(core: Core) -> None:
    add(core, every=60.0)
    assert isinstance(add(core, every=60.0), ScheduleExists)
    core.send(RemoveSchedule(schedule="nightly"))
    assert isinstance(core.ask(RemoveSchedule(schedule="nightly")), UnknownSchedule)
    assert core.state.next_wake() is None
    assert not isinstance(add(core, every=60.0), TasktrailError)


# --- runs -----------------------------------------------------------------------------------------------------------


def test_each_run_creates_a_task_that_names_the_schedule_and_its_time(core: Core) -> None:
    add(core, cron="0 3 * * *")
    made = ticks(core, core.now + timedelta(days=2))
    assert [(one.schedule, one.fire_time) for one in made] == [
        ("nightly", at("2026-01-01T03:00")),
        ("nightly", at("2026-01-02T03:00")),
    ]
    assert made[0].output_file == "/out/20260101T030000Z.txt"
    record = next(record for record in core.log.read() if isinstance(record.event, Created))
    assert (record.actor, record.command_id) == ("schedule:nightly", "schedule:nightly:20260101T030000Z")
    assert record.causation_id == f"event:{core.state.durable.schedules.by_name['nightly'].position}"
    assert core.running() == [1]


def test_no_run_is_made_twice_or_left_out_over_restarts(core: Core) -> None:
    add(core, every=60.0, missed="all", max_missed=100)
    begin = core.now
    made: list[Created] = []
    for _ in range(10):
        made += ticks(core, core.now + timedelta(seconds=90))
        core = restarted(core)
    made += ticks(core, core.now)
    assert [one.fire_time for one in made] == [begin + timedelta(seconds=60 * number) for number in range(1, 16)]


def test_a_clock_that_is_set_back_makes_no_run_twice(core: Core) -> None:
    add(core, every=60.0)
    assert len(ticks(core, core.now + timedelta(seconds=61))) == 1
    core.now -= timedelta(hours=1)
    assert [event for event in core.tell(Tick()) if isinstance(event, Created)] == []
    core = restarted(core)
    assert ticks(core, core.now) == []


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("skip", []), ("once", [10]), ("all", [8, 9, 10])],
)
def test_missed_runs_are_made_up_for_as_the_policy_says(core: Core, policy: str, expected: list[int]) -> None:
    add(core, cron="0 * * * *", missed=policy, max_missed=3)
    core.now = at("2026-01-01T10:30")
    core = restarted(core)
    made = ticks(core, core.now)
    assert [one.fire_time.hour for one in made if one.fire_time] == expected
    core = restarted(core)
    assert ticks(core, core.now) == [], "they are not made up for again"
    (following,) = ticks(core, at("2026-01-01T11:59"))
    assert following.fire_time == at("2026-01-01T11:00")


def test_a_run_that_is_only_a_little_late_is_not_skipped(core: Core) -> None:
    add(core, cron="0 * * * *", missed="skip")
    core.now = at("2026-01-01T01:00:30")
    assert len([event for event in core.tell(Tick()) if isinstance(event, Created)]) == 1


def test_nothing_is_created_while_the_service_stops(core: Core) -> None:
    add(core, every=60.0)
    core.state.draining = True
    core.wait(61)
    assert core.tell(Tick()) == []


def test_a_paused_queue_still_gets_its_runs(core: Core) -> None:
    add(core, every=60.0)
    core.send(PauseQueue())
    assert len(ticks(core, core.now + timedelta(seconds=61))) == 1
    assert core.running() == []


def test_a_schedule_is_changed_only_on_purpose_and_goes_on_where_it_was(core: Core) -> None:
    core.now = at("2026-03-01 00:00")
    add(core, every=3600.0, starting_at=at("2026-03-01 00:30"))
    assert [event.fire_time for event in ticks(core, at("2026-03-01 02:40"))] == [
        at("2026-03-01 00:30"),
        at("2026-03-01 01:30"),
        at("2026-03-01 02:30"),
    ]
    assert isinstance(add(core, every=3600.0), ScheduleExists)

    changed = add(core, every=3600.0, task=replace(TASK, priority=9), replace=True)

    assert isinstance(changed, Accepted)
    (made,) = ticks(restarted(core), at("2026-03-01 03:35"))
    assert (made.fire_time, made.priority) == (at("2026-03-01 03:30"), 9)
    assert core.state.durable.schedules.by_name["nightly"].runs == 3


def test_a_run_that_was_missed_is_made_up_for_although_the_schedule_was_changed(core: Core) -> None:
    core.now = at("2026-03-01 12:00")
    add(core, cron="0 3 * * *")
    core.now = at("2026-03-02 03:01")
    add(core, cron="0 3 * * *", task=replace(TASK, priority=9), replace=True)
    assert [event.fire_time for event in ticks(core, at("2026-03-02 03:02"))] == [at("2026-03-02 03:00")]


def test_a_schedule_with_other_times_makes_up_for_nothing(core: Core) -> None:
    core.now = at("2026-03-01 12:00")
    add(core, cron="0 3 * * *")
    core.now = at("2026-03-02 12:00")
    add(core, cron="0 5 * * *", replace=True)
    assert ticks(core, at("2026-03-02 12:01")) == []
    assert [event.fire_time for event in ticks(core, at("2026-03-03 06:00"))] == [at("2026-03-03 05:00")]


def test_a_change_that_changes_nothing_is_refused_also_after_a_restart(core: Core) -> None:
    add(core, cron="0 3 * * *", replace=True)
    core.now += timedelta(hours=1)
    assert isinstance(again := add(core, cron="0 3 * * *", replace=True), NothingToChange)
    assert "`tasktrail schedule list`" in again.advice
    core = restarted(core)
    assert isinstance(add(core, cron="0 3 * * *", replace=True), NothingToChange)
    assert isinstance(add(core, cron="0 3 * * *", missed="skip", replace=True), Accepted)
