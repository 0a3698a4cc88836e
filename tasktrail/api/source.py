"""Sources of answers: the log, the views, and the Scheduler's present state.

A `Source` reads the files of a data folder that another program keeps. `Unattended` itself keeps files on which no
service runs. A running service is a source of its own (`service.py`).
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from ..actors.core.limits import Limits
from ..actors.core.state import Durable, Running, SchedulerState
from ..actors.core.unit_of_work import UnitOfWork
from ..config.load import load_config
from ..config.settings import Config
from ..events import Checkpointed, Progressed, Recorded, Started
from ..events.clock import Clock, SystemClock
from ..events.errors import DataInUse, InvalidPath, LogCorrupt, UnusableOrder
from ..events.existence import exists
from ..events.log.address import is_address
from ..events.log.event_log import ReportProgress
from ..events.log.faults import without_place
from ..events.log.keys import Keys
from ..events.log.lock import DataLock, holder
from ..events.log.log_reader import LogReader
from ..events.log.opening import has_no_log, read_log
from ..handlers.registry import Registry
from ..paths import DataPaths
from ..projections import TaskQueries, TaskViews, ViewsDamaged, ViewsFailed, catch_up, rebuild_views
from ..projections.errors import views_late
from ..projections.findings import Finding
from ..projections.proof.seals import SealCheck
from ..projections.queries.as_of import Point, parse_point, position_of, refuse_future, time_of
from ..projections.rebuilding import Rebuilt, build_beside
from ..projections.verification import Verification, verify
from ..projections.views.forgotten import holds_forgotten
from ..projections.views.rebuild import PAGE, building, known_end

T = TypeVar("T")
Folding = Callable[[], AbstractContextManager[ReportProgress]]
"""Makes a context that is entered while a long log is folded. It gives a function to call with the progress."""

_FOLLOW_PAUSE = 0.2
"""Seconds between two looks at the log when there is no service in this process to say that it has grown."""
_VIEWS_WITHIN = 10.0
"""Seconds that views kept by another process may lag behind the log, or be missing before their build has begun."""
_SILENT_BUILD = 600.0
"""Seconds for which a process that builds views may write nothing: it folds many records at once, and sorts indexes."""
_VIEWS_PAUSE = 0.01
_LONG, _REPORT_EVERY = 50_000, 1000
"""The least records of a fold that reports its progress, and the records between two reports."""
_DURING_AN_ATTEMPT = frozenset({Progressed, Checkpointed})
_PAGE = 1000
"""Records of the service that are read at a time."""


def log_built_anew(why: str) -> None:
    """Log why the views have been built anew."""
    from ..actors.logger import get_logger  # hardly ever needed

    get_logger(__name__).warning("the views have been built anew from the log", why=why)


class _Closing:
    """Closes a connection when the thread that it belongs to, or the whole source, is gone."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __del__(self) -> None:
        self.connection.close()


class Source:
    """The files of a data folder as they are. Each thread gets read-only connections of its own."""

    live = False
    """Whether the Scheduler's state is that of a running service."""

    def __init__(
        self,
        paths: DataPaths,
        registry: Registry,
        clock: Clock,
        scratch: str = ":memory:",
        config: Callable[[], Config] | None = None,
    ) -> None:
        self.paths = paths
        self.clock = clock
        self.config = config or partial(load_config, paths.data)
        """Returns the present configuration: the service's or the command line's, else the folder's."""
        self.folding: Folding = silent_folding
        self.given_limits: Limits | None = None
        """If another process asks, the limits of its configuration."""
        self.scratch = scratch
        """The database for building lists as of an earlier time; with an empty name, a temporary file."""
        self._registry = registry
        self._connections = threading.local()

    @property
    def registry(self) -> Registry:
        """The task types."""
        return self._registry

    def log(self) -> LogReader:
        """This thread's reader of the log."""
        reader: LogReader = self._own("log", lambda: read_log(self.paths.log))
        return reader

    def ask(self, question: Callable[[TaskQueries], T]) -> T:
        """Ask the views. If they turn out to be damaged or deleted, and can be built anew, ask once more."""
        generation = self.generation()
        try:
            return question(self._views())
        except ViewsDamaged as error:
            if not self.mend(generation, error):
                raise
        return question(self._views())

    @contextmanager
    def views_apart(self) -> Iterator[TaskQueries]:
        """The views through a separate connection, for a long question whose answer must be as of one position."""
        self.restore_deleted()
        self.settle()
        with closing(TaskQueries.open(self.paths.views)) as queries:
            yield queries

    def restore_deleted(self) -> None:
        """Have deleted views built anew before they are read other than by `ask`."""
        if not exists(self.paths.views):
            self.ask(lambda views: views.position)

    def state(self, function: Callable[[SchedulerState, datetime], T]) -> T:
        """Call the function with the Scheduler's state and the time. Here the state is folded from the log."""
        now = self.clock.now()
        with self._records(self.log().head().position) as records:
            # A log in a file is read here only if no service runs on it; for a database, one may run elsewhere.
            fold = folded_state if is_address(self.paths.log) else state_from_log
            state = fold(records, self.limits(), now)
        return function(state, now)

    def state_as_of(self, point: str | Point | None, function: Callable[[SchedulerState, datetime], T]) -> T:
        """Call the function with the state at an earlier time, a fold of the log up to it, and that time. None: now."""
        if point is None:
            return self.state(function)
        point = parse_point(point)
        refuse_future(point, self.clock.now())
        log = self.log()
        position, moment = position_of(log, point), time_of(log, point)
        with self._records(position) as records:
            state = folded_state(records, self.limits(), moment)
        return function(state, moment)

    @contextmanager
    def _records(self, last: int) -> Iterator[Iterator[Recorded]]:
        """Give the records up to a position, and report the progress of their fold."""
        with self._folding_of(last) as progress:
            yield _with_progress(self.log().read(0, last), last, progress)

    def _folding_of(self, records: int) -> AbstractContextManager[ReportProgress]:
        """Return the context to enter while this number of records is folded."""
        return self.folding() if records >= _LONG else silent_folding()

    def orders_as_of(self, point: str | Point | None, function: Callable[[Durable], T]) -> T:
        """Call the function with the orders of operators, now or as of an earlier time. Tasks are then not in it."""
        if point is None:
            return self.state(lambda state, _now: function(state.durable))
        point = parse_point(point)
        refuse_future(point, self.clock.now())
        return function(folded_orders(self.log(), position_of(self.log(), point)))

    def limits(self) -> Limits:
        """Return the limits of the present configuration."""
        from ..actors.machine import disk_size

        if self.given_limits is not None:
            return self.given_limits
        config = self.config()
        return config.limits(disk_size(Path(config.temp_dir or self.paths.temp)))

    def settle(self) -> None:
        """Wait until the views are far enough to be asked."""

    def wait_for_log(self, position: int) -> bool:
        """Wait until the log has reached `position`. False if it never will; of files that is never known."""
        while self.log().head().position < position:
            threading.Event().wait(_FOLLOW_PAUSE)
        return True

    def generation(self) -> int:
        """A number that changes when damaged views have been built anew."""
        return 0

    def mend(self, generation: int, error: ViewsFailed) -> bool:  # noqa: ARG002 - for sources that can
        """Have views that are damaged or deleted built anew; whether that was done."""
        return False

    def disconnect(self) -> None:
        """Close this thread's connections; those of other threads go with their threads."""
        self._connections = threading.local()

    def _views(self) -> TaskQueries:
        self.settle()
        queries: TaskQueries = self._own("views", lambda: TaskQueries.open(self.paths.views))
        return queries

    def counts(self) -> dict[tuple[str, str], int] | None:
        """Map type and status to the number of tasks, by the views as they are; None if they cannot be read."""
        try:
            queries: TaskQueries = self._own("now", lambda: TaskQueries.open(self.paths.views))
            return queries.counts()
        except (ViewsDamaged, ViewsFailed):
            return None

    def _own(self, name: str, connect: Callable[[], Any]) -> Any:
        if not hasattr(self._connections, name):
            setattr(self._connections, name, _Closing(connect()))
        return getattr(self._connections, name).connection


def silent_folding() -> AbstractContextManager[ReportProgress]:
    """A folding that reports no progress."""
    return nullcontext(lambda _reached, _goal: None)


def _with_progress(records: Iterable[Recorded], last: int, progress: ReportProgress) -> Iterator[Recorded]:
    for record in records:
        if record.position % _REPORT_EVERY == 0:
            progress(record.position, last)
        yield record


class Unattended(Source):
    """The files of a data folder with no service running on it.

    If the views lag behind the log, because the last service was killed, they catch up first. Where that is not
    possible, on a read-only copy for example, views are built in memory. Handlers are loaded when they are asked for.
    `built_anew` is called with the reason when damaged views have been built anew.
    """

    def __init__(
        self,
        data: Path,
        *,
        registry: Registry | None = None,
        load: Callable[[], Registry] = Registry.load,
        clock: Clock | None = None,
        config: Callable[[], Config] | None = None,
        folding: Folding = silent_folding,
        built_anew: Callable[[str], None] = log_built_anew,
    ) -> None:
        paths = DataPaths(data)
        if has_no_log(paths.log):
            from ..backups.evidence import need_log  # it imports much that is needed in this case alone

            need_log(paths, config().log if config else "")
        super().__init__(paths, registry or Registry(), clock or SystemClock(), config=config)
        self._load = load if registry is None else None
        self.folding = folding
        self._built_anew = built_anew
        self._in_memory: TaskQueries | None = None
        self._kept_by_service = False
        self._bring_up()

    @property
    def registry(self) -> Registry:
        """The task types, loaded when they are first asked for."""
        if self._load is not None:
            self._registry, self._load = self._load(), None
        return self._registry

    def mend(self, generation: int, error: ViewsFailed) -> bool:  # noqa: ARG002 - one thread's views
        """Build the views anew; whether that was done. A service that has just started does it by itself."""
        try:
            with DataLock(self.paths.lock, "reader"):
                self._rebuild()
        except DataInUse:
            return False
        self._built_anew(error.message)
        self.disconnect()
        return True

    def disconnect(self) -> None:
        """Close this thread's connections, and views in memory."""
        if self._in_memory is not None:
            self._in_memory.close()
        super().disconnect()

    def _bring_up(self) -> None:
        try:
            with DataLock(self.paths.lock, "reader"):
                had_views = exists(self.paths.views)
                try:
                    # Nobody may see the first page of a long log alone.
                    begin = self.log().head().position <= PAGE
                    with closing(TaskViews(self.paths.views, begin=begin)) as views:
                        self._catch_up(views)
                        old = holds_forgotten(views.connection)
                    if old or self._is_erasure_due():
                        self._rebuild()
                except (ViewsDamaged, LogCorrupt) as error:  # a missing row looks like an event of an unknown task
                    self._rebuild()
                    if had_views:
                        self._built_anew(error.message)
        except DataInUse:
            self._kept_by_service = True
        except (InvalidPath, OSError):
            views = TaskViews(":memory:")
            self._catch_up(views)
            self._in_memory = TaskQueries(views.connection)

    def _catch_up(self, views: TaskViews) -> None:
        with self._folding_of(self.log().head().position - views.position) as progress:
            catch_up(self.log(), views, progress)

    def _rebuild(self) -> None:
        with self._folding_of(self.log().head().position) as progress:
            rebuild_views(self.log(), self.paths.views, progress)

    def _is_erasure_due(self) -> bool:
        """Whether a reader or a standby was killed while it erased something here, so that the rest is still owed."""
        if not exists(self.paths.erasing):
            return False
        from ..following.erasure import is_due  # it imports much that is needed in this case alone

        return is_due(self.paths)

    def _views(self) -> TaskQueries:
        if self._in_memory is not None:
            return self._in_memory
        if self._kept_by_service:
            self._wait_until_built()
        queries = super()._views()
        if self._kept_by_service:
            self._wait_for_views(queries, self.log().head().position)
        return queries

    @contextmanager
    def views_apart(self) -> Iterator[TaskQueries]:
        """The views through a separate connection, unless they are in memory, where nothing changes them."""
        self._views()
        if self._in_memory is not None:
            yield self._in_memory
            return
        with super().views_apart() as queries:
            yield queries

    def _wait_until_built(self) -> None:
        """Wait while another process builds the views, for the first time or because they were deleted."""
        views = self.paths.views
        if exists(views):
            return
        files = building(views)
        head, since, sizes = self.log().head().position, self.clock.monotonic(), (0, 0)
        with self._folding_of(head) as progress:
            while not exists(views):
                before, sizes = sizes, (_size_of(files[0]), _size_of(files[1]))
                patience = _SILENT_BUILD if any(sizes) and holder(self.paths.lock) is not None else _VIEWS_WITHIN
                if sizes == before and self.clock.monotonic() >= since + patience:
                    return
                if sizes != before:
                    since = self.clock.monotonic()
                    if (end := known_end(files[0], being_built=True)) is not None:
                        progress(end.position, head)
                threading.Event().wait(_FOLLOW_PAUSE)

    def _wait_for_views(self, queries: TaskQueries, position: int) -> None:
        """Wait until the views have reached a position: those of a service in another process lag shortly."""
        deadline = self.clock.monotonic() + _VIEWS_WITHIN
        while queries.position < position:
            if self.clock.monotonic() >= deadline:
                raise views_late(position, _VIEWS_WITHIN)
            threading.Event().wait(_VIEWS_PAUSE)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def state_from_log(records: Iterable[Recorded], limits: Limits, now: datetime) -> SchedulerState:
    """Fold what a Scheduler knows from the log alone. Every task that could wait for room stands in the queue.

    Raises `LogCorrupt` if a record names a task that does not exist.
    """
    state = SchedulerState(limits, grace={})
    for record in records:
        try:
            state.apply(record, record.position)
        except KeyError as error:
            task_id = error.args[0]
            raise LogCorrupt(f"Position {record.position} speaks of task {task_id}, which was never created") from error
    state.grace = {task.spec.type: 0.0 for task in state.tasks.values()}
    work = UnitOfWork(state, now)
    for task in state.tasks.values():
        if not task.finished:
            state.outputs.claim(task)
        if task.waiting:
            try:
                state.block(task)
            except KeyError as error:
                raise LogCorrupt(f"Task {task.id} waits for task {error.args[0]}, which was never created") from error
            work.place(task)
    return state


def folded_state(records: Iterable[Recorded], limits: Limits, moment: datetime) -> SchedulerState:
    """Fold the state of a Scheduler that had recorded these, at that time, without the machine, workers and handlers.

    Tasks that run by the log hold their resources, even if the service had just been killed.
    """
    started: dict[int, Recorded] = {}

    def noted() -> Iterator[Recorded]:
        for record in records:
            kind = type(record.event)
            if kind is Started:
                started[record.task_id] = record
            elif kind not in _DURING_AN_ATTEMPT:
                started.pop(record.task_id, None)
            yield record

    state = state_from_log(noted(), limits, moment)
    state.configure(replace(limits, rates=state.durable.configured_rates))
    state.looked_at = moment
    state.look_at_windows()
    state.look_at_rates()
    for task in [task for task in state.tasks.values() if task.status == "running"]:
        record = started[task.id]
        state.hold(
            Running(
                task_id=task.id,
                attempt=task.attempt,
                started_position=record.position,
                reserved_for=task,
                since=record.recorded_at,
                node=record.event.node,  # type: ignore[union-attr]  # of a Started
            )
        )
    return state


def folded_orders(log: LogReader, position: int) -> Durable:
    """Fold the orders that operators had given up to a position. Only the service's own records are read: few.

    How often schedules ran is not in it: the records of tasks hold that.
    """
    return _orders(log, position).durable


def _orders(log: LogReader, position: int) -> SchedulerState:
    state = SchedulerState(Limits(), grace={})
    last, version = log.version_at(0, position), 0
    while version < last:
        for record in log.read_task_after(0, version, min(_PAGE, last - version)):
            version = record.version
            state.apply(record, record.position)
    return state


def refuse_unusable(log: LogReader, position: int) -> None:
    """Raise `UnusableOrder` if a service that starts here could not follow the orders recorded up to a position."""
    _orders(log, position).next_runs.first()


def check_folder(
    log: LogReader, paths: DataPaths, progress: ReportProgress | None = None, seals: SealCheck | None = None
) -> Verification:
    """Check what a data folder holds: the log, what a service has to follow in it, the views, and the snapshots."""
    from ..actors.snapshots import with_snapshots  # it imports much that the rest of a reader does not need
    from ..backups.evidence import missing_record, with_missing  # this, too

    missing = missing_record(paths)
    known_end = 0 if missing is None else missing[0].position
    views = paths.views if exists(paths.views) else None
    with closing(Keys(paths.log)) as keys:
        found = verify(log, views, progress, seals, keys=keys, known_end=known_end)
    # A snapshot that knows more than the log is evidence, so no one should be advised to delete it.
    return with_snapshots(with_missing(_with_orders(found, log), paths, missing), log, paths.snapshots)


def _with_orders(verification: Verification, log: LogReader) -> Verification:
    """Add the first order that a service which starts here could not follow. A log with faults is not asked."""
    if not verification.ok:
        return verification
    try:
        refuse_unusable(log, verification.position)
    except UnusableOrder as error:
        message = without_place(error.message, error.position)
        finding = Finding(position=error.position, code="unusable", message=message, remedy=error.advice)
        return replace(verification, ok=False, findings=(finding,))
    return verification


def rebuild_beside(log: LogReader, paths: DataPaths, progress: ReportProgress | None = None) -> Rebuilt:
    """Build the views beside the live ones, and drop snapshots that differ from the log. Returns what differed."""
    from ..actors.snapshots import drop_drifted  # it imports much that the rest of a reader does not need

    built = build_beside(log, paths.views, progress)
    return replace(built, differences=(*built.differences, *drop_drifted(log, paths.snapshots)))
