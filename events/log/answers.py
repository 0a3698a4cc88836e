"""Compares each answer with the records that its command led to, in the table of events or in archives."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from ..errors import TasktrailError
from ..recorded import STUB
from .archives import Archives
from .chain import checksum
from .faults import UNREADABLE, Fault
from .schema import APPLIED, sums_rows

_UNANSWERED = """
    SELECT max(position) AS last, command_id FROM events
    WHERE position > ? AND command_id != '' AND NOT (command_id GLOB 'schedule:*' AND actor GLOB 'schedule:*')
        AND NOT EXISTS (SELECT 1 FROM answers WHERE answers.command_id = events.command_id)
    GROUP BY command_id
    HAVING NOT EXISTS (
        SELECT 1 FROM events AS own JOIN events AS next ON next.position = own.position + 1
        WHERE own.position = last AND next.event = 'stub' AND next.recorded_at = own.recorded_at
    )
    ORDER BY 1
"""
"""Commands of a schedule have no answer, as nobody waits for one.

An answer points at its command's last record. If that was dropped, so was the answer: a stub of the same time may have
been this record, as all records of a command have one time.
"""
_MISLED = """
    SELECT answers.position, answers.command_id, events.command_id FROM answers
    LEFT JOIN events ON events.position = answers.position
    WHERE answers.position > ? AND events.command_id IS NOT answers.command_id
"""
_ANSWER_TO = "SELECT 1 FROM answers WHERE command_id = ?"
_EVENT_AND_TIME = "SELECT event, recorded_at FROM events WHERE position = ?"
_SUMMED = "SELECT command_id, digest, task_id, position, sum FROM answers"
_ANSWERED = """
    SELECT answers.command_id, answers.task_id, answers.position, events.command_id,
        events.task_id, events.event, events.data, answers.digest,
        CASE earlier.event WHEN 'stub' THEN answers.command_id ELSE earlier.command_id END, {sum}
    FROM answers
    LEFT JOIN events ON events.position = answers.position
    LEFT JOIN events AS earlier ON earlier.position = answers.position - 1
    WHERE {after}answers.position NOT BETWEEN 1 AND ?
    ORDER BY answers.command_id LIMIT ?
"""
_AFTER = "answers.command_id > CAST(? AS TEXT) AND "
_POINTING = """
    SELECT command_id, task_id, position, digest, {sum} FROM answers
    WHERE position BETWEEN 1 AND ? ORDER BY position, command_id
"""
_BACKWARDS = """
    SELECT command_id, task_id, event, data FROM events WHERE position <= ? AND position > ? ORDER BY position DESC
"""
NAMES_NO_COMMAND = "an answer names no command"
_FIRST_DATA = "SELECT data FROM events WHERE task_id = ? AND version = 1"


@contextmanager
def _any_text(conn: sqlite3.Connection) -> Iterator[None]:
    """Read text that is not UTF-8 with surrogates in it: one such record must not keep all answers from being checked.

    It takes time for each text, so it is for a few rows.
    """
    conn.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        conn.text_factory = str


def _rows(conn: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The rows, with surrogates in text that is not UTF-8. Raises `sqlite3.Error`."""
    try:
        return conn.execute(statement, values).fetchall()
    except sqlite3.OperationalError:
        with _any_text(conn):
            return conn.execute(statement, values).fetchall()


def _in_utf_8(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row with a backslash and two digits for each byte that is not UTF-8, as it can be shown."""
    return tuple(
        one.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") if isinstance(one, str) else one
        for one in row
    )


def unanswered(conn: sqlite3.Connection) -> Iterator[tuple[int, str]]:
    """The last position and the id of each command that led to records and has no answer.

    The records of a command are adjacent, so of archived commands only those without an answer are kept in memory.
    Raises `sqlite3.Error`, and `LogCorrupt` if an archive cannot be read.
    """
    missing = dict[str, int]()
    until, command_id, time = 0, "", ""
    for row in Archives(conn).rows():
        caused_by = "" if _is_of_a_schedule(row) else row[7]
        if command_id and caused_by != command_id:
            _note_if_unanswered(conn, missing, command_id, until, may_lack=row[3:5] == (STUB, time))
        until, command_id, time = row[0], caused_by, row[4]
    if command_id:
        follows = conn.execute(_EVENT_AND_TIME, (until + 1,)).fetchone()
        _note_if_unanswered(conn, missing, command_id, until, may_lack=follows == (STUB, time))
    yield from ((position, command_id) for command_id, position in missing.items())
    yield from map(_in_utf_8, _rows(conn, _UNANSWERED, (until,)))


def _is_of_a_schedule(row: tuple[Any, ...]) -> bool:
    return bool(row[7].startswith("schedule:") and row[5].startswith("schedule:"))


def _note_if_unanswered(
    conn: sqlite3.Connection, missing: dict[str, int], command_id: str, last: int, *, may_lack: bool
) -> None:
    """Note a command without an answer. `may_lack`: a stub of the same time follows its last record."""
    missing.pop(command_id, None)
    if not may_lack and not conn.execute(_ANSWER_TO, (command_id,)).fetchone():
        missing[command_id] = last


def answer_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    """Answers that have been altered, that point at another command's record, or that are missing."""
    try:
        for position, command_id in unanswered(conn):
            yield Fault(position, "answer", f"the answer to {command_id} is missing")
        archives = Archives(conn)
        misled = conn.execute(_MISLED, (archives.until(),))
        for position, command_id, caused_by in chain(misled, _misled_into(archives, conn)):
            yield Fault(position, "answer", f"the answer to {command_id} {misled_to(caused_by)}")
        if has_sums(conn):
            for *row, found in conn.execute(_SUMMED):
                if not row[0]:
                    yield Fault(row[3], "answer", NAMES_NO_COMMAND)
                elif not is_as_written(tuple(row), found):
                    yield Fault(row[3], "answer", f"the answer to {row[0]} is not as it was written")
    except (*UNREADABLE, TypeError, TasktrailError) as error:
        yield Fault(0, "file", f"the answers cannot be read: {error}")


def misled_to(caused_by: str | None) -> str:
    """Say where an answer points that does not point at a record of its own command.

    `caused_by`: the id of the command that led to the record there; None if there is no record.
    """
    where = "a position where there is no record" if caused_by is None else "the record of another command"
    return f"points at {where}"


def _misled_into(archives: Archives, conn: sqlite3.Connection) -> Iterator[tuple[int, str, str]]:
    return ((row[2], row[0], row[3]) for row in _answered_by(archives, conn, "NULL") if row[3] != row[0])


def _answered_by(archives: Archives, conn: sqlite3.Connection, total: str) -> Iterator[tuple[Any, ...]]:
    """The same as `read_answered` for answers that point into archives, in order of position."""
    answers = conn.execute(_POINTING.format(sum=total), (archives.until(),))
    rows, row, before = archives.rows(), None, None
    for command_id, task_id, position, digest, found in answers:
        while row is None or row[0] < position:
            before, row = row, next(rows)
        earlier = None if before is None else _own_if_stub(before, command_id)
        yield command_id, task_id, position, row[7], row[1], row[3], row[13], digest, earlier, found


def is_as_written(row: tuple[Any, ...], stored_sum: bytes) -> bool:
    """Whether the values of an answer match their sum."""
    return tuple(map(type, row)) == (str, bytes, int, int) and checksum(row) == stored_sum


def has_sums(conn: sqlite3.Connection) -> bool:
    """Whether the log is of a version that sums the rows outside the chain. Raises `sqlite3.Error`."""
    return sums_rows(len(conn.execute(APPLIED).fetchall()))


def read_answered(conn: sqlite3.Connection, page: int, *, sums: bool) -> Iterator[tuple[Any, ...]]:
    """Each answer with the record that it points at, `page` at a time. Raises `sqlite3.Error` and `LogCorrupt`.

    Each is a tuple: the answer's command id, task id and position; the record's command id, task id, event and data;
    the answer's digest; the command id of the record before, or the answer's own if that is a stub; the answer's sum,
    null without `sums`.
    """
    total = "answers.sum" if sums else "NULL"
    statement, after = _ANSWERED.format(after="", sum=total), tuple[bytes, ...]()
    archives = Archives(conn)
    until = archives.until()
    yield from _answered_by(archives, conn, total)
    while rows := _rows(conn, statement, (*after, until, page)):
        for row in map(_in_utf_8, rows):
            if row[3] is None and until < row[2] <= archives.until():  # archived since
                yield _from_archive(archives, row)
            elif row[2] == until + 1 and (before := archives.row(until)) is not None:
                yield (*row[:8], _own_if_stub(before, row[0]), row[9])
            else:
                yield row
        last = (rows[-1][0].encode("utf-8", "surrogateescape"),)
        if last <= after:
            raise sqlite3.DatabaseError("the answers do not stand in the order of their command ids")
        statement, after = _ANSWERED.format(after=_AFTER, sum=total), last


def _from_archive(archives: Archives, answer: tuple[Any, ...]) -> tuple[Any, ...]:
    row, before = archives.row(answer[2]), archives.row(answer[2] - 1)
    assert row is not None
    earlier = None if before is None else _own_if_stub(before, answer[0])
    return (*answer[:3], row[7], row[1], row[3], row[13], answer[7], earlier, answer[9])


def _own_if_stub(row: tuple[Any, ...], command_id: str) -> object:
    return command_id if row[3] == STUB else row[7]


def first_of(conn: sqlite3.Connection, command_id: str, position: int) -> tuple[Any, ...] | None:
    """Task id, event and data of the first record that the command led to; the last is at `position`.

    These records are adjacent. A stub right before them counts as one, because it may be. Raises `sqlite3.Error`.
    """
    first = None
    archives = Archives(conn)
    archived = ((row[7], row[1], row[3], row[13]) for row in archives.backwards(position))
    with _any_text(conn):
        stored = conn.execute(_BACKWARDS, (position, archives.until()))
        for caused_by, *record in chain(stored, archived):
            if caused_by != command_id and record[1] != STUB:
                break
            first = tuple(record)
            if caused_by != command_id:
                break
    return first


def line_of(conn: sqlite3.Connection, task_id: int) -> list[int]:
    """The task, its parent, that one's parent, and so on. Raises `sqlite3.Error`."""
    line: list[int] = []
    one: object = task_id
    while isinstance(one, int) and one not in line:
        line.append(one)
        with _any_text(conn):
            row = conn.execute(_FIRST_DATA, (one,)).fetchone()
        data = row[0] if row else next((row[13] for row in Archives(conn).of_task(one)), "{}")
        try:
            one = json.loads(data).get("parent_task_id")
        except (ValueError, AttributeError, RecursionError):
            break
    return line
