"""Numbers as ranges: short, and the same numbers when they are read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events.ranges import NumberRange, numbers_of, shortened, spans_of, to_ranges, united


@given(st.lists(st.integers(1, 10**6)))
def test_numbers_come_back_in_order_and_once(numbers: list[int]) -> None:
    assert list(numbers_of(to_ranges(numbers))) == sorted(set(numbers))


def test_neighbours_are_one_range() -> None:
    assert to_ranges([5, 3, 4, 9, 4]) == "3-5,9"
    assert spans_of("3-5,9") == [NumberRange(3, 5), NumberRange(9, 9)]
    assert to_ranges([]) == ""


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9))))
def test_united_spans_have_the_numbers_of_all_and_none_twice(firsts: list[tuple[int, int]]) -> None:
    spans = [NumberRange(first, first + more) for first, more in firsts]
    numbers = {number for first, last in spans for number in range(first, last + 1)}
    assert ",".join(f"{first}-{last}" for first, last in united(spans)) == ",".join(
        f"{first}-{last}" for first, last in spans_of(to_ranges(numbers))
    )


@pytest.mark.parametrize("text", ["5-3", "3,3", "4-6,5", "a", "1,,2"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        spans_of(text)


def test_many_are_shortened_behind_a_whole_range() -> None:
    assert shortened("3-5,9") == "3-5,9"
    assert shortened("1-20," * 20) == f"{','.join(['1-20'] * 12)}, …"
