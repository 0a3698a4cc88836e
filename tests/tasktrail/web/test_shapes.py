"""Drawn shapes lie within the drawing, at the right place."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tasktrail.projections.attempts import Attempt, Point
from tasktrail.projections.queries.activity import Span
from tasktrail.web import charts
from tasktrail.web.shapes import (
    BOTTOM,
    BOX_HEIGHT,
    BOX_WIDTH,
    LEFT,
    RIGHT,
    SIDE,
    TOP,
    DrawnTask,
    RelatedTasks,
    graph_shape,
    time_shape,
)

BEGIN = datetime(2026, 1, 31, 12, tzinfo=UTC)


def attempt(number: int, start: float, end: float | None) -> Attempt:
    ended = None if end is None else BEGIN + timedelta(seconds=end)
    return Attempt(
        task_id=1,
        number=number,
        life=1,
        started_at=BEGIN + timedelta(seconds=start),
        waited=0.0,
        resumed=False,
        worker="w",
        effective_priority=0.0,
        memory_reserved=0,
        temp_reserved=0,
        ended_at=ended,
        outcome=None if end is None else "failed",
        progress=50.0,
    )


def test_attempts_lie_where_their_time_is() -> None:
    first = replace(attempt(1, 25, 50), curve=(Point(5, 20.0), Point(25, 100.0)), saved=(Point(5, 20.0),))
    running = attempt(2, 75, None)
    shape = time_shape([first, running], BEGIN, BEGIN + timedelta(seconds=100))
    one, other = shape.bars
    quarter = (RIGHT - LEFT) / 4
    assert (one.x, one.width) == (LEFT + quarter, quarter)
    assert (other.x, other.width, other.outcome, other.curve) == (LEFT + 3 * quarter, quarter, "", "")
    assert one.curve.endswith(f"{LEFT + 2 * quarter:g},{TOP:g}")
    assert one.dots[0].x == pytest.approx(LEFT + 0.3 * (RIGHT - LEFT))
    assert one.title == "Attempt 1: failed after 25.0 s, at 50.0 %"
    assert [tick.text for tick in shape.ticks] == ["0", "20 s", "40 s", "1 min", "1m 20s", "1m 40s"]


@pytest.mark.parametrize(
    ("span", "last"), [(0.29, "250 ms"), (54, "50 s"), (3600, "1 h"), (9000, "2h 30m"), (90_000, "1 d"), (8e7, "800 d")]
)
def test_moments_on_the_line_of_time_are_round_and_few(span: float, last: str) -> None:
    marks = time_shape([], BEGIN, BEGIN + timedelta(seconds=span)).ticks
    assert 2 < len(marks) < 9
    assert marks[-1].text == last
    assert all(mark.x <= RIGHT for mark in marks)


@pytest.mark.parametrize(
    ("longest", "levels"),
    [(0.0, "1 s 500 ms"), (9.0, "10 s 5 s"), (50, "1 min 30 s"), (128, "4 min 2 min"), (90_000, "2 d 1 d")],
)
def test_waits_are_drawn_between_round_times(longest: float, levels: str) -> None:
    numbers = dict.fromkeys(("created", "started", "completed", "failed", "cancelled"), 1)
    span = Span(begin=BEGIN, **numbers, wait_p50=0.0, wait_p95=longest, longest_wait=longest)
    assert " ".join(level.text for level in charts.waits([span]).levels[:2]) == levels


@pytest.mark.parametrize(("most", "levels"), [(1, "1 0.5"), (7_000, "10,000 5,000"), (600_000, "1,000,000 500,000")])
def test_numbers_of_tasks_are_grouped_as_elsewhere(most: int, levels: str) -> None:
    numbers = dict.fromkeys(("started", "completed", "failed", "cancelled"), 0)
    span = Span(begin=BEGIN, created=most, **numbers, wait_p50=None, wait_p95=None, longest_wait=None)
    assert " ".join(level.text for level in charts.rates([span], "a minute").levels[:2]) == levels


seconds = st.floats(-1e7, 1e7)


@given(st.lists(st.tuples(seconds, st.none() | seconds, st.lists(st.tuples(seconds, st.floats(-1e3, 1e3))))), seconds)
def test_whatever_clocks_say_nothing_is_drawn_outside(
    lives: list[tuple[float, float | None, list[tuple[float, float]]]], end: float
) -> None:
    attempts = [
        replace(attempt(number, start, stop), curve=tuple(Point(*point) for point in points))
        for number, (start, stop, points) in enumerate(lives, 1)
    ]
    for bar in time_shape(attempts, BEGIN, BEGIN + timedelta(seconds=end)).bars:
        assert LEFT <= bar.x <= RIGHT
        assert bar.width > 0
        assert bar.x + bar.width <= RIGHT + 4
        for pair in bar.curve.split():
            across, down = map(float, pair.split(","))
            assert LEFT - 1 <= across <= RIGHT + 4
            assert TOP <= down <= BOTTOM


def nodes(number: int, first: int) -> tuple[DrawnTask, ...]:
    return tuple(DrawnTask(id=first + one, type="t", status="pending") for one in range(number))


sides = st.integers(0, SIDE)


@given(before=sides, after=sides, below=sides, above=st.booleans(), more=st.booleans())
def test_every_task_has_a_box_of_its_own_and_every_arrow_two(
    before: int, after: int, below: int, *, above: bool, more: bool
) -> None:
    around = RelatedTasks(
        center=DrawnTask(id=1),
        parent=DrawnTask(id=2) if above else None,
        dependencies=nodes(before, 100),
        dependants=nodes(after, 200),
        children=nodes(below, 300),
        more_dependencies=3 if more else 0,
        more_children=more,
    )
    shape = graph_shape(around)
    shown = [box.node.id for box in shape.boxes if box.node]
    assert len(shown) == len(set(shown)) == 1 + above + before + after + below
    places = [(box.x, box.y) for box in shape.boxes]
    assert len(set(places)) == len(places)
    assert all(0 <= x <= shape.width - BOX_WIDTH and 0 <= y <= shape.height - BOX_HEIGHT for x, y in places)
    assert len(shape.arrows) == len(shape.boxes) - 1
    assert [box.words for box in shape.boxes if not box.node] == (["and 3 more", "and more"] if more else [])
    assert around.alone == (not (before or after or below or above))


def test_each_part_hangs_on_its_parent_not_on_the_part_above_it() -> None:
    shape = graph_shape(RelatedTasks(center=DrawnTask(id=1), children=nodes(3, 300)))
    numbers = [[float(one) for one in re.findall(r"-?\d+", arrow.path)] for arrow in shape.arrows]
    assert {(path[0], path[1]) for path in numbers} == {(BOX_WIDTH, BOX_HEIGHT // 2)}
    assert [path[-1] for path in numbers] == [box.y + BOX_HEIGHT // 2 for box in shape.boxes if not box.center]
    assert all(0 <= across <= shape.width for path in numbers for across in path[::2])
