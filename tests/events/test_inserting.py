"""Rows go into a table by few statements, with the same result."""

import sqlite3
from contextlib import closing

import pytest

from tasktrail.events.log.inserting import insert_rows


@pytest.mark.parametrize("number", [0, 1, 2, 3, 7, 63, 64, 65, 127, 128, 200])
def test_all_rows_are_inserted_in_their_order_by_few_statements(number: int) -> None:
    rows = [(f"row {place}", place % 3 or None) for place in range(number)]
    ran: list[str] = []
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        conn.execute("CREATE TABLE some (name TEXT, value INTEGER)")
        conn.set_trace_callback(ran.append)
        insert_rows(conn, "INSERT INTO some (name, value)", iter(rows))
        conn.set_trace_callback(None)
        assert conn.execute("SELECT name, value FROM some ORDER BY rowid").fetchall() == rows
    assert len(ran) == number // 64 + (number % 64).bit_count()


@pytest.mark.parametrize(("variables", "statements"), [(128, 3), (127, 4), (20, 13), (2, 100)])
def test_where_sqlite_takes_fewer_variables_a_statement_has_fewer_rows(variables: int, statements: int) -> None:
    """Otherwise nothing could be written there. SQLite's limit was 999 for long, and a task has 16 columns in views."""
    rows = [(number, None) for number in range(100)]
    ran: list[str] = []
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        conn.execute("CREATE TABLE some (name, value)")
        conn.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, variables)
        conn.set_trace_callback(ran.append)
        insert_rows(conn, "INSERT INTO some", rows)
        conn.set_trace_callback(None)
        assert conn.execute("SELECT name, value FROM some ORDER BY rowid").fetchall() == rows
    assert len(ran) == statements


def test_a_row_that_is_refused_is_told_of_and_leaves_none_of_its_statement() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        conn.execute("CREATE TABLE some (value INTEGER PRIMARY KEY)")
        with pytest.raises(sqlite3.IntegrityError, match=r"some\.value"):
            insert_rows(conn, "INSERT INTO some", [(1,), (2,), (2,), (3,)])
        assert conn.execute("SELECT count(*) FROM some").fetchone() == (0,)
