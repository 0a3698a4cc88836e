"""Follows the log of a service elsewhere: keeps views and snapshots of a data folder near its end, and appends nothing.

A standby and a reader do. The thread that follows goes on whatever happens to the database, and says what is wrong.
"""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing

from ..actors.base import WAKE, DeleteSnapshots, logger
from ..actors.feed import Watermark
from ..actors.snapshotter import SnapshotPace, Snapshotter
from ..backups.evidence import refuse_older_log
from ..config.log_place import settled_place
from ..config.settings import Config
from ..events import Recorded, TasktrailError
from ..events.clock import Clock, SystemClock
from ..events.errors import ConfigurationError, LogUnreachable, NotReady
from ..events.log.address import is_address
from ..events.log.lock import DataLock
from ..events.log.log_reader import LogReader
from ..events.log.opening import is_begun, need_client, read_log
from ..paths import DataPaths, close_to_others
from ..projections import TaskViews, ViewsDamaged, rebuild_views
from ..projections.rebuilding import clear_write_ahead_log
from ..projections.views.forgotten import holds_forgotten
from ..projections.views.rebuild import known_end, pull, refuse_other
from .erasure import erase_here, is_erasing

_FOLLOW_EVERY = 0.25
_AFTER_TROUBLE = 1.0
_MOST_AFTER_TROUBLE = 60.0
"""Seconds. What fails again and again at this machine costs the database a look at the log each time."""
_STOPS_WITHIN = 10.0
_MANY = 20_000
"""Records."""


class _Stopped(Exception):
    """It is to end in the middle of what takes long."""


class Observer:
    """Hears what a follower does, in its thread."""

    def erasing(self) -> None:
        """Something was erased or forgotten: what was folded before is not to be shown any more."""

    def caught_up(self, log: LogReader, position: int) -> None:
        """It follows, for the first time or again; its views stand at that position."""

    def took(self, records: Sequence[Recorded]) -> None:
        """These are in the views now, the next ones after what it has heard of last."""


class Follower:
    """Holds the data folder while it follows; `close` lets go of it."""

    def __init__(
        self,
        paths: DataPaths,
        config: Config,
        what: str,
        *,
        observer: Observer | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`what`: as what the folder is held. Raises `ConfigurationError` for a log in a file, and `DataInUse`."""
        if not is_address(paths.log):
            raise ConfigurationError(
                "Only a log on PostgreSQL can be followed from elsewhere: a file belongs to one machine, and its "
                "service",
                field="log",
                remedy="Set `log` to the address of the log; `tasktrail migrate` moves one there.",
            )
        need_client()
        paths.make()
        self._lock = DataLock(paths.lock, what)
        self._paths = paths
        self._config = config
        self._observer = observer or Observer()
        self._clock = clock or SystemClock()
        self._stopping = threading.Event()
        self._wanted = threading.Event()
        self.position = Watermark()
        """How far the views have come."""
        self.head = 0
        """Where the log ended when it was looked at last."""
        self.heard_at: float | None = None
        """When all that was there was folded, in monotonic seconds; none before the first time."""
        self.reached = 0
        """How far it is while it catches up."""
        self.trouble: Exception | None = None
        """Why the log cannot be followed now."""
        self.erases_user = False
        """Whether the views still have what is of a user who was erased."""
        self._erased_to = 0
        self._damaged = False
        self._pause = _AFTER_TROUBLE
        self.views_generation = 0
        """Goes up whenever the views were built anew."""
        self._pace = SnapshotPace(config.snapshot_every)
        try:
            close_to_others(paths)
            self._snapshotter = Snapshotter.start(
                log_path=paths.log, folder=paths.snapshots, pace=self._pace, position=lambda: self.position.position
            )
        except BaseException:
            self._lock.release()
            raise
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def settle(self) -> None:
        """Keep the configured address in the data folder, if the log there has all that was seen here before.

        Raises `HistoryMissing`, and `LogUnreachable`.
        """
        with settled_place(self._paths, self._config):
            refuse_older_log(self._paths)
        TaskViews(self._paths.views).close()  # from now on whoever reads finds them

    def look(self) -> None:
        """Look at the log now: somebody waits for what is in it."""
        self._wanted.set()

    def mend(self, generation: int, seconds: float) -> bool:
        """Build damaged views anew, unless that was done since `generation`; whether it was done within that time."""
        self._damaged = True
        self.look()
        until = self._clock.monotonic() + seconds
        while self.views_generation == generation and self._clock.monotonic() < until:
            if self._stopping.wait(_FOLLOW_EVERY):
                return False
        return self.views_generation != generation

    def silent(self) -> float | None:
        """Seconds since all that was in the log was folded; none where it never was."""
        return None if self.heard_at is None else self._clock.monotonic() - self.heard_at

    def _run(self) -> None:
        settled = False
        while not self._stopping.is_set():
            try:
                if not settled:
                    self.settle()
                    settled = True
                if is_begun(self._paths.log):
                    self._follow()
                else:
                    self._tell(NotReady("The database holds no log yet: the first service on it begins one"))
            except _Stopped:
                return
            except LogUnreachable as error:
                self._tell(error)
                self._pause = _AFTER_TROUBLE
            except (TasktrailError, sqlite3.Error, OSError) as error:
                self._tell(error)
                self._pause = min(2 * self._pause, _MOST_AFTER_TROUBLE)
            except Exception as error:  # noqa: BLE001 - it goes on, whatever it was
                logger.warning("the log cannot be followed", exc_info=error)
                self._tell(error)
                self._pause = min(2 * self._pause, _MOST_AFTER_TROUBLE)
            self._stopping.wait(self._pause)

    def _tell(self, trouble: Exception | None) -> None:
        """Say it once, and that it is over."""
        if trouble is not None and str(trouble) != str(self.trouble):
            said = trouble.message if isinstance(trouble, TasktrailError) else str(trouble)
            logger.warning("the log cannot be followed now", error=said)
        elif self.trouble is not None and trouble is None:
            logger.info("the log is followed again")
        self.trouble = trouble

    def _follow(self) -> None:
        """Until the log erases something: then all that was folded before is folded anew, and it begins again."""
        with closing(read_log(self._paths.log)) as log:
            looked = log.head().position
            if erase_here(self._paths, self._begin_to_erase, self._reach, looked=self._erased_to):
                self.views_generation += 1
            self._erased_to, self.erases_user = looked, False
            try:
                self.head = log.head().position
                self._build_many(log)
                with closing(TaskViews(self._paths.views)) as views:
                    head = log.head().position
                    if is_erasing(log, looked, head):  # since `erase_here` has looked
                        return
                    refuse_other(log, views)
                    pull(log, views, head, progress=self._reach)
                    is_stale = holds_forgotten(views.connection)
                    if not is_stale:
                        self._observer.caught_up(log, views.position)
                        self._keep_up(log, views)
            except ViewsDamaged as error:
                self._observer.erasing()  # the log may be another one by now
                self._rebuild(log, str(error))
            else:
                if is_stale:
                    self._begin_to_erase(is_user=False)
                    self._rebuild(log, "they have tasks that are forgotten")
                    clear_write_ahead_log(self._paths.views)

    def _build_many(self, log: LogReader) -> None:
        """Views that have nothing of a long log are built in one go, which takes a third of the time."""
        end = known_end(self._paths.views)
        if self.head >= _MANY and (end is None or end.position == 0):
            rebuild_views(log, self._paths.views, self._reach)

    def _begin_to_erase(self, is_user: bool) -> None:  # noqa: FBT001 - of a callback
        self.erases_user = is_user
        self._observer.erasing()
        self._snapshotter.ask(DeleteSnapshots())

    def _rebuild(self, log: LogReader, why: str) -> None:
        logger.warning("the views are built anew", error=why)
        self._damaged = False
        rebuild_views(log, self._paths.views, self._reach)
        self.views_generation += 1

    def _reach(self, position: int, _end: int) -> None:
        """So far for the views: nobody may rely on it before all is folded that is told with them."""
        self.reached = position
        if self._stopping.is_set():
            raise _Stopped

    def _keep_up(self, log: LogReader, views: TaskViews) -> None:
        self._tell(None)
        while True:
            self.reached = views.position
            self.position.rise(views.position)
            self.heard_at = self._clock.monotonic()
            self._pause = _AFTER_TROUBLE
            if self._pace.is_due(views.position):
                self._snapshotter.tell(WAKE)
            self._wanted.wait(_FOLLOW_EVERY)
            self._wanted.clear()
            if self._stopping.is_set():
                return
            if self._damaged:
                raise ViewsDamaged("a question has found them damaged")
            head = log.head()
            self.head = head.position
            if (head.position, head.hash) == (views.position, views.hash):
                continue
            refuse_other(log, views)  # the server may be another one, which lacks what was seen
            if is_erasing(log, views.position, head.position):
                return
            pull(log, views, head.position, took=self._observer.took)

    def close(self, then: Callable[[], object] = lambda: None) -> None:
        """Follow no more, do that, and let go of the data folder."""
        self._stopping.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(_STOPS_WITHIN)
        self._snapshotter.stop()
        then()
        if not self._thread.is_alive():  # else it may still write: the folder is free when this process has ended
            self._lock.release()
