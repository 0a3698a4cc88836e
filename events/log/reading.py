"""Reads records in the order of their positions or of a task: from the table, and what it lacks from archives."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from ..errors import LogCorrupt
from ..recorded import Recorded
from ..values import MAX_INTEGER
from .archives import Archives
from .chain import GENESIS
from .event_log import Head, Part
from .personal import BEGINS
from .rows import COLUMNS, Decrypt, decode, from_row, moment
from .schema import OF_PARTS, WITH_ADJUSTMENTS
from .sqlite_errors import explained

SELECT = f"SELECT {', '.join(COLUMNS)}, hash FROM events"  # noqa: S608 - our own names
_PAGE = 5000


def fetch(
    conn: sqlite3.Connection, statement: str, parameters: tuple[object, ...] | dict[str, object] = ()
) -> list[tuple[Any, ...]]:
    """All rows that are asked for. What SQLite says of damage is told as ours."""
    try:
        return conn.execute(statement, parameters).fetchall()
    except sqlite3.OperationalError as error:
        raise explained(error, file_of(conn), "cannot be read") from error
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise LogCorrupt(f"The log's file cannot be read: {error}") from error
        raise


def file_of(conn: sqlite3.Connection) -> Path:
    """The file of a connection."""
    return Path(conn.execute("PRAGMA database_list").fetchone()[2])


def read_head(conn: sqlite3.Connection) -> Head:
    """Where the log of this connection ends."""
    rows = fetch(conn, "SELECT position, hash FROM events ORDER BY position DESC LIMIT 1")
    return Head(*rows[0]) if rows else Head(0, GENESIS)


def pages(
    conn: sqlite3.Connection,
    after: int,
    limit: int | None,
    columns: str = "",
    of_archived: Callable[[tuple[Any, ...]], tuple[Any, ...]] = tuple,
) -> Iterator[tuple[Any, ...]]:
    """Rows in order of position, which is the first column, in transactions of a page each.

    `of_archived` picks the same columns of a whole row.
    """
    select = f"SELECT {columns} FROM events" if columns else SELECT  # noqa: S608 - names of columns, of ours
    archives = Archives(conn)
    after = max(after, 0)
    while limit is None or limit > 0:
        if after < archives.until():
            for row in islice(archives.rows(after), limit):
                after, limit = row[0], None if limit is None else limit - 1
                yield of_archived(row)
            continue
        size = _PAGE if limit is None else min(_PAGE, limit)
        page = fetch(conn, f"{select} WHERE position > ? ORDER BY position LIMIT ?", (after, size))
        if page and page[0][0] != after + 1 and after < archives.until():  # archived since
            continue
        for row in page:
            after += 1
            if row[0] != after:  # never skip over what is not there
                raise LogCorrupt(f"Position {after} of the log is missing: position {row[0]} stands in its place")
            yield row
        if len(page) < size:
            return
        limit = None if limit is None else limit - size


def read_records(conn: sqlite3.Connection, after: int, limit: int | None, decrypt: Decrypt) -> Iterator[Recorded]:
    """Decoded records in order of position."""
    for row in pages(conn, after, limit):
        yield from_row(row[:14], row[14], decrypt)


_TO_FOLD = """
    position, task_id, version, event, recorded_at, data,
    iif(task_id, NULL, json_array(actor, reason, command_id, correlation_id, causation_id, attempt, life, hex(hash)))
"""
"""Each column costs as much as to decode an event does. So what folds need of system events alone stands in one."""
_Rest: TypeAlias = tuple[str, str, str, str, str, int, int, str]
_REST = msgspec.json.Decoder(_Rest)


def read_to_fold(conn: sqlite3.Connection, after: int, limit: int | None, decrypt: Decrypt) -> Iterator[Recorded]:
    """Decoded records in order of position: see `ReadableLog.read_to_fold`."""
    yield from folded(pages(conn, after, limit, _TO_FOLD, _to_fold), decrypt)


def folded(rows: Iterable[tuple[Any, ...]], decrypt: Decrypt) -> Iterator[Recorded]:
    """Records for a fold, of rows that have in one JSON array what only system events need."""
    for position, task_id, version, event, at, data, rest in rows:
        if rest is None and not data.startswith(BEGINS):
            yield Recorded(task_id, version, decode(event, data, position), moment(at, position), position=position)
            continue
        *texts, attempt, life, digest = _NOTHING if rest is None else _REST.decode(rest)
        row = (position, task_id, version, event, at, *texts, attempt, life, 0, data)
        yield from_row(row, bytes.fromhex(digest), decrypt)


_NOTHING: _Rest = ("", "", "", "", "", 0, 0, "")


def _to_fold(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """What `_TO_FOLD` asks for, of a row from an archive."""
    rest = None if row[1] else msgspec.json.encode([*row[5:12], row[14].hex()])
    return (*row[:5], row[13], rest)


def read_task(conn: sqlite3.Connection, task_id: int, decrypt: Decrypt, *, adjusted: bool = False) -> list[Recorded]:
    """Decoded records of one task in order of position; `adjusted`: and the service's adjustments of it."""
    where = WITH_ADJUSTMENTS if adjusted else "task_id = :task_id ORDER BY version"
    rows = fetch(conn, f"{SELECT} WHERE {where}", {"task_id": task_id})
    if not any(row[1] == task_id and row[2] == 1 for row in rows):
        rows = joined(Archives(conn).of_task(task_id, adjusted=adjusted), rows)
    refuse_gap(task_id, 0, [row for row in rows if row[1] == task_id])
    return [from_row(row[:14], row[14], decrypt) for row in rows]


def read_parts(conn: sqlite3.Connection, parts: Sequence[Part], until: int, decrypt: Decrypt) -> list[Recorded]:
    """Decoded records of parts of tasks' lives in order of position."""
    wanted = {"parts": msgspec.json.encode(parts).decode(), "until": until}
    rows = fetch(conn, f"{SELECT} WHERE {OF_PARTS}", wanted)
    reached = {part.task_id: part.after for part in parts}
    archives = Archives(conn)
    if archives.until() > min((part.adjusted_after for part in parts), default=0):
        rows = joined(_archived_parts(archives, parts, until), rows)
    for row in rows:
        if row[1]:
            refuse_gap(row[1], reached[row[1]], [row])
            reached[row[1]] = row[2]
    return [from_row(row[:14], row[14], decrypt) for row in rows]


def _archived_parts(archives: Archives, parts: Sequence[Part], until: int) -> list[tuple[Any, ...]]:
    found = [
        row
        for part in parts
        for row in archives.of_task(part.task_id, until=until, adjusted=True)
        if (part.after < row[2] <= part.last if row[1] else row[0] > part.adjusted_after)
    ]
    return sorted(found)


def version_at(conn: sqlite3.Connection, task_id: int, position: int = MAX_INTEGER) -> int:
    """The last version of a task up to a position; 0 when there was none."""
    wanted = "SELECT version FROM events WHERE task_id = ? AND position <= ? ORDER BY version DESC LIMIT 1"
    rows = fetch(conn, wanted, (task_id, position))
    if rows:
        return int(rows[0][0])
    return next((row[2] for row in Archives(conn).of_task_backwards(task_id) if row[0] <= position), 0)


def joined(archived: Iterable[tuple[Any, ...]], stored: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows from archives, and those of the table behind them: some may still be in both."""
    rows = list(archived)
    last = rows[-1][0] if rows else 0
    return [*rows, *(row for row in stored if row[0] > last)]


def refuse_gap(task_id: int, after: int, rows: list[tuple[Any, ...]]) -> None:
    """Raises `LogCorrupt` where these records of a task do not follow on a version without a gap."""
    for expected, row in enumerate(rows, after + 1):
        if row[2] != expected:
            raise LogCorrupt(f"The records of task {task_id} cannot all be found: version {expected} is missing")
