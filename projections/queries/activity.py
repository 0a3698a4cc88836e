"""How much was done, and how long attempts had waited, in spans of time, from the numbers kept for each minute."""

import sqlite3
from collections import Counter
from datetime import UTC, datetime
from itertools import accumulate

import msgspec

from ..views.checksums import sound
from ..views.fold import Minute, minute_of, read_minutes, upper_bound
from ..views.tallies import Numbers

_FIRST = datetime(1, 1, 3, tzinfo=UTC)
"""The earliest `now`: before the first record it is the beginning of the calendar, which has no day before."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers for a span of time."""

    begin: datetime
    created: int
    started: int
    completed: int
    failed: int
    cancelled: int
    wait_p50: float | None
    """Seconds that attempts had waited when they started, right to 10 %; None if none started."""
    wait_p95: float | None
    longest_wait: float | None


def read_activity(
    conn: sqlite3.Connection, now: datetime, minutes: int, step: int, numbers_then: Numbers | None = None
) -> list[Span]:
    """The last `minutes` minutes in spans of `step`; the last span includes the current minute.

    `numbers_then`: the numbers at `now`, if that is in the past. They are used for its minute, whose kept numbers may
    include later events.
    """
    now = max(now, _FIRST)
    end = minute_of(now) + 1
    end += -end % step
    first = end - minutes
    over = end if numbers_then is None else minute_of(now)
    begun = read_minutes(conn, first, over)
    ended: Counter[tuple[int, str]] = Counter()
    for minute, status, number in sound(
        conn.execute("SELECT * FROM ends WHERE minute >= ? AND minute < ?", (first, over))
    ):
        ended[(minute - first) // step, status] += number
    if numbers_then is not None and numbers_then.minute == over:
        begun[over] = numbers_then.begun
        for status, number in numbers_then.ended.items():
            ended[(over - first) // step, status] += number
    spans = []
    for number in range(minutes // step):
        whole = Minute()
        for minute in range(first + number * step, first + (number + 1) * step):
            if minute in begun:
                whole.add(begun[minute])
        spans.append(
            Span(
                begin=datetime.fromtimestamp((first + number * step) * 60, UTC),
                created=whole.created,
                started=whole.started,
                completed=ended[number, "completed"],
                failed=ended[number, "failed"],
                cancelled=ended[number, "cancelled"],
                wait_p50=_wait(whole, 0.5),
                wait_p95=_wait(whole, 0.95),
                longest_wait=whole.longest_wait / 1000 if whole.started else None,
            )
        )
    return spans


def _wait(whole: Minute, share: float) -> float | None:
    if not whole.started:
        return None
    classes = sorted(whole.waits.items())
    upto = accumulate(times for _class, times in classes)
    reached = next(place for place, seen in enumerate(upto) if seen >= share * whole.started)
    return min(upper_bound(classes[reached][0]), whole.longest_wait / 1000)
