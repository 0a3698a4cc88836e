"""Temp files on disk, by task: `ROOT/<task id>/…`. Every answer is read from the disk, so a crash forgets nothing.

An attempt may make folders that are too deep for a path, or that may not be listed. So folders are walked and removed
through descriptors, one level at a time.
"""

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import msgspec

from ..events.existence import exists, is_dir


class TempFileInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One temp file."""

    path: Path
    size: int
    """Bytes."""
    created_at: float
    """When it was last written, seconds since 1970: not every filesystem can say when a file was created."""
    task_id: int


class TempFolderInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A task's folder, at the time it was looked at."""

    path: Path
    size: int
    """Bytes of all files below it."""
    written_at: float
    """The newest write: the latest time of the folder itself and of all below it, seconds since 1970."""
    task_id: int


def make_private_folder(folder: Path) -> None:
    """Make a task's folder if it is missing. Only the service may enter it, whatever the files' own modes."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def create_temp_file(folder: Path, prefix: str, suffix: str = "") -> Path:
    """Create an empty file in `folder`, which is made if it is missing. Only the owner may read the file."""
    if any(part in f"{prefix}{suffix}" for part in ("/", "\0")):
        raise ValueError(f"A temp file's prefix and suffix are parts of a name, not of a path: {prefix!r}, {suffix!r}")
    make_private_folder(folder)
    while True:
        path = folder / f"{prefix}{os.urandom(6).hex()}{suffix}"
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            continue
        return path


MAX_DEPTH = 100
"""Levels of folders that are walked; each costs a descriptor, and no honest handler makes this many."""
_LOOKS = 100
"""How often emptying is repeated at most, because another process that removes the folder has moved subfolders up in
it."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_VANISHED = (FileNotFoundError, NotADirectoryError)


class Unlistable(OSError):
    """The folder holds folders that cannot be listed, or are too deep, so its content is unknown."""


def space_taken(folder: Path, *others: Path) -> int:
    """Bytes of all files below a task's folder, and of what it writes elsewhere; a missing path counts as 0.

    Raises Unlistable if they cannot be counted.
    """
    taken = sum(info.size for info in _files(folder, 0))
    for path in others:
        try:
            status = path.lstat()
            taken += sum(info.size for info in _files(path, 0)) if stat.S_ISDIR(status.st_mode) else status.st_size
        except _VANISHED:
            continue
    return taken


def remove_folder(folder: Path) -> None:
    """Remove a folder with all below it, whatever its modes and depth.

    It may be missing, or be removed by another process meanwhile: cleaning up, forgetting and erasing may coincide.
    Nested folders are moved up to the top before they are emptied, so that few descriptors and short names are enough.
    Raises OSError if something cannot be removed, after all else is gone.
    """
    for looks_left in reversed(range(_LOOKS)):
        try:
            _remove_all_in(folder)
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not looks_left:
                raise
        else:
            return


def remove_task_folder(folder: Path) -> None:
    """Remove all temp files of a task, and the notes beside them. Raises OSError."""
    remove_folder(folder)
    for note in folder.parent.glob(f"{folder.name}.*"):
        note.unlink(missing_ok=True)


def _remove_all_in(folder: Path) -> None:
    errors: list[OSError] = []
    top = _open_to_change(folder)
    try:
        left = _empty(top, top, errors)
        while left:
            name = left.pop()
            try:
                fd = _open_to_change(name, top)
                try:
                    left += _empty(fd, top, errors)
                finally:
                    os.close(fd)
                os.rmdir(name, dir_fd=top)
            except FileNotFoundError:
                continue
            except OSError as error:
                errors.append(error)
    finally:
        os.close(top)
    if errors:
        raise errors[0]


def remove_entry(path: Path) -> None:
    """Remove a path: a folder with all below it, or a file; of a link only the link."""
    if is_dir(path) and not path.is_symlink():
        remove_folder(path)
    else:
        path.unlink(missing_ok=True)


def _empty(folder: int, top: int, errors: list[OSError]) -> list[str]:
    """Remove the files in a folder, move its folders to the top, and return their names there."""
    folders = []
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        try:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
            elif folder == top:
                folders.append(entry.name)
            else:
                os.close(_open_to_change(entry.name, folder))  # moving a folder changes it
                folders += _moved_up(entry.name, folder, top)
        except FileNotFoundError:
            continue
        except OSError as error:
            errors.append(error)
    return folders


def _moved_up(name: str, folder: int, top: int) -> list[str]:
    """Move a folder to the top; its name there. No name if it cannot be moved, and was removed where it was."""
    moved = os.urandom(12).hex()
    try:
        os.rename(name, moved, src_dir_fd=folder, dst_dir_fd=top)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # It lies in a lower layer of an overlay, such as a container's disk. No attempt can make one, so it is not
        # deep.
        shutil.rmtree(name, dir_fd=folder)
        return []
    return [moved]


def _open_to_change(name: str | Path, parent: int | None = None) -> int:
    """Open a folder and give its owner all rights. Nothing of the attempt runs that could put a link there."""
    try:
        fd = os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        os.chmod(name, stat.S_IRWXU, dir_fd=parent)
        fd = os.open(name, _FOLDER, dir_fd=parent)
    try:
        if os.fstat(fd).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.fchmod(fd, stat.S_IRWXU)
    except BaseException:
        os.close(fd)
        raise
    return fd


class TempFiles:
    """The temp files of all tasks.

    Only the whole folder of a task is ever removed: a checkpoint that lacks a file is worthless. Tasks are created and
    retried while the disk is searched. So a cleanup first lists the folders, then asks which tasks are protected, and
    asks again before each removal. It touches nothing that is not on the list.

    Args:
        root: the folder; made when it is missing.
        max_size: bytes for all tasks together; above it, folders of ended tasks are removed early.
        cleanup_after: seconds after its task's end, and after the newest write below it, when an unprotected folder may
            be removed.
        protected: returns the tasks whose folders are never touched: running ones, and those that may resume.
        clock: seconds since 1970.
        on_trouble: called when the folder of a task cannot be walked or removed; the others are still handled.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_size: int,
        cleanup_after: float,
        protected: Callable[[], Collection[int]],
        clock: Callable[[], float] = time.time,
        on_trouble: Callable[[int, OSError], None] = lambda _task_id, _error: None,
    ) -> None:
        self._root = root
        self.max_size = max_size
        self.cleanup_after = cleanup_after
        self._protected = protected
        self._clock = clock
        self._on_trouble = on_trouble
        root.mkdir(parents=True, exist_ok=True)

    def folder(self, task_id: int) -> Path:
        """The task's own folder, which may not exist."""
        return self._root / str(task_id)

    def files(self, task_id: int | None = None) -> Iterator[TempFileInfo]:
        """The temp files of one task, or of all."""
        for owner in self.tasks() if task_id is None else [task_id]:
            yield from _files(self.folder(owner), owner)

    def tasks(self) -> list[int]:
        """The tasks that have a folder, in order."""
        return sorted(int(entry.name) for entry in os.scandir(self._root) if entry.name.isdecimal())

    def total_size(self) -> int:
        """Bytes of all temp files."""
        return sum(info.size for info in self.files())

    def clean_up(self) -> list[TempFolderInfo]:
        """Remove old folders of unprotected tasks; above the quota younger ones too, oldest first. Returns them."""
        listed = [info for task_id in self.tasks() if (info := self._look_at(task_id))]
        protected = self._protected()
        may_go = sorted((info for info in listed if info.task_id not in protected), key=lambda info: info.written_at)
        oldest, too_much = self._clock() - self.cleanup_after, sum(info.size for info in listed) - self.max_size
        removed = []
        for info in may_go:
            if info.written_at >= oldest and too_much <= 0:
                break
            if info.task_id in self._protected():
                continue  # it was retried meanwhile
            if self._look_at(info.task_id) != info:
                continue  # it has run and ended meanwhile: the next cleanup sees its new age
            self.remove(info.task_id)
            if not exists(info.path):
                removed.append(info)
                too_much -= info.size
        return removed

    def remove(self, task_id: int) -> None:
        """Remove all files of a task that has ended, and the notes beside them."""
        try:
            remove_task_folder(self.folder(task_id))
        except OSError as error:
            self._on_trouble(task_id, error)

    def count_from_now(self, task_id: int) -> None:
        """Start counting the age of the folder of a task that has just ended, however long ago it was last written."""
        with contextlib.suppress(OSError):
            os.utime(self.folder(task_id))

    def sweep_orphans(self, last_task_id: Callable[[], int]) -> list[int]:
        """Remove the folders of tasks that were never created, whatever their age. Returns the ids of those tasks.

        `last_task_id` returns the id of the task that was created last.
        """
        listed = self.tasks()
        last = last_task_id()
        orphans = []
        for task_id in listed:
            if task_id > last and task_id > last_task_id():
                self.remove(task_id)
                orphans.append(task_id)
        return orphans

    def _look_at(self, task_id: int) -> TempFolderInfo | None:
        """The folder with the size and newest write of all below it; None if it is gone, or cannot be read just now.

        The times of folders count too: a file that is moved into place keeps its old time. A folder that cannot be
        walked gets the oldest time, so that it is removed first, and at once: walking it again would fail again.
        """
        folder = self.folder(task_id)
        try:
            size, written_at = 0, folder.lstat().st_mtime
            try:
                for _, found in walk(folder):
                    size += 0 if stat.S_ISDIR(found.st_mode) else found.st_size
                    written_at = max(written_at, found.st_mtime)
            except Unlistable as error:
                self._on_trouble(task_id, error)
                written_at = 0.0
        except FileNotFoundError:
            return None
        except OSError as error:
            self._on_trouble(task_id, error)
            return None
        return TempFolderInfo(path=folder, size=size, written_at=written_at, task_id=task_id)


def walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield everything below a folder. Links are yielded, never followed; what is missing or vanishes is left out.

    Raises Unlistable after yielding what comes before the obstacle.
    """
    try:
        fd = os.open(folder, _FOLDER)
    except _VANISHED:
        return
    except PermissionError as error:
        raise Unlistable(error.errno, "A folder may not be listed", str(folder)) from error
    yield from _walk(folder, fd, MAX_DEPTH)


def _walk(folder: Path, fd: int, levels: int) -> Iterator[tuple[Path, os.stat_result]]:
    """The same for an open folder. Closes it."""
    try:
        with os.scandir(fd) as found:
            entries = list(found)
        for entry in entries:
            path = folder / entry.name
            try:
                about = entry.stat(follow_symlinks=False)
                below = os.open(entry.name, _FOLDER, dir_fd=fd) if stat.S_ISDIR(about.st_mode) else None
            except _VANISHED:
                continue
            except PermissionError as error:  # it may be listed, but not entered
                raise Unlistable(error.errno, "A folder may not be listed", str(path)) from error
            yield path, about
            if below is not None:
                if not levels:
                    os.close(below)
                    raise Unlistable(errno.ELOOP, f"There are folders more than {MAX_DEPTH} levels deep", str(folder))
                yield from _walk(path, below, levels - 1)
    finally:
        os.close(fd)


def _files(folder: Path, task_id: int) -> Iterator[TempFileInfo]:
    """Yield everything below the folder except folders."""
    for path, found in walk(folder):
        if not stat.S_ISDIR(found.st_mode):
            yield TempFileInfo(path=path, size=found.st_size, created_at=found.st_mtime, task_id=task_id)
