"""Follows the log of a service elsewhere: keeps views and snapshots of a data folder near its end, and appends nothing.

Standbys and readers use it. Its thread goes on whatever happens to the database, and reports what is wrong.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

from ..actors.feed import Watermark
from ..actors.logger import get_logger
from ..actors.messages import WAKE, DeleteSnapshots
from ..actors.snapshotter import SnapshotPace, Snapshotter
from ..backups.evidence import refuse_older_log
from ..config.log_place import settled_place
from ..config.settings import Config
from ..events import Recorded, TasktrailError
from ..events.clock import Clock, SystemClock
from ..events.errors import (
    ConfigurationError,
    HistoryMissing,
    KeysUnreadable,
    LogCorrupt,
    LogTooNew,
    LogUnreachable,
    NotReady,
)
from ..events.log.address import is_address
from ..events.log.event_log import ReportProgress
from ..events.log.lock import DataLock
from ..events.log.log_reader import LogReader
from ..events.log.opening import is_begun, need_client, read_log
from ..paths import DataPaths, close_to_others
from ..projections import TaskViews, ViewsDamaged, rebuild_views
from ..projections.views.checksums import is_damage
from ..projections.views.forgotten import holds_forgotten
from ..projections.views.rebuild import KEYS_FOUND, PAGE, found_keys, known_end, pull, refuse_other
from .erasure import erase_here, is_erasing, mark_due

logger = get_logger()

_FOLLOW_EVERY = 0.25
_LOOK_FOR_KEYS_EVERY = 2.0
_AFTER_TROUBLE = 1.0
_MOST_AFTER_TROUBLE = 60.0
"""The longest pause in seconds. If something keeps failing here, each try costs the database a look at the log."""
_STOPS_WITHIN = 10.0


def _since_boot() -> float:
    """Return seconds that also count while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class _Stopped(Exception):
    """Ends the thread in the middle of something long."""


class Observer:
    """Called by a follower, in its thread."""

    def erasing(self) -> None:
        """Show nothing any more of what was folded before: it was erased, or is of another history."""

    def caught_up(self, log: LogReader, position: int, progress: ReportProgress) -> None:
        """The follower has caught up, at first or again; its views are at `position`. `progress` may raise, to stop."""

    def records_folded(self, records: Sequence[Recorded]) -> None:
        """The views have these records now, which come right after those reported last."""


class Follower:
    """Holds the data folder while it follows; `close` releases it."""

    def __init__(
        self,
        paths: DataPaths,
        config: Config,
        what: str,
        *,
        observer: Observer | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`what`: the role of the folder's holder. Raises `ConfigurationError` for a log in a file, and `DataInUse`."""
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
        """Where the log ended at the last look."""
        self.heard_at: float | None = None
        """When, by `_since_boot`, the log was last seen of which everything is folded; None before the first time."""
        self.reached = 0
        """How far the follower is while it catches up."""
        self.trouble: Exception | None = None
        """Why the log cannot be followed now."""
        self.erases_user = False
        """Whether the views still hold data of an erased user."""
        self._settled = False
        self._erased_to = 0
        self._damaged = False
        self._looked_for_keys = False
        self._keys_looked_at = 0.0
        """When it was last asked whether keys are there by now that the views lacked."""
        self._newer_at = 0
        """The position of the start of a newer version's service that was logged."""
        self._pause = _AFTER_TROUBLE
        self.views_generation = 0
        """Goes up whenever the views were built anew."""
        self._pace = SnapshotPace(config.snapshot_every)
        self._holders = 1
        self._letting_go = threading.Lock()
        try:
            close_to_others(paths)
            views_end = known_end(paths.views)
            end = views_end.position if views_end is not None else 0  # the position for the snapshots until it follows
            self._snapshotter = Snapshotter.start(
                log_path=paths.log,
                folder=paths.snapshots,
                pace=self._pace,
                position=lambda: self.position.position or end,
            )
        except BaseException:
            self._lock.release()
            raise
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._holders += 1
        self._thread.start()

    def settle(self) -> None:
        """Keep the configured address in the data folder, if the log there has all that was seen here before.

        Raises `HistoryMissing`, and `LogUnreachable`.
        """
        with settled_place(self._paths, self._config):
            refuse_older_log(self._paths)

    def look(self) -> None:
        """Look at the log now, because a caller waits for its records."""
        self._wanted.set()

    def mend(self, generation: int, seconds: float) -> bool:
        """Build damaged views anew, unless that was done since `generation`.

        Returns whether it was done, as soon as that is known, and after `seconds` at the latest.
        """
        if self.views_generation != generation:
            return True
        self._damaged = True
        self.look()
        until = self._clock.monotonic() + seconds
        while self.views_generation == generation and self._clock.monotonic() < until:
            if self.trouble is not None or self._stopping.wait(_FOLLOW_EVERY):
                break
        return self.views_generation != generation

    def silent(self) -> float | None:
        """Return the seconds since the last look at the log whose records are all folded; None if there was none."""
        return None if self.heard_at is None else _since_boot() - self.heard_at

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if not self._try():
                    self._stopping.wait(self._pause)
        except _Stopped:
            pass
        finally:
            self._release()

    def _try(self) -> bool:
        """Follow as long as possible. Returns whether to begin again at once."""
        try:
            if not self._settled:
                self.settle()
                self._settled = True
            self._check_stopping()
            if is_begun(self._paths.log):
                self._check_stopping()
                return self._follow()
            self._log_trouble(NotReady("The database holds no log yet: the first service on it begins one"))
        except _Stopped:
            raise
        except LogUnreachable as error:
            self._log_trouble(error)
            self._pause = _AFTER_TROUBLE
        except (TasktrailError, sqlite3.Error, OSError) as error:
            if isinstance(error, HistoryMissing):
                self._observer.erasing()  # what was folded is of another history, or of two
                self._erased_to = 0
            self._log_trouble(error)
            self._pause = min(2 * self._pause, _MOST_AFTER_TROUBLE)
        except Exception as error:
            logger.warning("the log cannot be followed", exc_info=error)
            self._log_trouble(error)
            self._pause = min(2 * self._pause, _MOST_AFTER_TROUBLE)
        return False

    def _log_trouble(self, trouble: Exception | None) -> None:
        """Log each trouble once, and once that it is over."""
        if trouble is not None and str(trouble) != str(self.trouble):
            error_text = trouble.message if isinstance(trouble, TasktrailError) else str(trouble)
            logger.warning("the log cannot be followed now", error=error_text)
        elif self.trouble is not None and trouble is None:
            logger.info("the log is followed again")
        self.trouble = trouble

    def _follow(self) -> bool:
        """Follow until the log erases something. Returns True if all has to be folded anew at once."""
        with closing(read_log(self._paths.log)) as log:
            self._check_stopping()
            looked = log.head().position
            if isinstance(self.trouble, LogUnreachable | NotReady):
                if (known := known_end(self._paths.views)) is not None:
                    refuse_other(log, known)  # before questions are answered: it may have come back as another log
                self._log_trouble(None)  # there is a log that can be read, however long it takes to fold it
            if erase_here(log, self._paths, self._begin_to_erase, self._reach, looked=self._erased_to):
                self.views_generation += 1
            self._erased_to, self.erases_user = looked, False
            try:
                self.head = log.head().position
                self._build_many(log)
                with closing(TaskViews(self._paths.views, begin=self.head <= PAGE)) as views:
                    self._refuse_damaged()
                    at, self.head = _since_boot(), log.head().position
                    if is_erasing(log, looked, self.head):  # since `erase_here` has looked
                        return True
                    refuse_other(log, views)
                    self._refuse_found_keys(log, views)
                    pull(log, views, self.head, progress=self._reach)
                    if holds_forgotten(views.connection):
                        logger.warning("the views are built anew: they have tasks that are forgotten")
                        mark_due(self._paths, is_user=False)
                        return True
                    self._observer.caught_up(log, views.position, self._reach)
                    refuse_other(log, views)  # the server may have become another one while that was folded
                    self._look_for_keys(log)
                    self._look_for_newer(log)
                    return self._keep_up(log, views, at)
            except (ViewsDamaged, LogCorrupt, sqlite3.DatabaseError) as error:
                # A missing row looks like an event of an unknown task. If the log is at fault, the rebuild fails, too.
                if isinstance(error, sqlite3.Error) and not is_damage(error):
                    raise
                self._observer.erasing()
                self._rebuild(log, str(error))
                return False

    def _look_for_keys(self, log: LogReader) -> None:
        """Log once which keys are missing here: without them a standby cannot take over."""
        if not self._looked_for_keys:
            try:
                log.refuse_lost_keys()
            except KeysUnreadable as error:
                logger.warning("not all personal data can be read here", error=str(error))
            self._looked_for_keys = True

    def _look_for_newer(self, log: LogReader) -> None:
        """Log once that a service of a newer version has the log: this version cannot take it over."""
        writer = log.newest_writer()
        if writer is not None and writer.fault and writer.position != self._newer_at:
            self._newer_at = writer.position
            logger.warning("this version cannot go on with the log", error=str(LogTooNew(writer.fault)))

    def _build_many(self, log: LogReader) -> None:
        """Build views that have nothing of a long log in one go: nobody may see its first page alone."""
        end = known_end(self._paths.views)
        if self.head > PAGE and (end is None or end.position == 0):
            rebuild_views(log, self._paths.views, self._reach)

    def _begin_to_erase(self, is_user: bool) -> None:  # noqa: FBT001 - of a callback
        self.erases_user = is_user
        self._observer.erasing()
        self._snapshotter.ask(DeleteSnapshots())

    def _rebuild(self, log: LogReader, why: str) -> None:
        known = known_end(self._paths.views)
        if known is not None:
            refuse_other(log, known)  # the server may be another one by now
        logger.warning("the views are built anew", error=why)
        rebuild_views(log, self._paths.views, self._reach)
        self._damaged = False
        self.views_generation += 1

    def _refuse_damaged(self) -> None:
        if self._damaged:
            raise ViewsDamaged("a question has found them damaged")

    def _refuse_found_keys(self, log: LogReader, views: TaskViews) -> None:
        """Raise `ViewsDamaged` if the views lack what can be read by now."""
        self._keys_looked_at = self._clock.monotonic()
        if found_keys(log, views.missing_keys):
            raise ViewsDamaged(KEYS_FOUND)

    def _reach(self, position: int, _end: int) -> None:
        """Note how far the views are. They are not used before all that is reported with them is folded, too."""
        self.reached = position
        self._check_stopping()

    def _check_stopping(self) -> None:
        """Raise `_Stopped` if the follower is to stop. Called after each thing that may take long."""
        if self._stopping.is_set():
            raise _Stopped

    def _keep_up(self, log: LogReader, views: TaskViews, at: float) -> bool:
        """Take new records until one erases something. `at`: the time of the look whose records the views have."""
        self._log_trouble(None)
        while True:
            self.reached = views.position
            self.position.rise(views.position)
            self.heard_at = at
            self._pause = _AFTER_TROUBLE
            if self._pace.is_due(views.position):
                self._snapshotter.tell(WAKE)
            self._wanted.wait(_FOLLOW_EVERY)
            self._wanted.clear()
            self._check_stopping()
            views.refresh()  # raises if they were deleted, and clears away what is left of them
            self._refuse_damaged()
            if views.missing_keys and self._clock.monotonic() - self._keys_looked_at >= _LOOK_FOR_KEYS_EVERY:
                self._refuse_found_keys(log, views)
            at, head = _since_boot(), log.head()
            self.head = head.position
            if (head.position, head.hash) == (views.position, views.hash):
                continue
            refuse_other(log, views)  # the server may be another one, which lacks what was seen
            if is_erasing(log, views.position, head.position):
                # It holds from here on, even if the database goes away before all is done.
                self._begin_to_erase(bool(log.newest_of("user_erased", views.position, head.position, 1)))
                return True
            before = views.position
            pull(log, views, head.position, on_page=self._observer.records_folded)
            if log.newest_of("service_started", before, views.position, 1):
                self._look_for_newer(log)

    def close(self, then: Callable[[], object] = lambda: None) -> None:
        """Stop following, call `then`, and release the data folder once the thread, which may write, has ended."""
        self._stopping.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(_STOPS_WITHIN)
        self._snapshotter.stop()
        then()
        self._release()

    def _release(self) -> None:
        """Called by `close` and by the thread: the last of them releases the folder."""
        with self._letting_go:
            self._holders -= 1
            if self._holders == 0:
                self._lock.release()
