"""Makes a backup from an earlier one: a copy of that file, plus what is new in the log.

The log only grows, so an earlier backup holds its beginning. What was forgotten or archived since is removed from the
copy, too. A backup of this kind is like any other: it needs no other file, and is restored in the same way. The part
from the earlier backup is not read again.
"""

import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from ..events.errors import BackupFailed, BaseUnfit, InvalidPath, LogCorrupt
from ..events.existence import is_dir, is_file
from ..events.log.archives import Archives
from ..events.log.chain import GENESIS
from ..events.log.event_log import Head, ReportProgress
from ..events.log.schema import TABLES, refuse_masked
from ..events.log.sqlite_errors import illegible
from ..events.log.stubs import DROPPING, LEFT, spans_dropped
from ..events.ranges import NumberRange, is_within
from ..events.recorded import STUB
from .check import is_log_damage, open_log, open_log_as_it_is, refuse_written, silent, unreadable_log
from .evidence import clear_copy, sync_copy

_NAME = re.compile(r"tasktrail-(\d{8}T\d{6}Z)-(\d+)\.db")
"""The name of a backup in a folder."""
_STEP = 50_000
"""Records that one statement copies."""
_CACHE = 64 * 1024
"""KiB. Answers are stored in the order of their command ids, but come in any order."""
_PIECE = 1 << 23
"""Bytes that are copied at once."""
_CLONE = getattr(fcntl, "FICLONE", 0x40049409)
"""Linux's number, which Python has since 3.12."""
_HEADER = 100
# ruff: noqa: S608 - our own names
_EVENTS = "SELECT * FROM {log}events WHERE position > :after AND position <= :last ORDER BY position"
_ANSWERS = """
    SELECT answers.* FROM {log}events CROSS JOIN {log}answers ON answers.command_id = events.command_id
    WHERE events.position > :after AND events.position <= :last AND answers.position = events.position
    ORDER BY answers.command_id
"""
"""An answer is written in one commit with the records that its command led to, and points at the last of them."""
_EPOCHS = "SELECT * FROM {log}epochs ORDER BY epoch"
_TABLES = "SELECT type, name, tbl_name, sql FROM {log}sqlite_schema"
_MIGRATIONS = "SELECT migration_set, name FROM {log}_sqlite_migrations"
_HEAD = "SELECT position, hash FROM {log}events ORDER BY position DESC LIMIT 1"
_HASH = "SELECT hash FROM {log}events WHERE position = ?"
_ARCHIVED = "SELECT coalesce(max(last), 0) FROM log.archives"
_OF_ARCHIVES = ("archives", "archived_kinds", "archived_tasks")
_DROPS = f"SELECT position, data FROM log.events WHERE event = '{DROPPING}' AND position > ? ORDER BY position"
_BETWEEN = "events WHERE position BETWEEN ? AND ?"
_LEFT_IN = f"SELECT {LEFT} FROM {{log}}{_BETWEEN} ORDER BY position"
_NO_STUB = f"SELECT position FROM log.{_BETWEEN} AND event != '{STUB}' LIMIT 1"
_TAKE_OUT = f"DELETE FROM main.{_BETWEEN}"
_PUT_IN = f"INSERT INTO main.events SELECT * FROM log.{_BETWEEN}"
_POINTING = "SELECT command_id, position FROM main.answers"
_FORGET_ANSWER = "DELETE FROM main.answers WHERE command_id = ?"
_ARCHIVED_ANSWERS = """
    INSERT INTO main.answers SELECT * FROM log.answers WHERE position > ? AND position <= ? ORDER BY command_id
"""


class OtherTables(BaseUnfit):
    """The log's tables have changed since: a new version of tasktrail may also have changed older rows."""


def bases(base: Path) -> Iterator[Path]:
    """Yield the file itself, or the backups in the folder, the newest first. Raises `InvalidPath` if it is neither."""
    if is_dir(base):
        named = [(match, path) for path in base.iterdir() if (match := _NAME.fullmatch(path.name))]
        named.sort(key=lambda one: (one[0][1], int(one[0][2])), reverse=True)
        yield from [path for _match, path in named]
    elif is_file(base):
        yield base
    else:
        raise InvalidPath(f"There is no backup at {base}", field="base", remedy="Name an earlier backup, or a folder.")


def refuse_base(log: Path, base: Path) -> None:
    """Raise `BaseUnfit` unless the log goes on from where an earlier backup ends. Reads little of either."""
    try:
        if base.samefile(log):
            raise BaseUnfit(f"{base} is the log itself")
        _refuse_file(base)
    except OSError as error:
        raise BaseUnfit(f"{base} cannot be read: {error.strerror}") from error
    with closing(_Pair(log, base)) as pair:
        pair.compare()


def add_since(log: Path, base: Path, part: Path, progress: ReportProgress = silent) -> tuple[Head, Head]:
    """Fill an empty file with a copy of `base` and what is new in the log, as of one position.

    Returns where `base` ends and where the new file does, which is on the disk by then. `progress` counts bytes. Raises
    `BaseUnfit` as `refuse_base` does, or if `base` turns out to be damaged; `LogCorrupt` if the log is; `BackupFailed`
    if the file cannot be written.
    """
    try:
        _copy_file(base, part, progress)
    except OSError as error:
        raise BackupFailed(f"{base} cannot be copied to {part.parent}: {error.strerror}") from error
    with closing(_Pair(log, base, part)) as pair:
        ends = pair.compare()
        has_dropped = pair.add(*ends)
        if pair.frozen:
            refuse_written(log)
    if has_dropped:
        clear_copy(part)
    sync_copy(part)
    return ends


def _refuse_file(base: Path) -> None:
    """Raise `BaseUnfit` if size and header are not those of a finished backup, `OSError` if it cannot be read."""
    if any(os.path.lexists(f"{base}{end}") for end in ("-wal", "-journal")):
        raise BaseUnfit(f"{base} is in use: a file beside it holds changes that are still to be written to it")
    size = base.stat().st_size
    with base.open("rb") as file:
        header = file.read(_HEADER)
    if not header.startswith(b"SQLite format 3\0"):
        raise BaseUnfit(f"{base} is no backup, or its beginning is damaged")
    if header[18:20] != b"\1\1":
        raise BaseUnfit(f"{base} is no backup, or another program has opened it to write")
    due = int.from_bytes(header[16:18]) * int.from_bytes(header[28:32])
    if size != due:
        raise BaseUnfit(f"{base} has {size} bytes and should have {due}: it was cut short, or is damaged")


def _copy_file(base: Path, part: Path, progress: ReportProgress) -> None:
    """Copy a file into an empty one. Where the file system can, they share their blocks."""
    with base.open("rb", buffering=0) as source, part.open("r+b", buffering=0) as target:
        with suppress(OSError):
            fcntl.ioctl(target, _CLONE, source.fileno())
            return
        reached, goal = 0, os.fstat(source.fileno()).st_size
        while reached < goal and (copied := _copy_piece(source.fileno(), target.fileno())):
            os.fsync(target.fileno())  # piece by piece, so that a service's commits need not wait for all of it
            reached += copied
            progress(reached, goal)


def _copy_piece(source: int, target: int) -> int:
    with suppress(AttributeError, OSError):  # another system, or two file systems
        if copied := os.copy_file_range(source, target, _PIECE):
            return copied
    block = os.read(source, _PIECE)
    written = 0
    while written < len(block):
        written += os.write(target, block[written:])
    return written


class _Drop(NamedTuple):
    """A record that says which records were dropped, and their positions."""

    position: int
    spans: list[NumberRange]


class _Pair:
    """A log to read, and an earlier backup (or a copy of it, to write to), on one connection.

    An error about damage says which of the files is damaged.
    """

    def __init__(self, log: Path, base: Path, part: Path | None = None) -> None:
        self._log = log
        self._base = base
        self._archives = False
        """Whether both have the tables of archives."""
        self._until = 0
        """How far the log is archived."""
        self._source, self.frozen = open_log_as_it_is(log)  # first, so that the error is about the log if that is none
        address = f"{(part or base).absolute().as_uri()}?mode={'rw' if part else 'ro'}"
        try:
            self._conn = sqlite3.connect(address, uri=True, isolation_level=None)
        except BaseException:
            self._source.close()
            raise
        try:
            if part is not None:
                self._of_base("PRAGMA cell_size_check = ON")
                self._of_base("PRAGMA synchronous = OFF")  # one fsync at the end
                self._of_base("PRAGMA journal_mode = OFF")
                self._of_base(f"PRAGMA cache_size = -{_CACHE}")
                self._of_base("PRAGMA secure_delete = ON")  # what was dropped is overwritten
            try:
                refuse_masked(self._conn, TABLES)
            except sqlite3.Error as error:
                raise self._unfit(error) from error
            except UnicodeDecodeError as error:
                raise BaseUnfit(illegible(base).message) from error
            self._of_base("SELECT 1 FROM events, answers, epochs LIMIT 1")
            how = "mode=ro&immutable=1" if self.frozen else "mode=ro"
            self._of_log("ATTACH ? AS log", f"{log.absolute().as_uri()}?{how}")
            self._conn.execute("BEGIN")
        except BaseException:
            self.close()
            raise

    def _of_log(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._conn.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise unreadable_log(self._log, error) from error

    def _of_base(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._conn.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._unfit(error) from error

    def _unfit(self, error: sqlite3.Error) -> BaseUnfit | BackupFailed:
        found = unreadable_log(self._base, error)
        return BaseUnfit(found.message) if isinstance(found, LogCorrupt) else found

    def compare(self) -> tuple[Head, Head]:
        """Return where the backup and the log end. Raises `BaseUnfit` if the log does not go on from the backup."""
        here, there = ({*rows} for rows in self._both(f"{_TABLES} UNION ALL SELECT *, '', '' FROM ({_MIGRATIONS})"))
        if here != there:
            raise OtherTables(f"{self._base} has the tables of another version than {self._log}")
        before, head = (Head(*rows[0]) if rows else Head(0, GENESIS) for rows in self._both(_HEAD))
        if before.position > head.position:
            raise BaseUnfit(
                f"{self._base} ends at position {before.position}, {self._log} at {head.position}: the backup is of a "
                "later time, or of another log",
                remedy="If the log has lost its end, restore that backup; if not, take a full one, without --base.",
            )
        self._archives = ("table", _OF_ARCHIVES[-1]) in {row[:2] for row in there}
        self._until = self._of_log(_ARCHIVED)[0][0] if self._archives else 0
        if not self._agree(before.position):
            shared = self._shared(before.position)
            raise BaseUnfit(
                f"{self._base} is of another history: it agrees with {self._log} "
                f"{f'up to position {shared} only' if shared else 'at no position'}"
            )
        known, epochs = self._both(_EPOCHS)
        if epochs[: len(known)] != known:
            raise BaseUnfit(f"{self._base} is of another history: other services have written to {self._log}")
        return before, head

    def _both(self, statement: str, *values: object) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Ask the backup and the log the same question."""
        return self._of_base(statement.format(log="main."), *values), self._of_log(
            statement.format(log="log."), *values
        )

    def _agree(self, position: int) -> bool:
        """Whether both have the same record at a position. If so, all records before it are the same, too."""
        here, there = self._both(_HASH, position)
        return (here or self._archived_hash(self._base, position)) == (
            there or self._archived_hash(self._log, position)
        )

    def _archived_hash(self, log: Path, position: int) -> list[tuple[Any, ...]]:
        with closing(open_log(log)) as conn:
            try:
                row = Archives(conn).row(position)
            except LogCorrupt:
                if log == self._log:
                    raise
                return []  # its archives lie elsewhere
        return [] if row is None else [(row[-1],)]

    def _shared(self, until: int) -> int:
        """Return the last position up to which both have the same records; at `until` they differ."""
        same = 0
        while until - same > 1:
            middle = (same + until) // 2
            same, until = (middle, until) if self._agree(middle) else (same, middle)
        return same

    def add(self, before: Head, head: Head) -> bool:
        """Add what is new in the log since `before`, and remove what it no longer has; whether anything was dropped."""
        try:
            drops = self._drops(before.position)
            self._forget_answers(drops)
            if self._until > before.position:
                self._conn.execute(_ARCHIVED_ANSWERS, (before.position, self._until))
            reached = max(before.position, self._until)
            for drop in drops:
                if drop.position > self._until:  # else all that it dropped is in archives
                    self._add_records(reached, drop.position)
                    self._put_stubs(drop, before.position)
                    reached = drop.position
            self._add_records(reached, head.position)
            self._conn.execute(f"INSERT OR IGNORE INTO main.epochs {_EPOCHS.format(log='log.')}")
            if self._archives:
                for table in _OF_ARCHIVES:
                    self._conn.execute(f"DELETE FROM main.{table}")
                    self._conn.execute(f"INSERT INTO main.{table} SELECT * FROM log.{table}")
                self._conn.execute("DELETE FROM main.events WHERE position <= ?", (self._until,))
            self._conn.execute("COMMIT")
        except sqlite3.Error as error:
            if not is_log_damage(error) and not isinstance(error, sqlite3.IntegrityError):
                raise BackupFailed(f"What is new cannot be added to a copy of {self._base}: {error}") from error
            self._refuse_log(before, head)
            raise BaseUnfit(f"{self._base} is damaged: {error}") from error
        return bool(drops)

    def _add_records(self, after: int, last: int) -> None:
        for begin in range(after, last, _STEP):
            stretch = {"after": begin, "last": min(begin + _STEP, last)}
            self._conn.execute(f"INSERT INTO main.events {_EVENTS.format(log='log.')}", stretch)
            self._conn.execute(f"INSERT INTO main.answers {_ANSWERS.format(log='log.')}", stretch)

    def _drops(self, after: int) -> list[_Drop]:
        """Return the drops after a position, in order."""
        archived = Archives(self._source).of_kind(DROPPING, after) if self._until > after else ()
        found = chain(
            ((row[0], row[13]) for row in archived if row[0] <= self._until),
            self._of_log(_DROPS, max(after, self._until)),
        )
        return [_Drop(position, spans_dropped(position, data)) for position, data in found]

    def _forget_answers(self, drops: Sequence[_Drop]) -> None:
        """Remove the answers to commands of dropped records: their ids may have been given again since."""
        spans = sorted(span for drop in drops for span in drop.spans)
        if spans:
            gone = [
                (command_id,) for command_id, position in self._conn.execute(_POINTING) if is_within(position, spans)
            ]
            self._conn.executemany(_FORGET_ANSWER, gone)

    def _put_stubs(self, drop: _Drop, last: int) -> None:
        """Put stubs in place of dropped records, up to a position. The drop has to be the last record of the copy."""
        for span in drop.spans:
            those = max(span.first, self._until + 1), min(span.last, last)
            if those[0] > those[1]:
                continue
            if wrong := self._of_log(_NO_STUB, *those):
                raise LogCorrupt(
                    f"Position {wrong[0][0]}: {self._log} still has a record that was dropped at position "
                    f"{drop.position}"
                )
            here, there = self._both(_LEFT_IN, *those)
            if here != there:
                raise BaseUnfit(
                    f"{self._base} is damaged: at position {those[0]}, or after it, it does not have the records that "
                    f"{self._log} has dropped"
                )
            self._conn.execute(_TAKE_OUT, those)  # the schema allows it right after a record that says so
            self._conn.execute(_PUT_IN, those)

    def _refuse_log(self, before: Head, head: Head) -> None:
        """Raise `LogCorrupt` if it is the log that cannot be read."""
        stretch = {"after": before.position, "last": head.position}
        with closing(open_log(self._log)) as log:
            try:
                for statement in (_EVENTS, _ANSWERS):
                    for _row in log.execute(statement.format(log=""), stretch):
                        pass
            except sqlite3.Error as error:
                raise unreadable_log(self._log, error) from error

    def close(self) -> None:
        """Close both files."""
        self._conn.close()
        self._source.close()
