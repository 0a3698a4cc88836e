"""A backup made from an earlier one: a copy of that file, and what the log has had since.

The log only grows, so an earlier backup holds its beginning. A backup of this kind is like any other: it needs no other
file, and is restored alike. What was in the earlier one is not read again.
"""

import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from ..events.errors import BackupFailed, BaseUnfit, InvalidPath, LogCorrupt
from ..events.log.chain import GENESIS
from ..events.log.event_log import Head, ReportProgress
from ..events.log.stubs import DROPPING
from .check import is_log_damage, open_log, silent, unreadable_log
from .evidence import sync_copy

_NAME = re.compile(r"tasktrail-(\d{8}T\d{6}Z)-(\d+)\.db")
"""As a backup is named in a folder."""
_STEP = 50_000
"""Records that one statement copies."""
_CACHE = 64 * 1024
"""KiB. Answers stand in the order of their command ids, which may come in any."""
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
_ARCHIVED = "SELECT max(last) FROM log.archives"
_OF_ARCHIVES = ("archives", "archived_kinds", "archived_tasks")
_DROPS = f"SELECT 1 FROM log.events WHERE event = '{DROPPING}' AND position > ? LIMIT 1"


class OtherTables(BaseUnfit):
    """The log has had other tables since: what a new version of tasktrail changes is not only what is new."""


def bases(base: Path) -> Iterator[Path]:
    """The file itself, or the backups in the folder, the newest first. Raises `InvalidPath` if it is neither."""
    if base.is_dir():
        named = [(match, path) for path in base.iterdir() if (match := _NAME.fullmatch(path.name))]
        named.sort(key=lambda one: (one[0][1], int(one[0][2])), reverse=True)
        yield from [path for _match, path in named]
    elif base.is_file():
        yield base
    else:
        raise InvalidPath(f"There is no backup at {base}", field="base", remedy="Name an earlier backup, or a folder.")


def refuse_base(log: Path, base: Path) -> None:
    """Raises `BaseUnfit` unless the log goes on from where an earlier backup ends. Reads little of either."""
    try:
        if base.samefile(log):
            raise BaseUnfit(f"{base} is the log itself")
        _refuse_file(base)
    except OSError as error:
        raise BaseUnfit(f"{base} cannot be read: {error.strerror}") from error
    with closing(_Pair(log, base)) as pair:
        pair.compare()


def add_since(log: Path, base: Path, part: Path, progress: ReportProgress = silent) -> tuple[Head, Head]:
    """Make an empty file a copy of `base` with what the log has had since, as of one moment.

    Returns where `base` ends and where the new file does; that is on the disk by then. `progress` gets bytes. Raises
    `BaseUnfit` as `refuse_base` does, or if `base` turns out to be damaged; `LogCorrupt` if the log is;
    `BackupFailed` if the file cannot be written.
    """
    try:
        _copy_file(base, part, progress)
    except OSError as error:
        raise BackupFailed(f"{base} cannot be copied to {part.parent}: {error.strerror}") from error
    with closing(_Pair(log, base, part)) as pair:
        ends = pair.compare()
        pair.add(*ends)
    sync_copy(part)
    return ends


def _refuse_file(base: Path) -> None:
    """Raises `BaseUnfit` if size and header are not as a backup was written, `OSError` if it cannot be read."""
    if any(os.path.lexists(f"{base}{end}") for end in ("-wal", "-journal")):
        raise BaseUnfit(f"{base} is in use: there is a file beside it with what is still to be written to it")
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


class _Pair:
    """A log, which is read, and an earlier backup, or a copy of it to be written to, on one connection.

    An error that says that a file is damaged says which.
    """

    def __init__(self, log: Path, base: Path, part: Path | None = None) -> None:
        self._log = log
        self._base = base
        self._archives = False
        """Whether they are of a version that has archives."""
        open_log(log).close()  # if it is none, that is told first
        address = f"{(part or base).absolute().as_uri()}?mode={'rw' if part else 'ro'}"
        self._conn = sqlite3.connect(address, uri=True, isolation_level=None)
        try:
            if part is not None:
                self._of_base("PRAGMA cell_size_check = ON")
                self._of_base("PRAGMA synchronous = OFF")  # one fsync at the end
                self._of_base("PRAGMA journal_mode = OFF")
                self._of_base(f"PRAGMA cache_size = -{_CACHE}")
            self._of_base("SELECT 1 FROM events, answers, epochs LIMIT 1")
            self._of_log("ATTACH ? AS log", f"{log.absolute().as_uri()}?mode=ro")
            self._conn.execute("BEGIN")
        except BaseException:
            self._conn.close()
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
        """Where the backup ends and where the log does. Raises `BaseUnfit` if the log does not go on from there."""
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
        (until,) = self._of_log(_ARCHIVED)[0] if self._archives else (0,)
        if 0 < before.position <= (until or 0):
            raise BaseUnfit(f"What follows on {self._base} was archived since in {self._log}")
        if not self._agree(before.position):
            shared = self._shared(before.position)
            raise BaseUnfit(
                f"{self._base} is of another history: its records are those of {self._log} "
                f"{f'up to position {shared} only' if shared else 'nowhere'}"
            )
        if self._of_log(_DROPS, before.position):
            raise BaseUnfit(f"{self._base} has tasks that were forgotten since in {self._log}")
        known, epochs = self._both(_EPOCHS)
        if epochs[: len(known)] != known:
            raise BaseUnfit(f"{self._base} is of another history: other services have written to {self._log}")
        return before, head

    def _both(self, statement: str, *values: object) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """The same question to the backup and to the log."""
        return self._of_base(statement.format(log="main."), *values), self._of_log(
            statement.format(log="log."), *values
        )

    def _agree(self, position: int) -> bool:
        """Whether both have the same record there. Then all records before it are the same."""
        here, there = self._both(_HASH, position)
        return here == there

    def _shared(self, until: int) -> int:
        """The last position up to which both have the same records; at `until` they differ."""
        same = 0
        while until - same > 1:
            middle = (same + until) // 2
            same, until = (middle, until) if self._agree(middle) else (same, middle)
        return same

    def add(self, before: Head, head: Head) -> None:
        """Copy what the log has had since `before`."""
        try:
            for after in range(before.position, head.position, _STEP):
                stretch = {"after": after, "last": min(after + _STEP, head.position)}
                self._conn.execute(f"INSERT INTO main.events {_EVENTS.format(log='log.')}", stretch)
                self._conn.execute(f"INSERT INTO main.answers {_ANSWERS.format(log='log.')}", stretch)
            self._conn.execute(f"INSERT OR IGNORE INTO main.epochs {_EPOCHS.format(log='log.')}")
            if self._archives:
                for table in _OF_ARCHIVES:
                    self._conn.execute(f"INSERT OR REPLACE INTO main.{table} SELECT * FROM log.{table}")
                self._conn.execute("DELETE FROM main.events WHERE position <= (SELECT max(last) FROM main.archives)")
            self._conn.execute("COMMIT")
        except sqlite3.Error as error:
            if not is_log_damage(error) and not isinstance(error, sqlite3.IntegrityError):
                raise BackupFailed(f"What is new cannot be added to a copy of {self._base}: {error}") from error
            self._refuse_log(before, head)
            raise BaseUnfit(f"{self._base} is damaged: {error}") from error

    def _refuse_log(self, before: Head, head: Head) -> None:
        """Raises `LogCorrupt` if it is the log that cannot be read."""
        stretch = {"after": before.position, "last": head.position}
        with closing(open_log(self._log)) as log:
            try:
                for statement in (_EVENTS, _ANSWERS):
                    for _row in log.execute(statement.format(log=""), stretch):
                        pass
            except sqlite3.Error as error:
                raise unreadable_log(self._log, error) from error

    def close(self) -> None:
        """Let go of both files."""
        self._conn.close()
