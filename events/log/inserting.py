"""Many rows with few statements.

At each statement Python lets other threads run while SQLite works, and then waits for its turn again. With one
statement per row, as in `executemany`, two busy threads wait for each other at each row.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain, islice

_MOST = 64
"""The most rows in a statement. Only powers of two are used, so that SQLite finds the statements in its cache."""


def insert_rows(conn: sqlite3.Connection, into: str, rows: Iterable[Sequence[object]]) -> None:
    """Insert rows, all of one length, in order. `into` is a statement up to its `VALUES`; without rows nothing runs."""
    coming = iter(rows)
    while part := list(islice(coming, _MOST)):
        columns, done = len(part[0]), 0
        most = max(1, conn.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // columns)  # SQLite may be built for few
        while left := len(part) - done:
            number = 1 << min(left, most).bit_length() - 1
            values = list(chain.from_iterable(part[done : done + number]))
            conn.execute(_statement(into, columns, number), values)
            done += number


@cache
def _statement(into: str, columns: int, number: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"{into} VALUES {', '.join([row] * number)}"
