"""The campaigns in short; `make mutations` and `make mutations-postgresql` run them at length."""

from pathlib import Path

import postgresql_mutations
import pytest
from mutations import clean, mutations
from postgresql_server import needs_postgresql

pytestmark = pytest.mark.slow


def test_whatever_is_changed_is_found_and_told_at_the_right_position() -> None:
    counts, broken = mutations(120, seed=20)
    assert broken == []
    assert counts["found"] > 80


def test_what_nobody_has_changed_is_not_found_nor_what_a_crash_leaves() -> None:
    counts, alarms = clean(40, seed=20)
    assert alarms == []
    assert counts.keys() == {"whole", "as a crash leaves it"}


@needs_postgresql
def test_whatever_is_changed_in_postgresql_is_found_and_told_at_the_right_position(tmp_path: Path) -> None:
    counts, broken = postgresql_mutations.mutations(120, seed=5, folder=tmp_path)
    assert broken == []
    assert counts["found"] > 100
