"""Compares `views.db`, row by row, with a fold of the log that is built beside it."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import msgspec

from ..events import TasktrailError
from ..events.errors import HistoryMissing, KeysUnreadable
from ..events.log.event_log import ReadableLog, ReportProgress
from ..events.log.faults import UNREADABLE
from ..events.log.log_reader import LogReader
from ..events.log.schema import objects
from ..events.ranges import NumberRange, is_within, spans_of, united
from ..events.recorded import EVENT_TAGS
from ..events.system_events import ErasureFinished, UserErased
from ..events.task_events import is_erased
from .findings import Findings
from .queries.reader import connect
from .views.damage import find_damage
from .views.forgotten import holds_forgotten
from .views.rebuild import BULK_PAGE, pull
from .views.rows import COLUMNS, decode_state
from .views.schema import STAMP, TEXT_INDEXES
from .views.text_index import unread_part
from .views.writer import TaskViews

_USER_ERASED, _ERASURE_FINISHED = EVENT_TAGS[UserErased], EVENT_TAGS[ErasureFinished]
_VALUES = COLUMNS[:-2]
"""All columns but the checksums, which depend on how a value is written."""
_ROWS = f"SELECT {', '.join(_VALUES)} FROM tasks ORDER BY id"  # noqa: S608 - our own names
_OF_THE_LOG = {
    "progress": "SELECT position, hash, recorded_at, log FROM progress",
    "forgotten": "SELECT * FROM forgotten ORDER BY first",
}
"""Tables that follow from the log even while the views still have forgotten tasks."""
_NUMBERS = {
    "counts": "SELECT * FROM counts WHERE number != 0 ORDER BY type, status",
    "totals": "SELECT * FROM totals ORDER BY type",
    "durations": "SELECT * FROM durations ORDER BY type, bucket",
    "ends": "SELECT * FROM ends ORDER BY minute, status",
    "minutes": "SELECT * FROM minutes ORDER BY minute",
    "batches": "SELECT * FROM batches ORDER BY batch, user_id",
    "notices": "SELECT * FROM notices ORDER BY task_id, version, channel",
    "notes": "SELECT * FROM notes ORDER BY task_id, position",
    "dependants": "SELECT * FROM dependants ORDER BY depends_on, task_id",
    "disabled": "SELECT * FROM disabled ORDER BY target",
    "versions": "SELECT since, id, status, kind, user_id, lane, queue_key, changed, updated_at, version, text, state"
    " FROM versions ORDER BY since",
    "zones": "SELECT list, block, since, number, until FROM zones ORDER BY list, block, since",
    "tallies": "SELECT block, base, moves FROM tallies ORDER BY block",
    "shares": "SELECT tasks_of, since, base, moves FROM shares ORDER BY tasks_of, since",
    "texts": "SELECT id, number, since FROM texts ORDER BY id, number",
    **{index: f"SELECT term, doc, col, offset FROM temp.{index}_places" for index in TEXT_INDEXES},  # noqa: S608 - our own names
    # The row 1 of a text index counts its texts and words.
    **{f"{index}_data": f"SELECT block FROM {index}_data WHERE id = 1" for index in TEXT_INDEXES},  # noqa: S608 - our own names
    **{f"{index}_config": f"SELECT * FROM {index}_config ORDER BY k" for index in TEXT_INDEXES},  # noqa: S608 - our own names
}
_PLACES = "CREATE VIRTUAL TABLE temp.{0}_places USING fts5vocab (main, {0}, instance)"
"""Every place of every word, in the order of the index."""
_WORDS = "CREATE VIRTUAL TABLE temp.{0}_words USING fts5vocab (main, {0}, row)"
_LOST = """
    SELECT term FROM temp.{0}_words AS listed
    WHERE NOT EXISTS (SELECT 1 FROM temp.{0}_words AS asked WHERE asked.term = listed.term) LIMIT 1
"""
"""A word that the index lists but does not find in a search."""


def compare_views(
    log: LogReader, path: Path, findings: Findings, progress: ReportProgress | None, beside: Path | str = ""
) -> int | None:
    """Add the differences; returns the views' position, or None if they could not be compared.

    `beside`: the file for the new fold, which is then complete, with indexes; by default a temporary database.
    Raises `KeysUnreadable`.
    """
    try:
        conn = connect(path)[0]
    except TasktrailError as error:
        # A full disk may prevent reading a file with a write-ahead log: it is sound, and a rebuild would not help.
        cause = getattr(error.__cause__, "sqlite_errorname", "")
        remedy = error.advice if cause.startswith(("SQLITE_IOERR", "SQLITE_FULL", "SQLITE_CANTOPEN")) else ""
        findings.add(0, "views", error.message, remedy)
        return None
    try:
        conn.execute("BEGIN")
        stands = conn.execute("SELECT position, hash FROM progress").fetchone()
        if stands is None:
            findings.add(0, "views", f"{path} does not say how far it has come")
            return None
        position, digest = stands
        if not _stands_in(log, position, digest, findings):
            return None
        if conn.execute("PRAGMA user_version").fetchone()[0] != STAMP:
            message = f"{path} was built by another version, and is not compared: the next start rebuilds it"
            findings.add(position, "views", message)
            return None
        gone = _tasks_that_are_gone(log, position, 0) if _are_built_anew(log, conn, position) else []
        # For an empty name SQLite makes a database in a temporary file.
        fold = TaskViews(beside, bulk=True)
        try:
            pull(log, fold, position, BULK_PAGE, progress)
            fold.finish(indexes=bool(beside))
            if gone:
                _compare_others(conn, fold.connection, position, findings, gone)
                return None
            _compare_rows(conn, fold.connection, position, findings)
            _compare_numbers(conn, fold.connection, position, findings)
            _compare_schema(conn, position, findings)
            if findings and (gone := _tasks_that_are_gone(log, position, position)):
                findings.clear()
                _compare_others(conn, fold.connection, position, findings, gone)
                return None
            if not findings and (damage := find_damage(conn)):
                findings.add(position, "views", f"{path} is damaged: {damage}. The next start rebuilds it.")
        finally:
            fold.close()
    except KeysUnreadable:
        raise  # nothing is wrong with the views
    except (*UNREADABLE, TasktrailError, TypeError, ValueError) as error:  # a page may hold values of another table
        findings.add(0, "views", f"{path} cannot be compared: {error}")
        return None
    else:
        return int(position)
    finally:
        conn.close()


def _compare_schema(views: sqlite3.Connection, position: int, findings: Findings) -> None:
    made = TaskViews(":memory:")
    found, due = objects(views), objects(made.connection)
    made.close()
    for kind, name in sorted(found.keys() | due.keys()):
        if (kind, name) not in found:
            findings.add(position, "views", f"the {kind} {name} is missing")
        elif (kind, name) not in due:
            findings.add(position, "views", f"the {kind} {name} does not belong there")
        elif found[kind, name] != due[kind, name]:
            findings.add(position, "views", f"the {kind} {name} is not as it was made")


def _are_built_anew(log: ReadableLog, views: sqlite3.Connection, position: int) -> bool:
    """Whether the views still have forgotten tasks: then the service, or the next start, is about to replace them."""
    if log.drops(position):
        return True
    dropped_at = holds_forgotten(views)
    return bool(dropped_at) and any(drop.position == dropped_at for drop in log.drops(dropped_at - 1))


def _tasks_that_are_gone(log: LogReader, position: int, forgotten_after: int) -> list[NumberRange]:
    """The tasks of which views at a position may have data that is forgotten or erased in the log.

    The views are rebuilt because of them. Until then only rows of other tasks can be compared: numbers and words are
    over all tasks. An erasure counts until it is finished, as no views have its data then. Forgotten tasks count if
    they were forgotten after `forgotten_after`.
    """
    head = log.head().position
    finished = {
        record.event.erasure
        for at in log.newest_of(_ERASURE_FINISHED, 0, position, position)
        for record in log.read(at - 1, 1)
        if isinstance(record.event, ErasureFinished)
    }
    erased = (
        NumberRange(task_id, task_id)
        for at in log.newest_of(_USER_ERASED, 0, head, head)
        if at not in finished
        for record in log.read(at - 1, 1)
        if isinstance(record.event, UserErased)
        for task_id in record.event.tasks
    )
    return united(chain(erased, *(spans_of(drop.event.tasks) for drop in log.drops(forgotten_after))))


def _stands_in(log: ReadableLog, position: int, digest: bytes, findings: Findings) -> bool:
    """Whether the views belong to this log."""
    if position == 0:
        return True
    record = next(log.read(position - 1, 1), None)
    if record is not None and record.position == position and record.hash == digest:
        return True
    message = "the views were built from another log: the hash at their position differs"
    if record is None or record.position != position:
        message = f"the views stand at {position}, which the log does not hold"
    # They may be the only trace of records that the log lacks, so a rebuild is refused.
    findings.add(position, "views", message, HistoryMissing.remedy)
    return False


def _compare_rows(
    views: sqlite3.Connection,
    fold: sqlite3.Connection,
    position: int,
    findings: Findings,
    but: Sequence[NumberRange] = (),
) -> None:
    for found, due in _side_by_side(views.execute(_ROWS), fold.execute(_ROWS)):
        task_id = (found or due)[0]
        if is_within(task_id, but) and (due is None or is_erased(decode_state(due[0], *due[-2:]).spec)):
            continue  # a task whose data the log still holds is not gone, whatever a record says
        if found is None:
            findings.add(position, "views", f"task {task_id} is missing")
        elif due is None:
            findings.add(position, "views", f"task {task_id} is there and should not be")
        elif found != due:
            findings.views_read_more = findings.views_read_more or _reads_more(found, due)
            for difference in _differences(found, due):
                findings.add(position, "views", f"task {task_id}: {difference}")


def _compare_others(
    views: sqlite3.Connection, fold: sqlite3.Connection, position: int, findings: Findings, gone: Sequence[NumberRange]
) -> None:
    """Compare what is comparable while the views still have tasks that are gone."""
    _compare_rows(views, fold, position, findings, gone)
    _compare_tables(_OF_THE_LOG, views, fold, position, findings)


def _reads_more(found: tuple[Any, ...], due: tuple[Any, ...]) -> bool:
    try:
        known, folded = (decode_state(due[0], *row[-2:]) for row in (found, due))
    except (msgspec.DecodeError, TypeError):  # reported already
        return False
    return is_erased(folded.spec) and not is_erased(known.spec)


def _side_by_side(found: Iterator[Any], due: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    """Pairs of rows with the same id; None where one side has no such row."""
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
    # The same number may be written in two ways (1 and 1.0), so the decoded states are compared.
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
        for table in TEXT_INDEXES:
            conn.execute(_PLACES.format(table))
    _compare_tables(_OF_THE_LOG | _NUMBERS, views, fold, position, findings)
    for table in TEXT_INDEXES:
        views.execute(_WORDS.format(table))
        for (word,) in views.execute(_LOST.format(table)):
            findings.add(position, "views", f"table {table} lists the word {word!r}, and does not find it")
        if part := unread_part(views, table):
            findings.add(position, "views", f"table {table} has {part} that no search reads")


def _compare_tables(
    selects: Mapping[str, str],
    views: sqlite3.Connection,
    fold: sqlite3.Connection,
    position: int,
    findings: Findings,
) -> None:
    for table, select in selects.items():
        for found, due in zip_longest(views.execute(select), fold.execute(select)):
            if found != due:
                findings.add(position, "views", f"table {table} has {found}, the fold says {due}")
                break
