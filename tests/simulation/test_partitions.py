"""The day of many Schedulers adds up."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from partitions import MINUTES, curve, dealt, play, zipf


@pytest.mark.parametrize("peak", [1.5, 2.0, 3.0, 6.0])
def test_a_day_has_all_its_tasks_and_its_peak(peak: float) -> None:
    day = curve(peak)
    assert sum(day) == pytest.approx(MINUTES)
    assert max(day) == pytest.approx(peak, rel=1e-3)
    assert min(day) >= 0


@given(st.integers(1, 500), st.floats(0, 2), st.integers(1, 100), st.floats(0.001, 1), st.integers())
def test_every_task_has_one_scheduler(tenants: int, skew: float, schedulers: int, giant: float, seed: int) -> None:
    loads, giants = dealt(zipf(tenants, skew), schedulers, giant, Random(seed))
    assert sum(loads) == pytest.approx(1)
    assert 0 <= giants <= tenants


def test_what_is_too_much_waits_and_what_is_not_does_not() -> None:
    shares = zipf(1000, 1.0)
    enough = play(1e8, 8, shares, 3.0, 1000, Random(1))
    assert (enough.longest_wait, enough.most_waiting) == (0, 0)
    less = play(1e8, 2, shares, 3.0, 1000, Random(1))
    assert less.busiest > 1000
    assert less.longest_wait > 60
