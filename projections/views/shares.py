"""How many tasks of a user were in each status, by type, at every position: kept whole now and then.

What moved in between stands in `versions`, whose index by user has all that counts.
"""

import sqlite3
from collections import Counter
from collections.abc import Container, Iterable
from typing import TypeAlias, get_args

import msgspec

from ...events import Status
from .checksums import sound, with_sums

EVERY = 256
"""Versions of the tasks of one user between two rows."""

Share: TypeAlias = Counter[tuple[int, str]]
"""Number of a type and status → number of tasks."""

_STATUSES: tuple[str, ...] = get_args(Status)
_REMEMBERED = 50_000
"""Users whose numbers are remembered."""
_KEPT = "SELECT * FROM shares WHERE user_id = ? AND since <= ? ORDER BY since DESC LIMIT 1"
_MOVED = """
SELECT kind, was, status FROM versions INDEXED BY versions_by_user WHERE user_id = ? AND since > ? AND since <= ?
"""
_END = 2**62


class Shares:
    """Keeps the numbers, version by version."""

    def __init__(self, conn: sqlite3.Connection, *, indexed: bool) -> None:
        self._conn = conn
        self._known: dict[int, tuple[Share, list[int]]] = {}
        """User → numbers, and how many versions came since these were kept."""
        self._rows: list[tuple[int, int, str]] = []
        self._indexed = indexed
        """Views that are built in one go have no index to look into: all users that there are, are remembered."""

    def see(self, user_id: int, kind: int, was: str, status: str, position: int) -> None:
        """A version of a task of the user: of this type, in a status before (none if it is new) and now."""
        known = self._known.get(user_id)
        if known is None:
            known = self._known[user_id] = _read(self._conn, user_id, _END) if self._indexed else (Counter(), [0])
        share, number = known
        if was != status:
            if was:
                share[kind, was] -= 1
            share[kind, status] += 1
        number[0] += 1
        if number[0] >= EVERY:
            number[0] = 0
            self._rows.append((user_id, position, _text(share)))

    def write(self) -> None:
        """Write the rows that are due, within the transaction that is open."""
        self._conn.executemany("INSERT INTO shares VALUES (?, ?, ?, ?)", with_sums(self._rows))
        self._rows.clear()
        if len(self._known) > _REMEMBERED and self._indexed:
            self._known.clear()


def _text(share: Share) -> str:
    numbers = sorted((kind, _STATUSES.index(status), number) for (kind, status), number in share.items() if number)
    return msgspec.json.encode(numbers).decode()


_NUMBERS = msgspec.json.Decoder(list[tuple[int, int, int]])


def read_share(conn: sqlite3.Connection, user_id: int, position: int = _END) -> Share:
    """The numbers of one user as of a position; without one, now."""
    return _read(conn, user_id, position)[0]


def number_in(shares: Iterable[Share], kinds: Container[int] = (), statuses: Container[str] = ()) -> int:
    """How many of the tasks are of these types and in these statuses; of any where none are named."""
    found = 0
    for share in shares:
        for (kind, status), number in share.items():
            if (not kinds or kind in kinds) and (not statuses or status in statuses):
                found += number
    return found


def _read(conn: sqlite3.Connection, user_id: int, position: int) -> tuple[Share, list[int]]:
    share: Share = Counter()
    since, number = 0, 0
    for _user, since, text in sound(conn.execute(_KEPT, (user_id, position))):  # noqa: B007 - one at most
        share.update({(kind, _STATUSES[place]): many for kind, place, many in _NUMBERS.decode(text)})
    for kind, was, status in conn.execute(_MOVED, (user_id, since, position)):
        number += 1
        if was != status:
            share[kind, status] += 1
            if was:
                share[kind, was] -= 1
    return share, [number]
