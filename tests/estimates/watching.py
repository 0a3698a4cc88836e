"""Watches a running task from outside, so that its own reports need not be believed."""

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

_EVERY = 0.05
"""Seconds between two looks."""


class Watch:
    """The most memory and temp space that were seen while the block ran. Bytes.

    Memory is what the worker has resident, and its children without what they share; the process that keeps the worker
    is not part of the task. Temp space is the content of `folders`, from when they are set: a file that has two names
    counts once.
    """

    def __init__(self) -> None:
        self.worker = 0
        """The pid of the worker that existed when the block began; 0: there was none."""
        self.before = self.after = 0
        """Its resident bytes at the beginning and the end of the block. For a later worker, `before` is the first
        look."""
        self.memory = 0
        self.temp = 0
        self.folders: tuple[Path, ...] = ()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_again_and_again, daemon=True)

    def __enter__(self) -> Self:
        for worker in _workers():
            self.worker, self.before = worker.pid, _resident(worker)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for worker in _workers():
            self.worker, self.after = worker.pid, _resident(worker)

    def _look_again_and_again(self) -> None:
        workers: list[psutil.Process] = []
        while not self._over.wait(_EVERY):
            workers = [one for one in workers if one.is_running()] or _workers()
            self.before = self.before or sum(map(_resident, workers))
            self.memory = max(self.memory, sum(map(_resident, workers)))
            self.temp = max(self.temp, _held(self.folders))


class Past:
    """The memory that earlier types have left in the only worker, seen from outside: it does not belong to an attempt.

    The same sum as in `handlers/process/worker_state.py`.
    """

    def __init__(self) -> None:
        self._worker = 0
        self._bare = 0
        self._loaded: dict[str, int] = {}

    def own(self, task_type: str, watch: Watch) -> int:
        """Return the attempt's part of the memory that was seen."""
        if watch.worker != self._worker:
            self._worker, self._bare, self._loaded = watch.worker, watch.before, {}
        of_others = max(0, watch.before - self._bare - self._loaded.get(task_type, 0))
        self._loaded.setdefault(task_type, max(0, watch.after - watch.before))
        return max(0, watch.memory - of_others)


def _workers() -> list[psutil.Process]:
    """Return the children of the reapers, which are our children."""
    return [worker for reaper in psutil.Process().children() for worker in _children(reaper)]


def _children(process: psutil.Process, *, recursive: bool = False) -> list[psutil.Process]:
    try:
        return process.children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []


def _resident(worker: psutil.Process) -> int:
    try:
        total = int(worker.memory_info().rss)
        for child in _children(worker, recursive=True):
            total += child.memory_full_info().pss
    except psutil.NoSuchProcess:
        return 0  # in the middle of a change; the next look shows it
    return total


def _held(folders: Iterable[Path]) -> int:
    sizes: dict[int, int] = {}
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                try:
                    info = Path(place, name).lstat()
                except FileNotFoundError:
                    continue
                sizes[info.st_ino] = info.st_size
    return sum(sizes.values())
