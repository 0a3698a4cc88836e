"""Temp files, by task, on disk: `ROOT/<task id>/…`. What is there is read from the disk, so a crash forgets nothing."""

import os
import shutil
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
            taken += path.lstat().st_size
        except FileNotFoundError:
            continue
    return taken


class TempFiles:
    """The temp files of all tasks.

    Args:
        root: the folder; made when it is missing.
        max_size: bytes for all tasks together; at more, what ended tasks have left goes before its time.
        cleanup_after: seconds after its last write when an unprotected file may go.
        protected: tells the tasks whose files are never touched: running ones, and those that may resume.
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
        self._max_size = max_size
        self._cleanup_after = cleanup_after
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

    def clean_up(self) -> list[TempFileInfo]:
        """Remove the old files of unprotected tasks, and at the quota younger ones, the oldest first; tells which."""
        protected = self._protected()
        kept = list(self.files())
        may_go = sorted((info for info in kept if info.task_id not in protected), key=lambda info: info.created_at)
        oldest, too_much = self._clock() - self._cleanup_after, sum(info.size for info in kept) - self._max_size
        removed = []
        for info in may_go:
            if info.created_at >= oldest and too_much <= 0:
                break
            info.path.unlink(missing_ok=True)
            removed.append(info)
            too_much -= info.size
        for task_id in set(self.tasks()) - set(protected):
            _remove_empty_folders(self.folder(task_id))
        return removed

    def remove(self, task_id: int) -> None:
        """Remove all of a task's files: it has ended."""
        shutil.rmtree(self.folder(task_id), ignore_errors=True)

    def sweep_orphans(self, last_task_id: int) -> list[int]:
        """Remove the folders of tasks that were never created, whatever their age; tells which tasks."""
        orphans = [task_id for task_id in self.tasks() if task_id > last_task_id]
        for task_id in orphans:
            self.remove(task_id)
        return orphans


def _files(folder: Path, task_id: int) -> Iterator[TempFileInfo]:
    """Everything below the folder that is no folder. Links are counted, never followed; vanished files are skipped."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            try:
                stat = path.lstat()
            except FileNotFoundError:
                continue
            yield TempFileInfo(path=path, size=stat.st_size, created_at=stat.st_mtime, task_id=task_id)


def _remove_empty_folders(folder: Path) -> None:
    for parent, _, _ in os.walk(folder, topdown=False):
        try:
            os.rmdir(parent)  # noqa: PTH106 - os.walk gives strings; nothing would be gained
        except OSError:
            continue
