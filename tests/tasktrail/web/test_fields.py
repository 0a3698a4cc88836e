"""Fields of forms: how the page shows a schema, and how typed values are read."""

from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, Literal, Union

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from tasktrail.events.commands import AddSchedule, CreateTask, SetLimits
from tasktrail.events.errors import InvalidValue
from tasktrail.handlers.registry import Registry
from tasktrail.web.fields import Field, FormFields

NOW = datetime(2026, 3, 27, 14, 30, tzinfo=UTC)


class Ink(Enum):
    RED = "red"
    BLUE = "blue"


class Box(msgspec.Struct, forbid_unknown_fields=True):
    """A box that is a part of the options."""

    height: Annotated[int, Meta(ge=1)]
    unit: Literal["mm", "inch"] = "mm"


class Chain(msgspec.Struct):
    length: int = 1
    then: "Chain | None" = None


class Everything(msgspec.Struct, kw_only=True, rename={"renamed": "called-so"}):
    """Every kind of field that a type's options may have."""

    number: Annotated[int, Meta(ge=1, le=10, description="How many.")] = 3
    share: Annotated[float, Meta(gt=0)] = 0.5
    maybe: Annotated[int, Meta(le=5)] | None = None
    five: int | None = 5
    needed: str
    title: Annotated[str, Meta(min_length=1, max_length=9)] = "plain"
    note: str = "as it was"
    ready: bool = False
    careful: bool = True
    unsure: bool | None = None
    way: Literal["fast", "good"] = "good"
    size: Literal[1, 2] = 1
    ink: Ink = Ink.RED
    some_ink: Ink | None = None
    must: Literal["this", "that"]
    pages: Annotated[int, Meta(ge=1)] | str = "1"
    scale: int | Literal["auto"] = "auto"
    views: tuple[Literal["top", "left"], ...] = ("top",)
    names: list[str] = []
    counts: dict[str, Annotated[int, Meta(ge=1)] | None] = {}
    words: dict[str, str] = {}
    box: Box | None = None
    always: Box = msgspec.field(default_factory=lambda: Box(1))
    at: Annotated[datetime, Meta(tz=True)] | None = None
    anything: Any = None
    boxes: list[Box] = []
    chain: Chain | None = None
    either: Union[Box, int, None] = None  # noqa: UP007 - as people write it
    renamed: int = 0


FORM = FormFields(Everything, prefix="options.", within="options.")
NEEDED = {"options.needed": "x", "options.must": "this"}


def typed(**changes: str) -> dict[str, str]:
    """Return what a browser sends of the untouched form, with changes; a box is ticked when its value is true."""
    found = dict(_sent(FORM.shown())) | NEEDED | {f"options.{name}": text for name, text in changes.items()}
    return {name: text for name, text in found.items() if text != "unticked"}


def _sent(fields: list[Field] | Any) -> Any:
    for field in fields:
        if field.control == "group":
            yield from _sent(field.fields)
        elif field.control != "checkbox" or field.value:
            yield field.name, field.value


def field_of(form: FormFields, name: str) -> Field:
    found = {field.name: field for field in form.shown()}
    return found[name]


def test_an_untouched_form_holds_only_what_has_to_be_given() -> None:
    assert FORM.read(typed(), NOW) == ({"needed": "x", "must": "this"}, {})


def test_what_has_to_be_given_is_asked_for() -> None:
    _, errors = FORM.read(typed(needed="", must=""), NOW)
    assert errors == {"needed": "`needed` has to be given", "must": "`must` has to be given"}


def test_a_list_that_has_to_be_given_is_not_given_by_leaving_it_empty() -> None:
    class Report(msgspec.Struct):
        names: list[str]
        counts: dict[str, int]

    form = FormFields(Report)
    assert form.read({"names": " ", "counts": ""}, NOW) == (
        {},
        {"names": "`names` has to be given", "counts": "`counts` has to be given"},
    )
    assert form.read({"names": "ada", "counts": "a=1"}, NOW) == ({"names": ["ada"], "counts": {"a": 1}}, {})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("number", "7", 7),
        ("share", "0.25", 0.25),
        ("share", "2", 2),
        ("maybe", "4", 4),
        ("five", "", None),
        ("title", "new", "new"),
        ("note", "", ""),
        ("note", "two\r\nlines ", "two\nlines "),
        ("ready", "true", True),
        ("careful", "unticked", False),
        ("unsure", "false", False),
        ("way", "fast", "fast"),
        ("size", "2", 2),
        ("ink", "blue", "blue"),
        ("some_ink", "red", "red"),
        ("pages", "7", 7),
        ("pages", "1-3,7", "1-3,7"),
        ("pages", "true", "true"),
        ("scale", "2", 2),
        ("views", "left\r\n\r\ntop\r\n", ["left", "top"]),
        ("views", "", []),
        ("names", "Ada\nGrace", ["Ada", "Grace"]),
        ("counts", "a=1\nb=c=2\nz=none", {"a": 1, "b=c": 2, "z": None}),
        ("words", "a=b=c", {"a": "b=c"}),
        ("box.height", "3", {"height": 3}),
        ("box.unit", "inch", None),
        ("always.unit", "inch", None),
        ("at", "+2h", "2026-03-27T16:30:00+00:00"),
        ("at", "2026-08-01T22:00:00Z", "2026-08-01T22:00:00+00:00"),
        ("anything", '{"deep": [1]}', {"deep": [1]}),
        ("anything", "just words", "just words"),
        ("boxes", '[{"height": 2}]', [{"height": 2}]),
        ("chain.then", '{"length": 2}', {"then": {"length": 2}}),
        ("either", "5", 5),
        ("called-so", "9", 9),
    ],
)
def test_what_is_typed_becomes_the_value_that_a_person_means(name: str, text: str, value: Any) -> None:
    values, errors = FORM.read(typed(**{name: text}), NOW)
    if name.endswith(".unit"):  # without a height it is not a box
        assert list(errors) == [f"{name.partition('.')[0]}.height"]
        return
    assert errors == {}
    assert values == {"needed": "x", "must": "this", name.partition(".")[0]: value}
    msgspec.convert(values, Everything)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("number", "many", "number has to be a whole number, not 'many'"),
        ("number", "11", "number has to be a whole number, at most 10"),
        ("number", "9" * 5000, "number has to be a whole number"),
        ("share", "0", "share has to be a number, more than 0"),
        ("maybe", "6", "maybe has to be a whole number, at most 5"),
        ("title", "much too long", "title has to have at most 9 characters"),
        ("way", "nice", "way cannot be 'nice': allowed is fast, good"),
        ("ink", "green", "ink cannot be 'green': allowed is red, blue"),
        ("unsure", "perhaps", "unsure has to be true or false or null, not text"),
        ("views", "left\nbottom", "views[1] cannot be 'bottom': allowed is top, left"),
        ("counts", "a=0", "counts.a has to be a whole number, at least 1"),
        ("counts", "a", "counts has to have lines like name=value, not 'a'"),
        ("counts", "a=b", "counts has to be a whole number, not 'b'"),
        ("box.height", "0", "box.height has to be a whole number, at least 1"),
        ("box.height", "high", "box height has to be a whole number, not 'high'"),
        ("at", "soon", "at has to be a time such as +10m"),
        ("boxes", "[{}]", "`boxes[0].height` has to be given"),
        ("called-so", "x", "called-so has to be a whole number, not 'x'"),
    ],
)
def test_an_error_says_which_field_is_wrong_and_how_and_what_was_typed_stays(name: str, text: str, said: str) -> None:
    sent = typed(**{name: text})
    values, errors = FORM.read(sent, NOW)
    assert name.partition(".")[0] not in values
    (error,) = errors.values()
    assert error.startswith(said)
    shown = {field.name: field for field in FORM.shown(sent, errors)}
    group = shown[f"options.{name.partition('.')[0]}"]
    found = next((field for field in group.fields if field.name == f"options.{name}"), group)
    assert found.value == text
    assert error in (found.error, group.error)
    assert group.touched
    assert [other for other in shown.values() if other.error and other is not group] == []


def test_a_text_that_may_not_be_empty_is_as_it_was_when_it_is_emptied() -> None:
    assert FORM.read(typed(title=""), NOW) == ({"needed": "x", "must": "this"}, {})


def test_all_that_is_wrong_is_told_at_once() -> None:
    _, errors = FORM.read(typed(number="0", share="-1", way="nice"), NOW)
    assert list(errors) == ["number", "share", "way"]


def test_the_controls_suit_what_may_be_typed() -> None:
    controls = {field.name.removeprefix("options."): field.control for field in FORM.shown()}
    assert controls == {
        **dict.fromkeys(("number", "share", "maybe", "five", "called-so"), "number"),
        **dict.fromkeys(("needed", "title", "note", "pages", "scale", "at"), "text"),
        **dict.fromkeys(("ready", "careful"), "checkbox"),
        **dict.fromkeys(("unsure", "way", "size", "ink", "some_ink", "must"), "choice"),
        **dict.fromkeys(("views", "names"), "lines"),
        **dict.fromkeys(("counts", "words"), "pairs"),
        **dict.fromkeys(("box", "always", "chain"), "group"),
        **dict.fromkeys(("anything", "boxes", "either"), "json"),
    }


def test_a_field_shows_its_meaning_its_bounds_and_its_choices() -> None:
    number = field_of(FORM, "options.number")
    assert (number.label, number.meaning, number.hint, number.value) == ("Number", "How many.", "1 to 10.", "3")
    assert field_of(FORM, "options.share").hint == "More than 0."
    assert field_of(FORM, "options.way").choices == [("fast", "fast"), ("good", "good")]
    assert field_of(FORM, "options.some_ink").choices[0] == ("", "not set")
    assert field_of(FORM, "options.must").choices[0] == ("", "choose one")
    assert field_of(FORM, "options.views").hint == "One a line: left, top."
    assert field_of(FORM, "options.careful").value == "true"


def test_a_struct_that_holds_itself_is_typed_as_json_from_there_on() -> None:
    assert [(field.label, field.control) for field in field_of(FORM, "options.chain").fields] == [
        ("Length", "number"),
        ("Then", "json"),
    ]


def test_a_field_of_a_command_is_typed_as_on_the_command_line() -> None:
    form = FormFields(SetLimits, ("max_memory", "types", "users"))
    assert form.read({"max_memory": "4GiB", "types": "video_convert=1\nother=none", "users": ""}, NOW) == (
        {"max_memory": 4 * 1024**3, "types": {"video_convert": 1, "other": None}},
        {},
    )
    assert form.read({"max_memory": "lots"}, NOW)[1] == {
        "max_memory": "max_memory has to be a size such as 4GiB, not 'lots'"
    }
    assert form.read({"users": "ada=1"}, NOW)[1] == {"users.ada": 'users.ada has to be a user\'s number, such as "7"'}


def test_what_takes_seconds_takes_a_duration_as_well() -> None:
    form = FormFields(CreateTask, ("retry_delay", "timeout"))
    assert form.read({"retry_delay": "10m", "timeout": "1.5h"}, NOW) == ({"retry_delay": 600.0, "timeout": 5400.0}, {})
    assert form.read({"retry_delay": "90", "timeout": ""}, NOW) == ({"retry_delay": 90.0}, {})
    told = "timeout has to be seconds, or a duration such as 10m, not 'soon'"
    assert form.read({"timeout": "soon"}, NOW)[1] == {"timeout": told}
    assert set(form.read({"timeout": "-5", "retry_delay": "nan"}, NOW)[1]) == {"timeout", "retry_delay"}
    field = field_of(FormFields(CreateTask), "retry_delay")
    assert (field.label, field.keyboard) == ("Retry delay (seconds)", "")
    assert "like 10m" in field.hint
    assert field_of(FormFields(CreateTask), "priority").keyboard == "numeric"


def test_dependencies_are_typed_with_commas_or_as_a_list() -> None:
    form = FormFields(CreateTask, ("on_dependency_failure", "depends_on"))
    assert form.read({"on_dependency_failure": "wait, fail", "depends_on": "3\n7"}, NOW)[0] == {
        "on_dependency_failure": ["wait", "fail"],
        "depends_on": [3, 7],
    }
    assert form.read({"on_dependency_failure": "fail"}, NOW) == ({}, {})


def test_a_refusal_of_the_service_finds_its_field() -> None:
    assert FORM.error_of(InvalidValue("no", field="options.views[2]")) == {"views[2]": "no"}
    assert FORM.error_of(InvalidValue("no", field="options")) == {}
    assert FORM.error_of(InvalidValue("no", field="input_file")) == {}
    shown = {field.name: field for field in FORM.shown(None, {"views[2]": "no"})}
    assert shown["options.views"].error == "no"


@pytest.mark.parametrize(
    "kind", [*(task_type.options for task_type in Registry.load()), CreateTask, SetLimits, AddSchedule]
)
def test_every_form_there_is_asks_for_nothing_when_it_is_untouched(kind: type[msgspec.Struct]) -> None:
    names = [field.encode_name for field in msgspec.structs.fields(kind) if field.encode_name not in ("type", "task")]
    form = FormFields(kind, names)
    shown = form.shown()
    values, errors = form.read(dict(_sent(shown)), NOW)
    assert values == {}
    assert set(errors) <= {field.name for field in shown if field.required}
    assert not any(field.touched for field in shown)


@given(st.dictionaries(st.sampled_from([name for name, _ in _sent(FORM.shown())]), st.text(max_size=20)))
def test_whatever_is_typed_is_read_or_refused_beside_a_field(changes: dict[str, str]) -> None:
    sent = typed() | changes
    values, errors = FORM.read(sent, NOW)
    shown = FORM.shown(sent, errors)
    told = {field.error for one in shown for field in (one, *one.fields) if field.error}
    assert told == set(errors.values())
    if not errors:
        msgspec.convert(values, Everything)
