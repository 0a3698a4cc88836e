"""The forgotten tasks, and where that is recorded. Views keep nothing of the tasks themselves."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec

from ...events import Recorded
from ...events.errors import LogCorrupt, TaskForgotten
from ...events.ranges import NumberRange, spans_of
from ...events.system_events import RetentionRule, TasksForgotten
from ...events.values import MAX_INTEGER
from ..errors import ViewsDamaged, ViewsFailed
from .checksums import is_damage, sound

_OF = "SELECT * FROM forgotten WHERE first <= ? ORDER BY first DESC LIMIT 1"
_STALE = """
    SELECT position FROM forgotten
    WHERE +EXISTS (SELECT 1 FROM tasks WHERE id BETWEEN forgotten.first AND forgotten.last) LIMIT 1
"""

_TORN = """
    SELECT id FROM tasks WHERE status IN ('pending', 'running', 'retrying')
    AND id BETWEEN (SELECT min(first) FROM forgotten WHERE position > :after)
        AND (SELECT max(last) FROM forgotten WHERE position > :after)
    AND (SELECT last FROM forgotten WHERE first <= tasks.id ORDER BY first DESC LIMIT 1) >= tasks.id LIMIT 1
"""
"""This relies on ranges of forgotten tasks being disjoint."""


def write_forgotten(conn: sqlite3.Connection, records: Iterable[Recorded]) -> None:
    """Fold a batch in. It stores the rule itself, because its words may change in the next version."""
    rows = [
        (span.first, span.last, record.position, msgspec.json.encode(record.event.rule).decode())
        for record in records
        if isinstance(record.event, TasksForgotten)
        for span in _tasks_of(record.event, record.position)
    ]
    conn.executemany("INSERT INTO forgotten VALUES (?, ?, ?, ?, NULL)", rows)


def _tasks_of(event: TasksForgotten, position: int) -> Sequence[NumberRange]:
    try:
        return spans_of(event.tasks)
    except ValueError as error:
        raise LogCorrupt(f"Position {position}: which tasks were forgotten cannot be read") from error


def read_forgotten(conn: sqlite3.Connection) -> Sequence[NumberRange]:
    """The tasks that were forgotten, in order."""
    return [
        NumberRange(first, last) for first, last, *_ in sound(conn.execute("SELECT * FROM forgotten ORDER BY first"))
    ]


def forgotten_in(conn: sqlite3.Connection, task_id: int) -> TaskForgotten | None:
    """The error for a task that was forgotten; None for any other."""
    if not 0 < task_id <= MAX_INTEGER:
        return None
    for first, last, position, rule in sound(conn.execute(_OF, (task_id,))):
        if first <= task_id <= last:
            words = msgspec.json.decode(rule, type=RetentionRule).words
            return TaskForgotten(f"Task {task_id} was forgotten at position {position}: {words}", field="task_id")
    return None


def number_forgotten(conn: sqlite3.Connection) -> int:
    """The number of forgotten tasks."""
    return int(conn.execute("SELECT coalesce(sum(last - first + 1), 0) FROM forgotten").fetchone()[0])


def holds_forgotten(conn: sqlite3.Connection) -> int:
    """The position at which a task was forgotten that these older views still have; 0: there is none."""
    row = _first(conn, _STALE)
    return int(row[0]) if row else 0


def refuse_torn(conn: sqlite3.Connection, after: int) -> None:
    """Raise `ViewsDamaged` if a task that was forgotten after a position is still open in these views.

    They had read some of its records when the others were dropped.
    """
    row = _first(conn, _TORN, after=after)
    if row is not None:
        raise ViewsDamaged(f"Task {row[0]} was forgotten before these views had read how it ended")


def _first(conn: sqlite3.Connection, statement: str, **values: int) -> tuple[Any, ...] | None:
    """The first row. Raises `ViewsDamaged` or `ViewsFailed` if it cannot be read."""
    try:
        return cast("tuple[Any, ...] | None", conn.execute(statement, values).fetchone())
    except sqlite3.Error as error:
        raise (ViewsDamaged if is_damage(error) else ViewsFailed)(f"The views cannot be read: {error}") from error
