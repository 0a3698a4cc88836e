"""The Projector: folds committed events into the views, shortly after they are in the log.

Commits are gathered, so that a task that changed several times costs one row. When a thread waits for a position, the
Projector folds at once. While very many records come, a process folds them, and not the actor's thread. After its start
it checks the whole file in a thread of its own, and builds damaged views anew.
"""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pykka

from ..events import Recorded, TasktrailError
from ..events.clock import Clock
from ..events.errors import LogCorrupt
from ..events.log.log_reader import LogReader
from ..projections import TaskViews, ViewsDamaged, ViewsFailed, catch_up, rebuild_views
from ..projections.queries.reader import connect
from ..projections.rebuilding import clear_write_ahead_log, discard, put_in_place
from ..projections.views.damage import find_damage
from ..projections.views.rebuild import PAGE
from .actor import Actor
from .feed import Feed, OnTrouble, Retrier, Watermark
from .logger import get_logger
from .messages import WAKE, CatchUp, Checked, Damaged, PutInPlace, Wake
from .projector_process import Folded, FoldEnded, ProjectorProcess

if TYPE_CHECKING:
    from ..projections.views.schema import Files

logger = get_logger()

BUSY = 5000
"""Records a second. While so many come, a process folds them, …"""
A_BURST = 2000
"""… once this many have come together: fewer are folded before a process has started."""
CALM = 1000
"""Records a second. When fewer come, the process is ended."""
REBUILD_AGAIN = 10.0
"""Seconds until a rebuild that failed, because the disk is full for example, is tried again."""


class ViewsHealth:
    """Whether the views are sound, and the threads that wait until they are."""

    def __init__(self) -> None:
        self.generation = 0
        """How often they were found or made sound."""
        self.files: Files | None = None
        """The files as they were opened to be written; None before."""
        self._sound = threading.Event()
        self._lock = threading.Lock()

    def doubt(self, generation: int) -> bool:
        """Note that damage was found in views of this generation. Returns whether this is news."""
        with self._lock:
            if generation != self.generation or not self._sound.is_set():
                return False
            self._sound.clear()
            return True

    def vouch(self) -> None:
        """Note that the views are sound."""
        with self._lock:
            self.generation += 1
            self._sound.set()

    @property
    def sound(self) -> bool:
        """Whether they are known to be sound."""
        return self._sound.is_set()

    def wait(self, timeout: float) -> bool:
        """Wait until they are sound. Returns whether they became so in time."""
        return self._sound.is_set() or self._sound.wait(timeout)


class Projector(Actor):
    """Keeps the views. It reads what it missed from the log, so a lost message costs only time.

    If the views cannot be written, it tries again. `on_trouble` gets the error, and None when it is over.

    `log_path`: the log that a process may read while very many records come; None to fold in this thread alone.
    """

    def __init__(
        self,
        *,
        feed: Feed[Recorded],
        open_views: Callable[[bool], TaskViews],
        path: Path,
        open_log: Callable[[], LogReader],
        watermark: Watermark,
        clock: Clock,
        health: ViewsHealth,
        on_trouble: OnTrouble = lambda _: None,
        log_path: Path | None = None,
    ) -> None:
        super().__init__()
        self._log_path = log_path
        self._process: ProjectorProcess | None = None
        self._feed = feed
        self._open_views = open_views
        self._path = path
        self._open_log = open_log
        self._watermark = watermark
        self._clock = clock
        self._on_trouble = on_trouble
        self._log: LogReader | None = None
        self._view: TaskViews | None = None
        self._behind = True
        """Whether records may be missing, so that the log has to be read."""
        self._health = health
        self._damage = ""
        """Known damage that is not repaired yet."""
        self._rebuild_at = 0.0
        self._rebuild_failed: Exception | None = None
        """Why the last rebuild has failed. It is not tried again before `_rebuild_at`."""
        self._check_begun = False
        self._checking: sqlite3.Connection | None = None
        self._stopping = False

    def on_start(self) -> None:
        """Open the view and bring it up to date with the log."""
        self._retrier = Retrier("projector", self._ring, self._clock, self._on_trouble)
        if self._log_path is not None:
            self._process = ProjectorProcess(self._log_path, self._path, self._clock, self.actor_ref.tell)
        discard(self._path)
        self._fold()
        self._begin_check()

    def on_stop(self) -> None:
        """Fold the remaining records, and close everything."""
        self._stopping = True
        checking = self._checking
        if checking is not None:
            with suppress(sqlite3.Error):
                checking.interrupt()
        self._take_back()
        self._fold()
        self._retrier.close()
        for one in (self._view, self._log):
            if one is not None:
                one.close()

    def settle(self) -> None:
        """Fold: a ping is answered when all committed records are folded, or left to the process, if possible."""
        self._fold()

    def receive(self, message: Any) -> Any:
        """Fold the gathered records, repair damaged views, or replace them."""
        match message:
            case Wake():
                self._fold()
                self._begin_check()
            case CatchUp() if message.position > self._watermark.position:
                if self._process is not None and self._process.silent:
                    self._process.give_up("it has folded nothing for long")
                self._fold()
            case Folded() if self._process is not None:
                self._watermark.rise(message.position)
                if self._process.note_folded(message):
                    self._fold()
            case FoldEnded() if self._process is not None:
                if self._process.note_end(message):
                    self._fold()
            case Checked(damage=""):
                # Later on they were vouched for already, and what a question has found since then counts.
                if not self._damage and self._health.generation == 0:
                    self._health.vouch()
            case Damaged() if message.generation != self._health.generation:
                pass  # they were built anew since then
            case Checked() | Damaged():
                self._damage = message.damage
                self._fold()
            case PutInPlace():
                return self._put_in_place(message.beside)
        return None

    def _ring(self) -> None:
        with suppress(pykka.ActorDeadError):
            self.actor_ref.tell(WAKE)

    def _fold(self) -> None:
        self._retrier.run(self._bring_up)

    def _bring_up(self) -> None:
        behind, self._behind = self._behind, True  # until it has succeeded: the position is that of the last good fold
        records = self._feed.take()
        if self._leave_to_process(len(records)):
            return
        self._take_back()
        if self._log is None:
            self._log = self._open_log()
        try:
            if not self._damage:
                self._apply(self._log, records, behind=behind)
        except (ViewsDamaged, LogCorrupt) as error:  # after the loss of a row, an event's task seems unknown
            self._damage = error.message
        if self._damage:
            self._rebuild(self._log)
        assert self._view is not None
        self._health.files = self._view.files
        self._behind = False
        self._watermark.rise(self._view.position)

    def _leave_to_process(self, records: int) -> bool:
        """Have a process fold what has come, if that is worth it and possible. Returns whether it does.

        `records`: how many have come together.
        """
        process, view = self._process, self._view
        if process is None or view is None or self._damage or self._stopping or self._retrier.failing:
            return False
        if not view.in_place:  # the process would take what is there now for the views
            return False
        rate = self._feed.rate
        if process.running:
            return (process.at_work or rate >= CALM) and process.request()
        return records >= A_BURST and rate >= BUSY and process.request()

    def _take_back(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _apply(self, log_file: LogReader, records: list[Recorded], *, behind: bool) -> None:
        if self._view is None:
            # Nobody may see the first page of a long log alone.
            self._view = self._open_views(log_file.head().position <= PAGE)
        position = self._view.position
        self._view.refresh()
        behind = behind or self._view.position != position
        if behind or (records and records[0].position > self._view.position + 1):
            catch_up(log_file, self._view, self.tell_progress)
        if records:
            self._view.apply(records)

    def _rebuild(self, log_file: LogReader) -> None:
        """Build damaged views anew. Raises what keeps it from doing so, for a while without another try."""
        if self._rebuild_failed is not None and self._clock.monotonic() < self._rebuild_at:
            raise self._rebuild_failed.with_traceback(None)
        self._health.doubt(self._health.generation)
        logger.warning("the views are built anew", path=str(self._path), why=self._damage)
        self._rebuild_at = self._clock.monotonic() + REBUILD_AGAIN
        if self._view is not None:
            self._view.abandon()
            self._view = None
        try:
            rebuild_views(log_file, self._path, self.tell_progress)
            self._view = self._open_views(False)  # noqa: FBT003 - it may have been deleted again
            catch_up(log_file, self._view, self.tell_progress)
        except Exception as error:
            self._rebuild_failed = error
            raise
        self._damage, self._rebuild_failed = "", None
        self._health.vouch()

    def _put_in_place(self, beside: Path | None) -> int | TasktrailError:
        """Replace the views by those that were built beside them. If it fails, the old ones stay."""
        self._take_back()
        if self._log is None:
            self._log = self._open_log()
        if self._view is not None:
            self._view.abandon()
            self._view = None
        self._behind = True
        try:
            position = put_in_place(self._log, self._path, self.tell_progress, beside)
            if beside is not None:
                discard(self._path)  # a build under way there may have read erased data
                clear_write_ahead_log(self._path)
        except TasktrailError as error:
            return error
        else:
            self._damage, self._rebuild_failed = "", None
            self._health.vouch()
            return position
        finally:
            self._fold()

    def _begin_check(self) -> None:
        """Check the file once, as soon as it exists. A file that is missing for lack of room is not damaged."""
        if self._view is not None and not self._check_begun:
            self._check_begun = True
            threading.Thread(target=self._check, name="views-check", daemon=True).start()

    def _check(self) -> None:
        """Check the whole file. Runs in a thread of its own, while the actor works."""
        damage = ""
        try:
            with closing(connect(self._path)[0]) as conn:
                self._checking = conn
                damage = find_damage(conn)
        except ViewsDamaged as error:
            damage = error.message
        except (sqlite3.Error, ViewsFailed) as error:
            if not self._stopping:  # otherwise it was interrupted
                logger.warning("the views could not be checked", error=str(error))
        finally:
            self._checking = None
            with suppress(pykka.ActorDeadError):
                self.actor_ref.tell(Checked(damage))
