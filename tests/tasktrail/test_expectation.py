"""The time that work is still expected to take."""

import pytest

from tasktrail.expectation import seconds_left


@pytest.mark.parametrize(
    ("progress", "ran", "began", "left"),
    [(33.0, 46.0, 0.0, 93.4), (60.0, 10.0, 50.0, 40.0), (0.5, 46.0, 0.0, None), (50.0, 10.0, 50.0, None)],
)
def test_an_attempt_goes_on_as_fast_as_it_has(progress: float, ran: float, began: float, left: float | None) -> None:
    found = seconds_left(progress, ran, 0.0, began=began)
    assert found == (left if left is None else pytest.approx(left, abs=0.1))


@pytest.mark.parametrize(
    ("progress", "ran", "whole", "left"),
    [
        pytest.param(20.0, 1.0, 100.0, 80.0, id="what leaps at its start is held against its type"),
        pytest.param(20.0, 10.0, 5.0, 40.0, id="what its type takes says little of a long one"),
        pytest.param(20.0, 30.0, 300.0, 120.0, id="later its own pace alone counts"),
        pytest.param(0.0, 40.0, 100.0, 60.0, id="without a pace its type is all there is"),
        pytest.param(0.0, 400.0, 100.0, 1.0, id="what takes longer than its type is nearly done"),
        pytest.param(0.0, 0.0, 100.0, 100.0, id="what waits has it all before it"),
        pytest.param(75.0, 0.0, 40.0, 10.0, id="what waits and was stopped goes on from there"),
    ],
)
def test_tasks_of_its_type_tell_of_one_that_has_just_begun(
    progress: float, ran: float, whole: float, left: float
) -> None:
    assert seconds_left(progress, ran, whole) == pytest.approx(left)


def test_a_later_attempt_goes_by_its_type_if_nobody_knows_where_it_began() -> None:
    assert seconds_left(40.0, 100.0, 0.0, began=None) is None
    assert seconds_left(40.0, 40.0, 100.0, began=None) == pytest.approx(60.0)


def test_a_later_attempt_that_is_slower_than_its_type_is_not_nearly_done() -> None:
    """Its reports say how much is left, however long it has run."""
    assert seconds_left(10.0, 400.0, 100.0, began=None) == pytest.approx(90.0)
    assert seconds_left(0.0, 400.0, 100.0, began=None) == pytest.approx(1.0), "it reports nothing"
