"""A log copied as of one moment into one file, and the copy checked from its first record to its last.

SQLite copies page by page inside one read transaction, so commits go on meanwhile and have no part in the copy. They
stay in the write-ahead log until the copy is done; that is all the service notices.
"""

import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import msgspec

from ..events import Head
from ..events.errors import BackupFailed, InvalidPath, LogCorrupt, TasktrailError
from ..events.log.chain import GENESIS, link
from ..events.log.rows import COLUMNS, COVERED
from ..events.log.sqlite import read_head
from ..paths import DataPaths, path_of
from .evidence import refuse_older_log, sync

ReportProgress: TypeAlias = Callable[[int, int], None]
"""Called with the number reached and the number to reach."""

_PAGES = 4096
"""Pages between two reports of progress: 16 MB."""
_SHARE = 100_000
"""How many records one process checks at least."""
_MOST_PROCESSES = 4
# ruff: noqa: S608 - our own names
_ROWS = f"SELECT position, {COVERED}, hash FROM events WHERE position > ? AND position <= ? ORDER BY position"
_VALUES = f"SELECT {', '.join(COLUMNS)} FROM events WHERE position = ?"


def silent(_reached: int, _goal: int) -> None:
    """No progress is reported."""


@contextmanager
def part_file(path: Path) -> Iterator[Path]:
    """A file to write to, beside `path`. It is removed afterwards unless it was given another name.

    What a killed process has left under this name is overwritten. Raises `BackupFailed` when another one writes to it.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        held = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BackupFailed(f"Nothing can be written beside {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BackupFailed(
                f"{path} is being written by another process", remedy="Wait until it is done."
            ) from error
        try:
            os.ftruncate(held, 0)
            yield part
        finally:
            part.unlink(missing_ok=True)
    finally:
        os.close(held)


def copy_log(source: Path, part: Path, progress: ReportProgress = silent) -> Head:
    """Copy the log as of now into an empty file, and return where the copy ends. It is on the disk by then.

    `progress` gets bytes. Raises `LogCorrupt` when the source is no log or cannot be read, `BackupFailed` when the
    copy cannot be written.
    """
    with closing(_open(source)) as log:
        log.execute("BEGIN")
        head = read_head(log)
        size = log.execute("PRAGMA page_size").fetchone()[0]

        def tell(_status: int, remaining: int, total: int) -> None:
            progress((total - remaining) * size, total * size)

        try:
            with closing(sqlite3.connect(part, isolation_level=None)) as copy:
                copy.execute("PRAGMA synchronous = OFF")  # one fsync at the end
                copy.execute("PRAGMA journal_mode = OFF")
                log.backup(copy, pages=_PAGES, progress=tell)
                # The copy is a single file; without this SQLite would expect a write-ahead log beside it.
                copy.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.Error as error:
            if _is_damage(error):
                raise LogCorrupt(f"{source} cannot be copied: {error}") from error
            raise BackupFailed(f"{source} cannot be copied to {part.parent}: {error}") from error
    sync(part)
    return head


def _open(source: Path) -> sqlite3.Connection:
    log = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        log.execute("SELECT 1 FROM events, answers, epochs LIMIT 1").fetchall()
    except sqlite3.Error as error:
        log.close()
        if _is_damage(error):
            raise LogCorrupt(f"{source} {_what_it_is(source, error)}") from error
        raise BackupFailed(f"{source} cannot be read: {error}") from error
    return log


def _what_it_is(source: Path, error: sqlite3.Error) -> str:
    """In words, why no log can be copied from a file."""
    if not source.stat().st_size:
        return "is empty"
    if getattr(error, "sqlite_errorname", "") == "SQLITE_ERROR":  # a sound database, without our tables
        return "is no log of tasktrail"
    if getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB":
        return "is no log of tasktrail, or its beginning is damaged"
    return f"is damaged or was cut short: {error}"


@contextmanager
def called(part: Path, name: Path, remedy: str = "") -> Iterator[None]:
    """Errors inside name the file that the hidden one stands for, and errors about damage say what to do."""
    try:
        yield
    except TasktrailError as error:
        error.message = error.message.replace(str(part), str(name))
        if isinstance(error, LogCorrupt) and remedy:
            error.advice = remedy
        raise


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is damaged. Otherwise there may be no room, no permission, or a failing disk."""
    # The error for a text that is not UTF-8 has no name.
    name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR"))


def check_file(path: Path) -> None:
    """Whether SQLite finds its tables and indexes whole. Raises `LogCorrupt`."""
    with closing(_open(path)) as log:
        try:
            wrong = log.execute("PRAGMA integrity_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            wrong = str(error)
    if wrong != "ok":
        raise LogCorrupt(f"{path} is damaged: {wrong}")


def check_copy(path: Path, head: Head, progress: ReportProgress = silent) -> None:
    """Read a copy back: its tables and indexes, and the hash of every record up to `head`. Raises `LogCorrupt`.

    Large ones are checked by several processes, as each record's hash needs only the one before it.
    """
    number = max(1, min(head.position // _SHARE, os.cpu_count() or 1, _MOST_PROCESSES))
    if number == 1:
        check_file(path)
    with closing(_open(path)) as copy:
        found = read_head(copy)
    if found != head:
        raise LogCorrupt(f"{path} ends at {found.position}, it should at {head.position}")
    edges = [head.position * share // number for share in range(number + 1)]
    shares = [(str(after), str(last)) for after, last in pairwise(edges[1:])]
    command = [sys.executable, "-P", "-m", __name__, str(path)]
    others = [
        subprocess.Popen([*command, *share], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for share in ([(), *shares] if number > 1 else [])
    ]
    try:
        check_chain(path, 0, edges[1], lambda reached: progress(reached * number, head.position))
        for other in others:
            _said, complaint = other.communicate()
            if other.returncode != 0:
                raise LogCorrupt(complaint.strip().rpartition("\n")[2] or f"{path} could not be checked")
    finally:
        for other in others:
            with other:
                other.kill()


def _check(path: str, after: str = "", last: str = "") -> None:
    """The work of one process: check the file as a whole, or the chain in its share of the records."""
    if last:
        check_chain(Path(path), int(after), int(last))
    else:
        check_file(Path(path))


def check_chain(path: Path, after: int, last: int, progress: Callable[[int], None] | None = None) -> None:
    """Check the hash of each record behind `after`, up to `last`. Raises `LogCorrupt` for the first that is wrong."""
    with closing(_open(path)) as copy:
        copy.text_factory = bytes  # the hash covers the stored bytes; they need not be decoded
        before, position = _hash_at(copy, after), after
        try:
            for found, covered, stored in copy.execute(_ROWS, (after, last)):
                position += 1
                if found != position or not _fits(copy, found, sha256(before + covered).digest(), before, stored):
                    raise LogCorrupt(f"{path} is damaged at position {position}: its hash does not fit")
                before = stored
                if progress is not None and position % 5000 == 0:
                    progress(position)
        except sqlite3.Error as error:
            raise LogCorrupt(f"{path} cannot be read behind position {position}: {error}") from error
        if position != last:
            raise LogCorrupt(f"{path} has nothing behind position {position}, but should reach {last}")


def _fits(copy: sqlite3.Connection, position: int, quick: bytes, before: bytes, stored: bytes) -> bool:
    """Whether a record's hash is the stored one. If the quick way gives another, it is computed from the values."""
    return quick == stored or link(before, copy.execute(_VALUES, (position,)).fetchone()) == stored


def _hash_at(copy: sqlite3.Connection, position: int) -> bytes:
    row = copy.execute("SELECT hash FROM events WHERE position = ?", (position,)).fetchone() if position else None
    return bytes(row[0]) if row else GENESIS


if __name__ == "__main__":
    try:
        _check(*sys.argv[1:])
    except LogCorrupt as damage:
        sys.exit(damage.message)


# --- backups --------------------------------------------------------------------------------------------------


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was taken."""

    path: str
    position: int
    """The last record in it."""
    head: str
    """The hash of that record, in hex. Kept elsewhere, it shows later that the backup is still this one."""
    size: int
    """Bytes."""


def back_up(data: str | Path, destination: str | Path, progress: ReportProgress = silent) -> Backup:
    """Copy the log of a data folder to a file, whether a service runs on it or not.

    Args:
        data: the data folder.
        destination: a file that does not exist yet; or a folder, in which the file gets a name with time and position.
        progress: is told how far it is, in bytes; the first half is the copy, the second its check.

    Raises:
        InvalidPath: there is no log, or the destination exists already or cannot be written to.
        LogCorrupt: the log is damaged. A backup of it would be no backup, so there is none.
        HistoryMissing: views, snapshots or the mark beside the log have seen records that it lacks.
        BackupFailed: it could not be written; then nothing is left of it.
    """
    paths = DataPaths(path_of(data, "data"))
    if not paths.log.exists():
        raise InvalidPath(f"There is no log in {paths.data}", remedy="Check the data folder (--data).")
    refuse_older_log(paths)  # a backup every night would replace the good ones
    target, named = _target(path_of(destination, "destination").absolute())
    with part_file(target) as part, called(part, target):
        head = copy_log(paths.log, part, lambda reached, goal: progress(reached, 2 * goal))
        size = part.stat().st_size
        check_copy(part, head, lambda reached, goal: progress(size + size * reached // goal, 2 * size))
        progress(2 * size, 2 * size)
        if not named:
            now = datetime.now(UTC)
            target = target.with_name(f"tasktrail-{now:%Y%m%dT%H%M%SZ}-{head.position}.db")
        _give_name(part, target)
    sync(target.parent)
    return Backup(path=str(target), position=head.position, head=head.hash.hex(), size=size)


def _target(destination: Path) -> tuple[Path, bool]:
    """The file to make, and whether its name is final."""
    named = not destination.is_dir()
    target = destination if named else destination / "tasktrail-backup"
    if named and (target.exists() or target.is_symlink()):
        raise InvalidPath(f"{target} exists already", field="dest", remedy="Name another file, or a folder.")
    if not target.parent.is_dir():
        raise InvalidPath(f"There is no folder {target.parent}", field="dest", remedy="Make it first.")
    return target, named


def _give_name(part: Path, target: Path) -> None:
    """Give the file its name, unless the name has been taken meanwhile: nothing is ever overwritten."""
    try:
        os.link(part, target)
    except FileExistsError as error:
        raise InvalidPath(f"{target} exists already", field="dest", remedy="Name another file, or a folder.") from error
    except OSError:  # a file system without hard links
        if target.exists():
            raise InvalidPath(f"{target} exists already", field="dest", remedy="Name another file.") from None
        try:
            part.rename(target)
        except OSError as error:
            raise BackupFailed(f"{target} cannot get its name: {error.strerror}") from error


def position_of(path: Path) -> tuple[int, bytes]:
    """Where a log ends that may be damaged; (0, b"") if it cannot be read."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as log:
            row = log.execute("SELECT position, hash FROM events ORDER BY position DESC LIMIT 1").fetchone()
    except sqlite3.Error:
        return 0, b""
    return (int(row[0]), bytes(row[1])) if row else (0, b"")
