"""The SQL views: they keep the promises of their page, and agree with the queries."""

import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from histories import Journal, random_history
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events import Created
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.recorded import timestamp
from tasktrail.projections import TaskQueries, TaskViews
from tasktrail.projections.views.contract import VIEWS

PAGE = Path(__file__).parents[2] / "docs/reference/sql.md"

# Frozen: a column may be added at the end. For any other change, make a view with the next number.
COLUMNS = {
    "tasks_v1": (
        "id type status priority user_id document_id parent_task_id label batch schedule input_file output_file options"
        " depends_on created_at updated_at scheduled_for due_at started_at completed_at duration held progress message"
        " error error_type last_error result attempt life retry_count max_retries crash_count memory_used cpu_used"
        " temp_used time_used version"
    ),
    "counts_v1": "type status number",
    "notices_v1": (
        "task_id version channel notice_id target event position recorded_at state tries detail tried_at next_at"
    ),
    "dependencies_v1": "task_id depends_on",
    "endpoints_v1": "target position since detail",
    "position_v1": "position hash recorded_at log",
}


@pytest.fixture(scope="module")
def views() -> Iterator[tuple[Journal, TaskViews]]:
    journal = Journal(MemoryEventLog())
    random_history(journal, 1_500, seed=11)
    views = TaskViews(":memory:")
    views.apply(journal.records)
    yield journal, views
    views.close()


def rows(conn: sqlite3.Connection, view: str) -> list[dict[str, Any]]:
    found = conn.execute(f"SELECT * FROM {view}")
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found]


def promised() -> dict[str, list[tuple[str, str]]]:
    """Return view → its columns and their types, as on the page."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^## (\w+_v\d+)\n(.*?)(?=^## )", text, flags=re.MULTILINE | re.DOTALL)
    return {name: re.findall(r"^\| `(\w+)` \| ([A-Z][A-Za-z ]+?) \|", part, re.MULTILINE) for name, part in found}


def test_the_columns_are_those_that_were_promised(views: tuple[Journal, TaskViews]) -> None:
    conn = views[1].connection
    names = [name for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'view' ORDER BY rowid")]
    assert names == list(COLUMNS) == list(promised())
    assert len(names) == len(VIEWS)
    for name in names:
        columns = [column[0] for column in conn.execute(f"SELECT * FROM {name}").description]
        assert columns[: len(COLUMNS[name].split())] == COLUMNS[name].split()
        assert columns == [column for column, _type in promised()[name]]


def test_the_types_are_those_of_the_page(views: tuple[Journal, TaskViews]) -> None:
    conn = views[1].connection
    for name, columns in promised().items():
        for column, kind in columns:
            found = {one.upper() for (one,) in conn.execute(f"SELECT DISTINCT typeof({column}) FROM {name}")}
            assert found <= set(kind.split(" or ")), (name, column)


def test_tasks_are_what_the_queries_answer(views: tuple[Journal, TaskViews]) -> None:
    journal, folded = views
    queries = TaskQueries(folded.connection)
    found = rows(folded.connection, "tasks_v1")
    assert [row["id"] for row in found] == sorted(journal.states)
    for row in found:
        task = queries.get(row["id"], journal.at)
        assert row == {name: in_sql(getattr(task, name)) for name in row}


def in_sql(value: object) -> object:
    match value:
        case datetime():
            return timestamp(value)
        case bool():
            return int(value)
        case dict() | tuple():
            return msgspec.json.encode(value, order="deterministic").decode()
        case _:
            return value


def test_numbers_notices_and_dependencies_are_what_the_queries_answer(views: tuple[Journal, TaskViews]) -> None:
    journal, folded = views
    conn, queries = folded.connection, TaskQueries(folded.connection)
    counts = {(row["type"], row["status"]): row["number"] for row in rows(conn, "counts_v1")}
    assert counts == queries.counts()
    notices = rows(conn, "notices_v1")
    assert len(notices) > 10
    for row in notices:
        (one,) = [found for found in queries.notices(row["task_id"]) if found.notice_id == row["notice_id"]]
        assert {name: in_sql(getattr(one, name)) for name in one.__struct_fields__} == {
            name: row[name] for name in one.__struct_fields__
        }
    (position,) = rows(conn, "position_v1")
    last = journal.records[-1]
    assert position["position"] == last.position == folded.position
    assert (position["hash"], position["recorded_at"]) == (last.hash.hex(), timestamp(last.recorded_at))


def test_a_dependency_is_a_row_and_an_array() -> None:
    journal, folded = Journal(MemoryEventLog()), TaskViews(":memory:")
    first = journal.create()
    journal.create(depends_on=(first,))
    folded.apply(journal.records)
    assert rows(folded.connection, "dependencies_v1") == [{"task_id": 2, "depends_on": 1}]
    assert [row["depends_on"] for row in rows(folded.connection, "tasks_v1")] == ["[]", "[1]"]
    folded.close()


zones = st.integers(-840, 840).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.builds(
    lambda seconds, zone: (datetime(1970, 1, 2, tzinfo=UTC) + timedelta(seconds=seconds)).astimezone(zone),
    st.floats(0, 2e11),
    zones,
)


@given(moments)
def test_a_time_is_told_in_one_form_whatever_its_zone(moment: datetime) -> None:
    """It sorts as text; of a time in another zone SQLite keeps milliseconds."""
    journal, folded = Journal(MemoryEventLog()), TaskViews(":memory:")
    journal.record(1, Created(type="x", scheduled_for=moment))
    folded.apply(journal.records)
    ((told,),) = folded.connection.execute("SELECT scheduled_for FROM tasks_v1").fetchall()
    folded.close()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", told)
    exact = moment.utcoffset() == timedelta(0)
    assert abs(datetime.fromisoformat(told) - moment) <= timedelta(0 if exact else 0.001)
    assert datetime.fromisoformat(told).tzinfo == UTC


def test_the_views_are_in_a_file_that_was_built_at_once_and_can_be_read_without_us(
    views: tuple[Journal, TaskViews], tmp_path: Path
) -> None:
    built = TaskViews(tmp_path / "views.db", bulk=True)
    built.apply(views[0].records)
    built.finish()
    built.close()
    conn = sqlite3.connect(f"file:{tmp_path / 'views.db'}?mode=ro", uri=True)
    for name in COLUMNS:
        assert rows(conn, name) == rows(views[1].connection, name)
    plan = conn.execute("EXPLAIN QUERY PLAN SELECT id, error FROM tasks_v1 WHERE status = 'failed'").fetchall()
    assert "tasks_by_status" in str(plan)
    conn.close()
