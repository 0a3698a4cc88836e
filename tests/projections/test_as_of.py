"""Questions about the past get the answers that the present gave then."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from histories import BEGIN, OPERATIONS, Journal
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events.errors import InvalidValue, UnknownTask
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections import BeyondTheLog, TaskFilters, TaskQueries, TaskViews
from tasktrail.projections.queries.as_of import fold_to, parse_point, task_as_of

steps = st.lists(
    st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 20), st.integers(0, 100)), min_size=1, max_size=40
)
EVERYTHING = TaskFilters(limit=500)


@pytest.mark.slow
@given(steps)
def test_every_position_answers_as_it_did_when_it_was_the_head(steps: list[tuple[str, int, int]]) -> None:
    journal, views = Journal(MemoryEventLog()), TaskViews(":memory:")
    live = TaskQueries(views.connection)
    answers = []
    for step in steps:
        journal.play(*step)
        views.apply(journal.records)
        at = journal.records[-1].recorded_at
        answers.append((views.position, live.list(EVERYTHING, at), live.stats(at)))
    for position, listed, stats in answers:
        with fold_to(journal.log, position) as past:
            assert past.position == position
            assert past.list(EVERYTHING) == listed
            assert past.stats() == stats
        for task in listed[0]:
            assert task_as_of(journal.log, task.id, position) == task
    views.close()


def test_a_time_means_all_that_was_recorded_until_then(history: Journal) -> None:
    record = history.records[150]
    same = max(other.position for other in history.records if other.recorded_at == record.recorded_at)
    with fold_to(history.log, record.recorded_at) as past:
        assert past.position == same
        assert past.moment == record.recorded_at
    with fold_to(history.log, record.recorded_at - timedelta(microseconds=1)) as before:
        assert before.position < record.position


def test_a_time_and_its_position_give_the_same_task(history: Journal) -> None:
    record = history.records[-1]
    for task_id in history.states:
        assert task_as_of(history.log, task_id, record.recorded_at) == task_as_of(history.log, task_id, record.position)


def test_one_task_of_the_past_is_the_same_alone_and_in_the_list(history: Journal) -> None:
    with fold_to(history.log, 200) as past:
        for task in past.list(EVERYTHING)[0]:
            assert past.get(task.id) == task_as_of(history.log, task.id, 200) == task
            assert past.progress(task.id) == (task.progress, task.message)


def test_filters_and_search_work_in_the_past(history: Journal) -> None:
    with fold_to(history.log, 300) as past:
        everything = past.list(EVERYTHING)[0]
        failed = past.list(TaskFilters(status="failed", limit=500))[0]
        assert failed == [task for task in everything if task.status == "failed"]
        assert past.list(TaskFilters(search="clip"))[1] == len(everything)


def test_before_everything_there_is_nothing(history: Journal) -> None:
    for point in (0, BEGIN - timedelta(days=1), "0001-01-01T00:00:00Z"):
        with fold_to(history.log, point) as past:
            assert past.position == 0
            assert past.list(EVERYTHING) == ([], 0)
            assert past.stats().total == 0
        with pytest.raises(UnknownTask):
            task_as_of(history.log, 1, point)


def test_a_time_to_come_is_now(history: Journal) -> None:
    with fold_to(history.log, history.at + timedelta(days=1)) as past:
        assert past.position == len(history.records)


def test_a_position_to_come_is_a_typed_error(history: Journal) -> None:
    for ask in (fold_to, lambda log, point: task_as_of(log, 1, point)):
        with pytest.raises(BeyondTheLog) as refusal:
            ask(history.log, len(history.records) + 1)
        assert refusal.value.field == "as_of"


def test_a_task_that_was_not_there_yet_is_a_typed_error(history: Journal) -> None:
    last = len(history.states)
    created = next(record.position for record in history.records if record.task_id == last)
    assert task_as_of(history.log, last, created).status == "pending"
    for task_id, point in ((last, created - 1), (last + 1, created), (0, created), (2**70, created)):
        with pytest.raises(UnknownTask):
            task_as_of(history.log, task_id, point)


def test_the_past_reads_a_log_on_disk_too(filed: Journal, tmp_path: Path) -> None:
    reader = SqliteLogReader(tmp_path / "log.db")
    with fold_to(reader, len(filed.records)) as past:
        assert {task.id: task.status for task in past.list(EVERYTHING)[0]} == {
            state.id: state.status for state in filed.states.values()
        }
    reader.close()


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("0", 0),
        (" 1234 ", 1234),
        (1234, 1234),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.5+01:00", datetime(2026, 1, 31, 11, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-31 12:00:00+00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (datetime(2026, 1, 31, 12, tzinfo=UTC), datetime(2026, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_a_point_is_a_position_or_a_time_with_its_zone(text: Any, point: int | datetime) -> None:
    assert parse_point(text) == point


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "-1",
        -1,
        "1.5",
        "9" * 30,
        2**63,
        True,
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-13-31T12:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
        "12:00",
        "²",
        "x" * 10_000,
        datetime(2026, 1, 31, 12),  # noqa: DTZ001 - that is what is refused
    ],
)
def test_any_other_point_is_refused_by_name(text: Any) -> None:
    with pytest.raises(InvalidValue) as refusal:
        parse_point(text)
    assert refusal.value.field == "as_of"
    assert len(refusal.value.message) < 200


@given(st.text(max_size=30) | st.datetimes().map(str))
def test_no_text_at_all_raises_anything_else(text: str) -> None:
    try:
        parse_point(text)
    except InvalidValue as error:
        field = error.field
    else:
        return
    assert field == "as_of"
