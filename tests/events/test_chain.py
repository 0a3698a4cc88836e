"""The hash of a record: the quick implementation equals the general one, which verifies it."""

from enum import Enum

from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events.log.chain import GENESIS, link, link_row

numbers = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(numbers | texts))
def test_a_row_has_one_hash(row: list[int | str]) -> None:
    assert link_row(GENESIS, row) == link(GENESIS, row)


def test_lengths_count_bytes() -> None:
    """Otherwise the content of one column could move to another."""
    assert link_row(GENESIS, ["é", "a"]) == link(GENESIS, ["é".encode(), b"a"])
    assert link_row(GENESIS, ["ab", "c"]) != link_row(GENESIS, ["a", "bc"])


class Role(str, Enum):  # noqa: UP042 - a StrEnum shows its value
    """A text that is displayed as another one."""

    ADMIN = "admin"


def test_what_is_stored_is_covered_and_not_what_is_shown() -> None:
    assert link_row(GENESIS, [Role.ADMIN, True]) == link(GENESIS, ["admin", 1])
