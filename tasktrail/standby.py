"""A standby: keeps views and snapshots near the end of another service's log, and says when it may take it over.

It appends nothing and runs nothing. To take over is to start a service, which has little left to fold.
"""

import sqlite3
import threading
from contextlib import closing

from .actors.base import WAKE, DeleteSnapshots, logger
from .actors.snapshotter import SnapshotPace, Snapshotter
from .backups.evidence import refuse_older_log
from .config.settings import Config
from .erased_elsewhere import erase_here, is_erasing
from .events.errors import ConfigurationError, TasktrailError
from .events.log.address import is_address
from .events.log.lock import DataLock
from .events.log.log_reader import LogReader
from .events.log.opening import is_begun, need_client, read_log
from .log_place import settled_place
from .paths import DataPaths, close_to_others
from .projections import TaskViews, ViewsDamaged, catch_up, rebuild_views
from .projections.views.rebuild import pull

_FOLLOW_EVERY = 0.25
_AFTER_TROUBLE = 1.0
_STOPS_WITHIN = 10.0


class Standby:
    """Holds the data folder while it waits; `close` lets go of it, so that a service can have it."""

    def __init__(self, paths: DataPaths, config: Config) -> None:
        """Raises `ConfigurationError` for a log in a file, and what a start raises."""
        if not is_address(paths.log):
            raise ConfigurationError(
                "Only a log on PostgreSQL can have a standby: a file belongs to one machine",
                field="log",
                remedy="Set `log` to the address of the log; `tasktrail migrate` moves one there.",
            )
        need_client()
        from .events.log.postgresql.watch import OwnerWatch

        paths.make()
        self._lock = DataLock(paths.lock, "standby")
        self._paths = paths
        self._stopping = threading.Event()
        try:
            close_to_others(paths)
            with settled_place(paths, config):
                refuse_older_log(paths)
            TaskViews(paths.views).close()  # from now on whoever reads finds them
            self._watch = OwnerWatch(paths.log)
        except BaseException:
            self._lock.release()
            raise
        self._position = 0
        self._trouble = ""
        self._pace = SnapshotPace(config.snapshot_every)
        self._snapshotter = Snapshotter.start(
            log_path=paths.log, folder=paths.snapshots, pace=self._pace, position=lambda: self._position
        )
        self._thread = threading.Thread(target=self._run, name="standby", daemon=True)
        self._thread.start()

    def may_take_over(self) -> bool:
        """Whether no service has the log any more. To be asked often."""
        return self._watch.is_free()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if is_begun(self._paths.log):
                    self._follow()
            except (TasktrailError, sqlite3.Error, OSError) as error:
                self._tell(str(error))
            self._stopping.wait(_AFTER_TROUBLE)

    def _tell(self, trouble: str) -> None:
        """Say it once, and that it is over."""
        if trouble and trouble != self._trouble:
            logger.warning("the log cannot be followed now", error=trouble)
        elif self._trouble and not trouble:
            logger.info("the log is followed again")
        self._trouble = trouble

    def _follow(self) -> None:
        """Until the log erases something: then all that was folded before is folded anew, and it begins again."""
        erase_here(self._paths, lambda: self._snapshotter.ask(DeleteSnapshots()))
        with closing(read_log(self._paths.log)) as log:
            try:
                with closing(TaskViews(self._paths.views)) as views:
                    before = views.position
                    catch_up(log, views)
                    if not is_erasing(log, before, views.position):
                        self._keep_up(log, views)
            except ViewsDamaged as error:
                logger.warning("the views are built anew", error=str(error))
                rebuild_views(log, self._paths.views)

    def _keep_up(self, log: LogReader, views: TaskViews) -> None:
        self._tell("")
        while True:
            self._position = views.position
            if self._pace.is_due(self._position):
                self._snapshotter.tell(WAKE)
            if self._stopping.wait(_FOLLOW_EVERY):
                return
            head = log.head().position
            if is_erasing(log, self._position, head):
                return
            pull(log, views, head)

    def close(self) -> None:
        """Follow no more, and let go of the data folder."""
        self._stopping.set()
        self._thread.join(_STOPS_WITHIN)
        self._snapshotter.stop()
        self._watch.close()
        self._lock.release()
