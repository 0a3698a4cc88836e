"""Lays tasks out as numbers for SVG: attempts on a time axis, and a task among those related to it."""

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from ..projections.attempts import Attempt, Point
from ..words import duration, percent
from .charts import round_step, short

LEFT, RIGHT, TOP, BOTTOM = 50, 990, 12, 132
_THIN = 3.0
"""Width of the shortest attempt."""
_TICKS = 6
"""The most ticks after the beginning."""


class Dot(msgspec.Struct, frozen=True):
    """A checkpoint."""

    x: float
    y: float
    title: str


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt on the time axis."""

    number: int
    x: float
    width: float
    outcome: str
    """Empty while it runs."""
    title: str
    curve: str
    """Points of its progress, as SVG's `polyline` has them."""
    dots: tuple[Dot, ...]


class TimeMark(msgspec.Struct, frozen=True):
    """A time named below the axis."""

    x: float
    text: str


class TimeShape(msgspec.Struct, frozen=True, kw_only=True):
    """The attempts of a task on a time axis."""

    bars: tuple[Bar, ...]
    ticks: tuple[TimeMark, ...]
    levels: tuple[TimeMark, ...]
    """Lines at 0, 50 and 100 %; `x` is their height."""


def time_shape(attempts: Sequence[Attempt], begin: datetime, end: datetime) -> TimeShape:
    """Lay out the attempts between two times; an attempt without an end reaches to `end`."""
    span = max((end - begin).total_seconds(), 0.001)

    def place(seconds: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * min(max(seconds / span, 0.0), 1.0), 2)

    every = round_step(span / _TICKS)
    ticks = tuple(
        TimeMark(place(every * number), _mark(every * number)) for number in range(int(span / every * 1.0001) + 1)
    )
    levels = tuple(TimeMark(_height(level), f"{level:g} %") for level in (0.0, 50.0, 100.0))
    return TimeShape(bars=tuple(_bar(attempt, begin, end, place) for attempt in attempts), ticks=ticks, levels=levels)


def _mark(seconds: float) -> str:
    """Write a time on the axis: 0, 20 s, 3 min, 1h 30m."""
    text = short(seconds) if seconds else "0"
    return duration(seconds) if "." in text and seconds > 1 else text


def _bar(attempt: Attempt, begin: datetime, end: datetime, place: Callable[[float], float]) -> Bar:
    start = (attempt.started_at - begin).total_seconds()
    ended = ((attempt.ended_at or end) - begin).total_seconds()
    x = place(start)
    width = max(_THIN, round(place(ended) - x, 2))

    def spot(point: Point) -> tuple[float, float]:
        return min(place(start + point.after), round(x + width, 2)), _height(point.progress)

    how = f"{(attempt.outcome or 'running').replace('_', ' ')} after {duration(max(0.0, ended - start))}"
    points = [(x, _height(attempt.curve[0].progress)), *map(spot, attempt.curve)] if attempt.curve else []
    return Bar(
        number=attempt.number,
        x=min(x, RIGHT - _THIN),
        width=width,
        outcome=attempt.outcome or "",
        title=f"Attempt {attempt.number}: {how}, at {percent(attempt.progress)}",
        curve=" ".join(f"{across:g},{down:g}" for across, down in points),
        dots=tuple(
            Dot(*spot(point), f"Checkpoint at {percent(point.progress)}, {duration(point.after)} after the start")
            for point in attempt.saved
        ),
    )


def _height(progress: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * min(max(progress, 0.0), 100.0) / 100, 2)


# --- a task among others --------------------------------------------------------------------------------------------

BOX_WIDTH, BOX_HEIGHT = 178, 44
_ACROSS, _DOWN = 230, 58
_BULGE = 24
"""Space beside the boxes for arrows that pass others."""
SIDE = 8
"""The most tasks that are drawn on one side."""


class DrawnTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task, as far as the caller may see it."""

    id: int
    type: str = ""
    status: str = ""
    """Empty: it cannot be seen."""


class RelatedTasks(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks related to one task. Of many, only the first are listed; `more_…` tells of the others."""

    center: DrawnTask
    parent: DrawnTask | None = None
    dependencies: tuple[DrawnTask, ...] = ()
    dependants: tuple[DrawnTask, ...] = ()
    children: tuple[DrawnTask, ...] = ()
    more_dependencies: int = 0
    more_dependants: bool = False
    more_children: bool = False

    @property
    def alone(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.parent or self.dependencies or self.dependants or self.children)


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """A task in the drawing, or a note about those left out."""

    x: int
    y: int
    node: DrawnTask | None = None
    words: str = ""
    center: bool = False


class Arrow(msgspec.Struct, frozen=True):
    """A line from one box to another, curved, as SVG's `path` has it."""

    path: str
    kind: str
    """depends or part."""


class GraphShape(msgspec.Struct, frozen=True, kw_only=True):
    """The drawing."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def graph_shape(related: RelatedTasks) -> GraphShape:
    """Place dependencies on the left, dependants on the right, the parent above and the children below."""
    left = _listed(related.dependencies, f"and {related.more_dependencies} more" if related.more_dependencies else "")
    right = _listed(related.dependants, "and more" if related.more_dependants else "")
    below = _listed(related.children, "and more" if related.more_children else "")
    columns = 1 + bool(left) + bool(right)
    middle = _ACROSS if left else 0
    above = 1 if related.parent else 0
    tallest = max(len(left), len(right), 1 + above + len(below))
    center_row = max(above, (max(len(left), len(right)) - 1) // 2)
    center = Box(x=middle, y=center_row * _DOWN, node=related.center, center=True)
    boxes, arrows = [center], []
    for row, (node, words) in enumerate(left):
        box = Box(x=0, y=row * _DOWN, node=node, words=words)
        boxes.append(box)
        arrows.append(_across(box, center))
    for row, (node, words) in enumerate(right):
        box = Box(x=middle + _ACROSS, y=row * _DOWN, node=node, words=words)
        boxes.append(box)
        arrows.append(_across(center, box))
    if related.parent:
        box = Box(x=middle, y=(center_row - 1) * _DOWN, node=related.parent)
        boxes.append(box)
        arrows.append(_down(box, center))
    for row, (node, words) in enumerate(below, center_row + 1):
        box = Box(x=middle, y=row * _DOWN, node=node, words=words)
        boxes.append(box)
        arrows.append(_beside(center, box))
    rows = max(tallest, center_row + 1 + len(below))
    return GraphShape(
        width=(columns - 1) * _ACROSS + BOX_WIDTH + (_BULGE if below and not right else 0),
        height=(rows - 1) * _DOWN + BOX_HEIGHT,
        boxes=tuple(boxes),
        arrows=tuple(arrows),
    )


def _listed(nodes: Sequence[DrawnTask], more: str) -> list[tuple[DrawnTask | None, str]]:
    listed: list[tuple[DrawnTask | None, str]] = [(node, "") for node in nodes]
    return [*listed, (None, more)] if more else listed


def _across(one: Box, other: Box) -> Arrow:
    x, y = one.x + BOX_WIDTH, one.y + BOX_HEIGHT // 2
    to_x, to_y = other.x, other.y + BOX_HEIGHT // 2
    half = (x + to_x) // 2
    return Arrow(f"M{x} {y}C{half} {y} {half} {to_y} {to_x} {to_y}", "depends")


def _beside(one: Box, other: Box) -> Arrow:
    """Draw an arrow to a child, past the boxes between."""
    x, y, to_y = one.x + BOX_WIDTH, one.y + BOX_HEIGHT // 2, other.y + BOX_HEIGHT // 2
    return Arrow(f"M{x} {y}C{x + _BULGE} {y} {x + _BULGE} {to_y} {x} {to_y}", "part")


def _down(one: Box, other: Box) -> Arrow:
    x = one.x + BOX_WIDTH // 2
    return Arrow(f"M{x} {one.y + BOX_HEIGHT}L{x} {other.y}", "part")
