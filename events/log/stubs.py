"""Stubs: what is left of records that were dropped, and the check that a later record says why.

A record that drops others names their positions, and a digest of what is left of them: so no stub can be changed, put
in or taken away unseen, whether or not a seal has seen it. Dropping and that record are one commit.
"""

from base64 import b64decode, b64encode
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from ..errors import TaskForgotten
from ..ranges import NumberRange, spans_of, to_ranges
from ..recorded import EVENT_TAGS, STUB, Recorded, Stub
from ..system_events import TasksForgotten
from .archives import Archives, archived_until
from .rows import COLUMNS

if TYPE_CHECKING:
    import sqlite3

DROPS = TasksForgotten
"""The event that drops records. It has `positions` and `stubs`."""
DROPPING = EVENT_TAGS[TasksForgotten]
"""Its tag. The schema of the log names it as well: only behind such a record may another one become a stub."""
_MARK = 2
LEFT = "position, task_id, version, recorded_at, hash"
"""The columns that a stub keeps."""
_EMPTY = {"event": STUB, "data": "{}", "attempt": 0, "life": 0, "terminal": 0}
STUB_ROW = tuple(_EMPTY.get(column, "") for column in COLUMNS[5:])
_DROP = "DELETE FROM events WHERE position BETWEEN ? AND ?"
_PUT = f"""
    INSERT INTO events ({", ".join(COLUMNS)}, hash)
    VALUES (?1, ?2, ?3, '{STUB}', ?4, {", ".join(map(repr, STUB_ROW))}, ?5)
"""  # noqa: S608 - our own names
_LEFT_IN = f"SELECT {LEFT} FROM events WHERE position BETWEEN ? AND ? ORDER BY position"  # noqa: S608 - our own names
_POSITIONS = "SELECT position FROM events WHERE task_id = ? ORDER BY version"
_ANSWERS = "DELETE FROM answers WHERE position BETWEEN ? AND ?"
_OF_DROPS = f"SELECT position, data FROM events WHERE event = '{DROPPING}' AND position > ? ORDER BY position"  # noqa: S608 - our own names


class Drop(NamedTuple):
    """A record that has dropped others."""

    position: int
    event: TasksForgotten


class StubDigest:
    """Over what is left of records, told in order: two bytes for each, then 32 over all.

    The 32 show whether anything was changed, the two bytes where.
    """

    def __init__(self) -> None:
        self.number = 0
        """How many were told."""
        self._marks = bytearray()
        self._whole = sha256()

    def add(self, position: int, task_id: int, version: int, recorded_at: str, digest: bytes) -> bytes:
        """The next one; answers with its two bytes."""
        one = sha256(f"{position} {task_id} {version} {recorded_at} {digest.hex()}".encode()).digest()
        self._whole.update(one)
        self._marks += one[:_MARK]
        self.number += 1
        return one[:_MARK]

    def text(self) -> str:
        """In base64."""
        return b64encode(self._marks + self._whole.digest()).decode()


def digest_of(rows: Iterable[tuple[Any, ...]]) -> str:
    """The digest of rows with the columns in `LEFT`."""
    digest = StubDigest()
    for row in rows:
        digest.add(*row)
    return digest.text()


def left_of(conn: "sqlite3.Connection", spans: Iterable[NumberRange]) -> Iterator[tuple[Any, ...]]:
    """What will be, or is, left of the records in spans of positions. Raises `sqlite3.Error`."""
    archives = Archives(conn)
    until = archives.until()
    for first, last in spans:
        yield from (left_in(row) for row in archives.within([NumberRange(first, min(last, until))]))
        yield from conn.execute(_LEFT_IN, (max(first, until + 1), last))


def to_drop(conn: "sqlite3.Connection", tasks: Iterable[int], others: Iterable[int] = ()) -> tuple[str, str]:
    """The `positions` and `stubs` of an event that drops all records of tasks, and others. Raises `sqlite3.Error`."""
    found = set(others)
    archives = Archives(conn)
    for task_id in tasks:
        found.update(position for (position,) in conn.execute(_POSITIONS, (task_id,)))
        found.update(row[0] for row in archives.of_task(task_id))
    positions = to_ranges(found)
    return positions, digest_of(left_of(conn, spans_of(positions)))


def put_stubs(conn: "sqlite3.Connection", event: DROPS) -> bool:
    """Put stubs in the place of the records that an event drops, within the transaction in which it was appended.

    The rows are deleted first: only so SQLite gives back the pages that become empty. Archives are not changed here.
    Answers whether all was as the event says; if not, roll back. Raises `sqlite3.Error`.
    """
    spans = spans_of(event.positions)
    left = list(left_of(conn, spans))
    if digest_of(left) != event.stubs:
        return False
    until = archived_until(conn)
    left = [row for row in left if row[0] > until]
    conn.executemany(_DROP, spans)
    conn.executemany(_PUT, left)
    conn.executemany(_ANSWERS, spans)
    return True


def left_in(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The columns in `LEFT` of a row."""
    return (row[0], row[1], row[2], row[4], row[14])


def as_stub(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row of the stub that takes the place of a row, its hash last."""
    return (*row[:3], STUB, row[4], *STUB_ROW, row[14])


def stub_of(record: Recorded) -> Recorded:
    """What is left of a record."""
    return Recorded(
        record.task_id, record.version, Stub(), record.recorded_at, position=record.position, hash=record.hash
    )


def read_drops(conn: "sqlite3.Connection", after: int = 0, *, lenient: bool = False) -> Iterator[Drop]:
    """The records behind a position that have dropped others. One that cannot be read is left to other checks.

    `lenient`: so is an archive. Raises `sqlite3.Error` and `LogCorrupt`.
    """
    archived = ((row[0], row[13]) for row in Archives(conn).of_kind(DROPPING, after, lenient=lenient))
    until = archived_until(conn)
    for position, data in chain(archived, conn.execute(_OF_DROPS, (max(after, until),))):
        try:
            yield Drop(position, _DECODER.decode(data))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue


class _Dropped(Protocol):
    """A log that can say what it has dropped."""

    def drops(self, after: int = 0) -> list[Drop]:
        """The records behind a position that have dropped others."""


def forgotten(log: _Dropped, task_id: int) -> TaskForgotten | None:
    """The error for a task that was forgotten; none for others."""
    for position, event in reversed(log.drops()):
        with suppress(ValueError):
            if any(first <= task_id <= last for first, last in spans_of(event.tasks)):
                return TaskForgotten(
                    f"Task {task_id} was forgotten at position {position}: {event.rule.words}", field="task_id"
                )
    return None


_DECODER = msgspec.json.Decoder(TasksForgotten)


class StubFault(NamedTuple):
    """What is wrong with a stub, or with a record that should be one."""

    position: int
    dropped_at: int
    """The record by which it was found; 0: none explains it. It may be that one which was changed."""
    message: str


class StubCheck:
    """Holds stubs, told in order of position, against the records that have dropped them.

    Args:
        drops: answers with those of these records that stand behind a position. It is asked again for a stub that
            none of them explains: a service that runs may have made it meanwhile.
    """

    def __init__(self, drops: Callable[[int], Iterable[Drop]]) -> None:
        self.stubs = 0
        """How many were told."""
        self._read = drops
        self._drops: list[Drop] = []
        self._digests: list[StubDigest] = []
        self._marks: list[bytes] = []
        self._spans: list[tuple[NumberRange, int]] = []
        self._excused: set[int] = set()
        """Those of which no more is told: one is known not to fit, or was told before it was dropped."""
        self._take(0)

    def _take(self, after: int) -> None:
        for drop in self._read(after):
            number = len(self._drops)
            self._drops.append(drop)
            self._digests.append(StubDigest())
            self._marks.append(_marks_in(drop.event.stubs))
            with suppress(ValueError):  # its stubs then have nothing that explains them
                self._spans += [(span, number) for span in spans_of(drop.event.positions)]
        self._spans.sort()

    def see(self, row: tuple[Any, ...]) -> StubFault | None:
        """The raw stored values of the next record, its hash last; what is wrong."""
        position = row[0]
        number = self._drop_of(position)
        if row[3] == STUB and number is None:
            self._take_more()
            number = self._drop_of(position)
        dropped_at = 0 if number is None else self._drops[number].position
        if row[3] == STUB:
            self.stubs += 1
            wrong = self._wrong_with(row, number, dropped_at)
        else:
            wrong = f"the record at {dropped_at} says that this one was dropped, and it is there" if dropped_at else ""
            self._excused.update(() if number is None else (number,))
        return StubFault(position, dropped_at, wrong) if wrong else None

    def lose(self, first: int, last: int) -> None:
        """The records in this range are not there to be told of."""
        self._excused.update(number for span, number in self._spans if span.first <= last and span.last >= first)

    def _take_more(self) -> None:
        """A service may have dropped records since they were told of."""
        known = len(self._drops)
        self._take(self._drops[-1].position if self._drops else 0)
        self._excused.update(range(known, len(self._drops)))

    def _wrong_with(self, row: tuple[Any, ...], number: int | None, dropped_at: int) -> str:
        digest, at = (None, 0) if number is None else (self._digests[number], _MARK * self._digests[number].number)
        mark = b"" if digest is None else digest.add(row[0], row[1], row[2], row[4], row[14])
        if row[5:14] != STUB_ROW:
            return "it is a stub, and not as one is made"
        if number is None or dropped_at <= row[0]:
            return "the record is gone, and no later one says why"
        if mark != self._marks[number][at : at + _MARK] and number not in self._excused:
            self._excused.add(number)
            return f"it is not what the record at {dropped_at} has left of this one"
        return ""

    def _drop_of(self, position: int) -> int | None:
        place = bisect_right(self._spans, position, key=_first) - 1
        if place < 0 or position > self._spans[place][0].last:
            return None
        return self._spans[place][1]

    def faults(self) -> Iterator[StubFault]:
        """What only the end of the log shows."""
        for number, (position, event) in enumerate(self._drops):
            if number not in self._excused and self._digests[number].text() != event.stubs:
                first = next((span.first for span, of in self._spans if of == number), position)
                wrong = f"the stubs from here on are not those that the record at {position} has made"
                yield StubFault(first, position, wrong)


def _marks_in(stubs: str) -> bytes:
    try:
        return b64decode(stubs, validate=True)
    except ValueError:
        return b""


def _first(entry: tuple[NumberRange, int]) -> int:
    return entry[0].first
