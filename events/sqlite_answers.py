"""The answers to commands beside the records that the commands led to, for whoever checks them."""

import sqlite3
from collections.abc import Iterator
from typing import Any

_ANSWERED = """
    SELECT answers.command_id, answers.task_id, answers.position, events.command_id, events.task_id, events.data
    FROM answers LEFT JOIN events ON events.position = answers.position
    WHERE answers.command_id > ? ORDER BY answers.command_id LIMIT ?
"""
_IS_ABOUT = """
    WITH RECURSIVE above (id) AS (
        SELECT task_id FROM events WHERE position = :position
        UNION
        SELECT json_extract(events.data, '$.parent_task_id') FROM above JOIN events ON events.task_id = above.id
        WHERE events.version = 1 AND json_valid(events.data)
    )
    SELECT :task_id IN (SELECT id FROM above WHERE id IS NOT NULL) OR EXISTS (
        SELECT 1 FROM events WHERE task_id = :task_id AND command_id = :command_id AND position <= :position
    )
"""


def read_answered(conn: sqlite3.Connection, page: int) -> Iterator[tuple[Any, ...]]:
    """Each answer beside the record it points at, in order of command id; `page` at a time. Raises `sqlite3.Error`."""
    after = ""
    while rows := conn.execute(_ANSWERED, (after, page)).fetchall():
        yield from rows
        after = rows[-1][0]


def is_about(conn: sqlite3.Connection, command_id: str, task_id: int, position: int) -> bool:
    """Whether the command that led to the record at `position` was about the task.

    A graph and a cancel with children lead to records of many tasks: then it has led to one of this task, too, or, when
    the task was over already, to those of tasks below it. Raises `sqlite3.Error`.
    """
    about = {"command_id": command_id, "task_id": task_id, "position": position}
    return bool(conn.execute(_IS_ABOUT, about).fetchone()[0])
