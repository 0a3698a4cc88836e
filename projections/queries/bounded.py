"""A question that is given up after some work: which of two ways is the shorter one may only show when one is tried."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_EVERY = 1000
"""Instructions of SQLite's machine between two looks at how many there were."""


def bounded(conn: sqlite3.Connection, instructions: float, ask: Callable[[], _T]) -> _T | None:
    """What `ask` gives, or nothing if its statements need more instructions of SQLite's machine than about these."""
    left = instructions

    def look() -> bool:
        nonlocal left
        left -= _EVERY
        return left < 0

    conn.set_progress_handler(look, _EVERY)
    try:
        return ask()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_INTERRUPT:  # text that is no UTF-8 has none
            raise
        if left >= 0:  # Ctrl-C came up in `look`, and was dropped there
            raise KeyboardInterrupt from None
        return None
    finally:
        conn.set_progress_handler(None, 0)
