"""The numbers of each batch, kept with every move of its tasks: a look at one need not look at each of these.

All are whole numbers. So what is added is taken away again exactly, in whatever order, and views that followed hold
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
"""Seconds that a task counts for at least, and at most, in the progress of its batch."""


class BatchNumbers(msgspec.Struct, array_like=True):
    """Of the tasks of a batch in one status."""

    tasks: int = 0
    weight: int = 0
    """Milliseconds that they are expected to take."""
    done: int = 0
    """The same times the percent that is done of each. Of what runs nothing is kept: that would change too often."""
    bytes_before: int = 0
    bytes_after: int = 0
    originals_kept: int = 0

    def add(self, other: "BatchNumbers", times: int = 1) -> None:
        """Both together; with -1, what is left without the other."""
        self.tasks += times * other.tasks
        self.weight += times * other.weight
        self.done += times * other.done
        self.bytes_before += times * other.bytes_before
        self.bytes_after += times * other.bytes_after
        self.originals_kept += times * other.originals_kept


ByStatus: TypeAlias = dict[Status, BatchNumbers]
_NUMBERS = msgspec.json.Decoder(dict[str, BatchNumbers])


def numbers_of(task: Task | TaskState, *, running: bool = True) -> BatchNumbers:
    """Of one task. `running`: with what is done of one that runs."""
    spec = task.spec if isinstance(task, TaskState) else task
    weight = round(1000 * min(max(_LEAST, spec.estimated_time), _MOST))
    share = 100.0 if task.status in FINISHED else task.progress if running or task.status != "running" else 0.0
    numbers = BatchNumbers(tasks=1, weight=weight, done=round(weight * share))
    if task.status == "completed":
        original, size = task.result.get("original"), task.result.get("size")
        stayed = isinstance(original, dict) and "kept" in original
        read = task.input_read.size if task.input_read else 0
        made = int(size) if isinstance(size, int | float) and 0 <= size <= MAX_INTEGER else 0  # not what is no number
        numbers.bytes_before, numbers.bytes_after = read, read if stayed else made
        numbers.originals_kept = int(stayed)
    return numbers


class KeptBatch(msgspec.Struct):
    """What is kept of a batch, of the tasks of one user."""

    newest: int
    """The task that was created last."""
    created_at: datetime
    """When the first was created."""
    ended_at: datetime | None = None
    """When one ended last."""
    by_status: ByStatus = {}

    def add(self, other: "KeptBatch") -> None:
        """Both together."""
        self.newest = max(self.newest, other.newest)
        self.created_at = min(self.created_at, other.created_at)
        ends = [at for at in (self.ended_at, other.ended_at) if at is not None]
        self.ended_at = max(ends, default=None)
        for status, numbers in other.by_status.items():
            self.of(status).add(numbers)

    def of(self, status: Status) -> BatchNumbers:
        """The numbers of a status, to be added to."""
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
    """What some records add to the batches."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], KeptBatch] = {}

    def changed(self, before: TaskState | None, after: TaskState) -> None:
        """A task went from one state to another, over however many events."""
        if not after.spec.batch or (before is not None and before.status == after.status == "running"):
            return
        found = self._of(after)
        found.of(after.status).add(numbers_of(after, running=False))
        if before is not None:
            found.of(before.status).add(numbers_of(before, running=False), -1)

    def ended(self, state: TaskState, at: datetime) -> None:
        """A life came to its end."""
        if state.spec.batch:
            found = self._of(state)
            found.ended_at = at if found.ended_at is None else max(found.ended_at, at)

    def _of(self, state: TaskState) -> KeptBatch:
        whose = (state.spec.batch, state.spec.user_id)
        found = self._found.get(whose)
        if found is None:
            found = self._found[whose] = KeptBatch(state.id, state.created_at)
        found.newest = max(found.newest, state.id)
        found.created_at = min(found.created_at, state.created_at)
        return found

    def write(self, conn: sqlite3.Connection) -> None:
        """Add it to the table, within the transaction that is open."""
        for whose, found in self._found.items():
            for kept in _read(conn.execute(_OF_USER, whose)):
                found.add(kept)
        conn.executemany(_KEEP, (_row(whose, found) for whose, found in self._found.items()))


def read_kept(conn: sqlite3.Connection, batch: str, user_id: int | None) -> KeptBatch | None:
    """What is kept of a batch, or of what one user has of it; none where there is nothing."""
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
    """How many tasks of batches there are in each status that any is in."""
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
