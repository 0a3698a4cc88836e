"""The numbers of each batch, updated with every move of its tasks, so that a query need not read each task.

All are whole numbers. So an added number can be subtracted exactly, in any order, and views that followed the log hold
the same as views that were built in one go.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from ...events import Task, TaskState
from ...events.state import FINISHED, Status
from ...events.values import MAX_INTEGER
from .checksums import sound

_LEAST, _MOST = 0.05, 1e6
"""The least and the most seconds that a task counts for in the progress of its batch."""


class BatchNumbers(msgspec.Struct, array_like=True):
    """The numbers of the tasks of a batch in one status."""

    tasks: int = 0
    weight: int = 0
    """Their expected run time in milliseconds."""
    done: int = 0
    """The sum of each expected run time times its percent done. Running tasks count 0: they would change too often."""
    bytes_before: int = 0
    bytes_after: int = 0
    originals_kept: int = 0

    def add(self, other: "BatchNumbers", times: int = 1) -> None:
        """Add the other numbers; with `times` -1, subtract them."""
        self.tasks += times * other.tasks
        self.weight += times * other.weight
        self.done += times * other.done
        self.bytes_before += times * other.bytes_before
        self.bytes_after += times * other.bytes_after
        self.originals_kept += times * other.originals_kept


ByStatus: TypeAlias = dict[Status, BatchNumbers]
_NUMBERS = msgspec.json.Decoder(dict[str, BatchNumbers])


def numbers_of(task: Task | TaskState) -> BatchNumbers:
    """The numbers of one task."""
    spec = task.spec if isinstance(task, TaskState) else task
    weight = round(1000 * min(max(_LEAST, spec.estimated_time), _MOST))
    share = 100.0 if task.status in FINISHED else task.progress
    numbers = BatchNumbers(tasks=1, weight=weight, done=round(weight * share))
    if task.status == "completed":
        original, size = task.result.get("original"), task.result.get("size")
        stayed = isinstance(original, dict) and "kept" in original
        read = task.input_read.size if task.input_read else 0
        made = int(size) if isinstance(size, int | float) and 0 <= size <= MAX_INTEGER else 0  # it may be anything
        numbers.bytes_before, numbers.bytes_after = read, read if stayed else made
        numbers.originals_kept = int(stayed)
    return numbers


def _kept_numbers_of(task: TaskState) -> BatchNumbers:
    """The numbers of one task as they are kept: without the progress of a running task."""
    numbers = numbers_of(task)
    if task.status == "running":
        numbers.done = 0
    return numbers


class KeptBatch(msgspec.Struct):
    """The kept numbers of the tasks of one user in a batch."""

    newest: int
    """The newest task."""
    created_at: datetime
    """When the first task was created."""
    ended_at: datetime | None = None
    """When a task last ended."""
    by_status: ByStatus = {}

    def add(self, other: "KeptBatch") -> None:
        """Add the numbers of another user's tasks, or of other records."""
        self.newest = max(self.newest, other.newest)
        self.created_at = min(self.created_at, other.created_at)
        ends = [at for at in (self.ended_at, other.ended_at) if at is not None]
        self.ended_at = max(ends, default=None)
        for status, numbers in other.by_status.items():
            self.of(status).add(numbers)

    def of(self, status: Status) -> BatchNumbers:
        """The numbers of a status, for adding to them."""
        return self.by_status.setdefault(status, BatchNumbers())


_KEEP = """
INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, NULL) ON CONFLICT DO UPDATE SET newest = excluded.newest,
    created_at = excluded.created_at, ended_at = excluded.ended_at, numbers = excluded.numbers
"""
_OF_USER = "SELECT * FROM batches WHERE batch = ? AND user_id = ?"
_OF_ALL = "SELECT * FROM batches WHERE batch = ?"
_NEWEST = "SELECT batch FROM batches ORDER BY newest DESC"
_NEWEST_OF_USER = "SELECT batch FROM batches WHERE user_id = ? ORDER BY newest DESC"


class Batches:
    """The changes of batches by some records."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], KeptBatch] = {}

    def changed(self, before: TaskState | None, after: TaskState) -> None:
        """Count a task that went from one state to another, over any number of events."""
        if not after.spec.batch or (before is not None and before.status == after.status == "running"):
            return
        found = self._batch_of(after)
        found.of(after.status).add(_kept_numbers_of(after))
        if before is not None:
            found.of(before.status).add(_kept_numbers_of(before), -1)

    def ended(self, state: TaskState, at: datetime) -> None:
        """Count the end of a life."""
        if state.spec.batch:
            found = self._batch_of(state)
            found.ended_at = at if found.ended_at is None else max(found.ended_at, at)

    def _batch_of(self, state: TaskState) -> KeptBatch:
        whose = (state.spec.batch, state.spec.user_id)
        kept = self._found.get(whose)
        if kept is None:
            kept = self._found[whose] = KeptBatch(state.id, state.created_at)
        kept.newest = max(kept.newest, state.id)
        kept.created_at = min(kept.created_at, state.created_at)
        return kept

    def write(self, conn: sqlite3.Connection) -> None:
        """Add the changes to the table, within the open transaction."""
        for whose, found in self._found.items():
            for kept in _read(conn.execute(_OF_USER, whose)):
                found.add(kept)
        conn.executemany(_KEEP, (_row(whose, found) for whose, found in self._found.items()))


def read_kept(conn: sqlite3.Connection, batch: str, user_id: int | None) -> KeptBatch | None:
    """The kept numbers of a batch, or of one user's tasks in it; None if there are none."""
    rows = conn.execute(_OF_ALL, (batch,)) if user_id is None else conn.execute(_OF_USER, (batch, user_id))
    found: KeptBatch | None = None
    for kept in _read(rows):
        if found is None:
            found = kept
        else:
            found.add(kept)
    return found


def newest_batches(conn: sqlite3.Connection, user_id: int | None) -> Iterator[str]:
    """The names of all batches, or of those with tasks of one user, the newest first."""
    rows = conn.execute(_NEWEST) if user_id is None else conn.execute(_NEWEST_OF_USER, (user_id,))
    seen: set[str] = set()
    for (name,) in rows:
        if name not in seen:
            seen.add(name)
            yield name


def number_in_batches(conn: sqlite3.Connection) -> dict[str, int]:
    """The number of tasks of all batches in each status; a status without any is left out."""
    found: Counter[str] = Counter()
    for kept in _read(conn.execute("SELECT * FROM batches")):
        found.update({status: numbers.tasks for status, numbers in kept.by_status.items()})
    return dict(found)


def _read(rows: Iterable[tuple[Any, ...]]) -> Iterator[KeptBatch]:
    for _batch, _user, newest, created_at, ended_at, numbers in sound(rows):
        ended = datetime.fromisoformat(ended_at) if ended_at else None
        yield KeptBatch(newest, datetime.fromisoformat(created_at), ended, _NUMBERS.decode(numbers))  # type: ignore[arg-type]  # our own names


def _row(whose: tuple[str, int], kept: KeptBatch) -> tuple[Any, ...]:
    numbers = {status: number for status, number in sorted(kept.by_status.items()) if number.tasks}
    ended = kept.ended_at.isoformat() if kept.ended_at else None
    return (*whose, kept.newest, kept.created_at.isoformat(), ended, msgspec.json.encode(numbers).decode())
