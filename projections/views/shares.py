"""The number of tasks of a user, a label or a batch in each status, by type, at every position.

Each user, label or batch has a group of tasks. The moves of a group, mostly from one status to another, are cut into
blocks; a row has the numbers before a block, and its moves. Rows are written every `SPAN` positions; later moves are in
`versions`.
"""

import sqlite3
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import cache
from heapq import merge
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, TypeAlias, get_args

import msgspec

from ...events import Created, Status
from ...events.log.inserting import insert_rows
from .checksums import sound, with_sums
from .tallies import read_numbers

EVERY = 128
"""Moves of a block. A row with more would not fit into a page of the file beside others."""
SPAN = 512
"""Positions between two writings of rows. Otherwise a small batch would write a row or more for each record."""

Share: TypeAlias = dict[tuple[int, str], int]
"""Number of a type and status → number of tasks."""

_STATUSES: tuple[str, ...] = get_args(Status)
_MOST = 8
"""More than the number of statuses, counting none as the status of a new task."""
_FROM_TO = {
    (was, status): before * _MOST + after
    for before, was in enumerate(("", *_STATUSES))
    for after, status in enumerate(_STATUSES, 1)
}
_REMEMBERED = 250_000
"""The size of the cache after a batch: `EVERY` for each group, 4 for each combination of user, label and batch."""
_INTO = "INSERT OR REPLACE INTO shares"
_LAST = "SELECT * FROM shares WHERE tasks_of = ? AND since <= ? ORDER BY since DESC LIMIT 1"
_BLOCKS = """
SELECT * FROM shares WHERE tasks_of = ?1
AND since BETWEEN coalesce((SELECT max(since) FROM shares WHERE tasks_of = ?1 AND since <= ?2), ?2) AND ?3
ORDER BY since
"""
_BLOCKS_DOWN = f"{_BLOCKS} DESC"
_WAS = "SELECT status FROM versions AS earlier WHERE id = then_.id AND since < then_.since ORDER BY since DESC LIMIT 1"
_MOVED = f"""
SELECT then_.since, then_.kind, coalesce(({_WAS}), ''), then_.status, {{more}} FROM versions AS then_ {{tables}}
WHERE then_.since > ?1 AND then_.since <= ?2 AND then_.changed = then_.since AND {{where}} ORDER BY then_.since
"""  # noqa: S608 - our own names
_MOVED_OF = {
    "user_id": "then_.user_id = ?3",
    "label": "+EXISTS (SELECT 1 FROM tasks INDEXED BY tasks_by_label WHERE label = ?3 AND id = then_.id)",
    "batch": "+EXISTS (SELECT 1 FROM tasks INDEXED BY tasks_by_batch WHERE batch = ?3 AND id = then_.id)",
}
GROUPED_BY = tuple(_MOVED_OF)
"""Fields of a task; the tasks with one value of such a field are a group."""
_STANDING = """
SELECT type, status, count(*), sum(label <> ''), sum(batch <> '') FROM tasks GROUP BY type, status
"""
_END = 2**62
"""A position that no record has."""
_ENCODE = msgspec.msgpack.Encoder().encode
_NUMBERS = msgspec.msgpack.Decoder(list[int])


_Row: TypeAlias = tuple[str, int, bytes, bytes]


class _Block(msgspec.Struct):
    """The last block of a group."""

    name: str
    since: int = 0
    """The position of its first move."""
    before: dict[int, int] = {}
    """The numbers before the block: type and status → number of tasks."""
    base: bytes = _ENCODE([])
    """The same as stored in the row."""
    moves: list[int] = []
    """For each move, its distance in positions from the first, and its type and statuses as one number."""

    def numbers(self) -> dict[int, int]:
        """The numbers after the block."""
        return _after(self.before, Counter(self.moves[1::2]))

    def begin(self, position: int) -> None:
        """Begin the next block."""
        self.before = self.numbers()
        self.base = _ENCODE(list(chain.from_iterable(sorted(self.before.items()))))
        self.since, self.moves = position, []

    def row(self) -> _Row:
        return self.name, self.since, self.base, _ENCODE(self.moves)


class Shares:
    """Writes the numbers, move by move."""

    def __init__(self, conn: sqlite3.Connection, position: int) -> None:
        """`position`: the last one that the views have written."""
        self._conn = conn
        self._last: dict[str, _Block] = {}
        """Group → its last block."""
        self._of: dict[tuple[Any, ...], list[_Block]] = {}
        """User, label and batch of a task → the last blocks of its groups."""
        self._remembered = 0
        self.coming: list[tuple[int, int, tuple[Any, ...]]] = []
        """Moves that are not in a row yet: position, move, and the task's user, label and batch."""
        statement = _MOVED.format(
            more="then_.user_id, tasks.label, tasks.batch", tables="JOIN tasks USING (id)", where="1"
        )
        for at, kind, was, status, *whose in conn.execute(statement, (_written(position), position)):
            if not was == status == "running":
                self.coming.append((at, _move(kind, was, status), tuple(whose)))

    def add_move(self, spec: Created, kind: int, was: str, status: str, position: int) -> None:
        """Note a move of a task. `kind`: the number of its type; `was`: its status before, empty if it is new."""
        if not was == status == "running":  # not a step within an attempt
            self.coming.append((position, _move(kind, was, status), (spec.user_id, spec.label, spec.batch)))

    def write(self, position: int) -> None:
        """Write the rows that are due at a position, within the open transaction."""
        due = bisect_right(self.coming, _written(position), key=itemgetter(0))
        if not due:
            return
        rows: list[_Row] = []
        changed: dict[str, _Block] = {}
        for at, move, whose in self.coming[:due]:
            for block in self._of.get(whose) or self._load(*whose):
                if not 0 < len(block.moves) < 2 * EVERY:
                    if changed.pop(block.name, None):
                        rows.append(block.row())
                    block.begin(at)
                block.moves += (at - block.since, move)
                changed[block.name] = block
        del self.coming[:due]
        rows += [block.row() for block in changed.values()]
        insert_rows(self._conn, _INTO, with_sums(rows))
        if self._remembered > _REMEMBERED:
            self._last.clear()
            self._of.clear()
            self._remembered = 0

    def _load(self, *whose: Any) -> list[_Block]:
        names = [_name(field, value) for field, value in zip(GROUPED_BY, whose, strict=True) if value != ""]
        for name in names:
            if name not in self._last:
                self._last[name] = _read(self._conn, name, _END)
                self._remembered += EVERY
        blocks = self._of[whose] = [self._last[name] for name in names]
        self._remembered += 4
        return blocks


def read_shares(conn: sqlite3.Connection, field: str, values: Sequence[object], position: int) -> list[Share]:
    """The numbers for each value of a field of `GROUPED_BY`, at a position that the views have reached."""
    moved: defaultdict[object, Counter[int]] = defaultdict(Counter)
    for _at, move, value in _moved_since(conn, field, values, position):
        moved[value][move] += 1
    shares = []
    for value in values:
        numbers = _after(_read(conn, _name(field, value), _written(position)).numbers(), moved[value])
        shares.append({(place // _MOST, _STATUSES[place % _MOST - 1]): number for place, number in numbers.items()})
    return shares


def read_moves(
    conn: sqlite3.Connection,
    field: str,
    values: Sequence[object],
    first: int,
    last: int,
    *,
    kinds: Container[int],
    statuses: Container[str],
    down: bool,
) -> Iterator[int]:
    """The positions from `first` to `last` at which a task of any of the groups came into one of the statuses.

    They are in order. `kinds`: the numbers of the types whose tasks count.
    """

    @cache
    def is_due(move: int) -> bool:
        kind, _was, to = _unpacked_move(move)
        return kind in kinds and _STATUSES[to - 1] in statuses

    def due(since: int, moves: Sequence[int], until: int) -> Iterable[int]:
        if not any(map(is_due, set(moves[1::2]))):
            return ()
        found = [since + behind for behind, move in zip(moves[::2], moves[1::2], strict=True) if is_due(move)]
        found = [position for position in found if first <= position <= until]
        return reversed(found) if down else found

    def in_rows(value: object) -> Iterator[int]:
        rows = sound(conn.execute(_BLOCKS_DOWN if down else _BLOCKS, (_name(field, value), first, written)))
        return chain.from_iterable(
            due(since, _NUMBERS.decode(packed), written) for _group, since, _base, packed in rows
        )

    written = _written(last)
    in_blocks = merge(*map(in_rows, values), reverse=down)
    since = [(at, move) for at, move, value in _moved_since(conn, field, values, last) if value in values]
    moved = due(0, list(chain.from_iterable(since)), last)
    yield from chain(moved, in_blocks) if down else chain(in_blocks, moved)


def lost_share(conn: sqlite3.Connection) -> str:
    """The missing rows, in words; empty if there are none. For a connection within a transaction.

    A row has to begin with the numbers to which the row before it leads. Its content is covered by its checksum.
    """
    position = int(conn.execute("SELECT position FROM progress").fetchone()[0])
    found: dict[str, dict[int, int]] = {field: {} for field in GROUPED_BY}
    rows = conn.execute("SELECT * FROM shares ORDER BY tasks_of, since")
    for name, blocks in groupby(rows, key=itemgetter(0)):
        field, numbers = name.partition(" ")[0], dict[int, int]()
        for _group, _since, base, moves, _checksum in blocks:
            if numbers != dict(_pairs(base)):
                return f"numbers by {field} are missing"  # without the group: a label is personal, and this is logged
            numbers = _after(numbers, Counter(_NUMBERS.decode(moves)[1::2]))
        for place, number in numbers.items():
            found[field][place] = found[field].get(place, 0) + number
    for _at, move, whose in Shares(conn, position).coming:
        for field, value in zip(GROUPED_BY, whose, strict=True):
            found[field] = _after(found[field], {move: int(value != "")})
    standing = conn.execute(_STANDING).fetchall()
    types = read_numbers(conn, position).types if standing else []
    kinds = {kind: number for number, kind in enumerate(types)}
    due: dict[str, dict[int, int]] = {field: {} for field in GROUPED_BY}
    for kind, status, *numbers_of in standing:
        for field, number in zip(GROUPED_BY, numbers_of, strict=True):
            if number:
                due[field][kinds[kind] * _MOST + _STATUSES.index(status) + 1] = number
    return next((f"numbers by {field} are missing" for field in GROUPED_BY if found[field] != due[field]), "")


def _written(position: int) -> int:
    """The position up to which rows were written when the views had reached `position`."""
    return position // SPAN * SPAN


def _name(field: str, value: object) -> str:
    return f"{field} {value}"


def _moved_since(
    conn: sqlite3.Connection, field: str, values: Sequence[object], position: int
) -> Iterator[tuple[int, int, object]]:
    """The moves in some groups since rows were written: position, move, and the value of the field.

    For one group an index shows which tasks belong to it; for several groups the task is read.
    """
    span = (_written(position), position)
    if len(values) == 1:
        statement = _MOVED.format(more="?3", tables="", where=_MOVED_OF[field])
        rows = conn.execute(statement, (*span, *values))
    else:
        rows = conn.execute(_MOVED.format(more=f"tasks.{field}", tables="JOIN tasks USING (id)", where="1"), span)
    for at, kind, was, status, value in rows:
        if not was == status == "running":
            yield at, _move(kind, was, status), value


def _after(numbers: Mapping[int, int], moves: Mapping[int, int]) -> dict[int, int]:
    """The numbers after some moves, which are given with how often each came."""
    counts = dict(numbers)
    for move, number in moves.items():
        kind, was, status = _unpacked_move(move)
        before, after = kind * _MOST + was, kind * _MOST + status
        counts[after] = counts.get(after, 0) + number
        if was:
            counts[before] = counts.get(before, 0) - number
    return {place: number for place, number in counts.items() if number}


def _move(kind: int, was: str, status: str) -> int:
    return kind * _MOST * _MOST + _FROM_TO[was, status]


def _unpacked_move(move: int) -> tuple[int, int, int]:
    """The number of the type, and the places of the statuses before and after a move."""
    before, status = divmod(move, _MOST)
    return (*divmod(before, _MOST), status)


def _read(conn: sqlite3.Connection, name: str, position: int) -> _Block:
    """The last block that begins up to a position, with its moves up to there."""
    block = _Block(name)
    for _group, since, base, moves in sound(conn.execute(_LAST, (name, position))):
        block.since, block.base, block.moves = since, base, _NUMBERS.decode(moves)
        block.before = dict(_pairs(base))
        end = 2 * bisect_right(block.moves[::2], position - since)
        del block.moves[end:]
    return block


def _pairs(packed: bytes) -> Iterator[tuple[int, int]]:
    numbers = _NUMBERS.decode(packed)
    return zip(numbers[::2], numbers[1::2], strict=True)
