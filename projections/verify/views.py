"""Whether views.db equals the fold of the log: built anew beside it and compared row by row."""

import sqlite3
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec

from ...events import TasktrailError
from ...events.log.event_log import ReadableLog
from ..queries.reader import connect
from ..sums import find_damage
from ..views.building import BULK_PAGE, Progress, pull
from ..views.row import COLUMNS, decode_state
from ..views.writer import TaskViews
from .findings import Findings

_VALUES = COLUMNS[:-2]
"""Without the checksums, which go by how a value is written."""
_ROWS = f"SELECT {', '.join(_VALUES)} FROM tasks ORDER BY id"  # noqa: S608 - our own names
_NUMBERS = {
    "counts": "SELECT * FROM counts WHERE number != 0 ORDER BY type, status",
    "totals": "SELECT * FROM totals ORDER BY type",
    "durations": "SELECT * FROM durations WHERE number != 0 ORDER BY type, bucket",
    "ends": "SELECT * FROM ends WHERE number != 0 ORDER BY minute, status",
    "notices": "SELECT * FROM notices ORDER BY task_id, version, channel",
    "notes": "SELECT * FROM notes ORDER BY task_id, position",
    "disabled": "SELECT * FROM disabled ORDER BY target",
    "search": "SELECT term, doc, cnt FROM temp.words ORDER BY term",
}
_WORDS = "CREATE VIRTUAL TABLE temp.words USING fts5vocab (main, search, row)"


def compare(log: ReadableLog, path: Path, findings: Findings, progress: Progress | None) -> int | None:
    """Add what differs; answers with the views' position, or none when they could not be compared."""
    try:
        conn = connect(path)[0]
    except TasktrailError as error:
        findings.add(0, "views", error.message)
        return None
    try:
        conn.execute("BEGIN")
        position, digest = conn.execute("SELECT position, hash FROM progress").fetchone()
        if not _stands_in(log, position, digest, findings):
            return None
        # An empty name is SQLite's for a database in a temporary file of its own.
        fold = TaskViews("", bulk=True)
        try:
            pull(log, fold, position, BULK_PAGE, progress)
            _compare_rows(conn, fold.connection, position, findings)
            _compare_numbers(conn, fold.connection, position, findings)
            if not findings and (damage := find_damage(conn)):
                findings.add(position, "views", f"{path} is damaged: {damage}. The next start builds it anew.")
        finally:
            fold.close()
    except (sqlite3.Error, TasktrailError, TypeError) as error:
        findings.add(0, "views", f"{path} cannot be compared: {error}")
        return None
    else:
        return int(position)
    finally:
        conn.close()


def _stands_in(log: ReadableLog, position: int, digest: bytes, findings: Findings) -> bool:
    """Whether the views are of this very log."""
    if position == 0:
        return True
    record = next(log.read(position - 1, 1), None)
    if record is None or record.position != position:
        findings.add(position, "views", f"the views stand at {position}, which the log does not hold")
        return False
    if record.hash != digest:
        findings.add(position, "views", "the views were built from another log: the hash at their position differs")
        return False
    return True


def _compare_rows(views: sqlite3.Connection, fold: sqlite3.Connection, position: int, findings: Findings) -> None:
    for found, due in _side_by_side(views.execute(_ROWS), fold.execute(_ROWS)):
        if found is None:
            findings.add(position, "views", f"task {due[0]} is missing")
        elif due is None:
            findings.add(position, "views", f"task {found[0]} is there and should not be")
        elif found != due:
            for difference in _differences(found, due):
                findings.add(position, "views", f"task {due[0]}: {difference}")


def _side_by_side(found: Iterator[Any], due: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    """Rows of both with the same id together; none where one side has no such row."""
    left, right = next(found, None), next(due, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] < right[0]):
            yield left, None
            left = next(found, None)
        elif left is None or right[0] < left[0]:
            yield None, right
            right = next(due, None)
        else:
            yield left, right
            left, right = next(found, None), next(due, None)


def _differences(found: tuple[Any, ...], due: tuple[Any, ...]) -> Iterator[str]:
    for column, value, right in zip(_VALUES[:-2], found, due, strict=False):
        if value != right:
            yield f"{column} is {value!r}, the fold says {right!r}"
    # The same number may be written in two ways (1 and 1.0): what is read counts.
    try:
        state = decode_state(due[0], *found[-2:])
    except (msgspec.DecodeError, TypeError) as error:
        yield f"its state cannot be read: {error}"
        return
    folded = decode_state(due[0], *due[-2:])
    for field in folded.__struct_fields__:
        if getattr(state, field) != getattr(folded, field):
            yield f"{field} is {getattr(state, field)!r}, the fold says {getattr(folded, field)!r}"


def _compare_numbers(views: sqlite3.Connection, fold: sqlite3.Connection, position: int, findings: Findings) -> None:
    for conn in (views, fold):
        conn.execute(_WORDS)
    for table, select in _NUMBERS.items():
        for found, due in zip_longest(views.execute(select), fold.execute(select)):
            if found != due:
                findings.add(position, "views", f"table {table} has {found}, the fold says {due}")
                break
