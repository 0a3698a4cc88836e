"""A walk that turns out too long is given up, and the same list is found in another way."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tasktrail.projections.queries.bounded import bounded
from tasktrail.projections.queries.current_list import CurrentList
from tasktrail.projections.queries.filters import TaskFilters
from tasktrail.projections.views import schema
from tasktrail.projections.views.checksums import teach

_COUNT = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT count(*) FROM n"


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    with closing(teach(sqlite3.connect(":memory:", isolation_level=None))) as opened:
        yield opened


def test_what_is_too_long_is_given_up_and_the_moment_goes_on(conn: sqlite3.Connection) -> None:
    conn.execute("CREATE TABLE one (a)")
    conn.execute("BEGIN")
    conn.execute("INSERT INTO one VALUES (1)")
    conn.execute("SELECT * FROM one").fetchall()

    def count(number: int) -> int:
        return int(conn.execute(_COUNT, (number,)).fetchone()[0])

    assert bounded(conn, 10_000, lambda: count(1_000_000)) is None
    assert conn.in_transaction
    assert bounded(conn, 10_000, lambda: count(10)) == 10
    assert count(20_000) == 20_000, "nothing is given up any more"
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        bounded(conn, 10_000, lambda: conn.execute("SELECT * FROM none"))
    with pytest.raises(sqlite3.OperationalError, match="UTF-8"):
        bounded(conn, 10_000, lambda: conn.execute("SELECT CAST(x'ff' AS TEXT)").fetchall())


def test_a_ctrl_c_is_not_taken_for_a_question_that_was_given_up(conn: sqlite3.Connection) -> None:
    """It is raised in a function that SQLite calls now and then, and is dropped there."""
    conn.create_function("stop", 0, conn.interrupt)
    with pytest.raises(KeyboardInterrupt):
        bounded(conn, 10_000, lambda: conn.execute(f"SELECT stop(), * FROM ({_COUNT})", (10,)).fetchall())


TASKS = 30_000
OWN = 600
LATEST = 2_000
_INSERT = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :tasks)
INSERT INTO tasks SELECT i, 'completed', 'noop', 0, 0, 0, CASE WHEN {} THEN 'l' || (i % :labels) ELSE '' END, '', 5,
    NULL, i, i, '{{}}', '{{}}', 0, 0 FROM n
"""


@pytest.mark.parametrize(
    ("rule", "own", "in_time"),
    [
        (f"i % {TASKS // OWN} = 0", OWN, True),
        (f"i <= {OWN}", OWN, False),
        (f"i % 2 AND i < {TASKS - LATEST}", (TASKS - LATEST) // 2, True),
    ],
    ids=["spread", "all the oldest", "so many that to sort them costs more"],
)
@pytest.mark.parametrize("labels", [1, 20])
def test_a_walk_ends_where_what_it_looks_for_does_not_lie_as_expected(
    conn: sqlite3.Connection, rule: str, labels: int, own: int, *, in_time: bool
) -> None:
    schema.create_tables(conn)
    conn.execute(_INSERT.format(rule), {"tasks": TASKS, "labels": labels})
    asked = TaskFilters(label=tuple(f"l{number}" for number in range(labels)), sort="-updated_at")
    walk = CurrentList(conn, asked, {("noop", "completed"): TASKS}).walk(own)
    assert walk is not None
    found = bounded(conn, walk.instructions, lambda: conn.execute(*walk.query).fetchall())
    assert (found is not None) == in_time


@pytest.mark.parametrize(
    ("rule", "in_time"), [("id % 2", True), (f"id <= {TASKS // 2}", False)], ids=["spread", "all the oldest"]
)
def test_a_walk_that_searches_words_in_rows_ends_as_well(conn: sqlite3.Connection, rule: str, *, in_time: bool) -> None:
    schema.create_tables(conn)
    conn.execute(_INSERT.format("0"), {"tasks": TASKS, "labels": 1})
    conn.execute(f"""UPDATE tasks SET spec = '{{"type":"' || iif({rule}, 'clip', 'noop') || '"}}'""")
    asked = TaskFilters(search="clip", sort="-updated_at")
    walk = CurrentList(conn, asked, {("noop", "completed"): TASKS}).walk(TASKS // 2)
    assert walk is not None
    assert "has_words" in walk.query[0]
    found = bounded(conn, walk.instructions, lambda: conn.execute(*walk.query).fetchall())
    assert found == ([(number,) for number in range(TASKS - 1, TASKS - 101, -2)] if in_time else None)
