"""Where the service noted something about a task under task id 0, as rows of views.db: the log has no index for it."""

import sqlite3
from collections.abc import Iterable

from ...events import Recorded
from ...events.system_events import Adjusted, DeliveryAttempted, DeliveryPostponed, RedeliveryRequested
from ..sums import sound

SPEAK_OF_A_TASK = Adjusted | DeliveryAttempted | DeliveryPostponed | RedeliveryRequested


def write_notes(conn: sqlite3.Connection, records: Iterable[Recorded]) -> None:
    """Fold a batch in."""
    rows = [(record.event.task_id, record.position) for record in records if isinstance(record.event, SPEAK_OF_A_TASK)]
    conn.executemany("INSERT INTO notes VALUES (?, ?, NULL)", rows)


def read_notes(conn: sqlite3.Connection, task_id: int) -> list[int]:
    """The positions of what is noted of a task, in order."""
    rows = sound(conn.execute("SELECT * FROM notes WHERE task_id = ? ORDER BY position", (task_id,)))
    return [position for _task_id, position in rows]
