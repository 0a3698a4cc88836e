"""Checks a copy of a log by reading it back: its tables and indexes, and the hash of every record.

Several processes read a large copy. Each of them starts this module, so it imports little.
"""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from hashlib import sha256
from itertools import pairwise
from operator import add
from pathlib import Path
from signal import Signals

from ..events.errors import BackupFailed, LogCorrupt, TasktrailError
from ..events.log.archives import Archives, archived_until
from ..events.log.chain import GENESIS, link
from ..events.log.event_log import Head, ReportProgress
from ..events.log.rows import COLUMNS, COVERED
from ..events.log.schema import TABLES
from ..events.log.sqlite_connection import connect_read_only, is_written
from ..events.log.sqlite_errors import explained, illegible
from ..events.log.stubs import read_drops
from ..events.ranges import NumberRange, is_within, spans_of
from ..events.recorded import STUB

_SHARE = 100_000
"""The fewest records that one process checks."""
_MOST_PROCESSES = 4
_PAGE = 250
"""Records that are checked at once: a checkpoint may be large, and they are all in memory."""
_PAGES_BETWEEN_REPORTS = 20
_MAPPED = 1 << 31
"""Bytes of the file that are mapped; the rest is read."""
# ruff: noqa: S608 - our own names
_STRETCH = "FROM events WHERE position > ? AND position <= ? ORDER BY position"
_ROWS = f"SELECT {COVERED}, hash {_STRETCH}"
_ROWS_WITH_POSITION = f"SELECT position, {COVERED}, hash {_STRETCH}"
_VALUES = f"SELECT {', '.join(COLUMNS)} FROM events WHERE position = ?"


def silent(_reached: int, _goal: int) -> None:
    """Report no progress."""


def open_log(path: Path, *, mapped: bool = False) -> sqlite3.Connection:
    """Open a log to read it. Raises `LogCorrupt` if the file is no log, `BackupFailed` if it cannot be read.

    `mapped`: map the file into memory, which is faster. If the disk then fails, the process is killed.
    """
    return open_log_as_it_is(path, mapped=mapped)[0]


def open_log_as_it_is(path: Path, *, mapped: bool = False) -> tuple[sqlite3.Connection, bool]:
    """Do the same, and return also whether the log is frozen: on a read-only file system nobody writes to it."""
    try:
        log, frozen = connect_read_only(path, "SELECT 1 FROM events, answers, epochs LIMIT 1", TABLES)
        if mapped:
            log.execute(f"PRAGMA mmap_size = {_MAPPED}")
    except sqlite3.Error as error:
        raise unreadable_log(path, error) from error
    except UnicodeDecodeError as error:
        raise illegible(path) from error
    return log, frozen


def refuse_written(path: Path) -> None:
    """Raise `BackupFailed` if a log that was opened frozen is written to by now: what was read may not fit together."""
    if is_written(path):
        raise BackupFailed(f"Another program has begun to write to {path}", remedy="Try again.")


def unreadable_log(path: Path, error: sqlite3.Error) -> LogCorrupt | BackupFailed:
    """Return the error to raise when SQLite cannot read a log: damage, or another obstacle."""
    if is_log_damage(error):
        return LogCorrupt(f"{path} {_why_unreadable(path, error)}")
    found = explained(error, path, "cannot be read")
    return BackupFailed(found.message, remedy=found.advice)


def _why_unreadable(path: Path, error: sqlite3.Error) -> str:
    """Say why no log can be read from a file."""
    if not path.stat().st_size:
        return "is empty"
    if getattr(error, "sqlite_errorname", "") == "SQLITE_ERROR":  # a sound database, without our tables
        return "is no log of tasktrail"
    if getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB":
        return "is no log of tasktrail, or its beginning is damaged"
    return f"is damaged or was cut short: {error}"


def is_log_damage(error: sqlite3.Error) -> bool:
    """Whether the file is damaged. Otherwise there may be no room, no permission, or a failing disk."""
    # The error for a text that is not UTF-8 has no name.
    name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR"))


def check_file(path: Path, *, mapped: bool = False) -> None:
    """Raise `LogCorrupt` unless SQLite finds the tables and indexes of the file whole."""
    with closing(open_log(path, mapped=mapped)) as log:
        try:
            wrong = log.execute("PRAGMA integrity_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            wrong = str(error)
    if wrong != "ok":
        raise LogCorrupt(f"{path} is damaged: {wrong}")


def check_copy(path: Path, head: Head, progress: ReportProgress = silent, *, after: int = 0) -> None:
    """Read a copy back: the hash of every record up to `head`, and its tables and indexes.

    `after`: check only the records after this position, and neither tables nor indexes. Several processes can check a
    large copy, as each record's hash needs only the one before it. `progress` counts records. Raises `LogCorrupt`, or
    `BackupFailed` when one of the processes was killed.
    """
    with closing(open_log(path)) as copy:
        try:
            until = archived_until(copy)  # archives are checked by their SHA-256
        except sqlite3.Error as error:
            raise unreadable_log(path, error) from error
    whole = not after
    after = max(after, until)
    due = head.position - after
    number = max(1, min(due // _SHARE, os.cpu_count() or 1, _MOST_PROCESSES))
    if whole and number == 1:
        check_file(path)
    with closing(open_log(path)) as copy:
        found = head_of(copy, path)
    if found != head:
        raise LogCorrupt(f"{path} ends at {found.position}, but should end at {head.position}")
    edges = [after + due * share // number for share in range(number + 1)]
    shares = [(str(begin), str(end)) for begin, end in pairwise(edges[1:])]
    command = [sys.executable, "-P", "-m", __name__, str(path)]
    others = [
        subprocess.Popen([*command, *share], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for share in [*([()] if whole and number > 1 else []), *shares]
    ]
    try:
        check_chain(path, after, edges[1], lambda reached: progress((reached - after) * number, due))
        for other in others:
            _output, complaint = other.communicate()
            if other.returncode < 0:  # killed because the disk failed under the mapped file, or memory ran out
                raise BackupFailed(f"{path} could not be read back: {Signals(-other.returncode).name} ended a process")
            if other.returncode:
                raise LogCorrupt(complaint.strip().rpartition("\n")[2] or f"{path} could not be checked")
    finally:
        for other in others:
            with other:
                other.kill()


def head_of(log: sqlite3.Connection, path: Path) -> Head:
    """Return where the log in `path` ends. Raises `LogCorrupt`, or `BackupFailed` when it cannot be read."""
    try:
        row = log.execute("SELECT position, hash FROM events ORDER BY position DESC LIMIT 1").fetchone()
    except sqlite3.Error as error:
        raise unreadable_log(path, error) from error
    return Head(*row) if row else Head(0, GENESIS)


def check_chain(
    path: Path, after: int, last: int, progress: Callable[[int], None] | None = None, *, mapped: bool = False
) -> None:
    """Check the hash of each record after `after`, up to `last`. Raises `LogCorrupt` for the first wrong one."""
    with closing(open_log(path, mapped=mapped)) as copy:
        try:
            dropped = sorted(span for drop in read_drops(copy) for span in spans_of(drop.event.positions))
            before = _hash_at(copy, after)
        except sqlite3.Error as error:
            raise unreadable_log(path, error) from error
        except ValueError as error:
            raise LogCorrupt(f"{path} is damaged: a record does not say in ranges what was dropped: {error}") from error
        copy.text_factory = bytes  # the hash covers the stored bytes; they need not be decoded
        for number, begin in enumerate(range(after, last, _PAGE), 1):
            end = min(begin + _PAGE, last)
            try:
                rows = copy.execute(_ROWS, (begin, end)).fetchall()
            except sqlite3.Error:
                rows = []
            if len(rows) < end - begin or not _all_fit(before, rows):
                _check_one_by_one(copy, path, begin, end, before, dropped)
            before = rows[-1][1]
            if progress is not None and number % _PAGES_BETWEEN_REPORTS == 0:
                progress(end)


def _all_fit(before: bytes, rows: list[tuple[bytes, bytes]]) -> bool:
    """Whether the stored hashes are those of the texts that SQLite builds. That is quick, but False proves nothing."""
    texts, stored = zip(*rows, strict=True)
    try:
        return [sha256(text).digest() for text in map(add, (before, *stored), texts)] == [*stored]
    except TypeError:  # in a damaged file a hash may be anything
        return False


def _check_one_by_one(
    copy: sqlite3.Connection, path: Path, after: int, last: int, before: bytes, dropped: Sequence[NumberRange]
) -> None:
    """Check record by record what the quick way has not accepted: it does not fit every record, or there is damage."""
    position = after
    try:
        for found, text, stored in copy.execute(_ROWS_WITH_POSITION, (after, last)):
            position += 1
            if found != position or not _matches(
                copy, position, sha256(before + text).digest(), before, stored, dropped
            ):
                raise LogCorrupt(f"{path} is damaged at position {position}: its hash does not fit")
            before = stored
    except sqlite3.Error as error:
        raise LogCorrupt(f"{path} cannot be read after position {position}: {error}") from error
    if position != last:
        raise LogCorrupt(f"{path} has nothing after position {position}, but should reach {last}")


def _matches(
    copy: sqlite3.Connection, position: int, quick: bytes, before: bytes, stored: bytes, dropped: Sequence[NumberRange]
) -> bool:
    """Whether a record's hash is the stored one. If the quick way gives another, it is computed from the values.

    The hash of a stub cannot be computed. A stub fits if a later record says that it was dropped; whether its stored
    hash is right shows in the next record.
    """
    if quick == stored:
        return True
    values = copy.execute(_VALUES, (position,)).fetchone()
    if values[3] == STUB.encode():
        return is_within(position, dropped)
    return link(before, values) == stored


def _hash_at(copy: sqlite3.Connection, position: int) -> bytes:
    row = copy.execute("SELECT hash FROM events WHERE position = ?", (position,)).fetchone() if position else None
    if row is None and (archived := Archives(copy).row(position)) is not None:
        return bytes(archived[14])
    return bytes(row[0]) if row else GENESIS


def _check(path: str, after: str = "", last: str = "") -> None:
    """The work of one process: check the file as a whole, or the chain in its share of the records."""
    if last:
        check_chain(Path(path), int(after), int(last), mapped=True)
    else:
        check_file(Path(path), mapped=True)


if __name__ == "__main__":
    try:
        _check(*sys.argv[1:])
    except TasktrailError as error:
        sys.exit(error.message)
