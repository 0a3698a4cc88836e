"""Lays charts out as numbers for SVG. `templates/charts.html` draws them, and writes them as a table."""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10

import msgspec

from ..events.counted import plural
from ..projections.queries.activity import Span
from ..words import duration

WIDTH, HEIGHT = 440, 140
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 4, 8, 22
_STEPS = (1, 2, 5, 10)
_ROUND_TOPS = (10, 20, 60, 120, 240, 600, 1200, 3600, 7200, 14400, 28800, 43200, 86400)
"""Round numbers of seconds whose halves are round, too."""
_ROUND_STEPS = (10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Seconds whose multiples are round."""


class Rect(msgspec.Struct, frozen=True):
    """A bar, or a part of one."""

    x: float
    y: float
    width: float
    height: float
    kind: str


class GridLine(msgspec.Struct, frozen=True):
    """A line of the grid, or a time below it."""

    at: float
    text: str


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A chart, laid out."""

    rects: tuple[Rect, ...] = ()
    lines: tuple[tuple[str, str], ...] = ()
    """Kind and path."""
    hits: tuple[tuple[float, float, str], ...]
    """Fields over each span, with its numbers in words: x, width, text."""
    levels: tuple[GridLine, ...]
    times: tuple[GridLine, ...]
    summary: str
    """The chart in words, for people who do not see it."""


def rates(spans: Sequence[Span], per: str) -> Chart:
    """Chart how many tasks ended in each span, by status, and how many were created. `per`: the span in words."""
    top = _nice(max((max(one.created, _ended(one)) for one in spans), default=0))
    rects: list[Rect] = []
    wide = _wide(spans)
    for place, one in enumerate(spans):
        floor_at = 0.0
        for kind in ("completed", "failed", "cancelled"):
            number = getattr(one, kind)
            if number:
                y, low = _y(floor_at + number, top), _y(floor_at, top)
                rects.append(Rect(_x(place, spans) + wide * 0.12, y, round(wide * 0.76, 2), round(low - y, 2), kind))
                floor_at += number
    ended, failed = sum(map(_ended, spans)), sum(one.failed for one in spans)
    return Chart(
        rects=tuple(rects),
        lines=(("created", _path(spans, lambda one: one.created, top)),),
        hits=_hits(spans, _rates_in_words),
        levels=(
            GridLine(_y(top, top), _grouped(top)),
            GridLine(_y(top / 2, top), _grouped(top / 2)),
            GridLine(_y(0, top), "0"),
        ),
        times=_times(spans),
        summary=f"{ended:,} {plural(ended, 'task')} ended, {failed:,} of them failed, and "
        f"{sum(one.created for one in spans):,} were created; "
        f"at most {max(map(_ended, spans), default=0):,} ended {per}.",
    )


def waits(spans: Sequence[Span]) -> Chart:
    """Chart how long the tasks that started in each span had waited."""
    top = _round(max((one.wait_p95 or 0.0 for one in spans), default=0.0), _ROUND_TOPS)
    started = sum(one.started for one in spans)
    longest = max((one.longest_wait or 0.0 for one in spans), default=0.0)
    return Chart(
        lines=(
            ("most", _path(spans, lambda one: one.wait_p95, top)),
            ("half", _path(spans, lambda one: one.wait_p50, top)),
        ),
        hits=_hits(spans, _waits_in_words),
        levels=tuple(GridLine(_y(level, top), short(level)) for level in (top, top / 2, 0.0)),
        times=_times(spans),
        summary=f"{started:,} {plural(started, 'attempt')} started; the longest wait was {duration(longest)}."
        if started
        else "None started.",
    )


def _grouped(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


def short(seconds: float) -> str:
    """A duration in one unit, for an axis."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds >= 1 or not seconds else f"{seconds * 1000:.3g} ms"


def round_step(seconds: float) -> float:
    """Return the distance between two marks on a time axis: `seconds`, rounded up to a round number."""
    return _round(seconds, _ROUND_STEPS)


def _round(seconds: float, among: tuple[int, ...]) -> float:
    if seconds <= among[0]:
        return _nice(seconds)
    return next((one for one in among if one >= seconds * 0.9999), 86400 * _nice(seconds / 86400))


def _ended(one: Span) -> int:
    return one.completed + one.failed + one.cancelled


def _rates_in_words(one: Span) -> str:
    parts = (f"{getattr(one, kind):,} {kind}" for kind in ("completed", "failed", "cancelled") if getattr(one, kind))
    return ", ".join([*parts, f"{one.created:,} created"])


def _waits_in_words(one: Span) -> str:
    if one.wait_p50 is None or one.wait_p95 is None or one.longest_wait is None:
        return "none started"
    return (
        f"{one.started:,} started: half within {duration(one.wait_p50)}, 95 % within {duration(one.wait_p95)}, "
        f"the last after {duration(one.longest_wait)}"
    )


def _nice(value: float) -> float:
    """Return the next round number."""
    if value <= 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in _STEPS if step * power >= value * 0.9999)


def _wide(spans: Sequence[Span]) -> float:
    return (WIDTH - _LEFT - _RIGHT) / max(1, len(spans))


def _x(place: float, spans: Sequence[Span]) -> float:
    return round(_LEFT + place * _wide(spans), 2)


def _y(value: float, top: float) -> float:
    return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - min(value / top, 1.0)), 2)


def _path(spans: Sequence[Span], value: Callable[[Span], float | None], top: float) -> str:
    """Draw a line through the middles of the spans, with gaps for missing values. A lone value is a short stroke."""
    parts: list[str] = []
    pen = "M"
    for place, one in enumerate(spans):
        found = value(one)
        if found is None:
            pen = "M"
            continue
        y = _y(found, top)
        if pen == "M":
            parts.append(f"M{_x(place + 0.3, spans)} {y}")
        parts.append(f"L{_x(place + 0.7, spans)} {y}")
        pen = "L"
    return "".join(parts)


def _hits(spans: Sequence[Span], words: Callable[[Span], str]) -> tuple[tuple[float, float, str], ...]:
    wide = round(_wide(spans), 2)
    return tuple(
        (_x(place, spans), wide, f"{one.begin.astimezone():%H:%M}: {words(one)}") for place, one in enumerate(spans)
    )


def _times(spans: Sequence[Span]) -> tuple[GridLine, ...]:
    every = max(1, ceil(len(spans) / 6))
    return tuple(
        GridLine(_x(place, spans), f"{one.begin.astimezone():%H:%M}")
        for place, one in enumerate(spans)
        if not place % every
    )
