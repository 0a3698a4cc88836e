"""A query that is given up after some work: often only a trial shows which of two ways is the shorter one."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_EVERY = 1000
"""Instructions of SQLite's virtual machine between two checks of their number."""


def bounded(conn: sqlite3.Connection, instructions: float, ask: Callable[[], _T]) -> _T | None:
    """The result of `ask`, or None if its statements need more than about `instructions` of SQLite's machine."""
    left = instructions

    def look() -> bool:
        nonlocal left
        left -= _EVERY
        return left < 0

    conn.set_progress_handler(look, _EVERY)
    try:
        return ask()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_INTERRUPT:  # for invalid UTF-8 it has none
            raise
        if left >= 0:  # Ctrl-C came up in `look`, and was dropped there
            raise KeyboardInterrupt from None
        return None
    finally:
        conn.set_progress_handler(None, 0)
