"""How many tasks of a user were in each status, by type, at every position: kept whole now and then.

What moved in between stands in `versions`, whose index by user has all that counts.
"""

import sqlite3
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias, get_args

import msgspec

from ...events import Status
from ...events.log.inserting import insert_rows
from .checksums import sound, with_sums

EVERY = 256
"""Versions of the tasks of one user between two rows."""

Share: TypeAlias = Counter[tuple[int, str]]
"""Number of a type and status → number of tasks."""

_STATUSES: tuple[str, ...] = get_args(Status)
_REMEMBERED = 50_000
"""Users whose numbers are remembered."""
_INTO = "INSERT INTO shares"
_KEPT = "SELECT * FROM shares WHERE user_id = ? AND since <= ? ORDER BY since DESC LIMIT 1"
_MOVED = """
SELECT kind, was, status FROM versions INDEXED BY versions_by_user WHERE user_id = ? AND since > ? AND since <= ?
"""
_ALL = "SELECT user_id, since, kind, was, status FROM versions ORDER BY user_id, since"
_END = 2**62


class _Count:
    """The numbers of one user, version by version."""

    def __init__(self) -> None:
        self.share: Share = Counter()
        self._number = 0
        """How many versions came since these were kept."""

    def see(self, kind: int, was: str, status: str) -> bool:
        """A version of a task: of this type, in a status before (none if it is new) and now. Tells whether to keep."""
        if was != status:
            if was:
                self.share[kind, was] -= 1
            self.share[kind, status] += 1
        self._number = (self._number + 1) % EVERY
        return not self._number


class Shares:
    """Keeps the numbers, version by version."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._known: dict[int, _Count] = {}
        self._rows: list[tuple[int, int, str]] = []

    def see(self, user_id: int, kind: int, was: str, status: str, position: int) -> None:
        """A version of a task of the user, as `_Count` has it."""
        count = self._known.get(user_id)
        if count is None:
            count = self._known[user_id] = _read(self._conn, user_id, _END)
        if count.see(kind, was, status):
            self._rows.append((user_id, position, _text(count.share)))

    def write(self) -> None:
        """Write the rows that are due, within the transaction that is open."""
        insert_rows(self._conn, _INTO, with_sums(self._rows))
        self._rows.clear()
        if len(self._known) > _REMEMBERED:
            self._known.clear()


def write_shares(conn: sqlite3.Connection) -> None:
    """All rows at once, where views are built in one go."""
    insert_rows(conn, _INTO, with_sums(_all_rows(conn)))


def _all_rows(conn: sqlite3.Connection) -> Iterator[tuple[int, int, str]]:
    for user_id, versions in groupby(conn.execute(_ALL), itemgetter(0)):
        count = _Count()
        for _user, since, kind, was, status in versions:
            if count.see(kind, was, status):
                yield user_id, since, _text(count.share)


def _text(share: Share) -> str:
    numbers = sorted((kind, _STATUSES.index(status), number) for (kind, status), number in share.items() if number)
    return msgspec.json.encode(numbers).decode()


_NUMBERS = msgspec.json.Decoder(list[tuple[int, int, int]])


def read_share(conn: sqlite3.Connection, user_id: int, position: int = _END) -> Share:
    """The numbers of one user as of a position; without one, now."""
    return _read(conn, user_id, position).share


def number_in(shares: Iterable[Share], kinds: Container[int] = (), statuses: Container[str] = ()) -> int:
    """How many of the tasks are of these types and in these statuses; of any where none are named."""
    found = 0
    for share in shares:
        for (kind, status), number in share.items():
            if (not kinds or kind in kinds) and (not statuses or status in statuses):
                found += number
    return found


def _read(conn: sqlite3.Connection, user_id: int, position: int) -> _Count:
    count, since = _Count(), 0
    for _user, since, text in sound(conn.execute(_KEPT, (user_id, position))):  # noqa: B007 - one at most
        count.share.update({(kind, _STATUSES[place]): many for kind, place, many in _NUMBERS.decode(text)})
    for kind, was, status in conn.execute(_MOVED, (user_id, since, position)):
        count.see(kind, was, status)
    return count
