"""Which place some tasks have among those with their label: a long list is counted from the last of these on."""

import sqlite3

from ...events.log.inserting import insert_rows
from .checksums import sound, with_sums

EVERY = 1024
"""Tasks with a label from one that is kept to the next."""

_REMEMBERED = 50_000
"""Labels whose numbers are remembered."""
_KEPT = "SELECT * FROM ranks WHERE label = ? AND id <= ? ORDER BY id DESC LIMIT 1"
_BEHIND = "SELECT count(*) FROM tasks INDEXED BY tasks_by_label WHERE label = ? AND id > ? AND id <= ?"
_ALL = """
INSERT INTO ranks SELECT label, id, number, row_sum(label, id, number) FROM (
    SELECT label, id, row_number() OVER (PARTITION BY label ORDER BY id) AS number FROM tasks WHERE label <> ''
) WHERE number % ? = 0
"""
_END = 2**62


class Ranks:
    """Keeps them while tasks are created."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._known: dict[str, int] = {}
        """Label → how many tasks have it."""
        self._rows: list[tuple[str, int, int]] = []

    def see(self, label: str, task_id: int) -> None:
        """A task is created with a label."""
        number = self._known.get(label)
        if number is None:
            number = number_with(self._conn, label)
        self._known[label] = number = number + 1
        if number % EVERY == 0:
            self._rows.append((label, task_id, number))

    def write(self) -> None:
        """Write the rows that are due, within the transaction that is open."""
        insert_rows(self._conn, "INSERT INTO ranks", with_sums(self._rows))
        self._rows.clear()
        if len(self._known) > _REMEMBERED:
            self._known.clear()


def write_ranks(conn: sqlite3.Connection) -> None:
    """All rows at once, where views are built in one go."""
    conn.execute(_ALL, (EVERY,))


def number_with(conn: sqlite3.Connection, label: str, top: int = _END) -> int:
    """How many tasks have a label, of those up to one."""
    last, number = 0, 0
    for _label, last, number in sound(conn.execute(_KEPT, (label, top))):  # noqa: B007 - one at most
        pass
    return number + int(conn.execute(_BEHIND, (label, last, top)).fetchone()[0])
