"""`ReadableLog` on PostgreSQL: the base of the writer and of the reader."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from ...context import Belongings
from ...counted import counted
from ...errors import KeysUnreadable, LogUnreachable
from ...ranges import NumberRange, spans_of
from ...recorded import Recorded
from ...system_events import TasksForgotten, UserErased
from ..chain import GENESIS
from ..encryption import NAMES_USER, Decryption, collect_belongings, key_in, refuse_change
from ..event_log import Head, Part
from ..files import read_mark
from ..personal import BEGINS, KEY_LENGTH
from ..reading import gapless, refuse_gap
from ..rows import COLUMNS, Decrypt, decode, from_row, moment
from ..stubs import DROPPING, LEFT, Drop
from .connection import Values
from .schema import ADJUSTED_TASK
from .texts import MARK_IN_JSON, unescaped, unescaped_row

PAGE = 5000
SELECT = f"SELECT {', '.join(COLUMNS)}, hash FROM tasktrail.events"  # noqa: S608 - our own names
_NEXT = "WHERE position > %s ORDER BY position LIMIT %s"
_TO_FOLD = """
    SELECT position, task_id, version, event, recorded_at, data, CASE WHEN task_id = 0 THEN json_build_array(
        actor, reason, command_id, correlation_id, causation_id, attempt, life, encode(hash, 'hex'))::text END
    FROM tasktrail.events
"""
"""One column has what folds need only of system events, because each column costs as much as decoding an event."""
_Rest: TypeAlias = tuple[str, str, str, str, str, int, int, str]
_REST = msgspec.json.Decoder(_Rest)
_NOTHING: _Rest = ("", "", "", "", "", 0, 0, "")
_HASHES = "SELECT position, task_id, version, hash FROM tasktrail.events"
_END = "SELECT position, hash FROM tasktrail.events ORDER BY position DESC LIMIT 1"
_OF_TASK = f"{SELECT} WHERE task_id = %(task_id)s ORDER BY version"
_WITH_ADJUSTMENTS = f"""
    {SELECT} WHERE position IN (
        SELECT position FROM tasktrail.events WHERE task_id = %(task_id)s
        UNION ALL
        SELECT position FROM tasktrail.events WHERE event = 'adjusted' AND {ADJUSTED_TASK} = %(task_id)s
    ) ORDER BY position
"""  # noqa: S608 - our own names
_OF_PARTS = f"""
    {SELECT} WHERE position IN (
        SELECT position FROM tasktrail.events
        JOIN unnest(%(tasks)s::bigint[], %(afters)s::bigint[], %(lasts)s::bigint[]) AS part (task, after, last)
            ON task_id = part.task AND version > part.after AND version <= part.last
        UNION ALL
        SELECT position FROM tasktrail.events
        JOIN unnest(%(tasks)s::bigint[], %(adjusted)s::bigint[]) AS part (task, after)
            ON event = 'adjusted' AND {ADJUSTED_TASK} = part.task AND position > part.after
    ) AND position <= %(until)s ORDER BY position
"""  # noqa: S608 - our own names
_NEWEST_OF = """
    SELECT position FROM tasktrail.events WHERE position > %s AND position <= %s AND event = %s
    ORDER BY position DESC LIMIT %s
"""
DROPS = f"SELECT position, data FROM tasktrail.events WHERE event = '{DROPPING}' AND position > %s ORDER BY position"  # noqa: S608 - our own names
_LEFT = f"SELECT {LEFT} FROM tasktrail.events WHERE position BETWEEN %s AND %s ORDER BY position"  # noqa: S608 - our own names
_NAMING = """
    SELECT position, task_id, version, event, data FROM tasktrail.events
    WHERE position > %s AND position <= %s AND event = ANY(%s)
"""
_FIRST_DATA = "SELECT data FROM tasktrail.events WHERE task_id = %s AND version = 1"
_ANY_ENCRYPTED = f"SELECT 1 FROM tasktrail.events WHERE starts_with(data, '{BEGINS}') LIMIT 1"  # noqa: S608 - our own words
_ERASURES = "SELECT position, data FROM tasktrail.events WHERE event = 'user_erased'"
_KEYS = f"""
    SELECT DISTINCT substr(data, {len(BEGINS) + 1}, {KEY_LENGTH}) FROM tasktrail.events
    WHERE starts_with(data, '{BEGINS}')
"""  # noqa: S608 - our own words
_COPY_KEYS = (
    "Copy `keys.db` and the master key from the data folder of the service that had the log last, or from a backup of "
    "their own. If they are gone for good, go on without: `tasktrail serve --accept-lost-keys --reason TEXT`."
)
_DROP = msgspec.json.Decoder(TasksForgotten)


def _unescaped_to_fold(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row with the texts in its last column restored; texts with a NUL are rare."""
    *others, values = row
    if MARK_IN_JSON not in values:
        return row
    texts = [unescaped(value) if isinstance(value, str) else value for value in msgspec.json.decode(values)]
    return (*others, msgspec.json.encode(texts).decode())


def _folded(rows: Iterable[tuple[Any, ...]], decrypt: Decrypt) -> Iterator[Recorded]:
    """Records for a fold, from rows whose last column has in a JSON array what only system events need."""
    for position, task_id, version, event, at, data, rest in rows:
        if rest is None and not data.startswith(BEGINS):
            yield Recorded(task_id, version, decode(event, data, position), moment(at, position), position=position)
            continue
        *texts, attempt, life, digest = _NOTHING if rest is None else _REST.decode(rest)
        row = (position, task_id, version, event, at, *texts, attempt, life, 0, data)
        yield from_row(row, bytes.fromhex(digest), decrypt)


def drops_in(rows: Iterable[tuple[Any, ...]]) -> list[Drop]:
    """The drops in the rows that `DROPS` selects, without those that cannot be read."""
    found = list[Drop]()
    for position, data in rows:
        with suppress(msgspec.DecodeError, UnicodeError, RecursionError, TypeError):
            found.append(Drop(position, _DROP.decode(data)))
    return found


class Reading:
    """Queries a log on PostgreSQL; a derived class provides the connection."""

    _place: Path
    """The file with the address, in the data folder."""
    _decrypt: Decryption
    _connections = 0
    """The number of connections so far, where there can be several: each may lead to another server."""

    def _fetch(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises errors of ours."""
        raise NotImplementedError

    def head(self) -> Head:
        """The end of the log now."""
        rows = self._fetch(_END)
        return Head(*rows[0]) if rows else Head(0, GENESIS)

    def _pages(self, after: int, limit: int | None, select: str = SELECT) -> Iterator[tuple[Any, ...]]:
        """Rows in order of position, which is the first column, in queries of a page each, on one connection.

        Raises `LogUnreachable` when the connection is lost. The next one may lead to another server, which after a
        fail-over may lack records and have others in their place.
        """
        after = max(after, 0)
        first = 0
        while limit is None or limit > 0:
            size = PAGE if limit is None else min(PAGE, limit)
            page = self._fetch(f"{select} {_NEXT}", (after, size))
            first = first or self._connections
            if self._connections != first:
                raise LogUnreachable(f"The connection was lost after position {after}, in the middle of reading")
            yield from gapless(page, after)
            if len(page) < size:
                return
            after += size
            limit = None if limit is None else limit - size

    def rows(self, after: int, limit: int | None = None) -> Iterator[tuple[Any, ...]]:
        """The raw stored values of records from `after + 1` on, each with its hash last."""
        return map(unescaped_row, self._pages(after, limit))

    def hashes(self, after: int = 0, limit: int | None = None) -> Iterator[tuple[int, int, int, bytes]]:
        """Position, task id, version and hash of each record from `after + 1` on; nothing else is read."""
        return ((row[0], row[1], row[2], row[3]) for row in self._pages(after, limit, _HASHES))

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """Records in order of position, from `after + 1` on."""
        decrypt = self._decrypt.anew()
        return (from_row(row[:14], row[14], decrypt) for row in self.rows(after, limit))

    def read_to_fold(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """Records as far as a fold needs them, in order of position; see `ReadableLog.read_to_fold`."""
        pages = self._pages(after, limit, _TO_FOLD)
        return _folded((row if row[6] is None else _unescaped_to_fold(row) for row in pages), self._decrypt.anew())

    def read_what_may_concern(self, prefixes: Sequence[str], until: int) -> Iterator[Recorded]:  # noqa: ARG002 - all are read
        """All records up to a position; see `ReadableLog.read_what_may_concern`."""
        return self.read(limit=until)

    def read_task(self, task_id: int, *, adjusted: bool = False) -> list[Recorded]:
        """All records of one task, in order of position; with `adjusted`, also the service's adjustments of it."""
        rows = self._fetch(_WITH_ADJUSTMENTS if adjusted else _OF_TASK, {"task_id": task_id})
        refuse_gap(task_id, 0, [row for row in rows if row[1] == task_id])
        return self._records(rows)

    def read_parts(self, parts: Sequence[Part], until: int) -> list[Recorded]:
        """The records of parts of tasks' lives; see `ReadableLog.read_parts`."""
        wanted = {
            "tasks": [part.task_id for part in parts],
            "afters": [part.after for part in parts],
            "lasts": [part.last for part in parts],
            "adjusted": [part.adjusted_after for part in parts],
            "until": until,
        }
        rows = self._fetch(_OF_PARTS, wanted)
        reached = {part.task_id: part.after for part in parts}
        for row in rows:
            if row[1]:
                refuse_gap(row[1], reached[row[1]], [row])
                reached[row[1]] = row[2]
        return self._records(rows)

    def _records(self, rows: Iterable[tuple[Any, ...]]) -> list[Recorded]:
        decrypt = self._decrypt.anew()
        return [from_row(row[:14], row[14], decrypt) for row in map(unescaped_row, rows)]

    def newest_of(self, event: str, after: int, until: int, limit: int) -> list[int]:
        """The positions of the newest records of a kind after `after`, up to `until`, newest first. It scans all."""
        return [int(row[0]) for row in self._fetch(_NEWEST_OF, (after, until, event, limit))]

    def take_missing_keys(self) -> set[str]:
        """The keys of users that were not there for records read since the last call."""
        return self._decrypt.take_missing()

    def keys_there(self, keys: Collection[str]) -> set[str]:
        """Those of these keys with which records can be read now."""
        return self._decrypt.keys.there(keys)

    def drops(self, after: int = 0) -> list[Drop]:
        """The records after a position that have dropped others. Other checks report those that cannot be read."""
        return drops_in(self._fetch(DROPS, (after,)))

    def _left_of(self, positions: str) -> list[tuple[Any, ...]]:
        """The columns `LEFT` of the records, or stubs, at these positions."""
        return [row for first, last in spans_of(positions) for row in self._fetch(_LEFT, NumberRange(first, last))]

    def refuse_lost_keys(self) -> None:
        """Raise `KeysUnreadable` if keys cannot be used, or are missing although no erasure has destroyed them.

        A service without them would take them for destroyed. This scans the log, unless this data folder had the log
        last: then only `keys.db` could be missing.
        """
        keys = self._decrypt.keys
        if not keys.exist():
            if self._fetch(_ANY_ENCRYPTED):
                raise KeysUnreadable(keys.missing().message, remedy=_COPY_KEYS)
            return
        keys.check()
        if Reading.head(self) == read_mark(self._place):
            return
        erasures = (decode("user_erased", data, position) for position, data in self._fetch(_ERASURES))
        erased = {key for event in erasures if isinstance(event, UserErased) for key in event.keys}
        used = {str(key) for (key,) in self._fetch(_KEYS)}
        lacking = sum(not keys.can_open(key) for key in used - erased)
        if lacking:
            raise KeysUnreadable(
                f"{keys.path} lacks {counted(lacking, 'key')} of users with which the log is encrypted",
                remedy=_COPY_KEYS,
            )

    def _belongings(self, user_id: int, known: Belongings) -> Belongings:
        head = self.head().position
        keys = self._decrypt.keys
        names = keys.of_user(user_id)  # a key exists before a record is encrypted with it
        if known.position:
            refuse_change(user_id, known, names, dropped=bool(self.drops(known.position)))
        rows = self._fetch(_NAMING, (known.position, head, [*NAMES_USER]))
        naming = ((row[0], row[1], row[2], row[3], row[4]) for row in rows)
        return collect_belongings(naming, keys, names, user_id, known, head)

    def _first_data(self, task_id: int) -> str:
        """The payload of a task's first record; empty if there is none."""
        rows = self._fetch(_FIRST_DATA, (task_id,))
        return str(rows[0][0]) if rows else ""

    def _key_of(self, task_id: int) -> str:
        return key_in(self._first_data(task_id))
