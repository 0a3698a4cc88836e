"""Which parts of a long list had tasks, and when, so that a walk through the past can skip empty parts.

A list, such as the pending tasks, is cut into blocks of neighbours. A zone is a span of positions in which a block was
never empty for long. Outside its zones a block has no tasks, within them it nearly always has some.

Neighbouring blocks form a wide block, with zones of its own: the head of a long list often comes after thousands of
blocks that are empty by now.
"""

import sqlite3
from functools import cache

import msgspec

from ...events.log.inserting import insert_rows
from .checksums import with_sums

TASKS = 8
"""Blocks in the order of ids hold 2 to this power neighbours, …"""
KINDS = 10
"""… blocks of one type hold more, as only few of the neighbours have that type, …"""
LANES = 10
"""… as do blocks of a lane, which has only some of the neighbours, …"""
TIMES = 8
"""… and this is for blocks in the order of changes."""
BLOCKS = 5
"""A wide block holds 2 to this power blocks."""

GAP = 256
"""Positions for which a block may be empty within a zone. Otherwise a list that is nearly always empty would have one
zone for each task that passes through."""

_REMEMBERED = 50_000
"""The most blocks whose last zone is cached after a batch."""
_LAST = "SELECT since, until, number FROM zones WHERE list = ? AND block = ? ORDER BY since DESC LIMIT 1"
_INTO = "INSERT OR REPLACE INTO zones"


@cache
def by_id(status: str, kind: str = "") -> str:
    """The list of the tasks in a status, and of a type if one is given, by id."""
    return f"id {status} {kind}" if kind else f"id {status}"


@cache
def by_lane(status: str, lane: int) -> str:
    """The list of the tasks in a status and a lane, by id."""
    return f"lane {status} {lane:020d}"


@cache
def by_change(status: str) -> str:
    """The list of the tasks in a status, in the order of their last change."""
    return f"change {status}"


@cache
def wide(name: str) -> str:
    """The list of the wide blocks of a list."""
    return f"wide {name}"


class _Zone(msgspec.Struct):
    """The last zone of a block."""

    since: int
    until: int
    """The position at which the last task left it; meaningless while it has tasks."""
    number: int
    """The number of tasks in it, or of blocks with tasks if it is a wide one."""
    changed: bool = False
    """Whether it differs from its row."""


class Zones:
    """Updates the zones while tasks enter and leave blocks."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._last: dict[tuple[str, int], _Zone] = {}
        """List and block → its last zone."""
        self._changed: list[tuple[str, int]] = []
        self._left: list[tuple[str, int, int, int, int]] = []
        """Zones that have ended and are no longer the last of their block."""

    def enter(self, name: str, block: int, position: int) -> None:
        """Count a task that enters a block. If it moves within a block, it has to enter before it leaves."""
        if self._enter(name, block, position):
            self._enter(wide(name), block >> BLOCKS, position)

    def leave(self, name: str, block: int, position: int) -> None:
        """Count a task that leaves a block."""
        if self._leave(name, block, position):
            self._leave(wide(name), block >> BLOCKS, position)

    def _enter(self, name: str, block: int, position: int) -> bool:
        """Whether the block was empty."""
        key = (name, block)
        zone = self._last.get(key) or self._load(key)
        was_empty = not zone.number
        if was_empty and position - zone.until > GAP:
            if zone.changed:
                self._left.append((name, block, zone.since, 0, zone.until))
            zone.since = position
        zone.number += 1
        if not zone.changed:
            zone.changed = True
            self._changed.append(key)
        return was_empty

    def _leave(self, name: str, block: int, position: int) -> bool:
        """Whether the block is empty now."""
        key = (name, block)
        zone = self._last.get(key) or self._load(key)
        zone.number -= 1
        zone.until = position
        if not zone.changed:
            zone.changed = True
            self._changed.append(key)
        return not zone.number

    def _load(self, key: tuple[str, int]) -> "_Zone":
        since, until, number = self._conn.execute(_LAST, key).fetchone() or (0, -GAP - 1, 0)
        zone = self._last[key] = _Zone(since, until or 0, number)
        return zone

    def write(self) -> None:
        """Write the changed zones, within the open transaction."""
        rows: list[tuple[str, int, int, int, int | None]] = [*self._left]
        for key in self._changed:
            zone = self._last[key]
            zone.changed = False
            rows.append((*key, zone.since, zone.number, None if zone.number else zone.until))
        insert_rows(self._conn, _INTO, with_sums(rows))
        self._left.clear()
        self._changed.clear()
        if len(self._last) > _REMEMBERED:
            self._last.clear()
