"""Checks that a log's encrypted data can be read, and that erased data cannot."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from ..errors import KeysUnreadable
from ..recorded import EVENT_TAGS
from ..system_events import ErasureFinished, UserErased
from .encryption import NAMES_USER, is_under_another_user, key_in
from .faults import Damage
from .keys import Keys
from .log_reader import LogReader
from .personal import is_lost

_ERASED, _FINISHED = EVENT_TAGS[UserErased], EVENT_TAGS[ErasureFinished]
_ERASURE = msgspec.json.Decoder(UserErased)
_FINISH = msgspec.json.Decoder(ErasureFinished)


class SomeRecords(NamedTuple):
    """The number of records, and the position of the first."""

    number: int
    first: int


NO_RECORDS = SomeRecords(0, 0)


def unreadable_records(log: LogReader, keys: Keys) -> SomeRecords:
    """The records whose personal data cannot be read with these keys, although it was not erased. Scans the log."""
    check, position = KeyCheck(keys), 0
    for row in log.raw_rows():
        if not isinstance(row, Damage):
            check.see(row)
            position = row[0]
    return check.unreadable(log, position)


class KeyCheck:
    """Compares the keys that records name with those that exist.

    A log is complete and unaltered without any key: a backup has none. So only a key that should be gone, or that is
    kept under another user than its data has, is a fault by itself. It keeps the names of all keys in memory.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._used: dict[str, SomeRecords] = {}
        """Key → the records that it is needed for."""
        self._erased: dict[int, tuple[str, ...]] = {}
        """Position of an erasure → the keys that it destroyed."""
        self._finished: set[int] = set()
        """Positions of the erasures that are finished."""
        self._compared: set[str] = set()
        """The keys whose users were compared."""
        self._misplaced: dict[int, str] = {}
        """Position of the first task, schedule or source of a key → the key, which is kept under another user."""

    def see(self, row: tuple[Any, ...]) -> None:
        """Take in the raw stored values of the next record. An unreadable record is skipped: other checks report it."""
        position, event, data = row[0], row[3], row[13]
        if not isinstance(data, str):
            return
        if name := key_in(data):
            if not is_lost(row):
                number, first = self._used.get(name, (0, position))
                self._used[name] = SomeRecords(number + 1, first)
                if event in NAMES_USER and name not in self._compared:
                    self._compare_user(name, row)
            return
        try:
            if event == _ERASED:
                self._erased[position] = _ERASURE.decode(data).keys
            elif event == _FINISHED:
                self._finished.add(_FINISH.decode(data).erasure)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return

    def _compare_user(self, name: str, row: tuple[Any, ...]) -> None:
        self._compared.add(name)
        with suppress(KeysUnreadable):  # reported with the views
            if is_under_another_user(self._keys, row):
                self._misplaced[row[0]] = name

    def unreadable(self, log: LogReader, position: int) -> SomeRecords:
        """The records whose personal data cannot be read here, although the log holds no erasure of it.

        Erasures after `position`, the last one that was seen, are read from `log`.
        """
        lacking = [name for name in self._used if not self._keys.can_open(name)]
        if not lacking:
            return NO_RECORDS
        # An erasure is recorded before its keys are destroyed: if a key is gone by now, the log has its erasure by now.
        head = log.head().position
        for at in log.newest_of(_ERASED, position, head, max(0, head - position)) if head > position else ():
            self._erased.update(
                (record.position, record.event.keys)
                for record in log.read(at - 1, 1)
                if isinstance(record.event, UserErased)
            )
        erased = {name for keys in self._erased.values() for name in keys}
        found = [self._used[name] for name in lacking if name not in erased]
        return SomeRecords(sum(one.number for one in found), min(one.first for one in found)) if found else NO_RECORDS

    def faults(self) -> Iterator[tuple[int, str]]:
        """The position and the message of each fault.

        A key that should be gone but exists is one at the erasure that destroyed it, and a key that is kept under a
        wrong user at the first task, schedule or source that it encrypts.
        """
        for position in sorted(self._finished & self._erased.keys()):
            if number := sum(map(self._keys.can_open, self._erased[position])):
                yield position, f"{number} of the keys that were destroyed here are there again: {self._keys.path}"
        for position, name in self._misplaced.items():
            yield position, self._keys.misplaced(name).message
