"""Stubs: what is left of dropped records, and the check that a later record says why.

A record that drops others names their positions and a digest of what is left of them. So nobody can change, add or
remove a stub unnoticed, even if no seal covers it. That record and the dropping are one commit.
"""

from base64 import b64decode, b64encode
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from ..errors import LogCorrupt, TaskForgotten
from ..ranges import NumberRange, is_within, shortened, spans_of, to_ranges
from ..recorded import EVENT_TAGS, STUB, Recorded, Stub
from ..system_events import TasksForgotten
from .archives import Archives, archived_until
from .rows import COLUMNS

if TYPE_CHECKING:
    import sqlite3

DROPS = TasksForgotten
"""The event that drops records. It has `positions` and `stubs`."""
DROPPING = EVENT_TAGS[TasksForgotten]
"""Its tag. The schema of the log names it, too: records can become stubs only while such a record is the last."""
_MARK = 2
LEFT = "position, task_id, version, recorded_at, hash"
"""The columns that a stub keeps."""
_EMPTY = {"event": STUB, "data": "{}", "attempt": 0, "life": 0, "terminal": 0}
STUB_ROW = tuple(_EMPTY.get(column, "") for column in COLUMNS[5:])
_ODD_FORM = "it is a stub of a form that tasktrail does not write"
_DROP = "DELETE FROM events WHERE position BETWEEN ? AND ?"
_PUT = f"""
    INSERT INTO events ({", ".join(COLUMNS)}, hash)
    VALUES (?1, ?2, ?3, '{STUB}', ?4, {", ".join(map(repr, STUB_ROW))}, ?5)
"""  # noqa: S608 - our own names
_LEFT_IN = f"SELECT {LEFT}, command_id FROM events WHERE position BETWEEN ? AND ? ORDER BY position"  # noqa: S608 - our own names
_POSITIONS = "SELECT position FROM events WHERE task_id = ? ORDER BY version"
_ANSWER = "DELETE FROM answers WHERE command_id = ? AND position = ?"
"""By command id: there is no index on positions, and there may be a million answers."""
_OF_DROPS = f"""
    SELECT position, CAST(data AS BLOB) FROM events WHERE event = '{DROPPING}' AND position > ? ORDER BY position
"""  # noqa: S608 - our own names
"""As bytes: SQLite gives no row at all when a text in one of them is not UTF-8."""


class Drop(NamedTuple):
    """A record that has dropped others."""

    position: int
    event: TasksForgotten


class StubDigest:
    """The digest over what is left of records, added in order: two bytes for each, then 32 over all.

    The 32 bytes show whether anything was changed, the two bytes where.
    """

    def __init__(self) -> None:
        self.number = 0
        """How many were added."""
        self._marks = bytearray()
        self._whole = sha256()

    def add(self, position: int, task_id: int, version: int, recorded_at: str, digest: bytes) -> bytes:
        """Add the next record; returns its two bytes."""
        one = sha256(f"{position} {task_id} {version} {recorded_at} {digest.hex()}".encode()).digest()
        self._whole.update(one)
        self._marks += one[:_MARK]
        self.number += 1
        return one[:_MARK]

    def text(self) -> str:
        """The digest in base64."""
        return b64encode(self._marks + self._whole.digest()).decode()


def digest_of(rows: Iterable[tuple[Any, ...]]) -> str:
    """The digest of rows with the columns in `LEFT`."""
    digest = StubDigest()
    for row in rows:
        digest.add(*row)
    return digest.text()


def left_of(conn: "sqlite3.Connection", spans: Iterable[NumberRange]) -> Iterator[tuple[Any, ...]]:
    """The columns `LEFT` of the records, or stubs, in spans of positions, in order. Raises `sqlite3.Error`."""
    return (row[:-1] for row in _left_and_commands(conn, spans))


def _left_and_commands(conn: "sqlite3.Connection", spans: Iterable[NumberRange]) -> Iterator[tuple[Any, ...]]:
    """The same, each with the id of the command that caused the record."""
    archives = Archives(conn)
    until, spans = archives.until(), list(spans)
    archived = [NumberRange(first, min(last, until)) for first, last in spans if first <= until]
    yield from ((*left_in(row), row[7]) for row in archives.within(archived))
    for first, last in spans:
        if last > until:
            yield from conn.execute(_LEFT_IN, (max(first, until + 1), last))


def to_drop(conn: "sqlite3.Connection", tasks: Iterable[int], others: Iterable[int] = ()) -> tuple[str, str]:
    """The `positions` and `stubs` of an event that drops all records of `tasks`, and the positions `others`.

    Raises `sqlite3.Error`.
    """
    found = set(others)
    archives = Archives(conn)
    for task_id in tasks:
        found.update(position for (position,) in conn.execute(_POSITIONS, (task_id,)))
        found.update(row[0] for row in archives.of_task(task_id))
    positions = to_ranges(found)
    return positions, digest_of(left_of(conn, spans_of(positions)))


def put_stubs(conn: "sqlite3.Connection", event: DROPS) -> bool:
    """Replace the records that an event drops by stubs, in the transaction in which it was appended.

    The rows are deleted first, or SQLite would not free the pages that become empty. Archives are not changed here.
    Returns whether all was as the event says; if not, roll back. Raises `sqlite3.Error`.
    """
    spans = spans_of(event.positions)
    rows = list(_left_and_commands(conn, spans))
    left = [row[:-1] for row in rows]
    if digest_of(left) != event.stubs:
        return False
    until = archived_until(conn)
    conn.executemany(_DROP, spans)
    conn.executemany(_PUT, [row for row in left if row[0] > until])
    conn.executemany(_ANSWER, [(row[-1], row[0]) for row in rows if row[-1]])
    return True


def left_in(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The columns in `LEFT` of a row."""
    return (row[0], row[1], row[2], row[4], row[14])


def as_stub(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The stub that replaces a row, its hash last."""
    return (*row[:3], STUB, row[4], *STUB_ROW, row[14])


def stub_of(record: Recorded) -> Recorded:
    """The stub that replaces a record."""
    return Recorded(
        record.task_id, record.version, Stub(), record.recorded_at, position=record.position, hash=record.hash
    )


def read_drops(conn: "sqlite3.Connection", after: int = 0, *, lenient: bool = False) -> Iterator[Drop]:
    """The records after a position that have dropped others. Unreadable ones are skipped: other checks report them.

    `lenient`, for checks: unreadable archives are skipped, too, and files are read even if they are not those noted.
    Raises `sqlite3.Error` and `LogCorrupt`.
    """
    # All at once: an open statement sees the table of archives as of its start, and their files may be replaced by now.
    stored = conn.execute(_OF_DROPS, (max(after, archived_until(conn)),)).fetchall()
    archives = Archives(conn, any_file=lenient)
    archived = ((row[0], row[13]) for row in archives.of_kind(DROPPING, after, lenient=lenient))
    reached = after
    for position, data in chain(archived, stored):
        if position <= reached:  # it was archived between the two queries
            continue
        reached = position
        try:
            yield Drop(position, _DECODER.decode(data))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue


class _Dropped(Protocol):
    """A log that can say what it has dropped."""

    def drops(self, after: int = 0) -> list[Drop]:
        """The records after a position that have dropped others."""


def spans_dropped(position: int, data: str) -> list[NumberRange]:
    """The positions that the record at `position`, with this data, has dropped. Raises `LogCorrupt`."""
    try:
        return spans_of(_DECODER.decode(data).positions)
    except (msgspec.DecodeError, ValueError) as error:
        raise LogCorrupt(f"Position {position}: the record's list of what it has dropped cannot be read") from error


def forgotten(log: _Dropped, task_id: int) -> TaskForgotten | None:
    """The error for a task that was forgotten; None for any other."""
    for position, event in reversed(log.drops()):
        with suppress(ValueError):
            if any(first <= task_id <= last for first, last in spans_of(event.tasks)):
                return TaskForgotten(
                    f"Task {task_id} was forgotten at position {position}: {event.rule.words}", field="task_id"
                )
    return None


_DECODER = msgspec.json.Decoder(TasksForgotten)


class StubFault(NamedTuple):
    """A fault of a stub, or of a record that should be one."""

    position: int
    dropped_at: int
    """The position of the drop that revealed it, which may itself have been changed; 0: no drop explains the stub."""
    message: str
    by_itself: bool = False
    """Whether the row shows the fault, whatever the drop says."""


class _Account:
    """The check of the stubs of one drop."""

    def __init__(self, drop: Drop) -> None:
        self.position, self.event = drop
        self.digest = StubDigest()
        self.marks = _marks_in(drop.event.stubs)
        self.excused = False
        """Whether nothing more is reported of it: a fault is known, or some of its records were not seen as stubs."""
        self.late = False
        """Whether it was recorded while the check ran: any of its records may have been read before it was dropped."""
        self.begun = 0
        """The number of tasks whose first record was seen."""
        self.only_begun: set[int] = set()
        """Those of them whose only record seen is the first."""
        self.ended_at = ""
        """The time of the last record of a task so far: the end of that task."""
        self._tasks = _numbers_in(drop.event.tasks)

    def wrong_with(self, task_id: int, version: int, recorded_at: str) -> str:
        """Why the next of these records must not be forgotten, in words; empty if it may."""
        if not task_id:
            spoken_of = self.begun  # no record about a task comes before the task's first one
            return "" if spoken_of else f"{self._says} forgotten, but this record is older than all of them"
        if not is_within(task_id, self._tasks):
            return f"{self._says} forgotten, but this record is of task {task_id}"
        self.ended_at = recorded_at
        if version == 1:
            self.begun += 1
            self.only_begun.add(task_id)
        else:
            self.only_begun.discard(task_id)
        return ""

    def wrong_with_whole(self) -> str:
        """The fault that shows once all records were seen, in words; else empty."""
        if not (_are_ranges(self.event.tasks) and _are_ranges(self.event.positions)):
            return f"the record at {self.position} has a list of forgotten tasks that cannot be read"
        due = sum(last - first + 1 for first, last in self._tasks)
        if self.begun != due:
            return f"{self._says} forgotten, which are {due}, and {self.begun} were there"
        if self.only_begun:
            return f"{self._says} forgotten, and task {min(self.only_begun)} was not over: it was only created"
        return ""

    def wrong_with_time(self, recorded_at: str) -> str:
        """Why its rule did not allow it at the time of the drop, in words; empty if it did."""
        age = self.event.rule.older_than
        if age is None:
            return "it forgets tasks by a rule that keeps them"
        try:
            passed = datetime.fromisoformat(recorded_at) - datetime.fromisoformat(self.ended_at or recorded_at)
            early = passed < timedelta(seconds=age)
        except (ValueError, TypeError, OverflowError):  # other checks report unreadable times
            return ""
        return f"it forgets what is older than {age:g} s, but one of the tasks is not" if early else ""

    @property
    def _says(self) -> str:
        return f"the record at {self.position} says that tasks {shortened(self.event.tasks)} were"


class StubCheck:
    """Compares stubs, given in order of position, with the records that have dropped them.

    A drop forgets whole tasks, and only tasks that were over. So it cannot be used to hide a single record of a task.
    About a stub of the service's own only this is known: it is younger than one of the tasks.

    Args:
        drops: returns the dropping records after a position. It is called again for a stub that none of them explains:
            a running service may have made it meanwhile.
    """

    def __init__(self, drops: Callable[[int], Iterable[Drop]]) -> None:
        self.stubs = 0
        """How many stubs were seen."""
        self.of_service = 0
        """How many of them belong to no task."""
        self._read = drops
        self._accounts: list[_Account] = []
        self._spans: list[tuple[NumberRange, int]] = []
        self._tasks: list[tuple[NumberRange, int]] = []
        self._at: dict[int, int] = {}
        """Position of a drop → its number."""
        self._add_drops(0)

    @property
    def drops(self) -> int:
        """How many records have dropped others."""
        return len(self._accounts)

    def _add_drops(self, after: int) -> None:
        for drop in self._read(after):
            number = len(self._accounts)
            self._accounts.append(_Account(drop))
            self._at[drop.position] = number
            # Unreadable ranges explain nothing.
            self._spans += [(span, number) for span in _numbers_in(drop.event.positions)]
            self._tasks += [(span, number) for span in _numbers_in(drop.event.tasks)]
        self._spans = _without_overlaps(self._spans)
        self._tasks.sort()

    def see(self, row: tuple[Any, ...]) -> StubFault | None:
        """Check the raw stored values of the next record, its hash last; returns its fault, if any."""
        position, task_id = row[:2]
        number = _number_of(position, self._spans)
        if row[3] == STUB and number is None:
            self._add_later_drops()
            number = _number_of(position, self._spans)
        account = None if number is None else self._accounts[number]
        if row[3] == STUB:
            self.stubs += 1
            self.of_service += task_id == 0
            wrong = self._wrong_with(row, account)
        elif account is not None:
            account.excused = True
            says = f"the record at {account.position} says that this one was dropped, but it is still there"
            wrong = "" if account.late else says
        elif (of := _number_of(task_id, self._tasks)) is not None and not self._accounts[of].excused:
            account = self._accounts[of]
            account.excused = True
            wrong = f"the record at {account.position} says that task {task_id} was forgotten, but this is still there"
        elif (at := self._at.get(position)) is not None and not self._accounts[at].excused:
            account = self._accounts[at]
            wrong = account.wrong_with_time(row[4])
        else:
            wrong = ""
        dropped_at = 0 if account is None else account.position
        return StubFault(position, dropped_at, wrong, wrong == _ODD_FORM) if wrong else None

    def lose(self, first: int, last: int) -> None:
        """Note that the records in this range cannot be read."""
        for span, number in self._spans:
            if span.first <= last and span.last >= first:
                self._accounts[number].excused = True

    def _add_later_drops(self) -> None:
        """Read the drops that a running service has made since."""
        known = len(self._accounts)
        self._add_drops(self._accounts[-1].position if self._accounts else 0)
        for account in self._accounts[known:]:
            account.excused = account.late = True

    def _wrong_with(self, row: tuple[Any, ...], account: _Account | None) -> str:
        at = 0 if account is None else _MARK * account.digest.number
        mark = b"" if account is None else account.digest.add(row[0], row[1], row[2], row[4], row[14])
        of_other = "" if account is None else account.wrong_with(row[1], row[2], row[4])
        if row[5:14] != STUB_ROW:
            return _ODD_FORM
        if account is None or account.position <= row[0]:
            return "the record is gone, and no later one says why"
        if account.excused:
            return ""
        if mark != account.marks[at : at + _MARK]:
            account.excused = True
            return f"it is not the stub that the record at {account.position} has left here"
        account.excused = bool(of_other)
        return of_other

    def faults(self) -> Iterator[StubFault]:
        """Faults that show only at the end of the log."""
        for number, account in enumerate(self._accounts):
            if account.excused:
                continue
            position = account.position
            if account.digest.text() != account.event.stubs:
                spans = [span for span, of in self._spans if of == number]
                first = _nth(spans, account.digest.number) or (spans[0].first if spans else position)
                wrong = f"the stubs from here on are not those that the record at {position} has made"
                yield StubFault(first, position, wrong)
            elif wrong := account.wrong_with_whole():
                yield StubFault(position, position, wrong)
        for (before, _), (span, number) in pairwise(self._tasks):
            if span.first <= before.last:
                position = self._accounts[number].position
                yield StubFault(position, position, f"task {span.first} is said to be forgotten twice")


def _without_overlaps(spans: list[tuple[NumberRange, int]]) -> list[tuple[NumberRange, int]]:
    """The spans of drops, in order, without those that an earlier drop has, too: nothing can be dropped twice."""
    kept = list[tuple[NumberRange, int]]()
    for span, number in sorted(spans):
        while kept and span.first <= kept[-1][0].last and number < kept[-1][1]:
            kept.pop()
        if not kept or span.first > kept[-1][0].last or number == kept[-1][1]:
            kept.append((span, number))
    return kept


def _nth(spans: list[NumberRange], index: int) -> int:
    """The number at this index, from 0 on, of all in the spans; 0 if there are not as many."""
    for first, last in spans:
        if index <= last - first:
            return first + index
        index -= last - first + 1
    return 0


def _numbers_in(ranges: str) -> list[NumberRange]:
    """The spans that ranges stand for; none for unreadable text."""
    with suppress(ValueError):
        return spans_of(ranges)
    return []


def _are_ranges(text: str) -> bool:
    return not text or bool(_numbers_in(text))


def _number_of(wanted: int, spans: list[tuple[NumberRange, int]]) -> int | None:
    """The value of the span that contains a number; None if no span does."""
    place = bisect_right(spans, wanted, key=_first) - 1
    if place < 0 or wanted > spans[place][0].last:
        return None
    return spans[place][1]


def _marks_in(stubs: str) -> bytes:
    try:
        return b64decode(stubs, validate=True)
    except ValueError:
        return b""


def _first(entry: tuple[NumberRange, int]) -> int:
    return entry[0].first
