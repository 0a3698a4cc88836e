"""Temp files, by task, on disk: `ROOT/<task id>/…`. What is there is read from the disk, so a crash forgets nothing."""

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import msgspec


class TempFileInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One temp file."""

    path: Path
    size: int
    """Bytes."""
    created_at: float
    """When it was last written, seconds since 1970: no filesystem call tells the birth of a file everywhere."""
    task_id: int


class TempFolderInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A task's folder, as it was when it was looked at."""

    path: Path
    size: int
    """Bytes of all files below it."""
    written_at: float
    """The newest write: the latest time of a file or folder below it, or of itself, seconds since 1970."""
    task_id: int


def make_private_folder(folder: Path) -> None:
    """Make a task's folder, if it is missing: what is in it is the service's alone, whatever the files' own modes."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def create_temp_file(folder: Path, prefix: str, suffix: str = "") -> Path:
    """A new empty file in `folder`, which is made when it is missing; readable by the owner only."""
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


def space_taken(folder: Path, *others: Path) -> int:
    """Bytes of all files below a task's folder, and of what it writes elsewhere; what is not there takes none."""
    taken = sum(info.size for info in _files(folder, 0))
    for path in others:
        try:
            found = path.lstat()
            taken += sum(info.size for info in _files(path, 0)) if stat.S_ISDIR(found.st_mode) else found.st_size
        except FileNotFoundError:
            continue
    return taken


class TempFiles:
    """The temp files of all tasks.

    What is removed is always the whole folder of a task: a checkpoint that lacks a file is worth nothing. Tasks are
    created and retried while the disk is looked at. So removing begins with a list, asks afterwards whose folders may
    go, asks again before each one, and touches nothing that is not on the list.

    Args:
        root: the folder; made when it is missing.
        max_size: bytes for all tasks together; at more, folders of ended tasks go before their time.
        cleanup_after: seconds after its task's end, and the newest write below it, when an unprotected folder may go.
        protected: tells the tasks whose folders are never touched: running ones, and those that may resume.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_size: int,
        cleanup_after: float,
        protected: Callable[[], Collection[int]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self.max_size = max_size
        self.cleanup_after = cleanup_after
        self._protected = protected
        self._clock = clock
        root.mkdir(parents=True, exist_ok=True)

    def folder(self, task_id: int) -> Path:
        """The task's own folder; not necessarily there."""
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
        """Remove old folders of unprotected tasks, at the quota younger ones, oldest first; tells which are gone."""
        listed = [info for task_id in self.tasks() if (info := _look_at(self.folder(task_id), task_id))]
        protected = self._protected()
        may_go = sorted((info for info in listed if info.task_id not in protected), key=lambda info: info.written_at)
        oldest, too_much = self._clock() - self.cleanup_after, sum(info.size for info in listed) - self.max_size
        removed = []
        for info in may_go:
            if info.written_at >= oldest and too_much <= 0:
                break
            if info.task_id in self._protected():
                continue  # it was retried meanwhile
            if _look_at(info.path, info.task_id) != info:
                continue  # it has even run and ended again: how old that is shows the next time
            self.remove(info.task_id)
            if not info.path.exists():
                removed.append(info)
                too_much -= info.size
        return removed

    def remove(self, task_id: int) -> None:
        """Remove all of a task's files, and the notes beside them: it has ended."""
        shutil.rmtree(self.folder(task_id), ignore_errors=True)
        for note in self._root.glob(f"{task_id}.*"):
            note.unlink(missing_ok=True)

    def count_from_now(self, task_id: int) -> None:
        """The task has just ended: the age of its folder begins now, however long nothing was written there."""
        with contextlib.suppress(OSError):
            os.utime(self.folder(task_id))

    def sweep_orphans(self, last_task_id: Callable[[], int]) -> list[int]:
        """Remove the folders of tasks that were never created, whatever their age; tells which tasks.

        `last_task_id` tells which task was created last.
        """
        listed = self.tasks()
        last = last_task_id()
        orphans = []
        for task_id in listed:
            if task_id > last and task_id > last_task_id():
                self.remove(task_id)
                orphans.append(task_id)
        return orphans


def _files(folder: Path, task_id: int) -> Iterator[TempFileInfo]:
    """Everything below the folder that is no folder. Links are counted, never followed; vanished files are skipped."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            yield TempFileInfo(path=path, size=found.st_size, created_at=found.st_mtime, task_id=task_id)


def _look_at(folder: Path, task_id: int) -> TempFolderInfo | None:
    """The folder with all that is below it; None when it is gone. Links are counted, never followed.

    The times of folders count too: a file that is moved into place keeps its old one.
    """
    try:
        size, written_at = 0, folder.lstat().st_mtime
    except FileNotFoundError:
        return None
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            try:
                found = Path(parent, name).lstat()
            except FileNotFoundError:
                continue
            size += 0 if stat.S_ISDIR(found.st_mode) else found.st_size
            written_at = max(written_at, found.st_mtime)
    return TempFolderInfo(path=folder, size=size, written_at=written_at, task_id=task_id)
