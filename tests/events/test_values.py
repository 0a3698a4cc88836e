"""Accepted values can be recorded, sent and read back unchanged; others are refused by name."""

import sqlite3
from math import inf, nan
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasktrail.events import Checkpoint
from tasktrail.events.errors import InvalidValue
from tasktrail.events.values import MAX_DEPTH, MAX_INTEGER, MIN_INTEGER, _are_plain, _find_fault, check_plain


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"position": 10**20}, "options.position"),
        ({"sizes": [1, 2**63]}, "options.sizes[1]"),
        ({"a": {"b": -(2**63) - 1}}, "options.a.b"),
        ({"a": 10**5000}, "options.a"),
        ({"a": nan}, "options.a"),
        ({"a": [inf]}, "options.a[0]"),
        ({"a": "\ud800"}, "options.a"),
        ({"\udcff": 1}, "options.?"),
        ({"a": b"x"}, "options.a"),
        ({"a": {1, 2}}, "options.a"),
        ({"a": object()}, "options.a"),
        ({1: "x"}, "options"),
        ({None: "x"}, "options"),
        (nested(MAX_DEPTH + 1), "options" + MAX_DEPTH * "[0]" + "[0]"),
        (Checkpoint(processed_frames=10**20), "options.processed_frames"),
        (Checkpoint(data={"x": 10**20}), "options.data.x"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place(value: Any, field: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        check_plain(value, "options")
    assert refused.value.field == field
    str(refused.value).encode()


def test_the_error_of_a_number_says_what_to_do() -> None:
    with pytest.raises(InvalidValue, match=f"from {MIN_INTEGER} to {MAX_INTEGER}, or write it as text"):
        check_plain(10**20, "options.position")


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(MIN_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


ODD = st.sampled_from([2**63, inf, nan, "\ud800", b"x", {1, 2}, {1: 2}, {"\udcff": 1}, nested(MAX_DEPTH), Checkpoint()])
ANYTHING = st.recursive(
    PLAIN | ODD, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
)


@settings(max_examples=300, deadline=None)
@given(ANYTHING)
def test_what_is_let_in_at_a_glance_has_no_fault_and_nothing_else_is_looked_at_twice(value: Any) -> None:
    try:
        _find_fault(value, "options", 0)
    except InvalidValue:
        assert not _are_plain((value,), 0)
    else:
        assert _are_plain((value,), 0)


@settings(max_examples=300, deadline=None)
@given(PLAIN)
def test_what_is_let_in_is_the_same_after_every_way(value: Any) -> None:
    check_plain(value, "options")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value)) == value
    text = msgspec.json.encode(value).decode()
    with sqlite3.connect(":memory:") as base:
        stored, valid = base.execute("SELECT ?1, json_valid(?1)", (text,)).fetchone()
    base.close()
    assert (msgspec.json.decode(stored), valid) == (value, 1)


@pytest.mark.parametrize("value", [MIN_INTEGER, MAX_INTEGER, nested(MAX_DEPTH), "\0", 5e-324, 1.7e308, (1, 2), True])
def test_the_extremes_are_let_in(value: Any) -> None:
    check_plain(value, "options")
