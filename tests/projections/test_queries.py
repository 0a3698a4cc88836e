"""Lists, totals and search, compared with the simplest code that gives the same answers."""

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from itertools import chain, pairwise
from typing import Any

import pytest
from histories import Journal, random_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tasktrail.events import TaskState
from tasktrail.events.errors import InvalidValue, UnknownTask
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.priority import queue_key
from tasktrail.events.reports import AttemptEnded
from tasktrail.events.task import view
from tasktrail.projections import TaskFilters, TaskQueries, TaskViews
from tasktrail.projections.queries import current_list
from tasktrail.projections.queries.current_list import CurrentList, Lead
from tasktrail.projections.queries.filters import SORTS, STATUSES, ids_of, values_of
from tasktrail.projections.queries.stats import read_counts

WORDS = [
    "clip",
    "mp4",
    "image_thumbnail",
    "clip_3",
    "会议",
    "录像 1",
    "connection refused",
    "codec",
    "VIDEO",
    "nowhere",
]
TYPES = ["image_thumbnail", "video_convert", "document_preview", "unknown"]


@pytest.fixture(scope="module")
def journal() -> Journal:
    journal = Journal(MemoryEventLog())
    random_history(journal, 700, seed=3)
    return journal


@pytest.fixture(scope="module")
def queries(journal: Journal) -> Iterator[TaskQueries]:
    views = TaskViews(":memory:")
    views.apply(journal.records)
    yield TaskQueries(views.connection)
    views.close()


def words_of(text: str) -> list[str]:
    """Return words as the text index sees them: runs of letters and digits, and each Chinese character by itself."""
    return re.findall("[\u4e00-\u9fff]|[a-z0-9]+", text.lower())


def found_by(state: TaskState, search: str) -> bool:
    """Return whether each part of the search stands in one field, as whole words except for the end of the last."""
    fields = [state.spec.type, state.spec.input_file, state.spec.output_file, state.error or state.last_error]
    for part in search.split():
        wanted = words_of(part)
        runs = [words[i : i + len(wanted)] for words in map(words_of, fields) for i in range(len(words))]
        if not any(
            run[:-1] == wanted[:-1] and run[-1].startswith(wanted[-1]) for run in runs if len(run) == len(wanted)
        ):
            return False
    return True


def passes(state: TaskState, filters: TaskFilters) -> bool:
    spec = state.spec
    tests: list[tuple[tuple[Any, ...], Any]] = [
        (values_of(filters.status), state.status),
        (values_of(filters.type), spec.type),
        (ids_of(filters.user_id), spec.user_id),
        (ids_of(filters.document_id), spec.document_id),
        (ids_of(filters.parent_task_id), spec.parent_task_id or 0),
        (values_of(filters.label), spec.label),
    ]
    return all(value in wanted for wanted, value in tests if wanted) and found_by(state, filters.search)


def sort_key(state: TaskState, field: str) -> tuple[Any, ...]:
    match field:
        case "created_at" | "id":
            return (state.id,)
        case "effective_priority":
            # Reversed: the greatest comes first in the queue; tasks that do not wait are least.
            return (not state.waiting, queue_key(state)[0] if state.waiting else 0, state.id)
        case _:
            return (getattr(state, field), state.id)


def oracle(journal: Journal, filters: TaskFilters) -> tuple[list[int], int]:
    found = [state for state in journal.states.values() if passes(state, filters)]
    field, down = filters.sort.removeprefix("-"), filters.sort.startswith("-")
    found.sort(key=lambda state: sort_key(state, field), reverse=down != (field == "effective_priority"))
    page = found[filters.offset : filters.offset + filters.limit]
    return [state.id for state in page], len(found)


few = st.lists(st.integers(0, 5), max_size=3).map(tuple)
wishes = st.builds(
    TaskFilters,
    status=st.lists(st.sampled_from(STATUSES), max_size=3).map(tuple),
    type=st.lists(st.sampled_from(TYPES), max_size=2).map(tuple),
    user_id=few,
    document_id=few,
    parent_task_id=st.just(()) | few,
    label=st.just(()) | st.lists(st.sampled_from(["night", "import-7", "none"]), max_size=2).map(tuple),
    search=st.just("")
    | st.just("")
    | st.sampled_from(WORDS)
    | st.lists(st.sampled_from(WORDS), max_size=2).map(" ".join),
    sort=st.builds(lambda sign, field: sign + field, st.sampled_from(["", "-"]), st.sampled_from(SORTS)),
    limit=st.integers(1, 20),
    offset=st.integers(0, 30),
)


@pytest.fixture(params=[(0, 40), (10**9, 40), (10**9, 0)], ids=["look up", "walk", "walk, words in rows"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use each way to an order, however many tasks there are."""
    to_sort, to_test = request.param
    for name in ("_TO_SORT", "_TO_SORT_OVER", "_TO_BEGIN"):
        monkeypatch.setattr(current_list, name, to_sort)
    monkeypatch.setattr(current_list, "_TO_TEST", to_test)


@pytest.mark.usefixtures("way")
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wishes)
def test_a_list_is_what_the_plainest_code_gives(journal: Journal, queries: TaskQueries, filters: TaskFilters) -> None:
    tasks, total = queries.list(filters, journal.at)
    assert ([task.id for task in tasks], total) == oracle(journal, filters)


@pytest.mark.parametrize("sort", [sign + field for field in SORTS for sign in ("", "-")])
@pytest.mark.parametrize(
    "filters",
    [
        TaskFilters(status="failed,pending", type="video_convert,image_thumbnail"),
        TaskFilters(status="failed,cancelled", type="video_convert"),
        TaskFilters(user_id=2),
        TaskFilters(user_id=(1, 3), status="completed", type="video_convert"),
        TaskFilters(label="night", status="pending,retrying"),
        TaskFilters(search="clip"),
        TaskFilters(search="clip", status="pending,retrying,running"),
        TaskFilters(search="clip jpg", status="completed", type="video_convert"),
        TaskFilters(search="clip", user_id=(1, 2), label="night"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("way")
def test_both_ways_to_find_a_page_give_the_same(
    journal: Journal, queries: TaskQueries, sort: str, filters: TaskFilters
) -> None:
    filters = replace(filters, sort=sort, limit=15)
    tasks, total = queries.list(filters, journal.at)
    assert ([task.id for task in tasks], total) == oracle(journal, filters)


def test_pages_join_without_gap_or_repetition(journal: Journal, queries: TaskQueries) -> None:
    for sort in ("-created_at", "priority", "-updated_at", "-effective_priority"):
        pages = [
            [task.id for task in queries.list(TaskFilters(sort=sort, limit=7, offset=offset), journal.at)[0]]
            for offset in range(0, len(journal.states), 7)
        ]
        assert sorted(chain.from_iterable(pages)) == sorted(journal.states)


def test_a_task_is_shown_as_its_state_is_viewed(journal: Journal, queries: TaskQueries) -> None:
    now = journal.at + timedelta(hours=1)
    for state in journal.states.values():
        assert queries.get(state.id, now) == view(state, now)
        assert queries.progress(state.id) == (state.progress, state.message)
    [task] = queries.list(TaskFilters(limit=1), now)[0]
    assert task == view(journal.states[len(journal.states)], now)


@pytest.mark.parametrize("task_id", [0, -1, 10**6, 2**63, -(2**70)])
def test_a_task_that_does_not_exist_is_a_typed_error(queries: TaskQueries, journal: Journal, task_id: int) -> None:
    for ask in (queries.progress, queries.state, lambda task_id: queries.get(task_id, journal.at)):
        with pytest.raises(UnknownTask):
            ask(task_id)


def test_the_queue_is_the_waiting_tasks_by_effective_priority(journal: Journal, queries: TaskQueries) -> None:
    filters = TaskFilters(status="pending,retrying", sort="-effective_priority", limit=500)
    now = journal.at + timedelta(days=1)
    priorities = [task.effective_priority for task in queries.list(filters, now)[0]]
    assert len(priorities) > 10
    assert all(first >= second - 0.001 for first, second in pairwise(priorities))


@pytest.mark.parametrize(
    "search",
    [
        '"',
        "'",
        "clip*",
        "clip OR mp4",
        "NEAR(clip mp4)",
        "input_file:clip",
        "-clip",
        "(clip",
        "clip^2",
        "a" * 1000,
        "*clip",
    ],
)
def test_nothing_that_is_searched_for_is_an_operator(queries: TaskQueries, journal: Journal, search: str) -> None:
    if any(map(str.isalnum, search)):
        tasks, total = queries.list(TaskFilters(search=search), journal.at)
        assert len(tasks) <= total


def test_a_task_is_found_by_the_error_it_has_now() -> None:
    own = Journal(MemoryEventLog())
    views = TaskViews(":memory:")
    queries = TaskQueries(views.connection)

    def total(search: str) -> int:
        views.apply(own.records)
        return queries.list(TaskFilters(search=search), own.at)[1]

    task_id = own.create(max_retries=1, retry_delay=0.0)
    for error in ("timeout of the probe", "cannot decode"):
        own.start(task_id)
        own.send(AttemptEnded(task_id=task_id, attempt=own.states[task_id].attempt, outcome="failed", error=error))
        assert total(error) == 1
    assert total("probe") == 0
    assert total("thumbnail") == 1
    views.close()


def test_totals_by_status_and_type_are_not_counted_but_kept(journal: Journal, queries: TaskQueries) -> None:
    statements: list[str] = []
    queries._conn.set_trace_callback(statements.append)
    queries.list(TaskFilters(status="failed,completed", type="video_convert"), journal.at)
    queries._conn.set_trace_callback(None)
    assert not any("count(*)" in statement for statement in statements)


def test_a_question_that_is_no_text_says_nothing_of_the_views(queries: TaskQueries) -> None:
    with pytest.raises(InvalidValue, match="is not valid text"):
        queries.last_writers(["/srv/\udcff.mp4"])


# --- what leads ---


def plan_of(queries: TaskQueries, statement: str, values: list[object]) -> str:
    with queries.moment() as conn:
        return str([row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {statement}", values)])


def of(queries: TaskQueries, filters: TaskFilters) -> CurrentList:
    with queries.moment() as conn:
        return CurrentList(conn, filters, read_counts(conn))


def test_the_field_with_the_fewest_tasks_leads() -> None:
    journal = Journal(MemoryEventLog())
    for number in range(100):
        journal.create(label="night", batch="films" if number % 5 else "", user_id=7 if number % 50 == 0 else 1)
    with closing(TaskViews(":memory:")) as views:
        views.apply(journal.records)
        for fields, *leading in (
            ({"label": "night", "user_id": "7"}, ("user_id",)),
            ({"label": "night", "user_id": "1,7"}, ("label",)),
            ({"label": "night", "batch": "films", "status": "pending"}, ("batch",)),
            ({"label": "night", "status": "failed,running"}, ("status",)),
            ({"label": "night", "status": "pending", "type": "unknown"}, ("status", "type")),
            ({"label": "night"}, ("label",)),
            ({"label": "night", "search": "nowhere"}, (), (), 100),
            ({"label": "night", "search": "thumbnail"}, (), ("label",), 100),
            ({"label": "night", "user_id": "7", "search": "thumbnail"}, ("user_id",), (), 2),
            ({}, ()),
        ):
            filters = TaskFilters.parse(fields)
            found = CurrentList(views.connection, filters, read_counts(views.connection))
            assert found.lead == Lead(*leading), fields


@pytest.mark.parametrize(
    "other", ["status", "type", "status type", "user_id", "document_id", "parent_task_id", "batch"]
)
def test_tasks_are_counted_by_indexes_alone(queries: TaskQueries, other: str) -> None:
    """A row is long: for a common label, no row of another user or status is read."""
    asked = {"label": "a", **{field: "failed" if field == "status" else "1" for field in other.split()}}
    filters = TaskFilters.parse(asked)
    for lead in (("label",), ("status", "type") if " " in other else (other,)):
        plan = plan_of(queries, *of(queries, filters).count(Lead(lead)))
        assert plan.count("COVERING INDEX") == 2, plan
        assert " USING INDEX" not in plan, plan


def test_of_many_values_the_row_is_read(queries: TaskQueries) -> None:
    """Otherwise each value would be looked up by itself, for each task of the leading index."""
    filters = TaskFilters(label="a", user_id=tuple(range(100)))
    found = of(queries, filters)
    assert " own " in found.count(Lead(("user_id",)))[0]
    statement, values = found.count(Lead(("label",)))
    assert " own " not in statement
    assert "tasks_by_label" in plan_of(queries, statement, values)


def test_failed_tasks_of_a_label_are_sorted_by_an_index_that_has_both() -> None:
    """Unless fewer tasks have the label than have failed: then that leads, as for any status."""
    journal = Journal(MemoryEventLog())
    for number in range(60):
        task_id = journal.create(
            label="night" if number % 2 else "", batch="films" if number < 3 else "", max_retries=0
        )
        if number % 4 == 1:
            journal.start(task_id)
            journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="failed", error="no such codec"))
    with closing(TaskViews(":memory:")) as views:
        views.apply(journal.records)
        queries = TaskQueries(views.connection)
        for sort in ("priority", "-updated_at"):
            statement, values = of(queries, TaskFilters(label="night", status="failed", sort=sort))._sorted_page()
            plan = plan_of(queries, statement, values)
            assert "COVERING INDEX tasks_over" in plan
            assert plan.count("SEARCH") == 1
            assert "tasks_by_batch" in plan_of(
                queries, *of(queries, TaskFilters(batch="films", status="failed", sort=sort))._sorted_page()
            )
        tasks, _total = queries.list(TaskFilters(label="night", status="failed", sort="priority"), journal.at)
    assert [task.id for task in tasks] == [number + 1 for number in range(60) if number % 4 == 1]
