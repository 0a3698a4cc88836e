"""Batches: sets of tasks that were created together, and what became of the same outputs in earlier ones."""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

import msgspec

from ...events import Task, TaskState
from ...events.state import FINISHED, Status
from ..errors import ViewsDamaged
from ..views.checksums import OF_TASKS
from ..views.rows import COLUMNS, state_of
from ..views.schema import INPUT, OUTPUT


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of one name together. Times are UTC, sizes bytes, progress 0 to 100."""

    batch: str
    total: int
    by_status: dict[Status, int]
    """How many tasks there are in each status that any is in."""
    progress: float
    """The mean, where a task counts as much as it is expected to take. What has ended is done, whatever the end."""
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


# Cheap: the index alone is read. The newest come first.
_NAMES = """
SELECT batch FROM tasks INDEXED BY tasks_by_batch WHERE batch > '' GROUP BY batch ORDER BY max(id) DESC LIMIT ?
"""
_NAMES_OF_USER = """
SELECT batch FROM tasks WHERE batch > '' AND user_id = ? GROUP BY batch ORDER BY max(id) DESC LIMIT ?
"""
_NAMES_THEN = """
SELECT batch FROM tasks WHERE batch > '' AND id <= ?1 AND (?2 IS NULL OR +user_id = ?2)
GROUP BY batch ORDER BY max(id) DESC LIMIT ?3
"""
_LEAST_WEIGHT = 0.05
"""Seconds that a task counts for at least in the progress of its batch."""
_ONE = f"""
WITH task AS (
    SELECT status, state, spec, max({_LEAST_WEIGHT}, coalesce(json_extract(spec, '$.estimated_time'), 0.0)) AS weight,
        json_type(state, '$.result.original.kept') IS NOT NULL AS kept, {OF_TASKS} AS damaged
    FROM tasks INDEXED BY tasks_by_batch WHERE batch = ? AND (? IS NULL OR +user_id = ?)
)
SELECT status, count(*), sum(weight),
    sum(weight * CASE WHEN status IN ('completed', 'failed', 'cancelled') THEN 100.0
        ELSE coalesce(json_extract(state, '$.progress'), 0.0) END),
    min(json_extract(state, '$.created_at')), max(json_extract(state, '$.completed_at')), max(damaged),
    sum(CASE status WHEN 'completed' THEN coalesce(json_extract(state, '$.input_read.size'), 0) END),
    sum(CASE status WHEN 'completed' THEN coalesce(json_extract(state, CASE WHEN kept THEN '$.input_read.size'
        ELSE '$.result.size' END), 0) END),
    sum(CASE status WHEN 'completed' THEN kept END)
FROM task GROUP BY status ORDER BY status
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
    rows = conn.execute(_NAMES, (most,)) if user_id is None else conn.execute(_NAMES_OF_USER, (user_id, most))
    found = (read_batch(conn, name, user_id) for (name,) in rows.fetchall())
    return tuple(batch for batch in found if batch is not None)


def read_batch(conn: sqlite3.Connection, name: str, user_id: int | None) -> Batch | None:
    """One batch; none when no task has its name."""
    rows = conn.execute(_ONE, (name, user_id, user_id)).fetchall() if name else []
    if not rows:
        return None
    if any(row[6] for row in rows):
        raise ViewsDamaged(f"A task of the batch {name} has changed in the views since it was written there")
    ended = all(row[0] in FINISHED for row in rows)
    weight = sum(row[2] for row in rows)
    return Batch(
        batch=name,
        total=sum(row[1] for row in rows),
        by_status={row[0]: row[1] for row in rows},
        progress=round(min(100.0, sum(row[3] for row in rows) / weight), 3),
        created_at=min(datetime.fromisoformat(row[4]) for row in rows),
        completed_at=max(datetime.fromisoformat(row[5]) for row in rows) if ended else None,
        bytes_before=sum(row[7] or 0 for row in rows),
        bytes_after=sum(row[8] or 0 for row in rows),
        originals_kept=sum(row[9] or 0 for row in rows),
    )


def names_then(conn: sqlite3.Connection, last: int, most: int, user_id: int | None) -> list[str]:
    """The newest batches when `last` was the newest task."""
    return [name for (name,) in conn.execute(_NAMES_THEN, (last, user_id, most))]


def batch_of(name: str, tasks: Iterable[Task]) -> Batch | None:
    """The same as `read_batch` of all tasks of a name; none when there are none."""
    all_tasks = list(tasks)
    if not all_tasks:
        return None
    weights = [max(_LEAST_WEIGHT, task.estimated_time) for task in all_tasks]
    shares = [100.0 if task.status in FINISHED else task.progress for task in all_tasks]
    done = sum(weight * share for weight, share in zip(weights, shares, strict=True)) / sum(weights)
    completed = [task for task in all_tasks if task.status == "completed"]
    kept = [task for task in completed if _stayed(task)]
    ended = all(task.status in FINISHED for task in all_tasks)
    return Batch(
        batch=name,
        total=len(all_tasks),
        by_status=count_by_status(all_tasks),
        progress=round(min(100.0, done), 3),
        created_at=min(task.created_at for task in all_tasks),
        completed_at=max(task.completed_at for task in all_tasks if task.completed_at) if ended else None,
        bytes_before=sum(map(_read, completed)),
        bytes_after=sum(_read(task) if _stayed(task) else _made(task) for task in completed),
        originals_kept=len(kept),
    )


def count_by_status(tasks: Iterable[Task]) -> dict[Status, int]:
    """How many there are in each status that any is in."""
    return dict(sorted(Counter(task.status for task in tasks).items()))


def _stayed(task: Task) -> bool:
    """Whether the input has, although it could have given way to the result."""
    original = task.result.get("original")
    return isinstance(original, dict) and "kept" in original


def _read(task: Task) -> int:
    return task.input_read.size if task.input_read else 0


def _made(task: Task) -> int:
    size = task.result.get("size")
    return int(size) if isinstance(size, int | float) else 0


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
