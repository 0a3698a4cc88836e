"""The retry schedule, by its bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.actors.delivery.attempt import DELAYS, JITTER, MAX_DETAIL, Result, brief, next_delay

FAILED = Result(ok=False, detail="no")
jitters = st.floats(0, 1)


def test_the_schedule_is_the_documented_one() -> None:
    delays = [next_delay(FAILED, tries, 0.0) for tries in range(1, 11)]
    assert delays == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400, None]


@given(st.integers(1, len(DELAYS)), jitters)
def test_jitter_only_adds_and_only_a_little(tries: int, jitter: float) -> None:
    delay = next_delay(FAILED, tries, jitter)
    assert delay is not None
    assert DELAYS[tries - 1] <= delay <= DELAYS[tries - 1] * (1 + JITTER)


@given(st.integers(1, len(DELAYS) - 1), jitters, jitters)
def test_a_later_try_never_waits_less(tries: int, first: float, second: float) -> None:
    sooner, later = next_delay(FAILED, tries, first), next_delay(FAILED, tries + 1, second)
    assert sooner is not None
    assert later is not None
    assert sooner < later


@pytest.mark.parametrize(("asked", "expected"), [(60.0, 60.0), (1.0, 5.0), (0.0, 5.0), (10.0**9, 86400.0)])
def test_the_receivers_wish_is_honoured_up_to_a_day(asked: float, expected: float) -> None:
    assert next_delay(Result(ok=False, detail="", retry_after=asked), 1, 0.0) == expected


@pytest.mark.parametrize(
    "result",
    [
        Result(ok=True, detail=""),
        Result(ok=False, detail="", retryable=False),
        Result(ok=False, detail="", disabled=True, retry_after=5.0),
    ],
)
def test_what_is_over_is_not_tried_again(result: Result) -> None:
    assert next_delay(result, 1, 0.5) is None


@given(st.text())
def test_a_detail_is_one_short_printable_line(text: str) -> None:
    line = brief(text)
    assert len(line.encode()) <= MAX_DETAIL
    assert line.isprintable()


def test_a_long_detail_is_cut_between_characters() -> None:
    assert brief("é" * 1000, 101) == "é" * 50
