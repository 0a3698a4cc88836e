"""Axis T: answers as of an earlier position, beside the same answers now, and the cost of keeping them.

The log is that of a service which was flooded and caught up: tasks of twenty types and a hundred users come faster than
they run, later slower; some fail and are retried, some are cancelled or get another priority.
"""

import atexit
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import cache
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import NamedTuple

import submit
from archiving import ArchivingEventLog
from harness import Goal, Table, quantile
from msgspec.structs import replace
from no_past import without_past

from tasktrail.api.service import TaskService
from tasktrail.events import (
    Cancelled,
    Completed,
    Created,
    Event,
    Fact,
    Failed,
    Progressed,
    Retried,
    Started,
)
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.system_events import Adjusted
from tasktrail.projections import TaskFilters, TaskQueries, TaskViews
from tasktrail.projections.queries.filters import SORTS, STATUSES
from tasktrail.projections.queries.past import Past
from tasktrail.projections.queries.reader import TasksAndTotal
from tasktrail.projections.views.rebuild import BULK_PAGE, pull

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_TICK = timedelta(milliseconds=5)
_AT_ONCE = 32
_PER_COMMIT = 20
_PAGE = 5_000
_IN_ARCHIVE = 4_096
"""Records in each archive."""
_MOST_WAITING = """
SELECT max(waiting) FROM (SELECT sum(waits - coalesce(waited, 0)) OVER (ORDER BY since) AS waiting FROM (
    SELECT since, waits, lag(waits) OVER (PARTITION BY id ORDER BY since) AS waited
    FROM (SELECT since, id, status IN ('pending', 'retrying') AS waits FROM versions)
))
"""

_FILTERS = {
    "all": TaskFilters(),
    **{status: TaskFilters(status=status) for status in STATUSES},
    "waiting": TaskFilters(status=("pending", "retrying")),
    "over": TaskFilters(status=("completed", "failed", "cancelled")),
    "type": TaskFilters(type="type-3"),
    "rare type": TaskFilters(type="rare"),
    "pending of a type": TaskFilters(status="pending", type="type-3"),
    "pending of a rare type": TaskFilters(status="pending", type="rare"),
    "failed of two types": TaskFilters(status="failed", type=("type-1", "type-2")),
    "user": TaskFilters(user_id=7),
    "user, completed": TaskFilters(user_id=7, status="completed"),
    "user, pending, of a type": TaskFilters(user_id=7, status="pending", type="type-3"),
    "label": TaskFilters(label="night"),
    "label, failed": TaskFilters(label="night", status="failed"),
    "label, completed": TaskFilters(label="night", status="completed"),
    "document": TaskFilters(document_id=77),
    "children": TaskFilters(parent_task_id=1),
    "batch, waiting": TaskFilters(batch="batch-5", status=("pending", "retrying")),
    "search": TaskFilters(search="holiday"),
    "search an error": TaskFilters(search="refused"),
    "search, failed": TaskFilters(search="codec", status="failed"),
}
_BARE = "views without the past"
_OF_ARCHIVED: dict[str, TaskFilters | None] = {
    "one task": None,
    "page and total of all": TaskFilters(),
    "of those that wait, in the queue's order": TaskFilters(status=("pending", "retrying"), sort="-effective_priority"),
    "of those that are over, by their last change": TaskFilters(
        status=("completed", "failed", "cancelled"), sort="-updated_at"
    ),
}
_ORDERS = tuple(f"{sign}{field}" for field in SORTS if field != "created_at" for sign in ("-", ""))


class _Folder(NamedTuple):
    path: Path
    head: int
    created: int
    rate: float
    """Events a CPU second when the views were built in one go."""
    followed: float
    """The same for views that have their indexes, and catch up page by page."""


def tables(*, quick: bool) -> Iterator[Table]:
    """Make tables of milliseconds of CPU of each list, past and present, and of the cost of the views."""
    tasks = 2_000 if quick else 320_000
    asked = 4 if quick else 40
    lists = Table("T1", f"Page of 50 and total as of random positions, the slowest of {len(_ORDERS)} orders", "ms, p99")
    for name in _FILTERS:
        lists.add(name, lambda name=name: max(_asked(tasks, asked, name, order).then for order in _ORDERS))  # type: ignore[misc]  # one a filter
    lists.add("lists beyond max(5 × now, 3 ms)", lambda: _count(tasks, asked, _Asked.is_slow), Goal(at_most=0))
    lists.add(
        "of these, still so in the shortest of five at the slowest position",
        lambda: _count(tasks, asked, _Asked.is_slow_of_itself),
    )
    lists.add(
        "lists that differ by more than 2 at 10 % and 90 %",
        lambda: _count(tasks, asked, _Asked.differs),
        Goal(at_most=0),
    )
    lists.add("of these, with about as much to find at both", lambda: _count(tasks, asked, _Asked.differs_of_itself))
    lists.add("of these, by more than 1 ms", lambda: _count(tasks, asked, _Asked.is_felt))
    lists.add("of so many", lambda: len(_FILTERS) * len(_ORDERS))
    lists.add(
        "lists that take more than 2 ms now, without a search",
        lambda: _count(tasks, asked, _takes(2.0), search=False),
        Goal(at_most=0),
    )
    lists.add(
        "lists that take more than 20 ms now, with one",
        lambda: _count(tasks, asked, _takes(20.0), search=True),
        Goal(at_most=0),
    )
    yield lists
    one = Table("T2", "Other answers as of random positions", "ms, p99")
    one.add("one task", lambda: _others(tasks, asked, lambda past, task_id: past.get(task_id)), Goal(at_most=1))
    one.add("the numbers over all tasks", lambda: _others(tasks, asked, lambda past, _task_id: past.stats()))
    one.add("the charts of a day", lambda: _others(tasks, asked, lambda past, _task_id: past.activity(24 * 60, 30)))
    few = 1_500 if quick else 20_000
    for name, filters in _OF_ARCHIVED.items():
        one.add(f"archived records: {name}", lambda filters=filters: _archived(few, asked, filters))  # type: ignore[misc]  # one a list
    yield one
    cost = Table("T3", "What keeping the past costs", "mixed")
    cost.add("tasks", lambda: float(tasks))
    cost.add("rows of versions", lambda: _number(tasks, "SELECT count(*) FROM versions"))
    cost.add("most that waited at once", lambda: _number(tasks, _MOST_WAITING))
    cost.add("events a CPU second, built in one go", lambda: _past(tasks).rate, Goal(at_least=25_000))
    cost.add("the same, 5,000 at a time", lambda: _past(tasks).followed, Goal(at_least=25_000))
    cost.add("bytes of the views, over those without", lambda: _share(tasks), Goal(at_most=2.5))
    yield cost
    for axis, title, send, each in (
        ("T4", "one caller, one at a time", submit.send_one_by_one, 100 if quick else 3_000),
        ("T5", "100 a call", submit.send_in_bulk, 1_000 if quick else 30_000),
    ):
        rate = Table(
            axis, f"Durable submit with what the past needs, and without it: {title}", "commands/s", yardstick=_BARE
        )
        rate.add(_BARE, lambda send=send, each=each: _submitted(send, each, bare=True))  # type: ignore[misc]  # one a table
        rate.add(
            "with it",
            lambda send=send, each=each: _submitted(send, each, bare=False),  # type: ignore[misc]  # one a table
            Goal(at_least=0.98, ratio=True),
        )
        yield rate


# --- the log ---


class _Service:
    """Makes the events of a service that does what it can, until few tasks wait."""

    def __init__(self, tasks: int) -> None:
        self._chance = Random(5)
        self._tasks = tasks
        self._at = _NOW
        self._versions: dict[int, int] = {0: 0}
        self._attempts: dict[int, int] = {}
        self._priorities: dict[int, int] = {}
        self._queue: list[tuple[float, int]] = []
        self._running: list[int] = []
        self._gone: set[int] = set()

    def facts(self) -> Iterator[Fact]:
        """Return all. In the first half, nine tasks arrive while one is worked on; then the service catches up."""
        chance = self._chance
        while len(self._attempts) < self._tasks or len(self._queue) > self._tasks * 0.02:
            self._at += _TICK
            created = len(self._attempts)
            coming = 0.75 if created < self._tasks * 0.5 else 0.05
            if created < self._tasks and (chance.random() < coming or not (self._queue or self._running)):
                yield self._create(created + 1)
            elif self._queue and len(self._running) < _AT_ONCE:
                yield from self._start()
            elif self._running:
                yield from self._go_on(chance.choice(self._running))

    def _fact(self, task_id: int, event: Event) -> Fact:
        self._versions[task_id] = self._versions.get(task_id, 0) + 1
        attempt = self._attempts.get(task_id, 0)
        life = 1 if task_id else 0
        return Fact(task_id, self._versions[task_id], event, self._at, "bench", attempt=attempt, life=life)

    def _create(self, task_id: int) -> Fact:
        chance = self._chance
        self._attempts[task_id] = 0
        priority = self._priorities[task_id] = chance.randrange(11)
        name = "holiday" if task_id % 997 == 0 else "clip"
        event = Created(
            type="rare" if task_id % 3001 == 0 else f"type-{chance.randrange(20)}",
            input_file=f"/srv/media/films/{task_id:08d}/{name}-0123.mp4",
            output_file=f"/srv/media/films/{task_id:08d}/output-123.mp4",
            options={"height": 720, "codec": "h264"},
            priority=priority,
            user_id=chance.randrange(100),
            document_id=chance.randrange(2000),
            label=chance.choice(("", "", "", "night", "import-7")),
            batch=f"batch-{task_id // 1000}" if task_id % 2 else "",
            parent_task_id=task_id // 500 * 500 + 1 if task_id % 5 == 0 else None,
        )
        heappush(self._queue, (self._at.timestamp() - 60 * priority, task_id))
        return self._fact(task_id, event)

    def _start(self) -> Iterator[Fact]:
        chance = self._chance
        if chance.random() < 0.02:
            key, task_id = chance.choice(self._queue)
            if task_id not in self._gone:
                priority = chance.randrange(11)
                event = Adjusted(task_id=task_id, priority=priority)
                heappush(self._queue, (key + 60 * (self._priorities[task_id] - priority), task_id))
                self._priorities[task_id] = priority
                yield self._fact(0, event)
                return
        key, task_id = heappop(self._queue)
        if task_id in self._gone:
            return
        self._gone.add(task_id)
        if chance.random() < 0.01:
            yield self._fact(task_id, Cancelled())
            return
        self._attempts[task_id] += 1
        self._running.append(task_id)
        yield self._fact(task_id, Started(effective_priority=5.0))

    def _go_on(self, task_id: int) -> Iterator[Fact]:
        chance = self._chance
        if chance.random() < 0.2:
            yield self._fact(task_id, Progressed(progress=chance.random() * 100, message="frame 100 of 1000"))
            return
        self._running.remove(task_id)
        if chance.random() < 0.06:
            error = chance.choice(("connection refused by 10.0.0.1", "no such codec", "timeout after 5 s"))
            final = chance.random() < 0.5
            yield self._fact(task_id, Failed(outcome="failed", error=error, error_type="OSError", final=final))
            if not final:
                yield self._fact(task_id, Retried(cause="rule"))
                self._gone.discard(task_id)
                heappush(self._queue, (self._at.timestamp(), task_id))
            return
        result = {"output": "x" * 40, "sha256": "0" * 64, "size": 1234567, "codec": "h264", "width": 1280}
        yield self._fact(task_id, Completed(result=result))


@cache
def _past(tasks: int) -> _Folder:
    """A log and its views."""
    folder = Path(mkdtemp(prefix="tasktrail-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    log = SqliteEventLog(folder / "log.db", now=_NOW)
    position, batch = 0, list[Fact]()
    for fact in _Service(tasks).facts():
        batch.append(fact)
        if len(batch) == _PER_COMMIT:
            log.append(batch, expected=position)
            position += len(batch)
            batch = []
    log.append(batch, expected=position) if batch else None
    position += len(batch)
    log.close()
    with closing(SqliteLogReader(folder / "log.db")) as reader:
        views = TaskViews(folder / "views.db", bulk=True)
        begun = time.thread_time()
        pull(reader, views, position, BULK_PAGE)
        views.finish()
        rate = position / (time.thread_time() - begun)
        views.close()
        followed = _followed(reader, folder / "kept.db", min(position, 100_000))
    with closing(sqlite3.connect(folder / "views.db")) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
    return _Folder(folder, position, tasks, rate, followed)


def _followed(log: SqliteLogReader, path: Path, until: int) -> float:
    """Return events a CPU second of views that get some records at a time. Reading the log is not counted."""
    views = TaskViews(path)
    spent = 0.0
    while views.position < until:
        records = list(log.read(views.position, min(_PAGE, until - views.position)))
        begun = time.thread_time()
        views.apply(records)
        spent += time.thread_time() - begun
    views.close()
    return until / spent


def _share(tasks: int) -> float:
    """Return the bytes of the views, packed, divided by those without the past."""
    folder = _past(tasks)
    sizes = []
    for without in ((), ("versions", "zones", "tallies", "shares", "texts", "past_search", "text_moves")):
        copy = folder.path / "copy.db"
        copy.unlink(missing_ok=True)
        with closing(sqlite3.connect(folder.path / "views.db")) as conn:
            conn.execute(f"VACUUM INTO '{copy}'")
        with closing(sqlite3.connect(copy, isolation_level=None)) as conn:
            for table in without:
                conn.execute(f"DROP TABLE {table}")
            conn.execute("VACUUM")
        sizes.append(copy.stat().st_size)
    return sizes[0] / sizes[1]


def _number(tasks: int, statement: str) -> float:
    with closing(sqlite3.connect(_past(tasks).path / "views.db")) as conn:
        return float(conn.execute(statement).fetchone()[0])


# --- the questions ---


class _Asked(NamedTuple):
    """Milliseconds of one list."""

    now: float
    then: float
    again: float
    """The shortest of five at the position that took the longest: other programs may have taken part of the first."""
    early: float
    """The median of those near a tenth of the log."""
    late: float
    """The same near nine tenths."""
    alike: bool
    """Whether page and total there are about as long as near a tenth."""

    def is_slow(self) -> bool:
        return self.then > max(5 * self.now, 3.0)

    def is_slow_of_itself(self) -> bool:
        return self.is_slow() and self.again > max(5 * self.now, 3.0)

    def differs(self) -> bool:
        return max(self.early, self.late) > 2 * min(self.early, self.late)

    def differs_of_itself(self) -> bool:
        return self.differs() and self.alike

    def is_felt(self) -> bool:
        return self.differs_of_itself() and abs(self.early - self.late) > 1


def _count(tasks: int, asked: int, holds: Callable[[_Asked], bool], *, search: bool | None = None) -> float:
    names = [name for name, filters in _FILTERS.items() if search in (None, bool(filters.search))]
    return float(sum(holds(_asked(tasks, asked, name, order)) for name in names for order in _ORDERS))


def _takes(most: float) -> Callable[[_Asked], bool]:
    return lambda one: one.now > most


@contextmanager
def _opened(tasks: int) -> Iterator[tuple[TaskQueries, SqliteLogReader]]:
    path = _past(tasks).path
    with closing(TaskQueries.open(path / "views.db")) as queries, closing(SqliteLogReader(path / "log.db")) as log:
        yield queries, log


@cache
def _asked(tasks: int, asked: int, name: str, order: str) -> _Asked:
    head = _past(tasks).head
    filters = replace(_FILTERS[name], sort=order)
    chance = Random(f"{name} {order}")
    with _opened(tasks) as (queries, log):

        def then(positions: Iterable[int]) -> list[float]:
            return [_cpu(lambda at: Past(queries, log, at).list(filters), position) for position in positions]

        positions = [chance.randrange(1, head + 1) for _ in range(asked)]
        took = then(positions)
        slowest = max(zip(took, positions, strict=True))[1]
        return _Asked(
            now=quantile([_cpu(lambda _at: queries.list(filters, _NOW), head) for _ in range(asked)], 0.99),
            then=quantile(took, 0.99),
            again=min(then([slowest] * 5)),
            early=quantile(then(head // 10 + chance.randrange(100) for _ in range(asked // 4)), 0.5),
            late=quantile(then(head * 9 // 10 + chance.randrange(100) for _ in range(asked // 4)), 0.5),
            alike=_alike(*(Past(queries, log, head * tenths // 10).list(filters) for tenths in (1, 9))),
        )


def _alike(early: TasksAndTotal, late: TasksAndTotal) -> bool:
    totals = sorted((early[1], late[1]))
    return len(early[0]) == len(late[0]) and totals[1] <= 2 * totals[0]


def _others(tasks: int, asked: int, ask: Callable[[Past, int], object]) -> float:
    head, chance = _past(tasks).head, Random(1)
    took = []
    with _opened(tasks) as (queries, log):
        for _ in range(asked):
            position = chance.randrange(10, head + 1)
            task_id = 1 + chance.randrange(max(1, Past(queries, log, position).stats().total))
            took.append(_cpu(lambda at, task_id=task_id: ask(Past(queries, log, at), task_id), position))  # type: ignore[misc]  # one a task
    return quantile(took, 0.99)


@cache
def _archive(tasks: int) -> _Folder:
    """Make a log of which nine tenths are in archives, and its views."""
    folder = _past(tasks)
    with closing(ArchivingEventLog(folder.path / "log.db", now=_NOW)) as log:
        for last in range(_IN_ARCHIVE, folder.head * 9 // 10, _IN_ARCHIVE):
            log.archive(last)
    return folder._replace(head=folder.head * 9 // 10 // _IN_ARCHIVE * _IN_ARCHIVE)


def _archived(tasks: int, asked: int, filters: TaskFilters | None) -> float:
    """Measure where the past records are in archives: one task, or a list."""
    head, chance = _archive(tasks).head, Random(2)
    took = []
    with _opened(tasks) as (queries, log):
        for _ in range(asked):
            position = chance.randrange(10, head + 1)
            task_id = 1 + chance.randrange(max(1, Past(queries, log, position).stats().total))

            def ask(at: int, task_id: int = task_id) -> None:
                past = Past(queries, log, at)
                past.get(task_id) if filters is None else past.list(filters)

            took.append(_cpu(ask, position))
    return quantile(took, 0.99)


def _submitted(send: Callable[[TaskService, int], None], number: int, *, bare: bool) -> float:
    """Return commands a second; nothing else is measured until the views have followed."""
    with without_past() if bare else nullcontext():
        return submit.ours(lambda tasks: send(tasks, number), number)


def _cpu(work: Callable[[int], object], position: int) -> float:
    begun = time.thread_time()
    work(position)
    return (time.thread_time() - begun) * 1000
