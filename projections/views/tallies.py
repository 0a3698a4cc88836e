"""The numbers over all tasks at every position: stored whole now and then, with each move in between."""

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, cast, get_args

import msgspec

from ...events import Status
from ...events.log.inserting import insert_rows
from ...events.state import FINISHED
from ..errors import ViewsDamaged
from .checksums import sound, with_sums
from .fold import Change, Minute, bucket, minute_of

BLOCK = 64
"""Positions that a row covers."""
_WITH_DURATIONS = 64
"""The durations, which are many, are written only in every row whose number is divisible by this."""
_STATUSES: tuple[Status, ...] = get_args(Status)
_PLACE = {status: place for place, status in enumerate(_STATUSES)}
_RUNNING = _PLACE["running"]
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_NEW = -1
"""The status before of a new task."""

Move: TypeAlias = list[Any]
"""One of three kinds:

- a type's name, which gets the next number;
- the offset in the block, and the minute that begins there;
- the offset, type, status before and after, the growth of attempts and retries, the wait of an attempt that started or
  the class of duration of one that completed, and the task's id if it was created, or began or stopped running.
"""


class Numbers(msgspec.Struct, omit_defaults=True):
    """The numbers at one position."""

    types: list[str] = []
    counts: list[list[int]] = []
    """For each type, in the order of their first tasks: the tasks in each status, then attempts and retries."""
    durations: list[dict[int, int]] = []
    """For each type: class of duration → number of completed lives."""
    top: int = 0
    """The newest task."""
    running: list[int] = []
    """The running tasks."""
    minute: int = 0
    """The last minute in which anything happened."""
    begun: Minute = msgspec.field(default_factory=Minute)
    """What began in that minute so far."""
    ended: dict[Status, int] = {}
    """How many lives ended in that minute so far, by status."""

    def follow(self, move: Move) -> None:
        """Apply one move."""
        if len(move) == 1:
            self.types.append(move[0])
            self.counts.append([0] * (len(_STATUSES) + 2))
            self.durations.append({})
        elif len(move) == 2:  # noqa: PLR2004 - see Move
            self.minute, self.begun, self.ended = move[1], Minute(), {}
        else:
            self.count(move)

    def count(self, move: Move) -> None:
        """Apply a move of the third kind."""
        _offset, kind, was, now, attempts, retries, detail, task_id = move
        numbers = self.counts[kind]
        if was == _NEW:
            self.begun.created += 1
            self.top = task_id
        else:
            numbers[was] -= 1
        numbers[now] += 1
        numbers[-2] += attempts
        numbers[-1] += retries
        status = _STATUSES[now]
        if was == now:
            return
        if was == _RUNNING:
            self.running.remove(task_id)
        if now == _RUNNING:
            self.running.append(task_id)
            self.begun.starts(detail)
        elif status in FINISHED:
            self.ended[status] = self.ended.get(status, 0) + 1
            if status == "completed":
                self.durations[kind][detail] = self.durations[kind].get(detail, 0) + 1

    def by_type_and_status(self) -> dict[tuple[str, str], int]:
        """(type, status) → number of tasks, where there are any."""
        return {
            (kind, status): number
            for kind, numbers in zip(self.types, self.counts, strict=True)
            for status, number in zip(_STATUSES, numbers, strict=False)
            if number
        }

    def attempts_and_retries(self) -> dict[str, tuple[int, int]]:
        """Type → attempts and retries."""
        return {kind: (numbers[-2], numbers[-1]) for kind, numbers in zip(self.types, self.counts, strict=True)}


_ENCODE = msgspec.json.Encoder().encode
_NUMBERS = msgspec.json.Decoder(Numbers)
_MOVES = msgspec.json.Decoder(list[Move])


def _text(numbers: Numbers, *, durations: bool) -> str:
    text = _ENCODE(numbers) if durations else _ENCODE(msgspec.structs.replace(numbers, durations=[]))
    return text.decode()


class Tallies:
    """Writes the numbers, record by record."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._numbers = Numbers()
        self._block, self._base = -1, ""
        self.last = 0
        """The last position of the block."""
        self._minute = (_LONG_AGO, _LONG_AGO)
        """The first and the last moment of the current minute."""
        self._moves: list[Move] = []
        self._rows: list[tuple[int, str, str]] = []
        last = conn.execute("SELECT max(block) FROM tallies").fetchone()[0]
        if last is not None:
            self._block, self.last = last, (last + 1) * BLOCK
            self._numbers = read_numbers(conn, (last + 1) * BLOCK, durations=True)
            ((_block, self._base, moves),) = _rows(conn, last, last)
            self._moves = _MOVES.decode(moves)
        self._kinds = {kind: number for number, kind in enumerate(self._numbers.types)}

    def go_on(self, position: int) -> None:
        """Begin the block of the next record, whose position lies after the last block."""
        self._end()
        self._block, self._moves = (position - 1) // BLOCK, []
        self.last = (self._block + 1) * BLOCK
        self._base = _text(self._numbers, durations=self._block % _WITH_DURATIONS == 0)

    def add_change(self, change: Change, kind: int) -> None:
        """Count the change of a task. `kind`: the number of its type."""
        before, after = change.before, change.after
        was = _NEW if before is None else _PLACE[before.status]
        now = _PLACE[after.status]
        attempts = after.attempt - (0 if before is None else before.attempt)
        retries = after.retry_count - (0 if before is None else before.retry_count)
        if was == now and not attempts and not retries:
            return
        offset = (change.position - 1) % BLOCK
        if not self._minute[0] <= change.at <= self._minute[1]:
            self._begin_minute(change.at, offset)
        detail: float | None = None
        if after.status == "running" and before is not None:
            detail = max(0.0, (change.at - before.queued_since).total_seconds())
        elif after.status == "completed":
            detail = bucket(after.duration)
        task_id = after.id if _RUNNING in (was, now) or was == _NEW else 0
        move = [offset, kind, was, now, attempts, retries, detail, task_id]
        self._moves.append(move)
        self._numbers.count(move)

    def _begin_minute(self, at: datetime, offset: int) -> None:
        minute = minute_of(at)
        begin = datetime.fromtimestamp(minute * 60, UTC)
        self._minute = (begin, begin + timedelta(seconds=59, microseconds=999_999))
        if minute != self._numbers.minute:
            self._move([offset, minute])

    def kind_of(self, name: str) -> int:
        """The number of a type: its place in `types`."""
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = len(self._kinds)
            self._move([name])
        return kind

    def _move(self, move: Move) -> None:
        self._moves.append(move)
        self._numbers.follow(move)

    def _end(self) -> None:
        if self._block >= 0:
            self._rows.append((self._block, self._base, _ENCODE(self._moves).decode()))

    def write(self) -> None:
        """Write the changed rows, within the open transaction."""
        self._end()
        insert_rows(self._conn, "INSERT OR REPLACE INTO tallies", with_sums(self._rows))
        self._rows.clear()


def _rows(conn: sqlite3.Connection, first: int, last: int) -> Iterator[tuple[int, str, str]]:
    rows = conn.execute("SELECT * FROM tallies WHERE block BETWEEN ? AND ? ORDER BY block", (first, last))
    return cast("Iterator[tuple[int, str, str]]", sound(rows))


def read_numbers(conn: sqlite3.Connection, position: int, *, durations: bool = False) -> Numbers:
    """The numbers at a position. The durations are right only with `durations`."""
    if position <= 0:
        return Numbers()
    last = (position - 1) // BLOCK
    first = last - last % _WITH_DURATIONS if durations else last
    rows = list(_rows(conn, first, last))
    if len(rows) != last - first + 1:
        raise ViewsDamaged(f"The numbers as of position {position} are missing")
    numbers = _NUMBERS.decode(rows[0][1])
    if not numbers.durations:
        numbers.durations = [{} for _kind in numbers.types]
    for block, _base, moves in rows:
        for move in _before_offset(_MOVES.decode(moves), position - block * BLOCK):
            numbers.follow(move)
    return numbers


def _before_offset(moves: Iterable[Move], offset: int) -> Iterator[Move]:
    for move in moves:
        if len(move) > 1 and move[0] >= offset:
            return
        yield move
