"""`ReadableLog` on SQLite, the base of the writer and of the reader: from the table, and from archives."""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Union

import msgspec
from msgspec.structs import astuple

from ..context import NOTHING_KNOWN, Belongings
from ..errors import LogCorrupt
from ..recorded import STUB, Recorded, Stub
from ..task_events import TAGS
from ..values import MAX_INTEGER
from .archives import Archives
from .chain import GENESIS
from .encryption import Decryption, belongings
from .event_log import Head, Part
from .personal import BEGINS
from .rows import COLUMNS, Decrypt, from_row
from .schema import ADJUSTED_TASK, IS_ADJUSTMENT
from .sqlite_errors import explained, file_of, says_damage, unreadable
from .stubs import Drop, read_drops

SELECT = f"SELECT {', '.join(COLUMNS)}, hash FROM events"  # noqa: S608 - our own names
_PAGE = 5000
_WITH_ADJUSTMENTS = f"""
    position IN (
        SELECT position FROM events WHERE task_id = :task_id
        UNION ALL SELECT position FROM events WHERE {IS_ADJUSTMENT} AND {ADJUSTED_TASK} = :task_id
    ) ORDER BY position
"""  # noqa: S608 - our own words
"""The condition of a task's records, and of the service's records that adjust it."""
_OF_PARTS = f"""
    position IN (
        SELECT position FROM json_each(:parts) AS part CROSS JOIN events
        WHERE task_id = json_extract(part.value, '$[0]') AND version > json_extract(part.value, '$[1]')
            AND version <= json_extract(part.value, '$[2]') AND position <= :until
        UNION ALL SELECT position FROM json_each(:parts) AS part CROSS JOIN events
        WHERE {IS_ADJUSTMENT} AND {ADJUSTED_TASK} = json_extract(part.value, '$[0]')
            AND position > json_extract(part.value, '$[3]') AND position <= :until
    ) ORDER BY position
"""  # noqa: S608 - our own words
"""The condition of the records in parts of tasks' lives, with their adjustments."""


def fetch(
    conn: sqlite3.Connection, statement: str, parameters: tuple[object, ...] | dict[str, object] = ()
) -> list[tuple[Any, ...]]:
    """All rows of a query. Damage and operational errors that SQLite reports are raised as errors of ours."""
    try:
        return conn.execute(statement, parameters).fetchall()
    except sqlite3.OperationalError as error:
        raise explained(error, file_of(conn), "cannot be read") from error
    except sqlite3.DatabaseError as error:
        if says_damage(error):
            raise unreadable(error, file_of(conn)) from error
        raise


def pages(
    conn: sqlite3.Connection,
    after: int,
    limit: int | None,
    columns: str = "",
    of_archived: Callable[[tuple[Any, ...]], tuple[Any, ...]] = tuple,
) -> Iterator[tuple[Any, ...]]:
    """Rows in order of position, which is the first column, each page in a transaction of its own.

    `of_archived` picks the same columns from a whole row.
    """
    select = f"SELECT {columns} FROM events" if columns else SELECT  # noqa: S608 - names of columns, of ours
    archives = Archives(conn)
    after = max(after, 0)
    while limit is None or limit > 0:
        if after < archives.until():
            for row in islice(archives.rows(after), limit):
                after, limit = row[0], None if limit is None else limit - 1
                yield of_archived(row)
            continue
        size = _PAGE if limit is None else min(_PAGE, limit)
        page = fetch(conn, f"{select} WHERE position > ? ORDER BY position LIMIT ?", (after, size))
        if page and page[0][0] != after + 1 and after < archives.until():  # archived since
            continue
        yield from gapless(page, after)
        if len(page) < size:
            return
        after += size
        limit = None if limit is None else limit - size


def gapless(page: Iterable[tuple[Any, ...]], after: int) -> Iterator[tuple[Any, ...]]:
    """The rows, whose first column is the position. Raises `LogCorrupt` if a position after `after` is missing."""
    for position, row in enumerate(page, after + 1):
        if row[0] != position:  # never skip a missing record
            raise LogCorrupt(f"Position {position} of the log is missing: position {row[0]} stands in its place")
        yield row


class _Whole(msgspec.Struct, array_like=True, tag="", forbid_unknown_fields=True, gc=False):
    """All values of a row, in the order of `COLUMNS`, its hash in hex last."""

    position: int
    task_id: int
    version: int
    event: str
    recorded_at: str
    actor: str
    reason: str
    command_id: str
    correlation_id: str
    causation_id: str
    attempt: int
    life: int
    terminal: int
    data: str
    hash: str


_ENCRYPTED = f"(data >= '{BEGINS}' AND data < '{BEGINS[:-1]}#')"  # data that begins with it; quicker than `substr`
_IN_ONE = """
    '["' || event || '",' || task_id || ',' || version || ',' || data || ',"' || recorded_at
    || '","","","","","",0,0,' || position || ']'
"""
"""Not with `printf`, which ends a text at a NUL."""
_JOINED = f"concat({_IN_ONE.replace('||', ',')})" if sqlite3.sqlite_version_info >= (3, 44) else _IN_ONE
"""With one `concat` where SQLite has it, which takes half as long."""
_TO_FOLD = f"""
    SELECT iif(task_id AND NOT {_ENCRYPTED}, {_JOINED}, json_array('', {", ".join(COLUMNS)}, hex(hash)))
    FROM events WHERE position > ? ORDER BY position LIMIT ?
"""  # noqa: S608 - our own names
"""One JSON text for each row, because a column costs as much as decoding an event. It begins with the event's tag.

For events of tasks it holds only what a fold needs. If a text in a row breaks the JSON, decoding notices that.
"""


def _record_of(tag: str, cls: type[Any]) -> type[Any]:
    """The class of records with this event, in the form that a fold gets."""
    return msgspec.defstruct(
        f"{cls.__name__}Record",
        [("event", cls)],
        bases=(Recorded,),
        tag=tag,
        array_like=True,
        forbid_unknown_fields=True,
        frozen=True,
        gc=False,
    )


_FOLD_DECODER = msgspec.json.Decoder(
    Union[_Whole, *(_record_of(tag, cls) for cls, tag in (*TAGS.items(), (Stub, STUB)))]
)


def _whole(row: _Whole, decrypt: Decrypt) -> Recorded:
    return from_row(astuple(row)[:14], bytes.fromhex(row.hash), decrypt)


_LATER_ONES = f"{SELECT} WHERE task_id IN (SELECT value FROM json_each(?)) AND version > 1 AND position <= ?"  # noqa: S608 - our own names
_STRETCH = 20_000
"""Positions that are scanned at once."""
_MANY = 5_000
"""Tasks. If more have such fields, reading all records is quicker than looking theirs up."""


def _as_json(tasks: Sequence[int]) -> str:
    return msgspec.json.encode(tasks).decode()


def _archived_parts(archives: Archives, parts: Sequence[Part], until: int) -> list[tuple[Any, ...]]:
    found = [
        row
        for part in parts
        for row in archives.of_task(part.task_id, until=until, adjusted=True)
        if (part.after < row[2] <= part.last if row[1] else row[0] > part.adjusted_after)
    ]
    return sorted(found)


def joined(archived: Iterable[tuple[Any, ...]], stored: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows from archives, then those of the table that follow them: some may still be in both."""
    rows = list(archived)
    last = rows[-1][0] if rows else 0
    return [*rows, *(row for row in stored if row[0] > last)]


def refuse_gap(task_id: int, after: int, rows: list[tuple[Any, ...]]) -> None:
    """Raise `LogCorrupt` unless these records of a task follow the version `after` without a gap."""
    for expected, row in enumerate(rows, after + 1):
        if row[2] != expected:
            raise LogCorrupt(f"The records of task {task_id} cannot all be found: version {expected} is missing")


class Reading:
    """Queries a log on SQLite; a derived class provides the connection."""

    _conn: sqlite3.Connection
    _decrypt: Decryption

    def head(self) -> Head:
        """The end of the log now."""
        rows = fetch(self._conn, "SELECT position, hash FROM events ORDER BY position DESC LIMIT 1")
        return Head(*rows[0]) if rows else Head(0, GENESIS)

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """Records in order of position, from `after + 1` on, in pages: no reader holds the file open for long."""
        decrypt = self._decrypt.anew()
        return (from_row(row[:14], row[14], decrypt) for row in pages(self._conn, after, limit))

    def read_to_fold(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """Records as far as a fold needs them, in order of position; see `ReadableLog.read_to_fold`.

        Archived records are read whole. So are all records from the first unexpected row on: that read says what is
        wrong.
        """
        conn, decrypt = self._conn, self._decrypt.anew()
        archives, decode = Archives(conn), _FOLD_DECODER.decode
        after = max(after, 0)
        until = MAX_INTEGER if limit is None else after + limit
        as_expected = True
        while as_expected and after < until:
            archived = min(archives.until(), until)
            if after < archived:
                for record in self.read(after, archived - after):
                    after = record.position
                    yield record
                continue
            try:
                page = fetch(conn, _TO_FOLD, (after, min(_PAGE, until - after)))
            except LogCorrupt:  # such as a text that is not UTF-8
                break
            as_expected = bool(page)
            for (text,) in page:
                try:
                    folded = decode(text)
                except (msgspec.MsgspecError, UnicodeError, RecursionError):
                    folded = None
                if folded is None or folded.position != after + 1:
                    as_expected = False
                    break
                after += 1
                yield _whole(folded, decrypt) if type(folded) is _Whole else folded
        yield from self.read(after, until - after)

    def read_what_may_concern(self, prefixes: Sequence[str], until: int) -> Iterator[Recorded]:
        """Records that may concern tasks with certain fields; see `ReadableLog.read_what_may_concern`.

        SQLite finds them without holding Python's interpreter, which other threads need.
        """
        conn, decrypt = self._conn, self._decrypt.anew()
        has_field = " OR ".join("instr(data, ?)" for _ in prefixes)
        # With `+` SQLite scans only these positions. By an index it would search each range among all records of a
        # task.
        statement = f"""
            {SELECT} WHERE position > ? AND position <= ? AND (
                position = 1 OR +task_id = 0 OR +task_id IN (SELECT value FROM json_each(?))
                OR event = 'created' AND ({_ENCRYPTED} OR {has_field})
            ) ORDER BY position
        """  # noqa: S608 - our own names
        marks = tuple(f'"{prefix}' for prefix in prefixes)
        archives, tasks, after = Archives(conn), list[int](), 0
        while after < until:
            last = min(after + _STRETCH, until)
            rows = fetch(conn, statement, (after, last, _as_json(tasks), *marks))
            begun = [row[1] for row in rows if row[3] == "created"]
            tasks += begun
            if len(tasks) > _MANY:
                break
            rows += fetch(conn, _LATER_ONES, (_as_json(begun), last))
            if after < archives.until():  # maybe only now: archives are noted before rows are deleted
                break
            yield from (from_row(row[:14], row[14], decrypt) for row in sorted(rows))
            after = last
        yield from self.read(after, until - after)

    def read_task(self, task_id: int, *, adjusted: bool = False) -> list[Recorded]:
        """All records of one task, in order of position; with `adjusted`, also the service's adjustments of it."""
        where = _WITH_ADJUSTMENTS if adjusted else "task_id = :task_id ORDER BY version"
        rows = fetch(self._conn, f"{SELECT} WHERE {where}", {"task_id": task_id})
        if not any(row[1] == task_id and row[2] == 1 for row in rows):
            rows = joined(Archives(self._conn).of_task(task_id, adjusted=adjusted), rows)
        refuse_gap(task_id, 0, [row for row in rows if row[1] == task_id])
        return self._records(rows)

    def read_parts(self, parts: Sequence[Part], until: int) -> list[Recorded]:
        """The records of parts of tasks' lives; see `ReadableLog.read_parts`."""
        wanted = {"parts": msgspec.json.encode(parts).decode(), "until": until}
        rows = fetch(self._conn, f"{SELECT} WHERE {_OF_PARTS}", wanted)
        reached = {part.task_id: part.after for part in parts}
        archives = Archives(self._conn)
        if archives.until() > min((part.adjusted_after for part in parts), default=0):
            rows = joined(_archived_parts(archives, parts, until), rows)
        for row in rows:
            if row[1]:
                refuse_gap(row[1], reached[row[1]], [row])
                reached[row[1]] = row[2]
        return self._records(rows)

    def _records(self, rows: Iterable[tuple[Any, ...]]) -> list[Recorded]:
        decrypt = self._decrypt.anew()
        return [from_row(row[:14], row[14], decrypt) for row in rows]

    def version_at(self, task_id: int, position: int = MAX_INTEGER) -> int:
        """The last version of a task up to a position; 0 when there was none."""
        wanted = "SELECT version FROM events WHERE task_id = ? AND position <= ? ORDER BY version DESC LIMIT 1"
        rows = fetch(self._conn, wanted, (task_id, position))
        if rows:
            return int(rows[0][0])
        return next((row[2] for row in Archives(self._conn).of_task_backwards(task_id) if row[0] <= position), 0)

    def newest_of(self, event: str, after: int, until: int, limit: int) -> list[int]:
        """The positions of the newest records of a kind after `after`, up to `until`, newest first. It scans all."""
        wanted = "SELECT position FROM events WHERE position > ? AND position <= ? AND event = ?"
        rows = fetch(self._conn, f"{wanted} ORDER BY position DESC LIMIT ?", (after, until, event, limit))
        found = [int(row[0]) for row in rows]
        archives = Archives(self._conn)
        if len(found) < limit and after < archives.until():
            least = min(found, default=until + 1)
            for row in archives.of_kind_backwards(event):
                if row[0] <= after or len(found) == limit:
                    break
                if row[0] < least:
                    found.append(row[0])
        return found

    def take_missing_keys(self) -> set[str]:
        """The keys of users that were not there for records read since the last call."""
        return self._decrypt.take_missing()

    def keys_there(self, keys: Collection[str]) -> set[str]:
        """Those of these keys with which records can be read now."""
        return self._decrypt.keys.there(keys)

    def drops(self, after: int = 0) -> list[Drop]:
        """The records after a position that have dropped others."""
        try:
            return list(read_drops(self._conn, after))
        except sqlite3.Error as error:
            raise explained(error, file_of(self._conn), "cannot be read") from error

    def belongings(self, user_id: int, known: Belongings = NOTHING_KNOWN) -> Belongings:
        """The personal data of a user; see `EventLog.belongings`."""
        try:
            return belongings(self._conn, self._decrypt.keys, user_id, known)
        except sqlite3.Error as error:
            raise explained(error, file_of(self._conn), "cannot be read") from error
