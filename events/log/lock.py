"""One service per data folder: a kernel lock that dies with its owner, and a line that says who holds it."""

import errno
import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import MOUNT_FOR_WRITING, DataInUse, InvalidPath
from .files import own_file, read_small

_announced: dict[Path, str] = {}
"""Locks that this process is about to take → its role. The file may name another process until then."""
_WITHIN = 1.0
"""The most seconds to wait until what a killed process was beginning lets its lock go."""
_PAUSE = 0.01


def holder(path: Path) -> int | None:
    """The process of this machine that the lock file names, if it is alive.

    The lock is not tried: trying would hold it for a moment, and a service that starts just then would be refused.
    """
    number = _named(path)
    return number if number is not None and _is_alive(number) else None


def _named(path: Path) -> int | None:
    """The process of this machine that the lock file names."""
    try:
        _word, pid, _on, host, *_as = read_small(path).decode().split()
        number = int(pid)
    except (OSError, ValueError):
        return None
    return number if host == socket.gethostname() and number > 0 else None


def _is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except PermissionError:  # another user's, and alive
        return True
    except (OSError, OverflowError):
        return False
    return not _is_zombie(number)


def _is_zombie(number: int) -> bool:
    """Whether a process has ended, and only its parent has not asked for it yet. Without `/proc` nobody knows."""
    try:
        state = Path(f"/proc/{number}/stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:
        return False
    return state in (b"Z", b"X")


def role(path: Path) -> str:
    """The role in which the process of `holder` has the folder: `serve`, `run`, `program`, …; empty if not given."""
    try:
        _, _, what = read_small(path).decode().rpartition(" as ")
    except (OSError, ValueError):
        return ""
    return what.strip() if what.strip().isalpha() else ""


def announce(path: Path, role_name: str) -> list[Path]:
    """Name this process in the lock file before it holds the lock, unless a living process is named there.

    Another process that comes meanwhile sees that a service is starting, and waits. Only the lock keeps others out.
    Returns the folders that were made for the file, innermost first.
    """
    _announced[path] = role_name
    made = [folder for folder in path.parents if not os.path.lexists(folder)]
    with suppress(OSError):  # if nothing can be written here, taking the lock raises the error
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if holder(path) is None:
            descriptor = own_file(path, os.O_WRONLY)
            try:
                os.ftruncate(descriptor, os.pwrite(descriptor, _line(role_name), 0))
            finally:
                os.close(descriptor)
    return made


def withdraw(path: Path, made: list[Path]) -> None:
    """Undo `announce`: delete the folders that it made, if only the lock file is in them and no other holds it."""
    _announced.pop(path, None)
    with suppress(OSError, DataInUse, InvalidPath):
        if not made or list(path.parent.iterdir()) != [path] or holder(path) != os.getpid():
            return
        with DataLock(path):  # a process that has the file open will see that it is gone
            path.unlink()
        for folder in made:
            folder.rmdir()


def _line(role_name: str) -> bytes:
    return f"pid {os.getpid()} on {socket.gethostname()} as {role_name}\n".encode()


def unopened(path: Path, error: OSError) -> InvalidPath:
    """The error for a file in the data folder, such as the lock, that cannot be opened or made."""
    match error.errno:
        case errno.EROFS:
            remedy = MOUNT_FOR_WRITING
        case errno.EACCES | errno.EPERM:
            folder = path.parent
            remedy = (
                "With nothing running there, give all of it to its user, who has to be able to read and write it: "
                f"chown -R USER {folder} && chmod -R u+rwX {folder}"
            )
        case errno.ELOOP | errno.EINVAL:
            remedy = "Remove it: a link, a pipe or a device stands where a file has to be."
        case _:
            remedy = "Check the data folder."
    return InvalidPath(f"{path} cannot be opened: {error.strerror}", remedy=remedy)


def _locked(path: Path) -> int:
    """Open the file at the path, make it if missing, and lock it. Raises `InvalidPath` and `DataInUse`.

    A process that was killed while it began another one leaves the lock to it until the other's program is loaded.
    """
    try:
        descriptor = own_file(path, os.O_RDWR)
    except OSError as error:
        raise unopened(path, error) from error
    until = time.monotonic() + _WITHIN
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not _is_left_behind(path) or time.monotonic() >= until:
                named = os.read(descriptor, 200).decode(errors="replace").strip() or "an unknown process"
                os.close(descriptor)
                raise DataInUse(f"{path.parent} is held by {named}") from error
            time.sleep(_PAUSE)
        else:
            return descriptor


def _is_left_behind(path: Path) -> bool:
    """Whether the process that took the lock is gone.

    The file names it, or already this process, which then has found nobody alive there (`announce`).
    """
    number = _named(path)
    return number is not None and (path in _announced if number == os.getpid() else not _is_alive(number))


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


class DataLock:
    """The lock of a data folder. The kernel releases it when the process ends, however it ends; the file may stay.

    `role_name` is the role that others see: by default the one that this process has announced, or else `program`.
    """

    def __init__(self, path: Path, role_name: str = "") -> None:
        self._path = path
        self._fd = _locked(path)
        while not _is_at(path, self._fd):  # deleted or replaced in between
            os.close(self._fd)
            self._fd = _locked(path)
        with suppress(OSError):  # a full disk: the line is for people, the lock is the kernel's
            os.ftruncate(self._fd, os.pwrite(self._fd, _line(role_name or _announced.pop(path, "program")), 0))

    def release(self) -> None:
        """Let another service in, and take the name out of the file: the process may live on without the folder."""
        if self._fd >= 0:
            with suppress(OSError):
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
