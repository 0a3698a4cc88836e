"""Questions answered from the files: the views for what is true now, the log for the past.

`FileReading` is what the service itself answers with; `Reader` is the same with no service running.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec
from msgspec.structs import replace

from ..actors.core.state import SchedulerState
from ..config.load import load_config
from ..events import Checkpoint, Recorded, Task, TasktrailError
from ..events.clock import Clock, SystemClock
from ..events.errors import DataInUse, InvalidPath, LogCorrupt, NotReady, UnknownAttempt, UnknownTask
from ..events.log.lock import DataLock
from ..events.log.sqlite import LogReader
from ..events.values import MAX_INTEGER, MIN_INTEGER, check_position, check_task_id, check_whole
from ..handlers.contract import missing_packages
from ..handlers.printed import Output, read
from ..handlers.registry import Registry, unknown_type
from ..paths import DataPaths
from ..projections import (
    DisabledEndpoint,
    NoticeStatus,
    Stats,
    TaskFilters,
    TaskQueries,
    TaskViews,
    Verification,
    ViewsDamaged,
    catch_up,
    rebuild,
)
from ..projections.queries.as_of import Point, parse_point, task_as_of
from ..projections.queries.as_of import as_of as replayed_to
from ..projections.queries.filters import filters_of, values_of
from ..projections.verification import verify
from .asking import Asking, folded
from .protocol import TypeInfo

if TYPE_CHECKING:
    from ..whatif.answer import WhatIf


T = TypeVar("T")

_FOLLOW_PAUSE = 0.2
"""Seconds between two looks at the log when there is no service in this process to say that it has grown."""
_VIEWS_WITHIN = 10.0
"""Seconds that views which another process keeps may lag behind the log."""
_VIEWS_PAUSE = 0.01


class _Held:
    """Closes a connection when the thread that it belongs to, or the whole reading, is gone."""

    def __init__(self, one: Any) -> None:
        self.one = one

    def __del__(self) -> None:
        self.one.close()


class FileReading(Asking):
    """Implements `surface.Reading` on a data folder. Each thread gets connections of its own, all read-only."""

    scratch = ":memory:"
    """Where lists as of an earlier moment are built; an empty name is a file that goes with them."""

    def __init__(self, paths: DataPaths, registry: Registry, clock: Clock) -> None:
        self.paths = paths
        self._registry = registry
        self._clock = clock
        self._mine = threading.local()

    def settle(self) -> None:
        """Called before the views are asked: see to it that they are far enough."""

    def grown(self, position: int) -> bool:
        """Wait for the log to reach `position`; false when nothing more will come. Of files nobody can know that."""
        while self._reader().head().position < position:
            threading.Event().wait(_FOLLOW_PAUSE)
        return True

    def generation(self) -> int:
        """Tells views that were found damaged from those that were built since."""
        return 0

    def mend(self, generation: int, error: ViewsDamaged) -> bool:  # noqa: ARG002 - for those who can
        """Have damaged views built anew; whether that was done."""
        return False

    def _ask(self, question: Callable[[TaskQueries], T]) -> T:
        """Ask the views; when they turn out to be damaged, once more when they are mended."""
        generation = self.generation()
        try:
            return question(self._queries())
        except ViewsDamaged as error:
            if not self.mend(generation, error):
                raise
        return question(self._queries())

    def _queries(self) -> TaskQueries:
        self.settle()
        queries: TaskQueries = self._own("queries", lambda: TaskQueries.open(self.paths.views))
        return queries

    def _reader(self) -> LogReader:
        reader: LogReader = self._own("reader", lambda: LogReader(self.paths.log))
        return reader

    def _registered(self) -> Registry:
        return self._registry

    def _own(self, name: str, make: Callable[[], Any]) -> Any:
        # Each thread has connections of its own, which go with it.
        if not hasattr(self._mine, name):
            setattr(self._mine, name, _Held(make()))
        return getattr(self._mine, name).one

    # --- tasks --------------------------------------------------------------------------------------------------

    def get_task(self, task_id: int, *, as_of: Point | None = None) -> Task:
        """One task, now or as of a position or time. Raises `UnknownTask`."""
        if as_of is not None:
            return task_as_of(self._reader(), task_id, parse_point(as_of))
        now = self._clock.now()
        return self._ask(lambda views: replace(views.get(task_id, now), children=views.children(task_id)))

    def get_task_progress(self, task_id: int) -> tuple[float, str]:
        """Percent and message. Raises `UnknownTask`."""
        return self._ask(lambda views: views.progress(task_id))

    def list_tasks(self, filters: TaskFilters | None = None) -> tuple[list[Task], int]:
        """One page, newest first unless sorted otherwise, and how many there are in all. Raises `UnknownType`."""
        filters = filters_of(filters)
        self.know_types(filters)
        return self.listed(filters)

    def know_types(self, filters: TaskFilters) -> None:
        """Raise `UnknownType` for a type that neither a handler nor the log knows: an empty list would hide it."""
        strange = [name for name in values_of(filters.type) if name not in self._registered()]
        used = self._ask(lambda views: views.types()) if strange else ()
        for name in strange:
            if name not in used:
                known = [*used, *(task_type.name for task_type in self._registered())]
                raise unknown_type(name, known, self._registered().errors)

    def listed(self, filters: TaskFilters) -> tuple[list[Task], int]:
        """`list_tasks`, for types that are known."""
        if filters.as_of == "":
            return self._ask(lambda views: views.list(filters, self._clock.now()))
        with replayed_to(self._reader(), parse_point(filters.as_of), self.scratch) as past:
            return past.list(filters)

    def load_checkpoint(self, task_id: int) -> Checkpoint | None:
        """The task's latest resume data. Raises `UnknownTask`."""
        return self._ask(lambda views: views.state(task_id).checkpoint)

    def stats(self) -> Stats:
        """Numbers over all tasks."""
        return self._ask(lambda views: views.stats(self._clock.now()))

    def asked(self, function: Callable[[SchedulerState, datetime], T]) -> T:
        """Folds the log, and asks what comes of it."""
        from ..actors.machine import disk_size

        now, config = self._clock.now(), load_config(self.paths.data)
        limits = config.limits(disk_size(Path(config.temp_dir or self.paths.temp)))
        return function(folded(self.log(), limits, now), now)

    def notices(self, task_id: int) -> list[NoticeStatus]:
        """What became of the task's notices, in the order of its events. Raises `UnknownTask`."""
        return self._ask(lambda views: views.notices(task_id))

    def endpoints(self) -> list[DisabledEndpoint]:
        """The receivers that have said that they are gone, to which nothing is sent."""
        return self._ask(lambda views: views.endpoints())

    # --- the log ------------------------------------------------------------------------------------------------

    def events(self, task_id: int) -> list[Recorded]:
        """The recorded events of one task, in order. Raises `UnknownTask`."""
        check_task_id(task_id)
        records = self._reader().read_task(task_id) if 0 < task_id < 2**63 else []
        if not records:
            raise UnknownTask(f"Task {task_id} does not exist", field="task_id")
        return records

    def events_after(self, task_id: int, version: int, limit: int) -> list[Recorded]:
        """The next recorded events of one task behind a version; none when there are none, or no such task."""
        return self._reader().read_task_after(task_id, version, limit) if 0 < task_id < 2**63 else []

    def version_at(self, task_id: int, position: int) -> int:
        """The last version of a task up to a position; 0 when there was none."""
        return self._reader().version_at(task_id, position) if 0 < task_id < 2**63 else 0

    def status_since(self, task_id: int) -> int:
        """Where the status that a task has now is recorded."""
        return self._reader().status_since(task_id)

    def notes(self, task_id: int) -> list[Recorded]:
        """What the service recorded about one task under task id 0: adjustments, deliveries. Raises `UnknownTask`."""
        reader = self._reader()
        return [
            record
            for position in self._ask(lambda views: views.notes(task_id))
            for record in reader.read(position - 1, 1)
        ]

    def log(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """Recorded events of all tasks and of the service, in order of position."""
        limit = None if limit is None else check_whole(limit, "limit")
        return self._reader().read(check_position(after), limit)

    def follow(self, after: int = 0) -> Iterator[Recorded]:
        """Like `log`, and then what is yet to come, without gaps."""
        return self._following(check_position(after))

    def _following(self, after: int) -> Iterator[Recorded]:
        while True:
            for record in self._reader().read(after):
                after = record.position
                yield record
            if not self.grown(after + 1):
                return

    def verify(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """Check the chain and the rules, and the views and the snapshots against the fold.

        `progress` is told a position and the last one, now and then; a `Client` calls it once, at the end.
        """
        from ..actors.snapshots import (
            with_snapshots,  # what it needs is much, and nothing else needs it
        )

        self.settle()
        found = verify(self._reader(), self.paths.views, progress)
        return with_snapshots(found, self._reader(), self.paths.snapshots)

    def whatif(self, *, begin: Point | str | None = None, end: Point | str | None = None, **asked: Any) -> "WhatIf":
        """What another policy would have made of the log; see `tasktrail.whatif`. It only reads."""
        from ..whatif.ask import whatif

        return whatif(self.log(), load_config(self.paths.data), begin=begin, end=end, **asked)

    # --- what attempts print ------------------------------------------------------------------------------------

    def output(
        self,
        task_id: int,
        attempt: int | None = None,
        *,
        after: int = 0,
        last: int | None = None,
        most: int = MAX_INTEGER,
    ) -> Output:
        """What an attempt printed, the latest unless one is named: from a byte on, or only so many bytes from the end.

        `most`: bytes that are read at most. Raises `UnknownTask` and `UnknownAttempt`.
        """
        attempt = None if attempt is None else check_whole(attempt, "attempt", MIN_INTEGER)
        last = None if last is None else check_whole(last, "last", MIN_INTEGER)
        most = check_whole(most, "most")
        task = self.get_task(task_id)
        number = task.attempt if attempt is None else attempt
        if attempt is not None and not 0 < number <= task.attempt:
            had = f"{task.attempt} attempt{'' if task.attempt == 1 else 's'}"
            raise UnknownAttempt(
                f"Task {task_id} has had {had}, and none is number {number}",
                remedy=f"See `tasktrail history {task_id}` for the attempts there were.",
            )
        running = task.status == "running" and number == task.attempt
        after = check_position(after) if last is None else -max(last, 0)
        found = read(self.paths.output, task_id, number, after=after, running=running, most=most)
        # Files of later ones are there when the log was put back to an earlier state.
        return replace(found, attempts=tuple(one for one in found.attempts if one <= task.attempt))

    # --- the types ----------------------------------------------------------------------------------------------

    def types(self) -> list[TypeInfo]:
        """The task types there are handlers for, with the JSON schema of their options."""
        return [
            TypeInfo(
                name=task_type.name,
                summary=task_type.summary,
                resumable=task_type.resumable,
                needs_input=task_type.needs_input,
                needs_output=task_type.needs_output,
                options=msgspec.json.schema(task_type.options),
                programs=task_type.programs() if task_type.programs else (),
                output_suffix=task_type.output_suffix,
                missing=missing_packages(task_type),
                install=task_type.packages.install,
            )
            for task_type in self._registered()
        ]

    def handler_errors(self) -> list[TasktrailError]:
        """What could not be loaded of the handlers that are configured or installed."""
        return list(self._registered().errors)


class Reader(FileReading):
    """The files of a data folder with no service running on it.

    Views that lag behind the log (the last service was killed) are brought up first. Where that is not possible, on a
    read-only copy say, views are built in memory. Handlers are loaded when they are asked for.
    """

    def __init__(
        self,
        data: str | Path,
        *,
        registry: Registry | None = None,
        load: Callable[[], Registry] = Registry.load,
        clock: Clock | None = None,
    ) -> None:
        paths = DataPaths(Path(data))
        if not paths.log.exists():
            raise InvalidPath(f"There is no log in {paths.data}", remedy="Check --data; `tasktrail serve` starts one.")
        super().__init__(paths, registry if registry is not None else Registry(), clock or SystemClock())
        self._load = load if registry is None else None
        self._in_memory: TaskQueries | None = None
        self._kept_by_service = False
        self._bring_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of this thread's connections; those of others go with their threads."""
        if self._in_memory is not None:
            self._in_memory.close()
        self._mine = threading.local()

    def _registered(self) -> Registry:
        if self._load is not None:
            self._registry, self._load = self._load(), None
        return self._registry

    def _bring_up(self) -> None:
        try:
            with DataLock(self.paths.lock, "reader"):
                try:
                    with closing(TaskViews(self.paths.views)) as views:
                        catch_up(self._reader(), views)
                except (ViewsDamaged, LogCorrupt):  # a row that is missing looks like an event of an unknown task
                    rebuild(self._reader(), self.paths.views)
        except DataInUse:
            self._kept_by_service = True
        except (InvalidPath, OSError):
            views = TaskViews(":memory:")
            catch_up(self._reader(), views)
            self._in_memory = TaskQueries(views.connection)

    def mend(self, generation: int, error: ViewsDamaged) -> bool:  # noqa: ARG002 - one thread's views
        """Build the views anew, unless a service has just started, which does it."""
        try:
            with DataLock(self.paths.lock, "reader"):
                rebuild(self._reader(), self.paths.views)
        except DataInUse:
            return False
        self._mine = threading.local()
        return True

    def _queries(self) -> TaskQueries:
        if self._in_memory is not None:
            return self._in_memory
        queries = super()._queries()
        if self._kept_by_service:
            self._wait_for(queries, self._reader().head().position)
        return queries

    def _wait_for(self, queries: TaskQueries, position: int) -> None:
        """A service inside another process cannot be told to hurry; it is a moment behind its log."""
        deadline = self._clock.monotonic() + _VIEWS_WITHIN
        while queries.position < position:
            if self._clock.monotonic() >= deadline:
                raise NotReady(f"The views have not reached position {position} within {_VIEWS_WITHIN:g} s")
            threading.Event().wait(_VIEWS_PAUSE)
