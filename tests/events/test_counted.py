"""The noun that goes with a number."""

import pytest

from tasktrail.events.counted import counted, plural


@pytest.mark.parametrize(("number", "said"), [(0, "0 tasks"), (1, "1 task"), (2, "2 tasks"), (1000, "1000 tasks")])
def test_only_1_is_followed_by_the_singular(number: int, said: str) -> None:
    assert counted(number, "task") == said


def test_a_plural_of_its_own_and_a_verb_can_be_given() -> None:
    assert [counted(number, "retry", "retries") for number in (1, 2)] == ["1 retry", "2 retries"]
    assert [plural(number, "is", "are") for number in (1, 0)] == ["is", "are"]
    assert [plural(number, "CPU") for number in (1.0, 1.5)] == ["CPU", "CPUs"]
