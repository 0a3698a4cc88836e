"""The filters of a list, and the errors for wrong ones."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events.errors import InvalidValue
from tasktrail.projections import TaskFilters
from tasktrail.projections.queries.filters import ids_of, text_of, values_of


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "done"),
        ("status", "failed,done"),
        ("status", ("failed", "done")),
        ("status", 5),
        ("status", (None,)),
        ("type", 5),
        ("type", "x" * 1001),
        ("type", "a\x00b"),
        ("type", "\ud800"),
        ("user_id", -1),
        ("user_id", 2**53 + 1),
        ("user_id", True),
        ("user_id", (1, "2")),
        ("user_id", tuple(range(101))),
        ("document_id", 2**63),
        ("parent_task_id", -5),
        ("label", 7),
        ("label", ("a\x00b",)),
        ("search", "///"),
        ("search", "\ud800"),
        ("search", "x" * 1001),
        ("search", ("a",)),
        ("sort", "colour"),
        ("sort", "--priority"),
        ("sort", ""),
        ("sort", 1),
        ("limit", 0),
        ("limit", 501),
        ("limit", -1),
        ("limit", 1.5),
        ("limit", "10"),
        ("limit", True),
        ("offset", -1),
        ("offset", 2**60),
        ("offset", None),
    ],
)
def test_a_value_that_is_not_allowed_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidValue) as refusal:
        TaskFilters(**{field: value})
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("limit", "ten"),
        ("limit", "0"),
        ("offset", "1.5"),
        ("user_id", "1,two"),
        ("user_id", "-1"),
        ("status", "done"),
        ("colour", "red"),
        ("__class__", "x"),
    ],
)
def test_a_text_that_is_not_allowed_names_its_field(field: str, text: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        TaskFilters.parse({field: text})
    assert refusal.value.field == field


@pytest.mark.parametrize("field", ["limit", "offset", "user_id"])
@pytest.mark.parametrize("digits", [19, 20, 5_000])
def test_a_number_that_is_too_large_is_not_called_no_number(field: str, digits: int) -> None:
    with pytest.raises(InvalidValue) as refusal:
        TaskFilters.parse({field: "9" * digits})
    assert (refusal.value.field, ", not '9" in refusal.value.message) == (field, False)


@pytest.mark.parametrize(
    ("field", "wrong", "right"), [("status", "complete", "completed"), ("sort", "-prio", "priority")]
)
def test_the_nearest_right_value_is_named(field: str, wrong: str, right: str) -> None:
    with pytest.raises(InvalidValue, match=f"did you mean '{right}'"):
        TaskFilters(**{field: wrong})  # type: ignore[arg-type]  # a field of text


def test_the_nearest_field_is_named() -> None:
    with pytest.raises(InvalidValue, match="did you mean 'user_id'"):
        TaskFilters.parse({"userid": "1"})


def test_texts_of_an_address_become_filters() -> None:
    texts = {"status": "failed, retrying", "type": "a,b", "user_id": "1,2", "limit": "5", "offset": "10", "search": ""}
    filters = TaskFilters.parse(texts)
    assert values_of(filters.status) == ("failed", "retrying")
    assert values_of(filters.type) == ("a", "b")
    assert ids_of(filters.user_id) == (1, 2)
    assert (filters.limit, filters.offset, filters.search) == (5, 10, "")


def test_without_wishes_it_is_the_newest_fifty() -> None:
    filters = TaskFilters.parse({})
    assert filters == TaskFilters()
    assert (filters.sort, filters.limit, filters.offset) == ("-created_at", 50, 0)


def test_a_type_with_a_comma_can_be_asked_for_as_a_tuple() -> None:
    assert values_of(TaskFilters(type=("a,b",)).type) == ("a,b",)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (r"a\,b", ("a,b",)),
        (r"a\,b,c", ("a,b", "c")),
        (r"\,", (",",)),
        (r"a\\,b", (r"a\,b",)),
        (r"a\b,c\\d", (r"a\b", r"c\\d")),
        ("a\\ ,b", ("a\\", "b")),
    ],
)
def test_a_comma_with_a_backslash_in_front_is_part_of_a_value(text: str, values: tuple[str, ...]) -> None:
    assert values_of(text) == values
    assert values_of(TaskFilters.parse({"label": text}).label) == values


def test_each_text_of_a_list_is_read_by_itself() -> None:
    filters = TaskFilters.parse({"label": ["a\\", r"b\,c,d", "d"], "user_id": ["1,2", "3"]})
    assert (filters.label, filters.user_id) == (("a\\", "b,c", "d"), (1, 2, 3))


@given(st.lists(st.text(alphabet="a,\\ ", min_size=1).map(str.strip).filter(bool), unique=True))
def test_any_values_can_be_written_in_one_text(values: list[str]) -> None:
    assert values_of(text_of(values)) == tuple(values)


def test_filters_survive_json() -> None:
    filters = TaskFilters(status=("failed",), user_id=(1, 2), search="mp4", sort="priority", as_of="17")
    assert msgspec.json.decode(msgspec.json.encode(filters), type=TaskFilters) == filters


@given(st.dictionaries(st.sampled_from(TaskFilters.__struct_fields__), st.text(max_size=20)))
def test_no_text_at_all_raises_anything_else(texts: dict[str, str]) -> None:
    try:
        TaskFilters.parse(texts)
    except InvalidValue as error:
        field = error.field
    else:
        return
    assert field in TaskFilters.__struct_fields__
