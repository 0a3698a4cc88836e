"""A decoder's complaint is explained in words: which field, which key in it, and what is allowed."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from tasktrail.events import CancelTask, Command, CreateGraph, CreateTask
from tasktrail.events.commands import AddSchedule, PauseQueue, SetLimits
from tasktrail.events.errors import InvalidValue, Malformed, TasktrailError
from tasktrail.http.requests import decode_array, decode_command, decode_create, decode_kind
from tasktrail.intake.conversion import command_from_fields, validated
from tasktrail.intake.receivers import check_receivers
from tasktrail.intake.refusals import refusal, sentence

WORK = {"type": "noop"}


@pytest.mark.parametrize(
    ("kind", "fields", "field", "message"),
    [
        (SetLimits, {"types": {"a": 1, "b": 0}}, "types.b", "types.b has to be a whole number, at least 1"),
        (SetLimits, {"types": {"": 1}}, 'types.""', 'types."" may not be empty'),
        (SetLimits, {"users": {"7": 1, "me": 1}}, "users.me", 'users.me has to be a user\'s number, such as "7"'),
        (SetLimits, {"labels": {"x": "y"}}, "labels.x", "labels.x has to be a whole number or null, not text"),
        (
            SetLimits,
            {"rates": {"work": "2/m"}},
            "rates.work",
            "rates.work has to be `type:`, `user:` or `label:` and a name, or `*` for each that has no rate of its own",
        ),
        (
            SetLimits,
            {"rates": {"type:work": "2 a minute"}},
            "rates.type:work",
            (
                "rates.type:work has to be a number of starts, at most 9999, per second, minute, "
                "hour or day, or per several of these: `10/m`, `3/15m`"
            ),
        ),
        (SetLimits, {"max_cpu": 101}, "max_cpu", "max_cpu has to be a number, at most 100"),
        (
            PauseQueue,
            {"user_id": 1.5},
            "user_id",
            "user_id has to be a whole number or null, not a number with a fraction",
        ),
        (CreateTask, {**WORK, "priority": 11}, "priority", "priority has to be a whole number, at most 10"),
        (CreateTask, {**WORK, "timeout": 0}, "timeout", "timeout has to be a number, more than 0"),
        (
            CreateTask,
            {**WORK, "deadline": "soon"},
            "deadline",
            "deadline has to be a time such as 2026-08-01T22:00:00Z",
        ),
        (CreateTask, {"type": "x" * 300}, "type", "type has to have at most 200 characters"),
        (
            CreateTask,
            {**WORK, "notify_on": ["created", "ended"]},
            "notify_on[1]",
            "notify_on[1] cannot be 'ended': allowed is created, started, retried, completed, failed, cancelled",
        ),
        (
            AddSchedule,
            {"schedule": "s", "task": WORK, "missed": "x"},
            "missed",
            "missed cannot be 'x': allowed is skip, once, all",
        ),
        (
            CreateGraph,
            {"tasks": [{"name": "1st", **WORK}]},
            "tasks[0].name",
            "tasks[0].name has to be a name: a letter or `_`, then letters, digits, `_`, `.`, `-`",
        ),
    ],
)
def test_a_value_out_of_bounds_is_told_in_words_by_every_way_in(
    kind: Any, fields: dict[str, Any], field: str, message: str
) -> None:
    body = {"command": kind.__struct_config__.tag, **fields}
    ways = (
        lambda: command_from_fields(kind, fields),
        lambda: decode_command(msgspec.json.encode(body)),
        lambda: decode_kind(kind, msgspec.json.encode(fields)),
    )
    for way in ways:
        with pytest.raises(InvalidValue) as refused:
            way()
        assert (refused.value.field, refused.value.message) == (field, message)


@pytest.mark.parametrize(
    ("kind", "fields", "advice"),
    [
        (CreateTask, {**WORK, "user_id": None}, "Leave user_id out, or give 0 (no user), its default."),
        (CreateTask, {**WORK, "label": None}, 'Leave label out, or give "", its default.'),
        (CreateTask, {**WORK, "held": None}, "Leave held out, or give false, its default."),
        (CreateGraph, {"tasks": [{"name": "a", **WORK, "user_id": None}]}, "Leave user_id out, or give 0 (no user)"),
        (AddSchedule, {"schedule": "s", "task": {**WORK, "user_id": None}}, "Leave user_id out, or give 0 (no user)"),
        (CreateTask, {"type": None}, InvalidValue.remedy),
        (CreateTask, {**WORK, "depends_on": None}, InvalidValue.remedy),
    ],
)
def test_whoever_gives_null_for_nothing_is_told_what_to_give(kind: Any, fields: dict[str, Any], advice: str) -> None:
    """Many programs have null for a task of no user."""
    for way in (
        lambda: command_from_fields(kind, fields),
        lambda: decode_kind(kind, msgspec.json.encode(fields)),
        lambda: decode_command(msgspec.json.encode({"command": kind.__struct_config__.tag, **fields})),
    ):
        with pytest.raises(InvalidValue, match="not null") as refused:
            way()
        assert refused.value.advice.startswith(advice)


def test_a_struct_built_in_python_is_told_the_same() -> None:
    with pytest.raises(InvalidValue, match=r"types\.a has to be a whole number, at least 1"):
        validated(SetLimits(types={"a": 0}))


@pytest.mark.parametrize("value", ["1e999", "[1, -1e999]", '{"deep": 1e999}'])
def test_a_number_that_no_float_holds_is_told_with_its_field(value: str) -> None:
    with pytest.raises(InvalidValue, match=r"^priority is too large a number \(") as refused:
        decode_kind(CreateTask, f'{{"type": "noop", "priority": {value}}}'.encode())
    assert refused.value.field == "priority"


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({}, "task_id", "`task_id` has to be given"),
        ({"task_id": 1, "childs": True}, "childs", "There is no field `childs`; did you mean `children`?"),
        ({"task_id": 1, "zzzzzz": True}, "zzzzzz", "There is no field `zzzzzz`"),
    ],
)
def test_a_missing_and_an_unknown_field_are_told_by_name(fields: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(Malformed) as refused:
        command_from_fields(CancelTask, fields)
    assert (refused.value.field, refused.value.message) == (field, message)


@pytest.mark.parametrize(
    ("decode", "body", "message"),
    [
        (decode_create, b'{"type": "noop", "option": {}}', "There is no field `option`; did you mean `options`?"),
        (
            decode_create,
            b'{"type": "noop", "zz": 1}',
            "There is no field `zz`; what the task type takes goes into `options`",
        ),
        (
            decode_command,
            b'{"command": "save_checkpoint", "task_id": 1, "checkpoint": {"zz": 1}}',
            "There is no field `zz`; values of your own go into `data`",
        ),
        (
            decode_command,
            b'{"command": "add_source", "source": "a", "inputs": ["/a"], "to": "/b", "task": {"depends_on": [1]}}',
            "There is no field `depends_on`",
        ),
        (
            decode_command,
            b'{"command": "add_schedule", "schedule": "a", "task": {"type": "noop", "depends": [1]}}',
            "There is no field `depends`; did you mean `depends_on`?",
        ),
        (decode_command, b'{"command": "cancle_task"}', "Invalid value 'cancle_task'; did you mean `cancel_task`?"),
        (decode_create, b'{"command": "cancel_task"}', "`cancel_task` is not the command that belongs here"),
        (
            decode_command,
            b'{"command": "create_task", "command": "cancel_task"}',
            "`cancel_task` is not the command that belongs here",
        ),
        (
            decode_command,
            b'{"command": "add_schedule", "schedule": "s", "task": {"typ": "noop"}}',
            "There is no field `typ`; did you mean `type`?",
        ),
        (decode_create, b'{"type": "noop"', "The JSON ends too early"),
        (decode_create, rb'{"type": "no\ud800"}', "The JSON has half of a surrogate pair in it"),
        (decode_array, rb'[{"type": "no\ud800"}', "The JSON ends too early"),
        (partial(decode_kind, CreateTask), rb'{"type": "no\ud800"}', "The JSON has half of a surrogate pair in it"),
        (decode_create, b" ", "The body is empty"),
        (
            decode_create,
            b'\xef\xbb\xbf{"type": "noop"}',
            "JSON is malformed: it begins with the byte order mark of UTF-8",
        ),
        (
            decode_command,
            '{"command": "drain_queue"}'.encode("utf-16"),
            "JSON is malformed: it begins with the byte order mark of UTF-16",
        ),
    ],
)
def test_a_body_that_is_no_command_is_told_what_was_perhaps_meant(
    decode: Callable[[bytes], object], body: bytes, message: str
) -> None:
    with pytest.raises(Malformed) as refused:
        decode(body)
    assert refused.value.message == message
    assert ("without a byte order mark" in refused.value.advice) == ("byte order mark" in message)


def test_what_breaks_off_behind_the_fault_is_refused_all_the_same() -> None:
    """The decoder stops at the first fault; finding its key takes a decoding of the whole, which may fail."""
    line = b'{"command": "set_limits", "types": {"a": 0}, '
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.Decoder(Command).decode(line)
    found: TasktrailError = refusal(caught.value, line)
    assert (found.field, found.message) == ("types", "types has to be a whole number, at least 1")


def test_words_of_a_handler_stay_as_they_are() -> None:
    assert sentence("option crf of x", "crf and bitrate exclude each other", "crf") == (
        "option crf of x: crf and bitrate exclude each other"
    )


@pytest.mark.parametrize(
    ("address", "allowing_helps"),
    [("https://exam ple.org/", False), ("ftp://example.org/", False), ("http://a/", True)],
)
def test_an_operator_is_asked_for_an_exception_only_if_one_helps(address: str, *, allowing_helps: bool) -> None:
    with pytest.raises(InvalidValue) as told:
        check_receivers(CreateTask(type="t", notify_webhook=address), ())
    assert ("allow_endpoints" in told.value.advice) == allowing_helps
    assert "https" in told.value.advice


def test_an_object_of_python_s_is_not_called_what_is_expected() -> None:
    with pytest.raises(
        InvalidValue, match=r"^options has to be an object, not a Python object that JSON cannot represent"
    ):
        validated(CreateTask(type="t", options=object()))  # type: ignore[arg-type]  # what is tried
