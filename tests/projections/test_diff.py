"""What became of the tasks between two points is what a list of then and one of now differ in."""

import pytest
from histories import Journal
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events import Task
from tasktrail.events.errors import InvalidValue, TasktrailError
from tasktrail.projections import TaskFilters
from tasktrail.projections.errors import BeyondTheLog
from tasktrail.projections.queries.as_of import fold_to
from tasktrail.projections.queries.diff import changes


def tasks_at(journal: Journal, position: int) -> dict[int, Task]:
    with fold_to(journal.log, position) as past:
        return {task.id: task for task in past.list(TaskFilters(limit=500))[0]}


@pytest.mark.parametrize(("begin", "end"), [(0, 900), (0, 0), (300, 301), (200, 700), (899, 900)])
def test_it_is_what_two_folds_differ_in(history: Journal, begin: int, end: int) -> None:
    begin, end = (min(place, len(history.records)) for place in (begin, end))
    then, now = tasks_at(history, begin), tasks_at(history, end)
    found = {change.task_id: change for change in changes(history.log, begin, end)}
    recorded = {record.task_id for record in history.records[begin:end] if record.task_id}
    assert recorded <= found.keys() <= now.keys()
    for task_id, change in found.items():
        assert (change.before.status if change.before else None) == (then[task_id].status if task_id in then else None)
        assert (change.after.status, change.after.priority) == (now[task_id].status, now[task_id].priority)
    for task_id in now.keys() - found.keys():
        assert (then[task_id].status, then[task_id].priority) == (now[task_id].status, now[task_id].priority)


def test_times_are_points_too(history: Journal) -> None:
    at = history.records[400].recorded_at
    place = max(record.position for record in history.records if record.recorded_at <= at)
    by_time = [(one.task_id, one.records) for one in changes(history.log, at)]
    assert by_time == [(one.task_id, one.records) for one in changes(history.log, place, len(history.records))]


def test_the_point_that_is_not_reached_yet_is_named(history: Journal) -> None:
    for begin, end, field in ((10**9, None, "from"), (0, 10**9, "to")):
        with pytest.raises(BeyondTheLog) as told:
            list(changes(history.log, begin, end))
        assert told.value.field == field


@given(begin=st.integers(-5, 2000), end=st.integers(-5, 2000))
def test_points_that_are_none_or_the_wrong_way_round_are_refused(begin: int, end: int) -> None:
    from tasktrail.events.log.memory import MemoryEventLog  # noqa: PLC0415 - an empty one, for each example

    try:
        assert list(changes(MemoryEventLog(), begin, end)) == []
        assert begin == end == 0
    except TasktrailError as error:
        assert isinstance(error, InvalidValue | BeyondTheLog)  # noqa: PT017 - either, by the numbers
