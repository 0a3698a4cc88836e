"""How many tasks of a user, of a label and of a batch were in each status, by type, at every position.

Each of these is a list of moves, mostly from one status to another, cut into blocks. A row has the numbers before a
block, and its moves.
"""

import sqlite3
from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Iterator
from itertools import chain
from typing import TypeAlias, get_args

import msgspec

from ...events import Created, Status
from ...events.log.inserting import insert_rows
from .checksums import sound, with_sums

EVERY = 128
"""Moves of a block: a row of more would not fit into a page of the file with others."""

Share: TypeAlias = dict[tuple[int, str], int]
"""Number of a type and status → number of tasks."""

_STATUSES: tuple[str, ...] = get_args(Status)
_PLACE = {status: place for place, status in enumerate(_STATUSES, 1)}
"""A task that is new comes from 0."""
_MOST = 8
"""More than there are places."""
_REMEMBERED = 1_000_000
"""Moves and lists that are remembered, at most."""
_INTO = "INSERT OR REPLACE INTO shares"
_LAST = "SELECT * FROM shares WHERE list = ? AND since <= ? ORDER BY since DESC LIMIT 1"
NOW = 2**62
"""A position that no record has."""
_ENCODE = msgspec.msgpack.Encoder().encode
_NUMBERS = msgspec.msgpack.Decoder(list[int])


def by_user(user_id: int) -> str:
    """The list of the tasks of a user."""
    return f"user {user_id}"


def by_label(label: str) -> str:
    """The list of the tasks with a label."""
    return f"label {label}"


def by_batch(batch: str) -> str:
    """The list of the tasks of a batch."""
    return f"batch {batch}"


class _Block(msgspec.Struct):
    """The last block of a list."""

    name: str
    since: int = 0
    """The position of its first move."""
    before: dict[int, int] = {}
    """The numbers before it: type and status → number of tasks."""
    base: bytes = _ENCODE([])
    """The same in the row."""
    moves: list[int] = []
    """Of each, how many positions it is behind the first, and from where to where it leads."""
    changed: bool = False
    """Whether the row says something else."""

    def numbers(self) -> dict[int, int]:
        """The numbers behind it."""
        found = self.before.copy()
        for move, number in Counter(self.moves[1::2]).items():
            kind, was, status = _told(move)
            before, after = kind * _MOST + was, kind * _MOST + status
            found[after] = found.get(after, 0) + number
            if was:
                found[before] = found.get(before, 0) - number
        return {place: number for place, number in found.items() if number}

    def begin(self, position: int) -> None:
        """The next block."""
        self.before = self.numbers()
        self.base = _ENCODE(list(chain.from_iterable(sorted(self.before.items()))))
        self.since, self.moves = position, []

    def row(self) -> tuple[str, int, bytes, bytes]:
        return self.name, self.since, self.base, _ENCODE(self.moves)


class Shares:
    """Keeps the numbers, move by move."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._last: dict[str, _Block] = {}
        """List → its last block."""
        self._of: dict[tuple[int, str, str], list[_Block]] = {}
        """User, label and batch of a task → the last blocks of its lists."""
        self._changed: list[_Block] = []
        self._full: list[tuple[str, int, bytes, bytes]] = []
        """Rows of blocks that are the last of their list no longer."""
        self._remembered = 0

    def see(self, spec: Created, kind: int, was: str, status: str, position: int) -> None:
        """A task moves: its type has this number; its status before is none if it is new."""
        if was == status == "running":
            return
        move = (kind * _MOST + (_PLACE[was] if was else 0)) * _MOST + _PLACE[status]
        key = (spec.user_id, spec.label, spec.batch)
        for block in self._of.get(key) or self._load(*key):
            if not 0 < len(block.moves) < 2 * EVERY:
                if block.changed:
                    self._full.append(block.row())
                block.begin(position)
            block.moves += (position - block.since, move)
            if not block.changed:
                block.changed = True
                self._changed.append(block)

    def _load(self, user_id: int, label: str, batch: str) -> list[_Block]:
        names = [by_user(user_id), *([by_label(label)] if label else ()), *([by_batch(batch)] if batch else ())]
        for name in names:
            if name not in self._last:
                self._last[name] = _read(self._conn, name, NOW)
                self._remembered += EVERY
        blocks = self._of[user_id, label, batch] = [self._last[name] for name in names]
        self._remembered += 1
        return blocks

    def write(self) -> None:
        """Write what has changed, within the transaction that is open."""
        rows = self._full
        for block in self._changed:
            block.changed = False
            rows.append(block.row())
        insert_rows(self._conn, _INTO, with_sums(rows))
        rows.clear()
        self._changed.clear()
        if self._remembered > _REMEMBERED:
            self._last.clear()
            self._of.clear()
            self._remembered = 0


def read_share(conn: sqlite3.Connection, name: str, position: int = NOW) -> Share:
    """The numbers of one list as of a position."""
    numbers = _read(conn, name, position).numbers()
    return {(place // _MOST, _STATUSES[place % _MOST - 1]): number for place, number in numbers.items()}


def read_moves(
    conn: sqlite3.Connection,
    name: str,
    first: int,
    last: int,
    *,
    kinds: Container[int],
    statuses: Container[str],
    down: bool,
) -> Iterator[int]:
    """The positions between two at which a task of one list came into one of the statuses, in order.

    `kinds`: the numbers of the types whose tasks count.
    """
    begins = "coalesce((SELECT max(since) FROM shares WHERE list = ?1 AND since <= ?2), ?2)"
    wanted = f"SELECT * FROM shares WHERE list = ?1 AND since BETWEEN {begins} AND ?3 ORDER BY since"  # noqa: S608 - ours
    for _list, since, _base, text in sound(conn.execute(f"{wanted} {'DESC' if down else 'ASC'}", (name, first, last))):
        moves = _NUMBERS.decode(text)
        told = {move: _told(move) for move in set(moves[1::2])}
        due = {move for move, (kind, _was, to) in told.items() if kind in kinds and _STATUSES[to - 1] in statuses}
        found = [since + behind for behind, move in zip(moves[::2], moves[1::2], strict=True) if move in due]
        for position in reversed(found) if down else found:
            if first <= position <= last:
                yield position


def _told(move: int) -> tuple[int, int, int]:
    """The number of the type, and the places of the status before and behind it."""
    before, status = divmod(move, _MOST)
    return (*divmod(before, _MOST), status)


def _read(conn: sqlite3.Connection, name: str, position: int) -> _Block:
    """The last block up to a position, and its moves up to there."""
    block = _Block(name)
    for _list, since, base, moves in sound(conn.execute(_LAST, (name, position))):
        before = _NUMBERS.decode(base)
        block.since, block.base, block.moves = since, base, _NUMBERS.decode(moves)
        block.before = dict(zip(before[::2], before[1::2], strict=True))
        end = 2 * bisect_right(block.moves[::2], position - since)
        del block.moves[end:]
    return block
