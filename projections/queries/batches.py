"""Batches: sets of tasks that were created together, and what became of the same outputs in earlier ones."""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from itertools import islice

import msgspec

from ...events import Task, TaskState
from ...events.state import FINISHED, Status
from ..views.batches import BatchNumbers, KeptBatch, newest_batches, numbers_of, read_kept
from ..views.rows import COLUMNS, state_of
from ..views.schema import INPUT, OUTPUT


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of one name together. Times are UTC, sizes bytes, progress 0 to 100."""

    batch: str
    total: int
    by_status: dict[Status, int]
    """How many tasks there are in each status that any is in."""
    progress: float
    """The mean, where a task counts as much as it is expected to take, 0.05 to 1,000,000 s.

    What has ended is done, whatever the end.
    """
    created_at: datetime
    """When the first of its tasks was created."""
    completed_at: datetime | None
    """When the last one ended; none while any goes on."""
    bytes_before: int
    """Of the inputs of what has completed."""
    bytes_after: int
    """Of their outputs, or of the inputs that have stayed."""
    originals_kept: int
    """How many inputs have stayed although they could have given way to a result."""


_NAMES_THEN = """
SELECT batch FROM tasks WHERE batch > '' AND id <= ?1 AND (?2 IS NULL OR +user_id = ?2)
GROUP BY batch ORDER BY max(id) DESC LIMIT ?3
"""
_RUNNING = f"""
SELECT {", ".join(COLUMNS)} FROM tasks INDEXED BY tasks_by_status
WHERE status = 'running' AND +batch = ? AND (? IS NULL OR user_id = ?)
"""  # noqa: S608 - our own names
_LAST_WRITER = f"""
SELECT {", ".join(COLUMNS)} FROM tasks INDEXED BY tasks_by_output
WHERE batch <> '' AND {OUTPUT} = ? AND (? IS NULL OR +user_id = ?)
    AND (? IS NULL OR +status = ?) AND (? OR {INPUT} <> json_extract(spec, '$.output_file'))
ORDER BY id DESC LIMIT 1
"""  # noqa: S608 - our own names
_LAST_READER = f"""
SELECT {", ".join(COLUMNS)} FROM tasks INDEXED BY tasks_by_batch_and_input
WHERE batch = ? AND batch <> '' AND {INPUT} = ?
ORDER BY id DESC LIMIT 1
"""  # noqa: S608 - our own names


def read_batches(conn: sqlite3.Connection, most: int, user_id: int | None) -> tuple[Batch, ...]:
    """The newest batches; with a user those that have tasks of that user, and only these are counted."""
    names = list(islice(newest_batches(conn, user_id), most))
    found = (read_batch(conn, name, user_id) for name in names)
    return tuple(batch for batch in found if batch is not None)


def read_batch(conn: sqlite3.Connection, name: str, user_id: int | None) -> Batch | None:
    """One batch; none when no task has its name."""
    kept = read_kept(conn, name, user_id) if name else None
    if kept is None:
        return None
    for row in conn.execute(_RUNNING, (name, user_id, user_id)):
        kept.of("running").done += numbers_of(state_of(row)).done
    return _told(name, kept)


def names_then(conn: sqlite3.Connection, last: int, most: int, user_id: int | None) -> list[str]:
    """The newest batches when `last` was the newest task."""
    return [name for (name,) in conn.execute(_NAMES_THEN, (last, user_id, most))]


def batch_of(name: str, tasks: Iterable[Task]) -> Batch | None:
    """The same as `read_batch` of all tasks of a name; none when there are none."""
    found: KeptBatch | None = None
    for task in tasks:
        one = KeptBatch(task.id, task.created_at, task.completed_at, {task.status: numbers_of(task)})
        if found is None:
            found = one
        else:
            found.add(one)
    return None if found is None else _told(name, found)


def _told(name: str, kept: KeptBatch) -> Batch:
    by_status = dict(sorted(kept.by_status.items()))
    total = BatchNumbers()
    for numbers in by_status.values():
        total.add(numbers)
    return Batch(
        batch=name,
        total=total.tasks,
        by_status={status: numbers.tasks for status, numbers in by_status.items()},
        progress=round(min(100.0, total.done / total.weight), 3),
        created_at=kept.created_at,
        completed_at=kept.ended_at if FINISHED.issuperset(by_status) else None,
        bytes_before=total.bytes_before,
        bytes_after=total.bytes_after,
        originals_kept=total.originals_kept,
    )


def count_by_status(tasks: Iterable[Task]) -> dict[Status, int]:
    """How many there are in each status that any is in."""
    return dict(sorted(Counter(task.status for task in tasks).items()))


def last_writers(
    conn: sqlite3.Connection,
    outputs: Iterable[str],
    user_id: int | None,
    status: Status | None = None,
    *,
    in_place: bool = True,
) -> dict[str, TaskState]:
    """Output → the latest task of any batch that was to write it; with a user or a status, of those.

    `in_place`: also such that were to put it into the place of their input.
    """
    found: dict[str, TaskState] = {}
    for output in outputs:
        row = conn.execute(_LAST_WRITER, (output, user_id, user_id, status, status, in_place)).fetchone()
        if row is not None:
            found[output] = state_of(row)
    return found


def last_readers(conn: sqlite3.Connection, batch: str, inputs: Iterable[str]) -> dict[str, TaskState]:
    """Input → the latest task of the batch that was to read it."""
    rows = ((path, conn.execute(_LAST_READER, (batch, path)).fetchone()) for path in inputs)
    return {path: state_of(row) for path, row in rows if row is not None}
