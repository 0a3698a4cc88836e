"""The tasks that wait, or waited, for a task: the inverse of `depends_on`."""

import sqlite3
from collections.abc import Iterable

from ...events import Created, Recorded
from ...events.log.inserting import insert_rows
from .checksums import sound


def write_dependants(conn: sqlite3.Connection, records: Iterable[Recorded]) -> None:
    """Fold a batch in."""
    rows = [
        (other, record.task_id, None)
        for record in records
        if isinstance(record.event, Created)
        for other in set(record.event.depends_on)
    ]
    insert_rows(conn, "INSERT INTO dependants", rows)


def read_dependants(conn: sqlite3.Connection, task_id: int, most: int) -> list[int]:
    """The first tasks that depend on a task, by id; at most `most` of them."""
    wanted = "SELECT * FROM dependants WHERE depends_on = ? ORDER BY task_id LIMIT ?"
    return [dependant for _other, dependant in sound(conn.execute(wanted, (task_id, most)))]
