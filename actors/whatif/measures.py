"""How a course of things is measured: waiting, makespan, use of the slots, and who was overtaken."""

from datetime import datetime
from math import ceil

import msgspec

from .course import Course, Life

EVERY_TYPE = ""


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers over the tasks of one type, or of all. Times in seconds."""

    tasks: int
    """Lives of tasks: a retry by hand opens another one."""
    started: int
    wait_p50: float | None = None
    """From the moment a life opens (or its scheduled time) to its first start, of those that started."""
    wait_p95: float | None = None
    wait_max: float | None = None
    makespan: float | None = None
    """From the first task that opened to the last end of an attempt; over all types: from the beginning."""
    utilisation: float | None = None
    """Share of the slots' time, over the makespan of all, in which attempts ran."""
    overtaken: int = 0
    """Those that something opened later started before."""


def measure(course: Course, slots: int) -> dict[str, Measures]:
    """The measures by type, and over all under the empty name."""
    groups: dict[str, list[Life]] = {EVERY_TYPE: list(course.lives.values())}
    for life in course.lives.values():
        groups.setdefault(life.type, []).append(life)
    span = _seconds(course.first_at, course.last_end)
    overtaken = _overtaken(groups[EVERY_TYPE])
    busy = {**course.busy, EVERY_TYPE: sum(course.busy.values())}
    return {
        name: _measure(
            lives, overtaken, span if name == EVERY_TYPE else _span(lives), _share(busy.get(name, 0.0), span, slots)
        )
        for name, lives in groups.items()
    }


def _measure(lives: list[Life], overtaken: set[int], makespan: float | None, utilisation: float | None) -> Measures:
    waits = sorted(life.waited for life in lives if life.waited is not None)
    return Measures(
        tasks=len(lives),
        started=len(waits),
        wait_p50=_quantile(waits, 0.5),
        wait_p95=_quantile(waits, 0.95),
        wait_max=waits[-1] if waits else None,
        makespan=makespan,
        utilisation=utilisation,
        overtaken=sum(id(life) in overtaken for life in lives),
    )


def _overtaken(lives: list[Life]) -> set[int]:
    """One that never started was overtaken by whatever started and was opened later."""
    found = set()
    earliest: datetime | None = None
    """The first start among those that could start later."""
    pending: list[Life] = []
    for life in sorted(lives, key=lambda one: one.since, reverse=True):
        if pending and pending[0].since > life.since:
            starts = [one.started_at for one in pending if one.started_at is not None]
            earliest = min([*starts, *([earliest] if earliest else [])], default=None)
            pending = []
        if earliest is not None and (life.started_at is None or life.started_at > earliest):
            found.add(id(life))
        pending.append(life)
    return found


def _span(lives: list[Life]) -> float | None:
    ends = [life.ended_at for life in lives if life.ended_at is not None]
    return _seconds(min(life.opened_at for life in lives), max(ends, default=None))


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    return None if begin is None or end is None else max(0.0, (end - begin).total_seconds())


def _share(busy: float, span: float | None, slots: int) -> float | None:
    return busy / (span * slots) if span and slots else None


def _quantile(ordered: list[float], share: float) -> float | None:
    """The smallest value that so many are not above."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else None
