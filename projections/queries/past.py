"""The past from the views: queries at an earlier position or time, without a walk through the log."""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from ...events import Task, TaskState
from ...events.counted import counted
from ...events.log.event_log import Part, ReadableLog
from ...events.task import Children, view
from ...events.values import check_task_id
from ..errors import ViewsDamaged, ViewsFailed
from ..views.checksums import sound
from ..views.fold import Tally, fold_batch
from ..views.forgotten import forgotten_in
from ..views.rows import beginning_of, decode_state, state_of, state_with
from ..views.tallies import Numbers, read_numbers
from ..views.versions import FEW as FEW_VERSIONS
from ..views.versions import KEPT
from ..views.words import match_expression
from .activity import Span, read_activity
from .as_of import Point, not_created_yet, parse_point, position_at, time_of
from .batches import Batch, batch_of, names_as_of
from .filters import Ids, TaskFilters
from .past_walk import PastWalk
from .reader import MANY, Every, TaskQueries, TasksAndTotal
from .stats import Stats, count_stats_of, read_stats_as_of
from .walk import FEW, Census, Place, Stretch, collect, count_statuses, expression

_AT_ONCE = 500
"""Tasks that are read together when all are wanted."""
_ROWS = """
SELECT versions.*, (SELECT max(since) FROM versions AS own WHERE own.id = asked.value)
FROM json_each(?) AS asked CROSS JOIN versions
    ON versions.since = (SELECT max(since) FROM versions AS own WHERE own.id = asked.value AND own.since <= ?)
"""
_BASES = """
SELECT tasks.id, tasks.spec, base.since, base.version, base.state FROM json_each(?) AS asked
CROSS JOIN versions AS base ON base.since = (
    SELECT since FROM versions WHERE id = asked.value AND since <= ? AND state IS NOT NULL ORDER BY since DESC LIMIT 1)
CROSS JOIN tasks ON tasks.id = asked.value
"""
_WORD = f"""
SELECT count(*) FROM (SELECT 1 FROM search WHERE search MATCH ? AND rowid <= ? LIMIT {FEW + 1})
"""  # noqa: S608 - our own number


_HAS_CHILDREN = "SELECT 1 FROM tasks WHERE parent_task_id = ? AND id <= ? LIMIT 1"

_Tasks: TypeAlias = list[Task]
"""`list` is a method below."""


class _Version(NamedTuple):
    """A row of `versions`."""

    since: int
    id: int
    status: str
    kind: int
    user_id: int
    lane: int
    queue_key: float | None
    changed: int
    updated_at: float
    version: int
    text: int
    state: str | None


_Versions: TypeAlias = list[_Version]


class Past:
    """The tasks at a point. It answers from the views, and reads only the records of the shown tasks from the log."""

    def __init__(self, queries: TaskQueries, log: ReadableLog, point: str | Point) -> None:
        """Raises `InvalidValue`, `BeyondTheLog`, and `ViewsFailed` if the views have not reached the point."""
        self._point = point = parse_point(point)
        self._queries = queries
        self._log = log
        self.moment = time_of(log, point)
        """The time that counts as "now" in the answers, for example for the wait bonus."""
        self.position = point if isinstance(point, int) else position_at(log, point)
        """The last record that the answers include."""
        self._known: dict[int, TaskState] = {}
        """States that were read while finding a page, and that the page may show."""
        if queries.position < self.position:
            raise ViewsFailed(f"The views stand at {queries.position} and have not reached position {self.position}")

    def get(self, task_id: int) -> Task:
        """One task as it was. Raises `UnknownTask`."""
        return view(self._state(task_id), self.moment)

    def children(self, task_id: int, user_id: int | None = None) -> Children | None:
        """A summary of a task's children at that point, or of one user's among them; None if there were none."""
        with self._queries.moment() as conn:
            top = read_numbers(conn, self.position).top
            if conn.execute(_HAS_CHILDREN, (task_id, top)).fetchone() is None:
                return None
        with self.every(TaskFilters(parent_task_id=task_id, user_id=_users(user_id))) as every:
            tasks = list(every.tasks)
        if not tasks:
            return None
        progress = sum(task.progress for task in tasks) / len(tasks)
        return Children(
            total=len(tasks),
            progress=round(progress, 3),
            by_status=dict(sorted(Counter(task.status for task in tasks).items())),
        )

    def batch(self, name: str, user_id: int | None = None) -> Batch | None:
        """One batch; None if no task had its name. With a user, only that user's tasks count."""
        if not name:
            return None
        with self.every(TaskFilters(batch=(name,), user_id=_users(user_id))) as every:
            return batch_of(name, every.tasks)

    def batches(self, most: int, user_id: int | None = None) -> tuple[Batch, ...]:
        """The newest batches at that point. With a user, only that user's tasks count."""
        with self._queries.moment() as conn:
            names = names_as_of(conn, read_numbers(conn, self.position).top, most, user_id)
        return tuple(batch for name in names if (batch := self.batch(name, user_id)) is not None)

    def progress(self, task_id: int) -> tuple[float, str]:
        """Percent done and the latest message. Raises `UnknownTask`."""
        state = self._state(task_id)
        return state.progress, state.message

    def activity(self, minutes: int, step: int) -> "list[Span]":
        """The activity of the last `minutes` minutes, at most a day, in spans of `step` minutes."""
        with self._queries.moment() as conn:
            return read_activity(conn, self.moment, minutes, step, read_numbers(conn, self.position))

    def list(self, filters: TaskFilters) -> TasksAndTotal:
        """One page, and the number of all tasks that passed the filters."""
        with self._queries.moment() as conn:
            numbers = read_numbers(conn, self.position)
            walk = self._walk(conn, filters, match_expression(filters.search), numbers)
            ids, total = walk.page_and_total(filters.limit, filters.offset)
            if len(ids) != min(filters.limit, max(0, total - filters.offset)):
                raise ViewsDamaged(f"There should be {counted(total, 'task')}; of this page, {len(ids)} were found")
            return self._tasks(conn, ids), total

    def stretch(self, filters: TaskFilters, place: Place) -> tuple[Stretch, Census]:
        """The tasks after a place in a list, and how many passed in all."""
        with self._queries.moment() as conn:
            numbers = read_numbers(conn, self.position)
            words = expression(filters.search, lambda word: int(conn.execute(_WORD, (word, numbers.top)).fetchone()[0]))
            walk = self._walk(conn, filters, words, numbers)
            found = collect(walk.hits(place), filters.limit, place)
            tasks = tuple(self._tasks(conn, found.ids))
            kept = walk.kept.by_status()
            if kept is not None:
                census = Census(by_status=kept)
            else:
                census = count_statuses(self._walk(conn, replace(filters, status=""), words, numbers).statuses())
        return Stretch(tasks=tasks, before=found.before, after=found.after, cut=found.cut), census

    @contextmanager
    def every(self, filters: TaskFilters) -> Iterator[Every]:
        """All tasks that passed, in the order of ids, however many."""
        with self._queries.moment() as conn:
            numbers = read_numbers(conn, self.position)
            words = match_expression(filters.search)
            walk = self._walk(conn, replace(filters, sort="id"), words, numbers)
            total = walk.kept.total()
            if total is None:
                total = walk.number()
            yield Every(self.position, total, self._each(conn, walk.ids(), total))

    def _each(self, conn: sqlite3.Connection, ids: Iterator[int], total: int) -> Iterator[Task]:
        number = 0
        for some in iter(lambda: tuple(islice(ids, _AT_ONCE)), ()):
            number += len(some)
            yield from self._tasks(conn, some)
        if number != total:
            raise ViewsDamaged(f"There should be {counted(total, 'task')}, and {number} were found")

    def stats(self) -> Stats:
        """The numbers over all tasks."""
        with self._queries.moment() as conn:
            numbers = read_numbers(conn, self.position, durations=True)
            return read_stats_as_of(conn, self.moment, self.position, numbers)

    def stats_of(self, user_id: int) -> Stats:
        """The numbers over the tasks of one user; each task is read."""
        with self.every(TaskFilters(user_id=user_id)) as every:
            return count_stats_of(every.tasks, self.moment, self.position)

    def _walk(self, conn: sqlite3.Connection, filters: TaskFilters, words: str, numbers: Numbers) -> PastWalk:
        return PastWalk(conn, filters, words, numbers, self.position, lambda ids: self._last_changes(conn, ids))

    def _state(self, task_id: int) -> TaskState:
        check_task_id(task_id)
        with self._queries.moment() as conn:
            if (forgotten := forgotten_in(conn, task_id)) is not None:
                raise forgotten
            if not 0 < task_id <= read_numbers(conn, self.position).top:
                raise not_created_yet(task_id, self._point)
            return self._states(conn, [task_id])[task_id]

    def _tasks(self, conn: sqlite3.Connection, ids: Sequence[int]) -> _Tasks:
        states = {**self._known, **self._states(conn, [task_id for task_id in ids if task_id not in self._known])}
        return [view(states[task_id], self.moment) for task_id in ids]

    def _states(self, conn: sqlite3.Connection, ids: Sequence[int]) -> dict[int, TaskState]:
        """The states of tasks at that point: today's if nothing came after, else folded from a few records.

        The views have the first state of a task to which nothing had happened yet, and for some tasks the state then.
        """
        rows, changed_later = self._versions(conn, ids)
        at_rest = [row for row in rows if row.status != "running"]
        now = {row.id for row in at_rest if row.id not in changed_later}
        kept = {row.id: row.state for row in at_rest if row.state is not None}
        new = {row.id for row in at_rest if row.version == 1 and row.changed == row.since}
        states: dict[int, TaskState] = {}
        if new or now or kept:
            for task in conn.execute(MANY, (_json(sorted(new | now | kept.keys())),)):
                if task[0] in now:
                    states[task[0]] = state_of(task)
                elif task[0] in kept:
                    states[task[0]] = state_with(task, kept[task[0]])
                else:
                    states[task[0]] = beginning_of(task)
        others = [row for row in rows if row.id not in states]
        if others:
            states.update(self._folded(conn, others))
        for row in rows:
            state = states.get(row.id)
            if state is None or state.status != row.status or state.version < row.version:
                raise ViewsDamaged(f"The views have another task {row.id} as of position {self.position} than the log")
        return states

    def _versions(self, conn: sqlite3.Connection, ids: Sequence[int]) -> tuple[Sequence[_Version], set[int]]:
        """The versions of the tasks at that point, and which of the tasks have changed since."""
        versions: _Versions = []
        later: set[int] = set()
        rows = conn.execute(_ROWS, (_json(ids), self.position)).fetchall()
        for row, values in zip(rows, sound(row[:-1] for row in rows), strict=True):
            version = _Version(*values)
            versions.append(version)
            if row[-1] != version.since:
                later.add(version.id)
        if len(versions) != len(ids):
            raise ViewsDamaged(
                f"Of {counted(len(ids), 'task')}, {len(versions)} are known as of position {self.position}"
            )
        return versions, later

    def _folded(self, conn: sqlite3.Connection, rows: Sequence[_Version]) -> dict[int, TaskState]:
        begun: dict[int, TaskState] = {}
        reached: dict[int, tuple[int, int]] = {}
        """Task → version and position of the kept state."""
        long_lives = [row.id for row in rows if row.version > FEW_VERSIONS]
        if long_lives:
            for task_id, spec, since, version, state in conn.execute(_BASES, (_json(long_lives), self.position)):
                begun[task_id] = decode_state(task_id, spec, state)
                reached[task_id] = (version, since)
        parts = [_part(row, *reached.get(row.id, (0, 0))) for row in rows]
        return {**begun, **fold_batch(self._log.read_parts(parts, self.position), begun, Tally())}

    def _last_changes(self, conn: sqlite3.Connection, ids: Sequence[int]) -> dict[int, float]:
        """The time of the last change of tasks that ran at that point: only the log has steps within an attempt."""
        self._known.update(self._states(conn, ids))
        return {task_id: self._known[task_id].updated_at.timestamp() for task_id in ids}


def _part(row: _Version, version: int, since: int) -> Part:
    """The records after `version` that may have come before the next row."""
    return Part(row.id, version, row.version + (KEPT if row.status == "running" else 0), since)


def _users(user_id: int | None) -> Ids:
    return () if user_id is None else user_id


def _json(values: Any) -> str:
    return msgspec.json.encode(values).decode()
