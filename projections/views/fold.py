"""Folds a batch of records, task by task, and counts what it adds to the kept numbers."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from math import ceil, log
from typing import TYPE_CHECKING, cast

import msgspec

from ...events import Created, Recorded, Started, Status, TaskState
from ...events.errors import LogCorrupt
from ...events.recorded import Stub
from ...events.state import create, evolve, overlay
from ...events.system_events import Adjusted
from ...events.task_events import is_terminal
from .batches import Batches
from .checksums import sound

if TYPE_CHECKING:
    from ...events import TaskEvent


_STEP = log(1.1)


def bucket(seconds: float) -> int:
    """The class of a duration: classes are 10 % wide from a millisecond on, so a percentile is right to 10 %."""
    return max(0, ceil(log(max(seconds, 0.001) / 0.001) / _STEP))


def upper_bound(number: int) -> float:
    """The longest duration of a class, in seconds."""
    return 0.001 * float(1.1**number)


def minute_of(at: datetime) -> int:
    """The number of the minute of a time, counted since 1970."""
    return int(at.timestamp() // 60)


class Minute(msgspec.Struct):
    """Tasks and attempts that began in one minute."""

    created: int = 0
    started: int = 0
    longest_wait: int = 0
    """Milliseconds."""
    waits: dict[int, int] = msgspec.field(default_factory=dict)
    """The waits of the started attempts: class, by `bucket` → number."""

    def starts(self, waited: float) -> None:
        """Count an attempt that starts after `waited` seconds in the queue."""
        self.started += 1
        self.longest_wait = max(self.longest_wait, round(waited * 1000))
        number = bucket(waited)
        self.waits[number] = self.waits.get(number, 0) + 1

    def add(self, other: "Minute") -> None:
        """Add the numbers of another one."""
        self.created += other.created
        self.started += other.started
        self.longest_wait = max(self.longest_wait, other.longest_wait)
        for number, times in other.waits.items():
            self.waits[number] = self.waits.get(number, 0) + times


def read_minutes(conn: sqlite3.Connection, first: int, end: int) -> dict[int, Minute]:
    """The minutes from `first` to before `end` in which anything began."""
    rows = conn.execute("SELECT * FROM minutes WHERE minute >= ? AND minute < ?", (first, end))
    return {
        minute: Minute(created, started, longest, _WAITS.decode(waits))
        for minute, created, started, longest, waits in sound(rows)
    }


def _in_order(waits: dict[int, int]) -> str:
    return msgspec.json.encode(dict(sorted(waits.items()))).decode()


_WAITS = msgspec.json.Decoder(dict[int, int])
_KEEP_MINUTE = """
INSERT INTO minutes VALUES (?, ?, ?, ?, ?, NULL) ON CONFLICT DO UPDATE SET created = excluded.created,
    started = excluded.started, longest_wait = excluded.longest_wait, waits = excluded.waits
"""


class Tally:
    """The additions of one batch to the kept numbers."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Status]] = Counter()
        self._totals: dict[str, tuple[int, int]] = {}
        self._durations: Counter[tuple[str, int]] = Counter()
        self._ends: Counter[tuple[int, Status]] = Counter()
        self._minutes: defaultdict[int, Minute] = defaultdict(Minute)
        self._batches = Batches()

    def created(self, at: datetime) -> None:
        """Count a created task."""
        self._minutes[minute_of(at)].created += 1

    def started(self, before: TaskState, at: datetime) -> None:
        """Count a started attempt. `before`: the waiting task."""
        self._minutes[minute_of(at)].starts(max(0.0, (at - before.queued_since).total_seconds()))

    def changed(self, before: TaskState | None, after: TaskState) -> None:
        """Count a task that went from one state to another within the batch, over any number of events."""
        kind = after.spec.type
        attempts, retries = after.attempt, after.retry_count
        if before is not None:
            self._counts[kind, before.status] -= 1
            attempts, retries = attempts - before.attempt, retries - before.retry_count
        self._counts[kind, after.status] += 1
        if attempts or retries:
            known = self._totals.get(kind, (0, 0))
            self._totals[kind] = (known[0] + attempts, known[1] + retries)
        self._batches.changed(before, after)

    def ended(self, state: TaskState, at: datetime) -> None:
        """Count the end of a life. It is counted by event, because one batch may hold two ends of a task."""
        self._ends[minute_of(at), state.status] += 1
        if state.status == "completed":
            self._durations[state.spec.type, bucket(state.duration)] += 1
        self._batches.ended(state, at)

    def write(self, conn: sqlite3.Connection) -> None:
        """Add the batch to the tables, within the open transaction."""
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
        if self._minutes:
            self._write_minutes(conn)
        self._batches.write(conn)

    def _write_minutes(self, conn: sqlite3.Connection) -> None:
        first, latest = min(self._minutes), max(self._minutes)
        for minute, known in read_minutes(conn, first, latest + 1).items():
            if minute in self._minutes:
                self._minutes[minute].add(known)
        conn.executemany(
            _KEEP_MINUTE,
            [
                (minute, one.created, one.started, one.longest_wait, _in_order(one.waits))
                for minute, one in self._minutes.items()
            ],
        )


def touched(records: Iterable[Recorded]) -> tuple[set[int], set[int]]:
    """The tasks that records are about, and those among them that the records create."""
    tasks: set[int] = set()
    created: set[int] = set()
    for record in records:
        if type(record.event) is Stub:
            continue
        if record.task_id:
            tasks.add(record.task_id)
            if isinstance(record.event, Created):
                created.add(record.task_id)
        elif isinstance(record.event, Adjusted):
            tasks.add(record.event.task_id)
    return tasks, created


class Change(msgspec.Struct, frozen=True, gc=False):
    """The change of a task by one record."""

    position: int
    at: datetime
    own: bool
    """Whether it is an event of the task, and not an adjustment."""
    before: TaskState | None
    after: TaskState


def fold_batch(
    records: Iterable[Recorded], before: Mapping[int, TaskState], tally: Tally, changes: list[Change] | None = None
) -> dict[int, TaskState]:
    """The states of the touched tasks after the records. Raises `LogCorrupt` if a record is about an unknown task.

    `changes` receives each change on the way.
    """
    states: dict[int, TaskState] = {}
    for record in records:
        event, task_id = record.event, record.task_id
        old: TaskState | None = None
        if isinstance(event, Adjusted):
            task_id = event.task_id
            old = _state_of(task_id, states, before, record)
            state = overlay(old, event, record.recorded_at)
        elif not task_id or type(event) is Stub:
            continue
        elif isinstance(event, Created):
            state = create(task_id, event, record.recorded_at)
            tally.created(record.recorded_at)
        else:
            old = _state_of(task_id, states, before, record)
            if isinstance(event, Started):
                tally.started(old, record.recorded_at)
            state = evolve(old, cast("TaskEvent", event), record.recorded_at)
            if is_terminal(event):
                tally.ended(state, record.recorded_at)
        states[task_id] = state
        if changes is not None:
            changes.append(Change(record.position, record.recorded_at, record.task_id != 0, old, state))
    return states


def _state_of(
    task_id: int, states: Mapping[int, TaskState], before: Mapping[int, TaskState], at: Recorded
) -> TaskState:
    state = states.get(task_id) or before.get(task_id)
    if state is None:
        raise LogCorrupt(f"Position {at.position} speaks of task {task_id}, which was never created")
    return state
