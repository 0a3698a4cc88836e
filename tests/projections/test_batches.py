"""The views' numbers of batches: given without a look at each task, for any reader and for any size."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from math import inf, nan

import pytest
from histories import BEGIN, Journal

from tasktrail.events.reports import AttemptEnded, AttemptProgressed
from tasktrail.events.task_events import ReadInput
from tasktrail.events.values import MAX_INTEGER
from tasktrail.projections import Batch, TaskFilters, TaskQueries, TaskViews
from tasktrail.projections.queries.batches import batch_of
from tasktrail.projections.views.damage import find_damage


@pytest.fixture
def views() -> Iterator[TaskViews]:
    with closing(TaskViews(":memory:")) as views:
        yield views


def looked_at(conn: sqlite3.Connection, queries: TaskQueries, name: str) -> tuple[Batch | None, int]:
    """Return a batch, and the number of steps of SQLite's virtual machine for it."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    conn.set_progress_handler(step, 1)
    found = queries.batch(name)
    conn.set_progress_handler(None, 0)
    return found, steps


def test_a_look_at_a_large_batch_costs_what_a_look_at_a_small_one_does(journal: Journal, views: TaskViews) -> None:
    for name, number in (("small", 3), ("large", 300)):
        for _ in range(number):
            journal.create(batch=name)
    views.apply(journal.records)
    queries = TaskQueries(views.connection)
    (small, few), (large, many) = (looked_at(views.connection, queries, name) for name in ("small", "large"))
    assert small is not None
    assert large is not None
    assert (small.total, large.total) == (3, 300)
    assert abs(few - many) < 20


def test_what_runs_counts_by_how_far_it_is(journal: Journal, views: TaskViews) -> None:
    first, second = (journal.create(batch="films", estimated_time=10.0) for _ in range(2))
    journal.create(batch="films", estimated_time=20.0)
    for task_id, percent in ((first, 40.0), (second, 60.0)):
        journal.start(task_id)
        journal.send(AttemptProgressed(task_id, 1, progress=percent))
    views.apply(journal.records)
    found = TaskQueries(views.connection).batch("films")
    assert found is not None
    assert (found.by_status, found.progress) == ({"pending": 1, "running": 2}, 25.0)


def test_each_user_has_a_share_of_a_batch_and_an_order_of_batches(journal: Journal, views: TaskViews) -> None:
    for name, user in (("old", 1), ("both", 1), ("both", 2), ("new", 2), ("old", 1)):
        journal.at += timedelta(seconds=1)
        journal.create(batch=name, user_id=user)
    views.apply(journal.records)
    queries = TaskQueries(views.connection)

    def told(user: int | None, most: int = 9) -> list[tuple[str, int, int]]:
        found = queries.batches(most, user)
        return [(one.batch, one.total, (one.created_at - BEGIN).seconds) for one in found]

    assert told(None) == [("old", 2, 1), ("new", 1, 4), ("both", 2, 2)]
    assert told(1) == [("old", 2, 1), ("both", 1, 2)]
    assert told(2) == [("new", 1, 4), ("both", 1, 3)]
    assert told(None, 2) == told(None)[:2]
    assert told(3) == []
    assert queries.batch("new", 1) is None


def test_a_batch_has_ended_when_the_last_task_has(journal: Journal, views: TaskViews) -> None:
    ended: list[Batch | None] = []
    tasks = [journal.create(batch="films") for _ in range(2)]
    queries = TaskQueries(views.connection)
    for task_id in tasks:
        journal.start(task_id)
        journal.at += timedelta(seconds=7)
        journal.send(AttemptEnded(task_id, 1, "completed"))
        views.apply(journal.records)
        ended.append(queries.batch("films"))
    assert [one and one.completed_at for one in ended] == [None, journal.at]


def test_a_batch_begins_with_its_first_task_and_ends_with_its_last_however_the_records_come(
    journal: Journal, views: TaskViews
) -> None:
    for _ in range(3):
        journal.at += timedelta(seconds=1)
        journal.create(batch="films")
    for task_id in (3, 1, 2):
        journal.start(task_id)
        journal.at += timedelta(seconds=10)
        journal.send(AttemptEnded(task_id, 1, "completed"))
    one_by_one = TaskViews(":memory:")
    for record in journal.records:
        one_by_one.apply([record])
    views.apply(journal.records)
    for each in (views, one_by_one):
        found = TaskQueries(each.connection).batch("films")
        assert found is not None
        assert (found.created_at, found.completed_at) == (BEGIN + timedelta(seconds=1), BEGIN + timedelta(seconds=33))
    one_by_one.close()


@pytest.mark.parametrize(
    ("done", "waits", "percent"),
    [(0.0, 0.95, 5.0), (1e9, 1e6, 50.0), (1e6, 0.0, 99.999), (10.0, 20.0, 33.333)],
)
def test_a_task_counts_for_a_bounded_time_and_100_percent_means_all(
    journal: Journal, views: TaskViews, done: float, waits: float, percent: float
) -> None:
    first = journal.create(batch="films", estimated_time=done)
    journal.create(batch="films", estimated_time=waits)
    journal.start(first)
    journal.send(AttemptEnded(first, 1, "completed"))
    views.apply(journal.records)
    found = TaskQueries(views.connection).batch("films")
    assert found is not None
    assert found.progress == percent


def test_the_size_after_is_that_of_the_output_or_of_an_input_that_was_kept(journal: Journal, views: TaskViews) -> None:
    for result in ({"size": 30}, {"size": 70, "original": {"kept": "it is smaller"}}):
        task_id = journal.create(batch="films")
        journal.start(task_id)
        read = ReadInput(size=100, modified=0)
        journal.send(AttemptEnded(task_id, 1, "completed", result=result, input_read=read))
    views.apply(journal.records)
    found = TaskQueries(views.connection).batch("films")
    assert found is not None
    assert (found.bytes_before, found.bytes_after, found.originals_kept) == (200, 130, 1)


def test_numbers_beyond_64_bits_are_added_and_what_is_no_size_is_none(journal: Journal, views: TaskViews) -> None:
    for size in (MAX_INTEGER, MAX_INTEGER, 1e300, -5, nan, inf, "7"):
        task_id = journal.create(batch="huge", estimated_time=1e300)
        journal.start(task_id)
        journal.send(AttemptEnded(task_id, 1, "completed", result={"size": size}))
    views.apply(journal.records)
    queries = TaskQueries(views.connection)
    found = queries.batch("huge")
    assert found is not None
    assert (found.progress, found.bytes_after) == (100.0, 2 * MAX_INTEGER)
    assert batch_of("huge", queries.list(TaskFilters(batch="huge"), BEGIN)[0]) == found


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM batches", "the number of tasks in batches"),
        ("UPDATE batches SET numbers = 'x'", "cannot be read"),
        ("UPDATE batches SET checksum = checksum + 1", "a row of batches has changed"),
    ],
)
def test_numbers_that_are_wrong_are_damage(journal: Journal, views: TaskViews, statement: str, told: str) -> None:
    journal.create(batch="films")
    journal.create()
    views.apply(journal.records)
    assert find_damage(views.connection) == ""
    views.connection.execute(statement)
    assert told in find_damage(views.connection)
