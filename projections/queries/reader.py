"""The reading side of views.db: one read-only connection for each thread, each answer from one transaction."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self, TypeAlias

import msgspec

from ...events import Task, TaskState
from ...events.counted import counted
from ...events.errors import InvalidValue, LogNotWritable, UnknownTask
from ...events.existence import exists
from ...events.log.sqlite_connection import connect_read_only, is_written
from ...events.state import Status
from ...events.task import Children, view
from ...events.values import check_plain, check_task_id
from ..errors import ViewsDamaged, ViewsFailed
from ..views.checksums import OF_TASKS, is_damage, sound, teach
from ..views.ctrl_c import heeding_ctrl_c
from ..views.dependants import read_dependants
from ..views.forgotten import forgotten_in, number_forgotten
from ..views.notice_table import DisabledEndpoint, NoticeStatus, read_disabled, read_notices
from ..views.rows import COLUMNS, read_notes, state_of
from ..views.schema import NAMES, identity
from .activity import Span, read_activity
from .batches import Batch, read_batch, read_batches
from .by_file import last_readers, last_writers
from .current_list import CurrentList
from .filters import TaskFilters
from .stats import Stats, count_stats, read_counts, read_stats
from .walk import START, Census, Place, Stretch, all_ids, census, walk

_ONE = f"SELECT {', '.join(COLUMNS)} FROM tasks WHERE id = ?"  # noqa: S608 - our own names
MANY = f"SELECT {', '.join(COLUMNS)} FROM tasks WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608 - our own names
"""Whole rows of the tasks in a list of ids."""
_ALL = ", ".join(f"tasks.{name}" for name in COLUMNS)
_CHILDREN = f"""
SELECT status, count(*), sum(coalesce(json_extract(state, '$.progress'), 0.0)), max({OF_TASKS})
FROM tasks WHERE parent_task_id = ?1 AND (?2 IS NULL OR +user_id = ?2) GROUP BY status ORDER BY status
"""  # noqa: S608 - our own names
_MAX_ID = 2**63 - 1

TasksAndTotal: TypeAlias = tuple[list[Task], int]


class Every(NamedTuple):
    """All tasks that pass a filter, in the order of ids, however many there are."""

    position: int
    """The position whose state the tasks have."""
    total: int
    tasks: Iterator[Task]
    """A row is read when it is asked for."""


class TaskQueries:
    """Answers about tasks at the views' position. Belongs to the thread that makes it."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        path: Path | None = None,
        *,
        opened: tuple[int, int] = (0, 0),
        frozen: bool = False,
    ) -> None:
        """Uses the connection of a `TaskViews` in the same thread; for a file see `open`.

        `opened`: the identity of the file at `path` before the connection was made.
        """
        self._conn = conn
        self._frozen = frozen
        self._path = path
        self._identity = opened

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read-only queries on the file that a `TaskViews` writes, in this or another process."""
        opened = identity(path)  # before: a file that is put in its place meanwhile is noticed at the first question
        conn, frozen = connect(path)
        return cls(conn, path, opened=opened, frozen=frozen)

    @property
    def position(self) -> int:
        """The position up to which the views have read the log. A sender that must see its own write waits for it."""
        with self.moment() as conn:
            ((_one, position, *_rest),) = sound(conn.execute("SELECT * FROM progress"))
            return int(position)

    def state(self, task_id: int) -> TaskState:
        """The folded state of one task. Raises `UnknownTask`."""
        check_task_id(task_id)  # SQLite would accept 1.5, and the missing task would look like damage
        with self.moment() as conn:
            row = conn.execute(_ONE, (task_id,)).fetchone() if 0 < task_id <= _MAX_ID else None
            if row is None:
                if (forgotten := forgotten_in(conn, task_id)) is not None:
                    raise forgotten
                if 0 < task_id <= sum(read_counts(conn).values()) + number_forgotten(conn):  # ids have no gaps
                    raise ViewsDamaged(f"Task {task_id} is missing in the views")
                raise UnknownTask(f"Task {task_id} does not exist", field="task_id")
            return _checked_id(state_of(row), task_id)

    def get(self, task_id: int, now: datetime) -> Task:
        """One task as readers see it. Raises `UnknownTask`."""
        return view(self.state(task_id), now)

    def children(self, task_id: int, user_id: int | None = None) -> Children | None:
        """A summary of a task's children, or of one user's among them; None if there are none."""
        with self.moment() as conn:
            rows = conn.execute(_CHILDREN, (task_id, user_id)).fetchall()
        total = sum(row[1] for row in rows)
        if not total:
            return None
        if any(row[3] for row in rows):
            raise ViewsDamaged(f"A child of task {task_id} has changed in the views since it was written there")
        progress = sum(row[2] for row in rows) / total
        return Children(total=total, progress=round(progress, 3), by_status={row[0]: row[1] for row in rows})

    def progress(self, task_id: int) -> tuple[float, str]:
        """Percent done and the latest message. Raises `UnknownTask`."""
        state = self.state(task_id)
        return state.progress, state.message

    def notices(self, task_id: int) -> "list[NoticeStatus]":
        """The state of the task's notices. Raises `UnknownTask`."""
        self.state(task_id)
        with self.moment() as conn:
            return read_notices(conn, task_id)

    def notes(self, task_id: int) -> "list[int]":
        """The positions of the service's records about the task. Raises `UnknownTask`."""
        self.state(task_id)
        with self.moment() as conn:
            return read_notes(conn, task_id)

    def dependants(self, task_id: int, most: int) -> "list[int]":
        """The first tasks that depend on the task, by id; at most `most` of them."""
        with self.moment() as conn:
            return read_dependants(conn, task_id, most)

    def endpoints(self) -> "list[DisabledEndpoint]":
        """The disabled endpoints."""
        with self.moment() as conn:
            return read_disabled(conn)

    def activity(self, now: datetime, minutes: int, step: int) -> "list[Span]":
        """The activity of the last `minutes` minutes, at most a day, in spans of `step` minutes."""
        with self.moment() as conn:
            return read_activity(conn, now, minutes, step)

    def list(self, filters: TaskFilters, now: datetime) -> TasksAndTotal:
        """One page, and the number of all tasks that pass the filters."""
        with self.moment() as conn:
            found = CurrentList(conn, filters, read_counts(conn))
            total = found.total()
            ids = found.page(total)
            rows = conn.execute(MANY, (msgspec.json.encode(ids).decode(),)) if ids else ()
            states = {row[0]: state_of(row) for row in rows}
            if len(ids) != min(filters.limit, max(0, total - filters.offset)) or len(states) != len(ids):
                raise ViewsDamaged(f"There should be {counted(total, 'task')}; of this page, {len(states)} were found")
        return [view(states[task_id], now) for task_id in ids], total

    @contextmanager
    def every(self, filters: TaskFilters, now: datetime | None = None) -> Iterator[Every]:
        """All tasks that pass, from one transaction; no other query can run meanwhile.

        `now`: the time up to which waits are counted; by default that of the last record.
        """
        with self.moment() as conn:
            ((_one, position, _hash, recorded_at, _log),) = sound(conn.execute("SELECT * FROM progress"))
            if now is None:
                now = datetime.fromisoformat(recorded_at) if recorded_at else datetime.min.replace(tzinfo=UTC)
            found = CurrentList(conn, filters, read_counts(conn))
            total = found.total()
            yield Every(position, total, _each(conn, found, now, total))

    def counts(self) -> dict[tuple[str, str], int]:
        """Type and status → number of tasks."""
        with self.moment() as conn:
            return read_counts(conn)

    def stretch(self, filters: TaskFilters, now: datetime, place: Place = START) -> Stretch:
        """The tasks after a place in a list, however long it is; see `walk`."""
        with self.moment() as conn:
            found = walk(conn, filters, read_counts(conn), place)
            rows = conn.execute(MANY, (msgspec.json.encode(found.ids).decode(),)) if found.ids else ()
            states = {row[0]: state_of(row) for row in rows}
        tasks = tuple(view(states[task_id], now) for task_id in found.ids)
        return Stretch(tasks=tasks, before=found.before, after=found.after, cut=found.cut)

    def census(self, filters: TaskFilters) -> Census:
        """The number of tasks that pass, by status; very many are counted only up to a bound."""
        with self.moment() as conn:
            return census(conn, filters, read_counts(conn))

    def ids(self, filters: TaskFilters, most: int) -> tuple[int, ...]:
        """The ids of the tasks that pass, in order, at most `most` of them. Words are searched for as in `stretch`."""
        with self.moment() as conn:
            return all_ids(conn, filters, read_counts(conn), most)

    def ids_listed(self, filters: TaskFilters) -> tuple[int, ...]:
        """The ids of all tasks that `list` finds, in order. `ids` takes short and very common words for whole words."""
        with self.moment() as conn:
            query = CurrentList(conn, filters, read_counts(conn)).rows("tasks.id")
            return tuple(row[0] for row in conn.execute(*query))

    def types(self) -> set[str]:
        """The types of all tasks."""
        return {kind for kind, _status in self.counts()}

    def batches(self, most: int, user_id: int | None = None) -> tuple[Batch, ...]:
        """The newest batches. With a user, only that user's tasks count."""
        with self.moment() as conn:
            return read_batches(conn, most, user_id)

    def batch(self, name: str, user_id: int | None = None) -> Batch | None:
        """One batch; None if no task has its name."""
        check_plain(name, "batch")
        with self.moment() as conn:
            return read_batch(conn, name, user_id)

    def last_writers(
        self, outputs: Iterable[str], user_id: int | None = None, status: Status | None = None
    ) -> dict[str, TaskState]:
        """Output → the latest task in any batch that was to write it; only of a user or in a status if these are given.

        An output is given by the path that identifies it (`output_of`).
        """
        with self.moment() as conn:
            return last_writers(conn, outputs, user_id, status)

    def last_origins(self, outputs: Iterable[str], user_id: int | None = None) -> dict[str, TaskState]:
        """The same, for tasks that were to make it from another file."""
        with self.moment() as conn:
            return last_writers(conn, outputs, user_id, in_place=False)

    def last_readers(self, batch: str, inputs: Iterable[str]) -> dict[str, TaskState]:
        """Input → the latest task in the batch that was to read it."""
        with self.moment() as conn:
            return last_readers(conn, batch, inputs)

    def stats(self, now: datetime) -> Stats:
        """The numbers over all tasks."""
        with self.moment() as conn:
            return read_stats(conn, now)

    def stats_of(self, user_id: int, now: datetime) -> Stats:
        """The numbers over the tasks of one user, which are counted at each call."""
        with self.moment() as conn:
            return count_stats(conn, user_id, now)

    @contextmanager
    def moment(self) -> Iterator[sqlite3.Connection]:
        """One read transaction: all reads in it see the same state."""
        self._follow()
        conn = self._conn
        with heeding_ctrl_c():
            try:
                conn.execute("BEGIN")
                try:
                    yield conn
                finally:
                    if conn.in_transaction:  # SQLite itself ends it at some errors
                        conn.execute("COMMIT")
            except UnicodeEncodeError as error:
                raise InvalidValue(f"What is asked for is not valid text: {error.reason}") from error
            except (sqlite3.Error, msgspec.DecodeError, UnicodeError) as error:
                kind = ViewsFailed if isinstance(error, sqlite3.Error) and not is_damage(error) else ViewsDamaged
                raise kind(f"{self._path or 'The views'} cannot be read: {error}") from error

    def _follow(self) -> None:
        """Open the file anew if another has its name now, or if a frozen one is written again."""
        if self._path is None:
            return
        current = identity(self._path)
        if current != self._identity:
            # If that fails the old file stays open, so that its inode number, which identifies it, is not reused.
            conn, self._frozen = connect(self._path)
            self._conn.close()
            self._conn, self._identity = conn, current  # a further replacement is noticed at the next call
        elif self._frozen and is_written(self._path):
            self._conn.close()  # first: it is the same file, and a later close would drop the new locks
            self._conn, self._frozen = connect(self._path)

    def close(self) -> None:
        """Let go of the file."""
        self._conn.close()


def connect(path: Path) -> tuple[sqlite3.Connection, bool]:
    """A read-only connection to views.db, and whether it is frozen.

    Raises `ViewsFailed`, and `ViewsDamaged` if the file is damaged or not there.
    """
    try:
        conn, frozen = connect_read_only(path, "SELECT position FROM progress LIMIT 1", NAMES)
    except PermissionError as error:  # of the folder: whether the file is there cannot be seen
        raise ViewsFailed(f"{path} cannot be read: {error}", remedy=LogNotWritable.remedy) from error
    except (sqlite3.Error, UnicodeError) as error:
        if not exists(path):
            raise ViewsDamaged(f"{path} is not there") from error
        kind = ViewsDamaged if isinstance(error, UnicodeError) or is_damage(error) else ViewsFailed
        raise kind(f"{path} cannot be read: {error}") from error
    return teach(conn), frozen


def _each(conn: sqlite3.Connection, found: CurrentList, now: datetime, total: int) -> Iterator[Task]:
    number = 0
    for number, row in enumerate(conn.execute(*found.rows(_ALL)), 1):  # noqa: B007 - used after the loop
        yield view(state_of(row), now)
    if number != total:
        raise ViewsDamaged(f"There should be {counted(total, 'task')}, and {number} were found")


def _checked_id(state: TaskState, task_id: int) -> TaskState:
    if state.id != task_id:
        raise ViewsDamaged(f"The views have task {state.id} in the place of task {task_id}")
    return state
