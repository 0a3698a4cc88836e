"""The Eraser: erases a user. It destroys keys, rebuilds the views, and deletes snapshots and the files of tasks.

The log records the order (`UserErased`) and the end (`ErasureFinished`). So a kill in between costs only time: the next
start goes on with it. Each step may be repeated.
"""

import threading
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pykka

from ..events import TasktrailError
from ..events.clock import Clock
from ..events.errors import NotReady
from ..events.existence import is_dir
from ..events.log.opening import read_log
from ..events.system_events import UserErased
from ..handlers.elsewhere import FOLDER
from ..handlers.workspace import remove_entry
from ..projections.rebuilding import build_anew
from .actor import Actor
from .core.messages import ErasureDone
from .feed import REST_AFTER_BUILD, Postponed, Retrier
from .logger import get_logger
from .messages import WAKE, DeleteSnapshots, DestroyKeys, PutInPlace, Wake

logger = get_logger()

_WITHIN = 600.0
"""Seconds that another actor may take for its part."""


class Folders(NamedTuple):
    """The log, and the other places with data of tasks."""

    log: Path
    views: Path
    outputs: Path
    work: Path
    pictures: Path


class Eraser(Actor):
    """Finishes the erasures that the log has recorded.

    Args:
        folders: where the data lies.
        pending: returns the unfinished erasures by position.
        ask_scheduler, ask_snapshotter, ask_projector: make these actors do their parts within a number of seconds.
        report: tells the Scheduler that an erasure is finished.
        rebuilding: held while views are built beside the live ones.
        clock: for trying again.
        stopping: whether the service stops. Then a build of views is abandoned.
        owes: records durably whether this data folder still holds data of an erased user. The log cannot say that of
            one folder among several: after a kill here, a service with another folder may finish the erasure.
    """

    def __init__(
        self,
        *,
        folders: Folders,
        pending: Callable[[], dict[int, UserErased]],
        ask_scheduler: Callable[[Any, float], Any],
        ask_snapshotter: Callable[[Any, float], Any],
        ask_projector: Callable[[Any, float], Any],
        report: Callable[[ErasureDone], None],
        rebuilding: threading.Lock,
        clock: Clock,
        stopping: Callable[[], bool],
        owes: Callable[[bool], None],
    ) -> None:
        super().__init__()
        self._folders = folders
        self._pending = pending
        self._ask_scheduler = ask_scheduler
        self._ask_snapshotter = ask_snapshotter
        self._ask_projector = ask_projector
        self._report = report
        self._rebuilding = rebuilding
        self._clock = clock
        self._stopping = stopping
        self._owes = owes
        self._cleared = set[int]()
        """Erasures of which nothing is left except perhaps in snapshots: a further try need not do all again."""

    def on_start(self) -> None:
        """Destroy keys that a kill has left, before any request is served. The rest is done while the service works."""
        self._retrier = Retrier("eraser", self._ring, self._clock, lambda _: None, rest=REST_AFTER_BUILD)
        self._destroy_keys(self._pending().values())
        self.actor_ref.tell(WAKE)

    def on_stop(self) -> None:
        """Stop trying. The next start goes on with unfinished erasures."""
        self._retrier.close()

    def receive(self, message: Any) -> None:
        """Finish the open erasures."""
        if isinstance(message, Wake) and not self._stopping():
            self._retrier.run(self._finish)

    def _ring(self) -> None:
        with suppress(pykka.ActorDeadError):
            self.actor_ref.tell(WAKE)

    def _finish(self) -> None:
        pending = self._pending()
        if not pending:
            return
        self._destroy_keys(pending.values())
        kept = self._ask_snapshotter(DeleteSnapshots(), _WITHIN)
        if pending.keys() - self._cleared:
            if not self._rebuilding.acquire(blocking=False):
                raise Postponed("The views are being rebuilt: the erasure goes on after that")
            try:
                self._replace_views()
                self._delete_files([task_id for erasure in pending.values() for task_id in erasure.tasks])
            finally:
                self._rebuilding.release()
            self._cleared.update(pending)
        if isinstance(kept, TasktrailError):  # not before: nothing else need wait until that folder is put right
            raise kept
        self._owes(False)  # noqa: FBT003 - of a callback
        for position in pending:
            self._report(ErasureDone(position))
            logger.info("an erasure is finished", erasure=position)

    def _destroy_keys(self, erasures: Collection[UserErased]) -> None:
        if erasures:
            self._owes(True)  # noqa: FBT003 - of a callback
        for erasure in erasures:
            self._ask_scheduler(DestroyKeys(erasure.keys), _WITHIN)

    def _replace_views(self) -> None:
        beside = self._folders.views.with_name(f"{self._folders.views.name}.erasing")
        with closing(read_log(self._folders.log)) as log:
            build_anew(log, beside, self._on_progress)
        answer = self._ask_projector(PutInPlace(beside), _WITHIN)
        if isinstance(answer, TasktrailError):
            raise answer
        if answer is None:
            raise NotReady("The views that were built could not be put in place")

    def _on_progress(self, reached: int, goal: int) -> None:
        if self._stopping():
            raise Postponed("The service stops: the erasure goes on with the next start")
        self.tell_progress(reached, goal)

    def _delete_files(self, tasks: Collection[int]) -> None:
        """Delete the files of these tasks, and all caches and old copies that may hold data of any task."""
        folders, of_tasks = self._folders, set(map(str, tasks))
        for folder in (folders.outputs, folders.work):
            for entry in _entries(folder):
                if entry.name.partition(".")[0] in of_tasks:
                    remove_entry(entry)
        for name in ("fetched", "results"):  # of files elsewhere; a sweep cancels uploads
            for entry in _entries(folders.work / FOLDER / name):
                if entry.name.partition("-")[0] in of_tasks:
                    remove_entry(entry)
        for entry in _entries(folders.pictures):  # their names do not say which files they show
            remove_entry(entry)
        data, views = folders.log.parent, folders.views.name
        for entry in folders.views.parent.glob(f"{views}.*"):  # half-built views that a kill has left
            remove_entry(entry)
        for aside in data.glob("replaced-*"):  # files replaced by a restore; the log in there stays
            for entry in (*aside.glob(f"{views}*"), aside / "snapshots", aside / "tmp"):
                remove_entry(entry)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if is_dir(folder) else []
