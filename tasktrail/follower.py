"""Follows the log of a service elsewhere: keeps views and snapshots of a data folder near its end, and appends nothing.

A standby and a reader do. The thread that follows goes on whatever happens to the database, and says what is wrong.
"""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing

from .actors.base import WAKE, DeleteSnapshots, logger
from .actors.feed import Watermark
from .actors.snapshotter import SnapshotPace, Snapshotter
from .backups.evidence import refuse_older_log
from .config.settings import Config
from .erased_elsewhere import erase_here, is_erasing
from .events import Recorded, TasktrailError
from .events.clock import Clock, SystemClock
from .events.errors import ConfigurationError, NotReady
from .events.log.address import is_address
from .events.log.lock import DataLock
from .events.log.log_reader import LogReader
from .events.log.opening import is_begun, need_client, read_log
from .log_place import settled_place
from .paths import DataPaths, close_to_others
from .projections import TaskViews, ViewsDamaged, catch_up, rebuild_views
from .projections.rebuilding import clear_write_ahead_log
from .projections.views.rebuild import known_end, pull, refuse_other

_FOLLOW_EVERY = 0.25
_AFTER_TROUBLE = 1.0
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
        self._damaged = False
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
            except (TasktrailError, sqlite3.Error, OSError) as error:
                self._tell(error)
            except Exception as error:  # noqa: BLE001 - it goes on, whatever it was
                logger.warning("the log cannot be followed", exc_info=error)
                self._tell(error)
            self._stopping.wait(_AFTER_TROUBLE)

    def _tell(self, trouble: Exception | None) -> None:
        """Say it once, and that it is over."""
        if trouble is not None and str(trouble) != str(self.trouble):
            logger.warning("the log cannot be followed now", error=str(trouble))
        elif self.trouble is not None and trouble is None:
            logger.info("the log is followed again")
        self.trouble = trouble

    def _follow(self) -> None:
        """Until the log erases something: then all that was folded before is folded anew, and it begins again."""
        if erase_here(self._paths, self._forget):
            self.views_generation += 1
        with closing(read_log(self._paths.log)) as log:
            try:
                self.head = log.head().position
                self._build_many(log)
                with closing(TaskViews(self._paths.views)) as views:
                    before = views.position
                    catch_up(log, views, self._reach)
                    late = is_erasing(log, before, views.position)
                    if not late:
                        self._observer.caught_up(log, views.position)
                        self._keep_up(log, views)
            except ViewsDamaged as error:
                self._rebuild(log, str(error))
            else:
                if late:  # it came after the look of `erase_here`, and the views have passed it
                    self._forget()
                    self._rebuild(log, "something was erased while they were brought up")
                    clear_write_ahead_log(self._paths.views)

    def _build_many(self, log: LogReader) -> None:
        """Views that have nothing of a long log are built in one go, which takes a third of the time."""
        end = known_end(self._paths.views)
        if self.head >= _MANY and (end is None or end.position == 0):
            rebuild_views(log, self._paths.views, self._reach)

    def _forget(self) -> None:
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
        self._lock.release()
