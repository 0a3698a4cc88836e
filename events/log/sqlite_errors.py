"""Translates errors of SQLite and of the system into errors of ours, each with a remedy."""

import errno
import os
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path

from ..errors import (
    DiskFailed,
    LogCorrupt,
    LogFull,
    LogGone,
    LogLocked,
    LogNotWritable,
    OutcomeUnknown,
    TasktrailError,
)
from ..existence import exists
from .files import NoFile, free_files, plain_file, try_to_write

OPENING = "cannot be opened"
_NO_ROOM = 1 << 16
"""With fewer free bytes, any error of SQLite is taken for a full disk: it cannot make its index file."""
_DELETE_FILES = (
    "Delete files, however small: a running service then goes on by itself. If you sent a command, repeat it with the "
    "same command id."
)


def explained(error: sqlite3.Error | OSError, path: Path, failure: str) -> TasktrailError:
    """The error of ours for an error of SQLite or of the system about the log in `path`.

    Only an error about the content is called damage. A full or broken disk, a lock or a missing permission says nothing
    about the log, and restoring a backup because of it would throw good history away.
    """
    text = f"{path} {failure}: {error}"
    # The only operational errors without a name are text that is not UTF-8, and something else in a file's place.
    unnamed = "SQLITE_CORRUPT" if type(error) in (sqlite3.OperationalError, NoFile) else ""
    name = getattr(error, "sqlite_errorname", unnamed)
    kind = "_".join(name.split("_")[:2])
    if failure == OPENING or kind == "SQLITE_READONLY":
        wrong = header_fault(path)
        if wrong:
            return LogCorrupt(f"{path}: {wrong}")
    if kind in ("SQLITE_IOERR", "SQLITE_CANTOPEN"):
        if _no_file_fits(path):
            return LogFull(f"{text} (no file can be made: `df -i`)", remedy=_DELETE_FILES)
        if _is_full(path):
            return LogFull(text)
    if name == "SQLITE_READONLY_DBMOVED" or (kind == "SQLITE_CANTOPEN" and not exists(path)):
        return LogGone(text)
    meaning = _MEANINGS.get(kind or getattr(error, "errno", None), OutcomeUnknown)
    # A broken disk opens no file, and returns other bytes than were written: neither permissions nor damage.
    return DiskFailed(text) if meaning in (LogCorrupt, LogNotWritable) and _disk_fails(path.parent) else meaning(text)


def unreadable(error: sqlite3.Error, path: Path) -> TasktrailError:
    """The error for what SQLite calls damage while it reads: a damaged log, or a failing disk."""
    if _disk_fails(path.parent):
        return DiskFailed(f"The log's file cannot be read, and its file system reports errors: {error}")
    return LogCorrupt(f"The log's file cannot be read: {error}")


def file_of(conn: sqlite3.Connection) -> Path:
    """The file of a connection."""
    return Path(conn.execute("PRAGMA database_list").fetchone()[2])


def says_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite calls the file damaged."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def header_fault(path: Path) -> str:
    """The fault in the two header bytes that say how a file is to be written and read; empty if there is none.

    SQLite trusts these bytes: with wrong ones it reports the file as read-only, locked or gone.
    """
    try:
        versions = tuple(_beginning(path, 20)[18:])
    except OSError:
        return ""
    if versions in ((), (1, 1), (2, 2)):
        return ""
    return f"its header is damaged: bytes 18 and 19 are {' and '.join(map(str, versions))}, they should both be 2"


def _beginning(path: Path, length: int) -> bytes:
    """The first bytes of a file. If this process has it open, they are read through that descriptor.

    Opening and closing the file would drop all locks that this process has on it, also SQLite's. Another program that
    has the log open would then act as its last user, and delete the write-ahead log.
    """
    wanted = path.stat()
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - names are all that is wanted
        with suppress(OSError):  # it has been closed since
            if os.path.samestat(os.fstat(int(name)), wanted):
                found = os.pread(int(name), length, 0)
                if os.path.samestat(os.fstat(int(name)), wanted):  # the descriptor was not reused meanwhile
                    return found
    with open(path, "rb", opener=plain_file) as file:  # a pipe may stand there
        return file.read(length)


_MEANINGS: dict[str | int | None, type[TasktrailError]] = {
    "SQLITE_FULL": LogFull,
    errno.ENOSPC: LogFull,
    errno.EDQUOT: LogFull,
    "SQLITE_CORRUPT": LogCorrupt,
    "SQLITE_NOTADB": LogCorrupt,
    "SQLITE_ERROR": LogCorrupt,
    "SQLITE_FORMAT": LogCorrupt,
    "SQLITE_BUSY": LogLocked,
    "SQLITE_LOCKED": LogLocked,
    "SQLITE_PROTOCOL": LogLocked,
    "SQLITE_READONLY": LogNotWritable,
    "SQLITE_CANTOPEN": LogNotWritable,
    "SQLITE_PERM": LogNotWritable,
    "SQLITE_AUTH": LogNotWritable,
    errno.EACCES: LogNotWritable,
    errno.EPERM: LogNotWritable,
    errno.EROFS: LogNotWritable,
    "SQLITE_IOERR": DiskFailed,
    errno.EIO: DiskFailed,
    errno.ENOENT: LogGone,
}
"""The first two words of SQLite's name for an error, or the system's number → our error."""


def meaning_of(error: OSError) -> type[TasktrailError]:
    """The class of error for a system error about a file beside the log. A missing file says nothing about the log."""
    return DiskFailed if error.errno == errno.ENOENT else _MEANINGS.get(error.errno, DiskFailed)


def illegible(path: Path) -> LogCorrupt:
    """The error when SQLite's message repeats bytes of a damaged schema that Python cannot decode."""
    return LogCorrupt(f"{path} cannot be read: its schema holds text that is no UTF-8")


def _disk_fails(folder: Path) -> bool:
    """Whether the file system itself reports errors: then SQLite reports even its cached pages as malformed."""
    try:
        try_to_write(folder)
    except OSError as error:
        return error.errno == errno.EIO
    return False


def _is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < _NO_ROOM
    except OSError:
        return False


def _no_file_fits(path: Path) -> bool:
    try:
        return free_files(path.parent) == 0
    except OSError:
        return False
