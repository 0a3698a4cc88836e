"""Batches: sets of tasks that were created together, summed up."""

import sqlite3
from collections.abc import Iterable
from datetime import datetime
from itertools import islice

import msgspec

from ...events import Task
from ...events.state import FINISHED, Status
from ..views.batches import BatchNumbers, KeptBatch, newest_batches, numbers_of, read_kept
from ..views.rows import COLUMNS, state_of


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of one batch, summed up. Times are UTC, sizes bytes, progress 0 to 100."""

    batch: str
    total: int
    by_status: dict[Status, int]
    """The number of tasks in each status; a status without any is left out."""
    progress: float
    """The mean progress, where each task is weighted by its expected run time, from 0.05 to 1,000,000 s.

    A task that has ended counts as done, however it ended.
    """
    created_at: datetime
    """When the first of its tasks was created."""
    completed_at: datetime | None
    """When the last task ended; None while any is open."""
    bytes_before: int
    """The size of the inputs of completed tasks."""
    bytes_after: int
    """The size of their outputs, or of inputs that were kept instead."""
    originals_kept: int
    """How many inputs were kept although they could have been replaced by a result."""


_NAMES_THEN = """
SELECT batch FROM tasks WHERE batch > '' AND id <= ?1 AND (?2 IS NULL OR +user_id = ?2)
GROUP BY batch ORDER BY max(id) DESC LIMIT ?3
"""
_RUNNING = f"""
SELECT {", ".join(COLUMNS)} FROM tasks INDEXED BY tasks_by_status
WHERE status = 'running' AND +batch = ? AND (? IS NULL OR user_id = ?)
"""  # noqa: S608 - our own names


def read_batches(conn: sqlite3.Connection, most: int, user_id: int | None) -> tuple[Batch, ...]:
    """The newest batches. With a user, only that user's tasks count, and batches without any are left out."""
    names = list(islice(newest_batches(conn, user_id), most))
    found = (read_batch(conn, name, user_id) for name in names)
    return tuple(batch for batch in found if batch is not None)


def read_batch(conn: sqlite3.Connection, name: str, user_id: int | None) -> Batch | None:
    """One batch; None if no task has its name."""
    kept = read_kept(conn, name, user_id) if name else None
    if kept is None:
        return None
    for row in conn.execute(_RUNNING, (name, user_id, user_id)):
        kept.of("running").done += numbers_of(state_of(row)).done
    return _to_batch(name, kept)


def names_as_of(conn: sqlite3.Connection, last: int, most: int, user_id: int | None) -> list[str]:
    """The names of the newest batches at the time when `last` was the newest task."""
    return [name for (name,) in conn.execute(_NAMES_THEN, (last, user_id, most))]


def batch_of(name: str, tasks: Iterable[Task]) -> Batch | None:
    """The same as `read_batch`, from all tasks of a batch; None if there are none."""
    total: KeptBatch | None = None
    for task in tasks:
        one = KeptBatch(task.id, task.created_at, task.completed_at, {task.status: numbers_of(task)})
        if total is None:
            total = one
        else:
            total.add(one)
    return None if total is None else _to_batch(name, total)


def _to_batch(name: str, kept: KeptBatch) -> Batch:
    by_status = dict(sorted(kept.by_status.items()))
    total = BatchNumbers()
    for numbers in by_status.values():
        total.add(numbers)
    return Batch(
        batch=name,
        total=total.tasks,
        by_status={status: numbers.tasks for status, numbers in by_status.items()},
        progress=min(100_000, total.done * 1000 // total.weight) / 1000,  # rounded down: 100 means all of it
        created_at=kept.created_at,
        completed_at=kept.ended_at if FINISHED.issuperset(by_status) else None,
        bytes_before=total.bytes_before,
        bytes_after=total.bytes_after,
        originals_kept=total.originals_kept,
    )
