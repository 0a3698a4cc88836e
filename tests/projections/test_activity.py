"""The numbers of each minute: how much began and ended, and how long it had waited."""

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from histories import Journal

from tasktrail.events.reports import AttemptEnded
from tasktrail.projections import TaskQueries, TaskViews
from tasktrail.projections.queries.activity import Span


def activity_of(journal: Journal, minutes: int, step: int, now: datetime | None = None) -> list[Span]:
    views = TaskViews(":memory:")
    views.apply(journal.records)
    return TaskQueries(views.connection).activity(now or journal.at, minutes, step)


def run(journal: Journal, waits: float) -> None:
    task_id = journal.create()
    journal.at += timedelta(seconds=waits)
    journal.start(task_id)
    journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="completed"))


def test_an_hour_is_told_minute_by_minute_and_ends_with_the_one_that_goes_on(journal: Journal) -> None:
    run(journal, waits=0)
    journal.at += timedelta(minutes=2)
    run(journal, waits=0)
    run(journal, waits=0)
    spans = activity_of(journal, 60, 1)
    assert len(spans) == 60
    assert [(one.created, one.started, one.completed) for one in spans[-3:]] == [(1, 1, 1), (0, 0, 0), (2, 2, 2)]
    assert spans[-1].begin <= journal.at < spans[-1].begin + timedelta(minutes=1)
    assert all(later.begin - one.begin == timedelta(minutes=1) for one, later in pairwise(spans))


def test_longer_spans_hold_all_of_their_minutes(journal: Journal) -> None:
    for _ in range(40):
        run(journal, waits=0)
        journal.at += timedelta(minutes=1)
    spans = activity_of(journal, 1440, 30)
    assert len(spans) == 48
    assert sum(one.completed for one in spans) == 40
    assert max(one.completed for one in spans) == 30


def test_a_wait_is_what_an_attempt_had_stood_in_the_queue_to_ten_percent(journal: Journal) -> None:
    journal.at = journal.at.replace(second=0)
    for seconds in range(1, 11):
        run(journal, waits=seconds / 10)
    (span,) = [one for one in activity_of(journal, 60, 60) if one.started]
    assert span.wait_p50 == pytest.approx(0.5, rel=0.1)
    assert span.wait_p95 == pytest.approx(1.0, rel=0.1)
    assert span.longest_wait == 1.0


def test_where_nothing_started_no_wait_is_told(journal: Journal) -> None:
    journal.create()
    (span,) = activity_of(journal, 60, 60)
    assert (span.created, span.started, span.wait_p50, span.wait_p95, span.longest_wait) == (1, 0, None, None, None)


def test_minutes_older_than_a_day_are_not_told(journal: Journal) -> None:
    for hours in (0, 20, 30):
        journal.at += timedelta(hours=hours)
        run(journal, waits=0)
    assert sum(one.created for one in activity_of(journal, 1440, 30)) == 1


def test_batches_give_what_one_fold_gives(history: Journal) -> None:
    whole = activity_of(history, 1440, 30)
    views = TaskViews(":memory:")
    for start in range(0, len(history.records), 7):
        views.apply(history.records[start : start + 7])
    assert TaskQueries(views.connection).activity(history.at, 1440, 30) == whole
    assert sum(one.started for one in whole) > 0
