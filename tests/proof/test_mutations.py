"""The campaign in short; `make mutations` runs it at length."""

import pytest
from mutations import clean, mutations

pytestmark = pytest.mark.slow


def test_whatever_is_changed_is_found_and_told_at_the_right_position() -> None:
    counts, broken = mutations(120, seed=20)
    assert broken == []
    assert counts["found"] > 80


def test_what_nobody_has_changed_is_not_found_nor_what_a_crash_leaves() -> None:
    counts, alarms = clean(40, seed=20)
    assert alarms == []
    assert counts.keys() == {"whole", "as a crash leaves it"}
