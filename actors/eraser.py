"""The Eraser: after a user was erased it makes anew what is folded from the log, and deletes what tasks have left.

The log names what is to be done (`UserErased`), and says when it is done (`ErasureFinished`). So a kill in between
costs only time: the next start begins with it. Each step may be done twice.
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
from ..events.log.opening import read_log
from ..events.system_events import UserErased
from ..handlers.elsewhere import FOLDER
from ..handlers.workspace import remove_entry
from ..projections.rebuilding import build_anew
from .base import WAKE, Actor, DeleteSnapshots, DestroyKeys, PutInPlace, Wake, logger
from .core.messages import ErasureDone
from .feed import REST_AFTER_BUILD, Postponed, Retrier

_WITHIN = 600.0
"""Seconds that another actor may take for its part."""


class Folders(NamedTuple):
    """What there is of tasks beside the log."""

    log: Path
    views: Path
    outputs: Path
    work: Path
    pictures: Path


class Eraser(Actor):
    """Finishes what was promised, one erasure after another.

    Args:
        folders: where the data lies.
        pending: the promises that are open, by position.
        ask_scheduler, ask_snapshotter, ask_projector: have their parts done by them, within so many seconds.
        report: tells the Scheduler that one is finished.
        rebuilding: held while views are built beside the live ones.
        clock: for trying again.
        stopping: whether the service stops. Then views are not built to their end.
        owes: notes, for good, whether this data folder still has what is of an erased user. The log does not say that
            of one folder among several: a service on another may finish what a kill has cut short here.
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

    def on_start(self) -> None:
        """Destroy keys that a kill has left at once, before anybody is let in; the rest is done beside the work."""
        self._retrier = Retrier("eraser", self._ring, self._clock, lambda _: None, rest=REST_AFTER_BUILD)
        self._destroy_keys(self._pending().values())
        self.actor_ref.tell(WAKE)

    def on_stop(self) -> None:
        """What is not finished goes on at the next start."""
        self._retrier.close()

    def receive(self, message: Any) -> None:
        """Finish what is open."""
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
        self._ask_snapshotter(DeleteSnapshots(), _WITHIN)
        if not self._rebuilding.acquire(blocking=False):
            raise Postponed("Views are being built by somebody else: the erasure goes on when that is done")
        try:
            self._replace_views()
            self._owes(False)  # noqa: FBT003 - of a callback
            self._delete_files([task_id for erasure in pending.values() for task_id in erasure.tasks])
        finally:
            self._rebuilding.release()
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
        """What tasks have left, and what may hold anything of all tasks and is only kept to be quick, or to be safe."""
        folders, of_tasks = self._folders, set(map(str, tasks))
        for folder in (folders.outputs, folders.work):
            for entry in _entries(folder):
                if entry.name.partition(".")[0] in of_tasks:
                    remove_entry(entry)
        for name in ("fetched", "results"):  # of files elsewhere; uploads are called off by whoever sweeps
            for entry in _entries(folders.work / FOLDER / name):
                if entry.name.partition("-")[0] in of_tasks:
                    remove_entry(entry)
        for entry in _entries(folders.pictures):  # their names do not say of which files they are
            remove_entry(entry)
        data, views = folders.log.parent, folders.views.name
        for entry in folders.views.parent.glob(f"{views}.*"):  # half-built ones, which a kill has left
            remove_entry(entry)
        for aside in data.glob("replaced-*"):  # by a restore; the log in there stays
            for entry in (*aside.glob(f"{views}*"), aside / "snapshots", aside / "tmp"):
                remove_entry(entry)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
