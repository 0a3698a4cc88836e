"""The answers to commands beside the records that the commands led to, for whoever checks them."""

import sqlite3
from collections.abc import Iterator
from typing import Any

_ANSWERED = """
    SELECT answers.command_id, answers.task_id, answers.position, events.command_id,
        events.task_id, events.event, events.data, answers.digest, earlier.command_id, {sum}
    FROM answers
    LEFT JOIN events ON events.position = answers.position
    LEFT JOIN events AS earlier ON earlier.position = answers.position - 1
    WHERE answers.command_id > ? ORDER BY answers.command_id LIMIT ?
"""
_BACKWARDS = """
    SELECT command_id, task_id, event, data FROM events WHERE position <= ? ORDER BY position DESC
"""
_ABOVE = """
    WITH RECURSIVE above (id) AS (
        SELECT ?
        UNION
        SELECT json_extract(events.data, '$.parent_task_id') FROM above JOIN events ON events.task_id = above.id
        WHERE events.version = 1 AND json_valid(events.data)
    )
    SELECT id FROM above WHERE typeof(id) = 'integer'
"""


def read_answered(conn: sqlite3.Connection, page: int, *, sums: bool) -> Iterator[tuple[Any, ...]]:
    """Each answer beside the record it points at, in order of command id; `page` at a time. Raises `sqlite3.Error`.

    (command id, task id, position, and of the record: command id, task id, event, data; the answer's digest; the
    command id of the record before; the answer's sum, null without `sums`.)
    """
    statement = _ANSWERED.format(sum="answers.sum" if sums else "NULL")
    after = ""
    while rows := conn.execute(statement, (after, page)).fetchall():
        yield from rows
        if rows[-1][0] <= after:
            raise sqlite3.DatabaseError("the answers do not stand in the order of their command ids")
        after = rows[-1][0]


def first_of(conn: sqlite3.Connection, command_id: str, position: int) -> tuple[Any, ...] | None:
    """Task id, event and data of the first record that the command led to; the last is at `position`.

    They stand in a row. Raises `sqlite3.Error`.
    """
    first = None
    for caused_by, *record in conn.execute(_BACKWARDS, (position,)):
        if caused_by != command_id:
            break
        first = tuple(record)
    return first


def line_of(conn: sqlite3.Connection, task_id: int) -> list[int]:
    """The task, its parent, the parent of that, and so on. Raises `sqlite3.Error`."""
    return [one for (one,) in conn.execute(_ABOVE, (task_id,))]
