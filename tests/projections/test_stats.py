"""The kept numbers equal those of a count."""

from collections import Counter
from datetime import timedelta

import pytest
from histories import Journal
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events.reports import AttemptEnded
from tasktrail.events.task_events import Completed, is_terminal
from tasktrail.projections import TaskQueries, TaskViews
from tasktrail.projections.queries.filters import STATUSES
from tasktrail.projections.queries.past import Past
from tasktrail.projections.queries.stats import Stats
from tasktrail.projections.views.fold import bucket, upper_bound


def stats_of(journal: Journal, later: timedelta = timedelta(minutes=1)) -> Stats:
    views = TaskViews(":memory:")
    for record in journal.records:
        views.apply([record])
    stats = TaskQueries(views.connection).stats(journal.at + later)
    views.close()
    return stats


def test_numbers_equal_what_counting_gives(history: Journal) -> None:
    stats = stats_of(history)
    states = history.states.values()
    by_status: Counter[str] = Counter(state.status for state in states)
    assert stats.position == len(history.records)
    assert stats.total == len(states)
    assert stats.counts == {status: by_status[status] for status in STATUSES}
    assert stats.retries == sum(state.retry_count for state in states)
    assert stats.attempts == sum(state.attempt for state in states)
    for kind, of_type in stats.by_type.items():
        own = [state for state in states if state.spec.type == kind]
        assert of_type.counts == {status: sum(state.status == status for state in own) for status in STATUSES}
        assert of_type.attempts == sum(state.attempt for state in own)


def test_all_six_states_are_there_from_the_start(journal: Journal) -> None:
    assert stats_of(journal).counts == dict.fromkeys(STATUSES, 0)


def test_ends_of_the_last_day_are_counted_life_by_life(history: Journal) -> None:
    ends = Counter(
        "completed" if isinstance(record.event, Completed) else type(record.event).__name__.lower()
        for record in history.records
        if is_terminal(record.event)
    )
    day = stats_of(history).last_day
    assert {"completed": day.completed, "failed": day.failed, "cancelled": day.cancelled} == dict(ends)
    assert day.per_minute == sum(ends.values()) / 1440


def test_ends_older_than_a_day_are_not_those_of_the_last_day(journal: Journal) -> None:
    for hours in (0, 20, 30):
        journal.at += timedelta(hours=hours)
        task_id = journal.create()
        journal.start(task_id)
        journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="completed"))
    stats = stats_of(journal)
    assert (stats.last_minute.completed, stats.last_hour.completed, stats.last_day.completed) == (1, 1, 1)
    assert stats.counts["completed"] == 3


def test_what_has_just_ended_is_of_the_last_hour_and_day(journal: Journal) -> None:
    task_id = journal.create(user_id=7)
    journal.start(task_id)
    journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="completed"))
    views = TaskViews(":memory:")
    views.apply(journal.records)
    queries = TaskQueries(views.connection)
    past = Past(queries, journal.log, len(journal.records))
    for stats in (queries.stats(journal.at), queries.stats_of(7, journal.at), past.stats(), past.stats_of(7)):
        assert (stats.last_minute.completed, stats.last_hour.completed, stats.last_day.completed) == (0, 1, 1)
    views.close()


def test_durations_are_those_of_completed_attempts_to_ten_percent(journal: Journal) -> None:
    for seconds in range(1, 101):
        task_id = journal.create("video_convert")
        journal.start(task_id)
        journal.at += timedelta(seconds=seconds)
        journal.send(
            AttemptEnded(task_id=task_id, attempt=1, outcome="completed" if seconds % 2 else "failed", error="x")
        )
    durations = stats_of(journal).by_type["video_convert"].durations
    assert durations is not None
    assert durations.number == 50
    assert 50 <= durations.mean <= 55
    for figure, exact in ((durations.p50, 49), (durations.p95, 95), (durations.p99, 99), (durations.longest, 99)):
        assert exact <= figure <= exact * 1.1


def test_a_type_that_never_completed_has_no_durations(journal: Journal) -> None:
    journal.create()
    assert stats_of(journal).by_type["image_thumbnail"].durations is None


@given(st.floats(0.001, 1e8))
def test_a_class_of_durations_is_ten_percent_wide(seconds: float) -> None:
    assert seconds <= upper_bound(bucket(seconds)) * (1 + 1e-9)
    assert upper_bound(bucket(seconds)) <= max(0.001, seconds * 1.1) * (1 + 1e-9)


@pytest.mark.parametrize("seconds", [0.0, -5.0, 0.0001])
def test_nothing_is_shorter_than_the_first_class(seconds: float) -> None:
    assert bucket(seconds) == 0
