"""The files of an open log: keeps them private, and checks that they are still the ones that were opened.

A deleted or replaced file lives on for the process that has it open. Anything written to it then is fsynced, and lost
when the process ends. So the files are checked before each commit, and again before it is acknowledged. Only `stat` is
used: opening and closing the log's file here would drop SQLite's locks on it.
"""

import errno
import os
import sqlite3
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from ..counted import counted
from ..errors import LogGone
from ..existence import exists
from ..values import MAX_INTEGER
from .event_log import Head

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def create_private(path: Path) -> None:
    """Make the file, empty and private, unless it exists. SQLite would use the umask; its other files get this mode.

    An existing file is not opened, because closing it would drop the locks that SQLite has on it.
    """
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            os.fchmod(descriptor, PRIVATE_FILE)
        finally:
            os.close(descriptor)


def plain_file(path: str, flags: int, mode: int = 0o777) -> int:
    """Open a regular file in a folder that others may write to. Raises `OSError` for a pipe, which may block."""
    handle = os.open(path, flags | os.O_NONBLOCK, mode)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no file", path)
    return handle


def own_file(path: Path, flags: int) -> int:
    """Open a file of ours to write to it, and make it if it is missing. Raises `OSError` for a link or a pipe.

    Root may work in the data folder of another user, who could have laid a link there to any file of the machine.
    """
    return plain_file(str(path), flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)


LARGEST_SMALL = 1 << 20


def read_small(path: Path, most: int = LARGEST_SMALL) -> bytes:
    """The content of a small file in such a folder. Raises `OSError`, also if the file is larger than `most` bytes."""
    with open(path, "rb", opener=plain_file) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, "it is too large", str(path))
    return content


def free_files(folder: Path) -> int | None:
    """Return how many files (inodes) its file system has left to be made; None if that has no fixed number."""
    system = os.statvfs(folder)
    return system.f_favail if system.f_files else None


def try_to_write(folder: Path) -> None:
    """Write and sync a byte in a folder, in a file without a name if the system supports that. Raises `OSError`."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())


class NoFile(sqlite3.OperationalError):
    """Something else is in the place of a database's file. SQLite was not asked, so there is no code of it."""


def refuse_non_files(path: Path) -> None:
    """Raise `NoFile` if a pipe, a folder or a device is in the place of a database or its files.

    SQLite would wait for a pipe for ever, and report a folder as an error of the disk.
    """
    for part in ("", "-journal", "-wal", "-shm"):
        with suppress(OSError):
            mode = os.stat(f"{path}{part}").st_mode  # noqa: PTH116 - one call
            if not stat.S_ISREG(mode):
                what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
                more = "; it may be deleted, SQLite makes that file anew" if part == "-shm" else ""
                raise NoFile(f"{path.name}{part} is {what}, not a file{more}")


_PARTS = ("", "-wal", "-shm")
_SHARED = 2
"""The place of the index file in `_PARTS`. Readers write to it, too, so a change of it does not matter."""
_RESCUED = ".rescued"
_MOST_RESCUED = 100
_WAIT_FOR_READERS = 2000
"""Milliseconds that saving the write-ahead log waits for its readers."""


class LogFiles:
    """The last known state of a log's files. While the log is open, only its one writer changes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names = [f"{path}{part}" for part in _PARTS]
        self._seen = [_look(name) for name in self._names]
        self._touched = ""

    def fault(self, *, written: bool = False) -> str:
        """What happened to a file, in words; empty if all are there and none is shorter. Raises `OSError`.

        `written`: the writer has just written to them, so their present state is noted.
        """
        touched = ""
        for number, name in enumerate(self._names):
            seen = self._seen[number]
            try:
                status = _look(name)
            except FileNotFoundError:
                return f"{name} was deleted while the service ran"
            if status.st_ino != seen.st_ino or status.st_dev != seen.st_dev:
                return f"{name} was replaced while the service ran"
            if status.st_size < seen.st_size:
                return f"{name} was cut while the service ran"
            if written:
                self._seen[number] = status
            elif number < _SHARED and status.st_mtime_ns != seen.st_mtime_ns:
                touched = touched or name
        self._touched = touched
        return ""

    def overwritten(self) -> str:
        """Which file another program had written to at the last `fault`, in words; else empty."""
        return f"{self._touched} was written to by another program while the service ran" if self._touched else ""

    def note(self, *, cut: bool = False) -> None:
        """Note the state of the files after the writer may have written. `cut`: it has made one shorter."""
        for number, name in enumerate(self._names):
            with suppress(OSError):
                found, seen = _look(name), self._seen[number]
                if _is_same_file(found, seen) and (cut or found.st_size >= seen.st_size):
                    self._seen[number] = found

    def rescue(self, conn: sqlite3.Connection) -> str:
        """Save what only `conn` can still read. Returns in words what was done. Never raises.

        If only the write-ahead log is gone, its records go into the log's file. If the log's file is gone, a copy of
        it is made under another name beside it.
        """
        try:
            state = [self._state(number) for number in range(2)]
            if "overwritten" in state:
                return "Nothing could be saved: what is in the file is not what was written there."
            if state[0] == "there":
                return self._fold(conn, str(self.path))
            moved = self._moved_to()
            if moved and not exists(self.path):
                return f"It was moved. {self._fold(conn, moved)}"
            return self._copy(conn)  # beside the file that replaced it, so that the next start cannot miss it
        except (sqlite3.Error, OSError) as error:
            return f"Nothing could be saved: {error}."

    def _state(self, number: int) -> str:
        """`there`, `gone` (deleted, moved or replaced, but whole for the process that has it open) or `overwritten`."""
        seen = self._seen[number]
        try:
            status = _look(self._names[number])
        except OSError:
            return "gone"
        if not _is_same_file(status, seen):
            return "gone"
        return "there" if status.st_size >= seen.st_size and status.st_mtime_ns == seen.st_mtime_ns else "overwritten"

    def _fold(self, conn: sqlite3.Connection, into: str) -> str:
        conn.execute(f"PRAGMA busy_timeout = {_WAIT_FOR_READERS}")
        busy, pages, folded = conn.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        for number, name in enumerate(self._names[1:], 1):
            if self._state(number) == "gone" and os.path.lexists(name):  # it belongs to another log, or another time
                os.replace(name, f"{name}.foreign")  # noqa: PTH105 - one call each
        if busy or folded != pages:
            return f"Of {counted(pages, 'page')} in the write-ahead log {folded} could be saved into {into}."
        return f"The whole write-ahead log was saved into {into}."

    def _moved_to(self) -> str:
        """The place of the log's file if it was only moved; empty if it was deleted or this cannot be told."""
        with suppress(OSError):
            for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are enough
                with suppress(OSError):
                    status = os.stat(f"/proc/self/fd/{number}")  # noqa: PTH116 - through the descriptor
                    if _is_same_file(status, self._seen[0]):
                        return os.readlink(f"/proc/self/fd/{number}") if status.st_nlink else ""  # noqa: PTH115 - as above
        return ""

    def _copy(self, conn: sqlite3.Connection) -> str:
        target = next(name for name in _rescued_names(self.path) if not exists(name))
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        copy = sqlite3.connect(target, isolation_level=None)
        try:
            conn.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        finally:
            copy.close()
        sync(target)
        sync(target.parent)
        return f"All of it was saved as {target}."


def refuse_rescued(path: Path) -> None:
    """Raise `LogGone` if a service has saved a log beside `path`: an operator has to choose between the two."""
    for rescued in rescued_logs(path):
        raise LogGone(
            f"{rescued} holds what a service saved when {path} was deleted or replaced under it",
            remedy=f"To go on from it, put it in the place of {path.name} and remove {path.name}-wal and -shm; to "
            "do without it, move it away.",
        )


def rescued_logs(path: Path) -> list[Path]:
    """The logs that services have saved beside `path`, oldest first."""
    return [rescued for rescued in _rescued_names(path) if exists(rescued)]


def _rescued_names(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}{_RESCUED}{f'-{number}' if number else ''}") for number in range(_MOST_RESCUED)]


class HeadMark:
    """The end of the log in a file of its own, written after each commit: it shows whether the log has lost its end.

    It is not fsynced: after a power cut it may be older than the log, never newer. It outlives a kill.
    """

    def __init__(self, log: Path) -> None:
        self._descriptor = -1
        with suppress(OSError):  # a full disk, or a link in its place: then there is no mark
            self._descriptor = own_file(mark_of(log), os.O_WRONLY)

    def write(self, head: Head) -> None:
        """Note that the log ends here."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.pwrite(self._descriptor, _mark_of_head(head), 0)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def mark_of(log: Path) -> Path:
    """The path of a log's mark."""
    return log.with_name(f"{log.name}-head")


def read_mark(log: Path) -> Head | None:
    """The end that a log had; None without a mark that is as it was written: another one would tell of a loss."""
    try:
        content = read_small(mark_of(log))
        position, digest, _sum = content.split()
        head = Head(int(position), bytes.fromhex(digest.decode()))
    except (OSError, ValueError):
        return None
    # No log ends beyond these positions, and SQLite looks for no more.
    return head if content == _mark_of_head(head) and 0 <= head.position <= MAX_INTEGER else None


def _mark_of_head(head: Head) -> bytes:
    line = b"%020d %s " % (head.position, head.hash.hex().encode())
    return b"%s%08x\n" % (line, crc32(line))


_look = os.stat  # before and after each commit


def _is_same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether both are of the same file."""
    return one.st_ino == other.st_ino and one.st_dev == other.st_dev


def sync(path: Path) -> None:
    """Flush a file's content, or the names in a folder, to the disk. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
