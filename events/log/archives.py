"""The archives of a log: a table of `log.db` lists them, and a folder beside it has their files.

They hold the beginning of the log, without a gap. Rows that the table of events does not have any more are read here.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from ..errors import LogCorrupt, OutcomeUnknown, TasktrailError
from ..ranges import NumberRange
from ..recorded import Recorded
from ..system_events import SegmentArchived
from ..values import MAX_INTEGER
from .archive_file import FRAME, ArchiveDamaged, ArchiveFile, Row, adjusted_task, file_digest, file_name
from .chain import checksum
from .sqlite_errors import file_of, meaning_of, says_damage, unreadable

ARCHIVE_FOLDER = "archive"
PUT_BACK = (
    "Keep what is there as evidence, and replace it by that archive from a backup. If no backup has it, restore "
    "the newest backup that `tasktrail verify` finds sound."
)
"""The remedy for a missing or damaged archive: it alone has to be restored, not the whole folder."""
_COLUMNS = "first, last, newest_task, root, sha256, size"
_ALL = f"SELECT {_COLUMNS}, sum FROM archives ORDER BY first"  # noqa: S608 - our own names
_UNTIL = "SELECT max(last) FROM archives"
_PUT = f"INSERT OR REPLACE INTO archives ({_COLUMNS}, sum) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own names
_STILL_THERE = "SELECT position FROM events ORDER BY position LIMIT 1"
_DELETE = "DELETE FROM events WHERE position <= ?"
_TYPES = (int, int, int, str, str, int)
_ROWS_KEPT = 4096
_WITH_KIND = "SELECT first FROM archived_kinds WHERE event = ?"
_WITH_TASK = "SELECT first FROM archived_tasks WHERE task_id = ?"
_NEWEST_BEFORE = "SELECT coalesce(max(newest_task), -1) FROM archives WHERE first < ?"
_FORGET_KINDS = "DELETE FROM archived_kinds WHERE first = ?"
_FORGET_TASKS = "DELETE FROM archived_tasks WHERE first = ?"
_PUT_KIND = "INSERT INTO archived_kinds (event, first) VALUES (?, ?)"
_PUT_TASK = "INSERT INTO archived_tasks (task_id, first) VALUES (?, ?)"
_NO_TABLE = "no such table"


class KnownArchive(msgspec.Struct, frozen=True):
    """An archive, as the log knows it."""

    first: int
    last: int
    newest_task: int
    root: str
    """Of the tree (RFC 6962) over its records, in hex."""
    sha256: str
    """Of the file, in hex."""
    size: int
    """Of the file, in bytes."""

    @property
    def name(self) -> str:
        """The name of its file."""
        return file_name(self.first, self.last, self.sha256)


class Archived(msgspec.Struct, frozen=True, kw_only=True):
    """How much was archived, or would be in a trial run."""

    archives: int
    """The number of ranges, each of which is one file."""
    records: int
    size: int = 0
    """Bytes of the files; 0 in a trial run."""
    until: int
    """All records up to this position are archived now, or would be; 0: none."""
    position: int = 0
    """The position of the event that records the last range; 0: nothing was archived."""
    next_until: int = 0
    """The end of the next range. That range is archived once all its records may be."""


def folder_of(log: Path) -> Path:
    """The folder with the archives of a log."""
    return log.parent / ARCHIVE_FOLDER


def segment_of(event: SegmentArchived) -> KnownArchive:
    """The archive that an event records."""
    return KnownArchive(event.first, event.last, event.newest_task, event.root, event.sha256, event.size)


def table_of(conn: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """The rows of the table of archives, each with its sum last, in order. Raises `sqlite3.Error`."""
    return _fetch(conn, _ALL)


def _fetch(conn: sqlite3.Connection, statement: str, *values: object) -> list[tuple[Any, ...]]:
    try:
        return conn.execute(statement, values).fetchall()
    except sqlite3.OperationalError as error:
        if _NO_TABLE in str(error):  # a log of an older version, opened read-only
            return []
        raise


def matches_sum(row: Sequence[Any], stored: object) -> bool:
    """Whether the values of a row of the table of archives match its sum."""
    return tuple(map(type, row)) == _TYPES and checksum(row) == stored


def archived_until(conn: sqlite3.Connection) -> int:
    """The last archived position; 0: none. Raises `sqlite3.Error`."""
    until = next((row[0] for row in _fetch(conn, _UNTIL)), 0) or 0
    if not isinstance(until, int):
        raise LogCorrupt(f"The table of archives was altered: {until!r}")
    return until


def note_archive(conn: sqlite3.Connection, event: SegmentArchived) -> bool:
    """Note an archive and its contents, in the transaction in which its event was appended. Raises `sqlite3.Error`.

    Returns whether it fits: it has to go on where the last one ends, or to replace the one that it names. Noting the
    same archive twice is harmless.
    """
    row = msgspec.structs.astuple(segment_of(event))
    known = {found[0]: found for found in table_of(conn)}
    before = known.get(event.first)
    if before is None:
        fits = not event.replaces and event.first == archived_until(conn) + 1 <= event.last
    else:
        fits = before[1] == event.last and before[4] in (event.replaces, event.sha256)
    if fits:
        conn.execute(_PUT, (*row, checksum(row)))
        _note_contents(conn, segment_of(event))
    return fits


def note_contents(conn: sqlite3.Connection) -> None:
    """Index the archives that have no index yet, in a transaction of the caller. Raises `sqlite3.Error`.

    An unreadable archive stays without an index: then each search opens it.
    """
    archives = Archives(conn)
    with suppress(LogCorrupt):  # other checks report it
        for segment in archives.without_index():
            _note_contents(conn, segment)


def _note_contents(conn: sqlite3.Connection, segment: KnownArchive) -> None:
    with suppress(TasktrailError):
        file = Archives(conn).file(segment)
        newest = conn.execute(_NEWEST_BEFORE, (segment.first,)).fetchone()[0]
        conn.execute(_FORGET_KINDS, (segment.first,))
        conn.execute(_FORGET_TASKS, (segment.first,))
        conn.executemany(_PUT_KIND, [(kind, segment.first) for kind in file.kinds()])
        conn.executemany(_PUT_TASK, [(task_id, segment.first) for task_id in {0, *tasks_up_to(file, newest)}])


def tasks_up_to(file: ArchiveFile, newest: int) -> set[int]:
    """The tasks of a file that an earlier archive may contain, too: those up to `newest`, the newest task of these."""
    return {task_id for task_id in file.tasks() if 0 < task_id <= newest}


def noted_contents(conn: sqlite3.Connection) -> tuple[dict[int, set[str]], dict[int, set[int]]]:
    """The kinds and the tasks in the index of each archive, by its first position. Raises `sqlite3.Error`."""
    kinds, tasks = defaultdict[int, set[str]](set), defaultdict[int, set[int]](set)
    for event, first in _fetch(conn, "SELECT event, first FROM archived_kinds"):
        kinds[first].add(event)
    for task_id, first in _fetch(conn, "SELECT task_id, first FROM archived_tasks"):
        tasks[first].add(task_id)
    return kinds, tasks


def delete_archived(conn: sqlite3.Connection, limit: int) -> int:
    """Delete at most `limit` rows that are archived; returns how many are left.

    Raises `sqlite3.Error`, and `LogCorrupt` if the file is not as it was recorded: then these rows are the only copy.
    """
    archives = Archives(conn, any_file=True)  # hashed below, each time
    segments = archives.segments()
    first = conn.execute(_STILL_THERE).fetchone()
    if first is None or not segments or first[0] > segments[-1].last:
        return 0
    last = min(segments[-1].last, first[0] + limit - 1)
    for segment in segments:
        if first[0] <= segment.last and segment.first <= last:
            path = archives.file(segment).path
            if file_digest(path) != (segment.sha256, segment.size):
                message = f"Position {segment.first}: the archive {path} was changed or replaced"
                raise LogCorrupt(message, remedy=PUT_BACK)
    conn.execute(_DELETE, (last,))
    return int(segments[-1].last - last)


@lru_cache(_ROWS_KEPT, typed=True)
def _archive_of_row(*row: Any) -> KnownArchive | None:
    """The archive of a row of the table; None if the row was altered."""
    return KnownArchive(*row[:-1]) if matches_sum(row[:-1], row[-1]) else None


class Archives:
    """The archives of the log that a connection has open.

    A missing file or record is damage and raises `LogCorrupt`, like damage of `log.db`. So is a file that is not the
    one noted in the log, such as an older one that still has what was forgotten. A file that the system cannot read
    raises `DiskFailed`, or `LogNotWritable` for lack of permission.

    Args:
        conn: the log.
        any_file: for checks that say exactly what is wrong: files are read even if they are not those noted.
    """

    def __init__(self, conn: sqlite3.Connection, *, any_file: bool = False) -> None:
        self._conn = conn
        self._any_file = any_file

    def segments(self) -> list[KnownArchive]:
        """All archives, in order."""
        segments, altered = self.segments_before_fault()
        if altered:
            raise LogCorrupt(f"Position {altered}: the entry of the archive from here on was altered")
        return segments

    def segments_before_fault(self) -> tuple[list[KnownArchive], int]:
        """The archives in order, up to an altered entry, and where the archive of that begins (0: none is altered)."""
        with _explained(self._conn):
            table = table_of(self._conn)
        due, segments = 1, list[KnownArchive]()
        for row in table:
            segment = _archive_of_row(*row)
            if segment is None or segment.first != due:
                return segments, due
            segments.append(segment)
            due = segment.last + 1
        return segments, 0

    def without_index(self) -> list[KnownArchive]:
        """The archives without an index of their contents."""
        noted = self._first_positions(_WITH_TASK, 0)
        return [segment for segment in self.segments() if segment.first not in noted]

    def with_kind(self, tag: str) -> list[KnownArchive]:
        """The archives that have, or may have, a record of a kind, in order."""
        having, noted = self._first_positions(_WITH_KIND, tag), self._first_positions(_WITH_TASK, 0)
        return [one for one in self.segments() if one.first in having or one.first not in noted]

    def with_task(self, task_id: int) -> list[KnownArchive]:
        """The archives that have, or may have, records of a task or about it, in order.

        A task begins in the first archive whose newest task is not older. The index lists only the later archives that
        go on with it.
        """
        segments = self.segments()
        if not task_id:
            return segments
        having, noted = self._first_positions(_WITH_TASK, task_id), self._first_positions(_WITH_TASK, 0)
        begin = next((one.first for one in segments if one.newest_task >= task_id), 0)
        return [one for one in segments if one.first == begin or one.first in having or one.first not in noted]

    def _first_positions(self, statement: str, value: object) -> Collection[int]:
        with _explained(self._conn):
            return {first for (first,) in _fetch(self._conn, statement, value)}

    def until(self) -> int:
        """The last archived position; 0: none."""
        with _explained(self._conn):
            return archived_until(self._conn)

    def file(self, segment: KnownArchive) -> ArchiveFile:
        """The file of an archive, or of the archive that has replaced it meanwhile."""
        path = self._folder() / segment.name
        noted = None if self._any_file else (segment.sha256, segment.size)
        with _as_errors_of_the_log():
            try:
                return ArchiveFile(path, segment.first, segment.last, noted)
            except FileNotFoundError:
                for now in self.segments():
                    if now.first == segment.first and now.sha256 != segment.sha256:
                        return self.file(now)
                message = f"Position {segment.first}: the archive {path} is missing"
                raise LogCorrupt(message, remedy=PUT_BACK) from None

    def _folder(self) -> Path:
        return folder_of(Path(self._conn.execute("PRAGMA database_list").fetchone()[2]))

    def rows(self, after: int = 0) -> Iterator[Row]:
        """The stored values of each archived record after a position, its hash last."""
        for segment in self.segments():
            if segment.last > after:
                file = self.file(segment)
                least = max(after + 1 - segment.first, 0) // FRAME
                for row in self._of_frames(segment, file, range(least, len(file.index.frames))):
                    if row[0] > after:
                        yield row

    def row(self, position: int) -> Row | None:
        """The row at a position; None if it is not archived."""
        return next(self.rows(position - 1), None) if 0 < position <= self.until() else None

    def backwards(self, position: int) -> Iterator[Row]:
        """All rows from a position down to the first."""
        for segment in reversed(self.segments()):
            if segment.first <= position:
                file = self.file(segment)
                last = (min(position, segment.last) - segment.first) // FRAME
                for row in self._of_frames(segment, file, range(last, -1, -1), backwards=True):
                    if row[0] <= position:
                        yield row

    def of_task(
        self, task_id: int, *, after: int = 0, until: int = MAX_INTEGER, adjusted: bool = False
    ) -> Iterator[Row]:
        """The rows of a task after a version and up to a position, in order.

        With `adjusted`, also all records of the service that adjust the task.
        """
        for segment in self.with_task(task_id):
            if segment.first > until:
                return
            file = self.file(segment)
            numbers = file.of_task(task_id)
            if not task_id:
                numbers = [number for number in numbers if file.index.frames[number].version > after]
            for row in self._of_frames(segment, file, numbers):
                if row[0] > until:
                    return
                if (row[1] == task_id and row[2] > after) or (adjusted and task_id and adjusted_task(row) == task_id):
                    yield row

    def of_task_backwards(self, task_id: int) -> Iterator[Row]:
        """The rows of a task, the last one first."""
        for segment in reversed(self.with_task(task_id)):
            file = self.file(segment)
            for row in self._of_frames(segment, file, reversed(file.of_task(task_id)), backwards=True):
                if row[1] == task_id:
                    yield row

    def of_kind(self, tag: str, after: int = 0, *, lenient: bool = False) -> Iterator[Row]:
        """The rows of a kind after a position, in order. `lenient`: unreadable archives are skipped."""
        for segment in self.with_kind(tag):
            if segment.last > after:
                with suppress(*[TasktrailError] * lenient):
                    yield from self._of_kind(segment, tag, after)

    def _of_kind(self, segment: KnownArchive, tag: str, after: int) -> Iterator[Row]:
        file = self.file(segment)
        least = (after + 1 - segment.first) // FRAME
        numbers = [number for number in file.with_tag(tag) if number >= least]
        return (row for row in self._of_frames(segment, file, numbers) if row[3] == tag and row[0] > after)

    def of_kind_backwards(self, tag: str) -> Iterator[Row]:
        """The rows of a kind, the last one first."""
        for segment in reversed(self.with_kind(tag)):
            file = self.file(segment)
            numbers = reversed(file.with_tag(tag))
            yield from (row for row in self._of_frames(segment, file, numbers, backwards=True) if row[3] == tag)

    def _of_frames(
        self, segment: KnownArchive, file: ArchiveFile, numbers: Iterable[int], *, backwards: bool = False
    ) -> Iterator[Row]:
        for number in numbers:
            with _as_errors_of_the_log():
                try:
                    rows = file.frame(number)
                except FileNotFoundError:
                    rows = self.file(segment).frame(number)
            yield from reversed(rows) if backwards else rows

    def within(self, spans: Iterable[NumberRange]) -> Iterator[Row]:
        """The rows at the positions in `spans`, which are in order and may be many."""
        segments = self.segments()
        files = dict[int, ArchiveFile]()
        for first, last in spans:
            for segment in segments:
                if segment.last < first:
                    continue
                if segment.first > last:
                    break
                if segment.first not in files:
                    files[segment.first] = self.file(segment)
                begin = (max(first, segment.first) - segment.first) // FRAME
                end = (min(last, segment.last) - segment.first) // FRAME
                for row in self._of_frames(segment, files[segment.first], range(begin, end + 1)):
                    if first <= row[0] <= last:
                        yield row

    def with_any(self, spans: Sequence[NumberRange]) -> list[KnownArchive]:
        """The archives that have a record at one of the positions."""
        return [one for one in self.segments() if any(first <= one.last and last >= one.first for first, last in spans)]

    def newest_task(self) -> int:
        """The highest task number that an archived record belongs to or is about; -1: nothing is archived."""
        with _explained(self._conn):  # runs at each commit
            return next((int(row[0]) for row in _fetch(self._conn, _NEWEST_BEFORE, MAX_INTEGER)), -1)

    def remove_replaced(self, records: Iterable[Recorded]) -> None:
        """Remove the files that these records have replaced. The next start removes what remains."""
        names = {segment.name for segment in self.segments()}
        for record in records:
            if isinstance(record.event, SegmentArchived) and record.event.replaces:
                old = file_name(record.event.first, record.event.last, record.event.replaces)
                if old not in names:
                    with suppress(OSError):
                        (self._folder() / old).unlink(missing_ok=True)

    def encrypted(self) -> Iterator[ArchiveFile]:
        """The files with encrypted personal data."""
        files = (self.file(segment) for segment in self.segments())
        return (file for file in files if file.encrypted)

    def remove_strays(self) -> None:
        """Remove files that belong to no archive: unfinished or replaced ones."""
        names = {segment.name for segment in self.segments()}
        with suppress(FileNotFoundError):
            for path in self._folder().iterdir():
                if path.name not in names and path.name.endswith((".zst", ".part")):
                    with suppress(IsADirectoryError):  # what others have put there stays
                        path.unlink(missing_ok=True)


@contextmanager
def _explained(conn: sqlite3.Connection) -> Iterator[None]:
    """Raise errors of SQLite as ours: what it calls damage is a damaged log."""
    try:
        yield
    except sqlite3.Error as error:
        if says_damage(error):
            raise unreadable(error, file_of(conn)) from error
        raise OutcomeUnknown(f"The log's file cannot be read: {error}") from error


@contextmanager
def _as_errors_of_the_log() -> Iterator[None]:
    """Raise damage inside an archive as `LogCorrupt`, and errors of the system by their meaning."""
    try:
        yield
    except ArchiveDamaged as error:
        raise LogCorrupt(f"Position {error.position}: {error.reason}", remedy=PUT_BACK) from error
    except OSError as error:
        raise meaning_of(error)(f"An archive cannot be read: {error}") from error
