"""The changes of tasks between two points equal the differences between the two lists."""

import pytest
from histories import Journal
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events import Created, Task
from tasktrail.events.errors import InvalidValue, TasktrailError
from tasktrail.projections import TaskFilters
from tasktrail.projections.errors import BeyondTheLog
from tasktrail.projections.queries.as_of import fold_to, task_as_of
from tasktrail.projections.queries.diff import changes, changes_page


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


def everybodys(_task_id: int, _created: Created | None) -> bool:
    return True


@pytest.mark.parametrize("begin", [0, 200, 420])
def test_each_side_is_the_task_as_of_that_point(history: Journal, begin: int) -> None:
    last = len(history.records)
    for change in changes(history.log, begin, last):
        assert change.after == task_as_of(history.log, change.task_id, last)
        if change.before is not None:
            assert change.before == task_as_of(history.log, change.task_id, begin)
    at = history.records[begin].recorded_at
    for change in changes(history.log, at.isoformat()):
        if change.before is not None:
            assert change.before == task_as_of(history.log, change.task_id, at)


def test_pages_put_together_are_all_of_it(history: Journal) -> None:
    whole = list(changes(history.log, 100, 400))
    pages = [changes_page(history.log, 100, 400, 7, offset, everybodys) for offset in range(0, len(whole) + 7, 7)]
    assert [change for page in pages for change in page.changes] == whole
    assert {(page.total, page.from_position, page.to_position) for page in pages} == {(len(whole), 100, 400)}
    assert pages[-1].changes == []


def test_of_one_user_there_are_the_own_tasks_alone(history: Journal) -> None:
    owners = {record.task_id: record.event.user_id for record in history.records if isinstance(record.event, Created)}
    user = max(owners.values())
    assert len(set(owners.values())) > 1
    asked: list[int] = []

    def own(task_id: int, created: Created | None) -> bool:
        asked.append(task_id)
        assert created is None or created.user_id == owners[task_id]
        return owners[task_id] == user

    found = changes_page(history.log, 400, None, 500, 0, own)
    assert [one.task_id for one in found.changes] == [
        one.task_id for one in changes(history.log, 400) if owners[one.task_id] == user
    ]
    assert found.total == len(found.changes) > 0
    assert len(asked) == len(set(asked)), "who owns a task is asked once"


@pytest.mark.parametrize(("limit", "offset", "field"), [(0, 0, "limit"), (501, 0, "limit"), (5, -1, "offset")])
def test_a_page_has_bounds(history: Journal, limit: int, offset: int, field: str) -> None:
    with pytest.raises(InvalidValue) as told:
        changes_page(history.log, 0, None, limit, offset, everybodys)
    assert told.value.field == field


def test_an_end_before_the_beginning_is_refused_with_what_to_do_about_it(history: Journal) -> None:
    with pytest.raises(InvalidValue, match="position 1, lies before the beginning, position 2") as told:
        list(changes(history.log, 2, 1))
    assert (told.value.field, told.value.advice) == ("to", "Name an earlier beginning, or a later end.")
