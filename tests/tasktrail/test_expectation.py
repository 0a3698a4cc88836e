"""How long work is expected to take still."""

import pytest

from tasktrail.expectation import left_at_own_pace, seconds_left


@pytest.mark.parametrize(
    ("progress", "ran", "began", "left"),
    [(33.0, 46.0, 0.0, 93.4), (60.0, 10.0, 50.0, 40.0), (0.5, 46.0, 0.0, None), (50.0, 10.0, 50.0, None)],
)
def test_an_attempt_goes_on_as_fast_as_it_has(progress: float, ran: float, began: float, left: float | None) -> None:
    found = left_at_own_pace(progress, ran, began=began)
    assert found == (left if left is None else pytest.approx(left, abs=0.1))


def test_without_a_mean_nothing_is_expected() -> None:
    assert seconds_left(50.0, 0.0) is None
    assert seconds_left(75.0, 40.0) == 10.0
