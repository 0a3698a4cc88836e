"""A batch of records folded, task by task, and what the batch adds to the numbers that are kept beside the rows."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from math import ceil, log
from typing import TYPE_CHECKING, cast

from ...events import Created, Recorded, Status, TaskState
from ...events.errors import LogCorrupt
from ...events.state import create, evolve, overlay
from ...events.system_events import Adjusted
from ...events.task_events import is_terminal

if TYPE_CHECKING:
    from ...events import TaskEvent


MINUTES_KEPT = 24 * 60
_STEP = log(1.1)


def bucket(seconds: float) -> int:
    """The class of a duration: classes are 10 % wide from a millisecond on, so a percentile is right to 10 %."""
    return max(0, ceil(log(max(seconds, 0.001) / 0.001) / _STEP))


def upper_bound(number: int) -> float:
    """The longest duration of a class, in seconds."""
    return 0.001 * float(1.1**number)


class Tally:
    """What one batch adds to the kept numbers."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Status]] = Counter()
        self._totals: dict[str, tuple[int, int]] = {}
        self._durations: Counter[tuple[str, int]] = Counter()
        self._ends: Counter[tuple[int, Status]] = Counter()

    def changed(self, before: TaskState | None, after: TaskState) -> None:
        """A task went from one state to another within the batch, over however many events."""
        kind = after.spec.type
        attempts, retries = after.attempt, after.retry_count
        if before is not None:
            self._counts[kind, before.status] -= 1
            attempts, retries = attempts - before.attempt, retries - before.retry_count
        self._counts[kind, after.status] += 1
        if attempts or retries:
            known = self._totals.get(kind, (0, 0))
            self._totals[kind] = (known[0] + attempts, known[1] + retries)

    def ended(self, state: TaskState, at: datetime) -> None:
        """A life came to its end. Counted by event: one batch may hold two ends of one task."""
        self._ends[int(at.timestamp() // 60), state.status] += 1
        if state.status == "completed":
            self._durations[state.spec.type, bucket(state.duration)] += 1

    def write(self, conn: sqlite3.Connection) -> None:
        """Add the batch to the tables, within the transaction that is open."""
        conn.executemany(
            "INSERT INTO counts VALUES (?, ?, ?, NULL) ON CONFLICT DO UPDATE SET number = number + excluded.number",
            [(*key, number) for key, number in self._counts.items() if number],
        )
        conn.executemany(
            "INSERT INTO totals VALUES (?, ?, ?, NULL) ON CONFLICT DO UPDATE"
            " SET attempts = attempts + excluded.attempts, retries = retries + excluded.retries",
            [(kind, *numbers) for kind, numbers in self._totals.items()],
        )
        for table, numbers in (("durations", self._durations), ("ends", self._ends)):
            conn.executemany(
                f"INSERT INTO {table} VALUES (?, ?, ?, NULL)"  # noqa: S608 - our own names
                " ON CONFLICT DO UPDATE SET number = number + excluded.number",
                [(*key, number) for key, number in numbers.items()],
            )
        if self._ends:
            latest = max(minute for minute, _status in self._ends)
            conn.execute("DELETE FROM ends WHERE minute <= ?", (latest - MINUTES_KEPT,))


def touched(records: Iterable[Recorded]) -> tuple[set[int], set[int]]:
    """The tasks that records speak of, and those among them that they create."""
    tasks: set[int] = set()
    created: set[int] = set()
    for record in records:
        if record.task_id:
            tasks.add(record.task_id)
            if isinstance(record.event, Created):
                created.add(record.task_id)
        elif isinstance(record.event, Adjusted):
            tasks.add(record.event.task_id)
    return tasks, created


def fold_batch(records: Iterable[Recorded], before: Mapping[int, TaskState], tally: Tally) -> dict[int, TaskState]:
    """The states after the records, of the tasks they touch. `LogCorrupt` when they speak of a task unknown."""
    states: dict[int, TaskState] = {}
    for record in records:
        event = record.event
        if isinstance(event, Adjusted):
            states[event.task_id] = overlay(_known(event.task_id, states, before, record), event, record.recorded_at)
        elif not record.task_id:
            continue
        elif isinstance(event, Created):
            states[record.task_id] = create(record.task_id, event, record.recorded_at)
        else:
            state = _known(record.task_id, states, before, record)
            state = evolve(state, cast("TaskEvent", event), record.recorded_at)
            states[record.task_id] = state
            if is_terminal(event):
                tally.ended(state, record.recorded_at)
    return states


def _known(task_id: int, states: Mapping[int, TaskState], before: Mapping[int, TaskState], at: Recorded) -> TaskState:
    state = states.get(task_id) or before.get(task_id)
    if state is None:
        raise LogCorrupt(f"Position {at.position} speaks of task {task_id}, which was never created")
    return state
