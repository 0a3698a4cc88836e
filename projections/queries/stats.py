"""Numbers over all tasks, from kept numbers: nothing is counted at query time."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import accumulate
from typing import NamedTuple, TypeAlias

import msgspec

from ...events import Task
from ...events.state import FINISHED
from ..errors import ViewsDamaged
from ..views.checksums import OF_TASKS, sound
from ..views.fold import bucket, minute_of, upper_bound
from ..views.tallies import Numbers
from .filters import STATUSES

Counts: TypeAlias = Mapping[tuple[str, str], int]
"""(type, status) → number of tasks, from the kept numbers."""
_HOUR, _DAY = 60, 24 * 60
"""Minutes."""


class Durations(msgspec.Struct, frozen=True, kw_only=True):
    """How long completed tasks ran, in seconds. Kept in classes 10 % wide; a figure is a class's upper bound."""

    number: int
    mean: float
    p50: float
    p95: float
    p99: float
    longest: float


class TypeStats(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of one type."""

    counts: dict[str, int]
    attempts: int
    retries: int
    durations: Durations | None
    """None until one has completed."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """Lives that ended in a span of time, by outcome."""

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    per_minute: float = 0.0


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers at one position of the log."""

    position: int
    total: int
    counts: dict[str, int]
    """Status → number of tasks, for all six statuses."""
    by_type: dict[str, TypeStats]
    attempts: int
    retries: int
    last_minute: Ended
    """The last full minute."""
    last_hour: Ended
    """The current minute and the 59 before it."""
    last_day: Ended
    """The current minute and the 1,439 before it."""


def read_counts(conn: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """(type, status) → number of tasks."""
    rows = sound(conn.execute("SELECT * FROM counts WHERE number > 0"))
    return {(kind, status): number for kind, status, number in rows}


def read_stats(conn: sqlite3.Connection, now: datetime) -> Stats:
    """All numbers, within the open transaction."""
    position = conn.execute("SELECT position FROM progress").fetchone()[0]
    totals = {kind: (attempts, retries) for kind, attempts, retries in sound(conn.execute("SELECT * FROM totals"))}
    classes: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for kind, width, number in sound(conn.execute("SELECT * FROM durations ORDER BY type, bucket")):
        classes[kind].append((width, number))
    ended_this_minute = _ended(conn, minute_of(now), minute_of(now) + 1)
    return _stats(conn, now, position, read_counts(conn), totals, classes, ended_this_minute)


def read_stats_as_of(conn: sqlite3.Connection, at: datetime, position: int, numbers: Numbers) -> Stats:
    """All numbers at a position and its time; `numbers`: those kept for the position."""
    classes = {
        kind: sorted(times.items()) for kind, times in zip(numbers.types, numbers.durations, strict=True) if times
    }
    ended_this_minute = Counter[str](numbers.ended if numbers.minute == minute_of(at) else {})
    return _stats(
        conn, at, position, numbers.by_type_and_status(), numbers.attempts_and_retries(), classes, ended_this_minute
    )


def _stats(
    conn: sqlite3.Connection,
    now: datetime,
    position: int,
    counts: Mapping[tuple[str, str], int],
    totals: Mapping[str, tuple[int, int]],
    classes: Mapping[str, list[tuple[int, int]]],
    ended_this_minute: Counter[str],
) -> Stats:
    """`ended_this_minute`: the lives that have ended in the current minute."""
    by_type = {
        kind: TypeStats(
            counts={status: counts.get((kind, status), 0) for status in STATUSES},
            attempts=totals.get(kind, (0, 0))[0],
            retries=totals.get(kind, (0, 0))[1],
            durations=_durations(classes[kind]) if kind in classes else None,
        )
        for kind in sorted({kind for kind, _status in counts})
    }
    this_minute = minute_of(now)
    return Stats(
        position=position,
        total=sum(counts.values()),
        counts={status: sum(kind.counts[status] for kind in by_type.values()) for status in STATUSES},
        by_type=by_type,
        attempts=sum(kind.attempts for kind in by_type.values()),
        retries=sum(kind.retries for kind in by_type.values()),
        last_minute=_span(_ended(conn, this_minute - 1, this_minute), 1),
        last_hour=_span(_ended(conn, this_minute - _HOUR + 1, this_minute) + ended_this_minute, _HOUR),
        last_day=_span(_ended(conn, this_minute - _DAY + 1, this_minute) + ended_this_minute, _DAY),
    )


_OF_A_USER = f"""
SELECT type, status, updated_at, coalesce(json_extract(state, '$.attempt'), 0),
       coalesce(json_extract(state, '$.retry_count'), 0), coalesce(json_extract(state, '$.duration'), 0.0), {OF_TASKS}
FROM tasks WHERE user_id = ?
"""  # noqa: S608 - our own names


class _Counted(NamedTuple):
    """The values of a task that are counted."""

    kind: str
    status: str
    at: float
    """When it changed last, seconds since 1970."""
    attempts: int
    retries: int
    seconds: float
    """How long it has run."""


def count_stats(conn: sqlite3.Connection, user_id: int, now: datetime) -> Stats:
    """The numbers over one user's tasks. They are not kept, so each task is read."""

    def tasks() -> Iterator[_Counted]:
        for *row, damaged in conn.execute(_OF_A_USER, (user_id,)):
            if damaged:
                raise ViewsDamaged("A task has changed in the views since it was written there")
            yield _Counted(*row)

    return _counted(tasks(), now, conn.execute("SELECT position FROM progress").fetchone()[0])


def count_stats_of(tasks: Iterable[Task], now: datetime, position: int) -> Stats:
    """The same over the given tasks, in their states at a position."""
    return _counted(
        (
            _Counted(task.type, task.status, task.updated_at.timestamp(), task.attempt, task.retry_count, task.duration)
            for task in tasks
        ),
        now,
        position,
    )


def _counted(tasks: Iterable[_Counted], now: datetime, position: int) -> Stats:
    this_minute = minute_of(now)
    counts: Counter[tuple[str, str]] = Counter()
    attempts: Counter[str] = Counter()
    retries: Counter[str] = Counter()
    classes: defaultdict[str, Counter[int]] = defaultdict(Counter)
    minute, hour, day = Counter[str](), Counter[str](), Counter[str]()
    for task in tasks:
        counts[task.kind, task.status] += 1
        attempts[task.kind] += task.attempts
        retries[task.kind] += task.retries
        if task.status == "completed":
            classes[task.kind][bucket(task.seconds)] += 1
        if task.status in FINISHED:
            ago = this_minute - int(task.at // 60)
            minute[task.status] += ago == 1
            hour[task.status] += 0 <= ago < _HOUR
            day[task.status] += 0 <= ago < _DAY
    by_type = {
        kind: TypeStats(
            counts={status: counts[kind, status] for status in STATUSES},
            attempts=attempts[kind],
            retries=retries[kind],
            durations=_durations(sorted(classes[kind].items())) if kind in classes else None,
        )
        for kind in sorted(attempts)
    }
    return Stats(
        position=position,
        total=counts.total(),
        counts={status: sum(kind.counts[status] for kind in by_type.values()) for status in STATUSES},
        by_type=by_type,
        attempts=attempts.total(),
        retries=retries.total(),
        last_minute=_span(minute, 1),
        last_hour=_span(hour, _HOUR),
        last_day=_span(day, _DAY),
    )


def _durations(classes: list[tuple[int, int]]) -> Durations:
    number = sum(count for _bucket, count in classes)
    return Durations(
        number=number,
        mean=sum(upper_bound(bucket) * count for bucket, count in classes) / number,
        p50=_percentile(classes, 0.50 * number),
        p95=_percentile(classes, 0.95 * number),
        p99=_percentile(classes, 0.99 * number),
        longest=upper_bound(classes[-1][0]),
    )


def _percentile(classes: list[tuple[int, int]], rank: float) -> float:
    upto = accumulate(count for _bucket, count in classes)
    reached = next(index for index, seen in enumerate(upto) if seen >= rank)
    return upper_bound(classes[reached][0])


def _ended(conn: sqlite3.Connection, first: int, end: int) -> Counter[str]:
    """Status → the number of lives that ended in the minutes from `first` to before `end`."""
    numbers = Counter[str]()
    for _minute, status, number in sound(
        conn.execute("SELECT * FROM ends WHERE minute >= ? AND minute < ?", (first, end))
    ):
        numbers[status] += number
    return numbers


def _span(numbers: Counter[str], minutes: int) -> Ended:
    return Ended(**numbers, per_minute=numbers.total() / minutes)
