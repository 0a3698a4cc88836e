"""The last tasks of batches that wrote or read given files."""

import sqlite3
from collections.abc import Iterable

from ...events import TaskState
from ...events.state import Status
from ..views.rows import COLUMNS, state_of
from ..views.schema import INPUT, OUTPUT

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


def last_writers(
    conn: sqlite3.Connection,
    outputs: Iterable[str],
    user_id: int | None,
    status: Status | None = None,
    *,
    in_place: bool = True,
) -> dict[str, TaskState]:
    """Output → the latest task in any batch that was to write it; only of a user or in a status if these are given.

    `in_place`: include tasks that were to replace their input by it.
    """
    writers: dict[str, TaskState] = {}
    for output in outputs:
        row = conn.execute(_LAST_WRITER, (output, user_id, user_id, status, status, in_place)).fetchone()
        if row is not None:
            writers[output] = state_of(row)
    return writers


def last_readers(conn: sqlite3.Connection, batch: str, inputs: Iterable[str]) -> dict[str, TaskState]:
    """Input → the latest task in the batch that was to read it."""
    rows = ((path, conn.execute(_LAST_READER, (batch, path)).fetchone()) for path in inputs)
    return {path: state_of(row) for path, row in rows if row is not None}
