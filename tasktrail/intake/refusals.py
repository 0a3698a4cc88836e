"""Turns the messages of msgspec into typed errors in plain words, with the field.

msgspec reports what is wrong with a value only as English text. All code that depends on these texts is in this file;
`tests/tasktrail/test_msgspec_words.py` fails when a release changes one of them.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from enum import Enum, EnumType
from functools import cache
from typing import Any, Literal, get_args, get_origin

import msgspec

from ..events import Command, CreateTask, GraphTask, TasktrailError
from ..events.commands import BatchName, LocalName, RateName, RateText, ScheduleName, SourceName, TraceContext, UserKey
from ..events.errors import CONTRADICTION, InvalidOptions, InvalidValue, Malformed, UnknownType
from ..events.values import WITHOUT_MARK, byte_order_mark
from ..handlers.contract import TaskType
from ..handlers.registry import Registry

KINDS: tuple[type[Any], ...] = get_args(Command)
_BY_TAG = {str(kind.__struct_config__.tag): kind for kind in KINDS}
KNOWN = tuple(_BY_TAG)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_NULL = ", got `null`"
_ANY_KEY = "[...]"
_EMPTY = '""'


def unknown_field(
    name: str, kind: type[msgspec.Struct] | None, *, field: str = "", remedy: str = "", own: bool = True
) -> Malformed:
    """Make the error for a field that `kind` does not have, with the nearest one that it has. `field`: its place.

    Without a near one, and with `own`, the error says which field takes names of the sender's own. A field that other
    tasks have is no such name.
    """
    fields = kind.__struct_fields__ if kind else ()
    hint = _nearest(name, fields)
    own = own and name not in CreateTask.__struct_fields__
    if own and not hint and "options" in fields:
        hint = "; what the task type takes goes into `options`"
    elif own and not hint and "data" in fields:
        hint = "; values of your own go into `data`"
    return Malformed(f"There is no field `{name}`{hint}", field=field or name, remedy=remedy)


def _inner(kind: type[msgspec.Struct] | None, field: str) -> type[msgspec.Struct] | None:
    """The Struct in a field of a command; None if there is none."""
    if field.startswith("tasks["):
        return GraphTask
    types = {one.name: one.type for one in msgspec.structs.fields(kind)} if kind else {}
    inner = types.get(field)
    return inner if isinstance(inner, type) and issubclass(inner, msgspec.Struct) else None


def _nearest(name: str, choices: Sequence[str]) -> str:
    near = get_close_matches(name, choices, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def refusal(
    error: Exception, sent: bytes | Mapping[str, Any] = b"", kind: type[msgspec.Struct] | None = None
) -> TasktrailError:
    """Make the error for bytes or values that could not be made a command.

    Args:
        error: an error of msgspec, or of decoding text.
        sent: the bytes or values, because msgspec does not say which key of an object is wrong.
        kind: the kind of the command; without one, the values name it.
    """
    if isinstance(error, RecursionError):
        return Malformed("The JSON is nested too deeply")
    if isinstance(sent, bytes) and (mark := byte_order_mark(sent)):
        return Malformed(f"JSON is malformed: {mark}", remedy=WITHOUT_MARK)
    if isinstance(error, UnicodeError):
        return Malformed("The body is not valid UTF-8")
    text, _, where = str(error).partition(" - at `")
    field = where.removeprefix("key` in `").removeprefix("$").lstrip(".").rstrip("`")
    if field == "command":
        named = text.removeprefix("Invalid value '").removesuffix("'")
        if named in KNOWN:  # the route takes another one, or it is said twice
            return Malformed(f"`{named}` is not the command that belongs here", field="command")
        hint = _nearest(named, KNOWN)
        return Malformed(f"{text}{hint or '; the commands are ' + ', '.join(KNOWN)}", field="command")
    if match := _MISSING.fullmatch(text):
        name = f"{field}.{match[1]}" if field else match[1]
        more = f"; the commands are {', '.join(KNOWN)}" if name == "command" else ""
        return Malformed(f"`{name}` has to be given{more}", field=name)
    if match := _UNKNOWN.fullmatch(text):
        asked = kind or _BY_TAG.get(str(_values(sent).get("command")))
        if field:
            return unknown_field(match[1], _inner(asked, field), field=f"{field}.{match[1]}")
        return unknown_field(match[1], asked)
    if text == "Input data was truncated":
        half = isinstance(sent, bytes) and _is_whole(sent)
        return Malformed("The JSON has half of a surrogate pair in it" if half else "The JSON ends too early")
    if not isinstance(error, msgspec.ValidationError) or not field:
        return Malformed(sentence("The body", text, "") if text.startswith("Expected") else text)
    if where.startswith("key` in") or field.endswith(_ANY_KEY):
        field = _with_key(field.removesuffix(_ANY_KEY), _values(sent), kind)
    own = () if kind is None or kind in KINDS else (kind,)
    remedy = (
        _to_leave_out(field, kind or _BY_TAG.get(str(_values(sent).get("command")))) if text.endswith(_NULL) else ""
    )
    if isinstance(sent, Mapping) and isinstance(sent.get(field), msgspec.Struct):
        remedy = f"Give a dict: msgspec.structs.asdict({type(sent[field]).__name__}(...)) makes one."
    return InvalidValue(sentence(field, text, field, *KINDS, GraphTask, *own), field=field, remedy=remedy)


def _to_leave_out(field: str, kind: type[msgspec.Struct] | None) -> str:
    """Return the advice for a field that is null and has another default; none for others."""
    kind = GraphTask if field.startswith("tasks[") else CreateTask if field.startswith("task.") else kind
    name = field.rpartition(".")[2]
    default = next((one.default for one in msgspec.structs.fields(kind) if one.name == name), None) if kind else None
    if not isinstance(default, bool | int | float | str):
        return ""
    meaning = " (no user)" if name == "user_id" else ""
    return f"Leave {name} out, or give {msgspec.json.encode(default).decode()}{meaning}, its default."


def _is_whole(sent: bytes) -> bool:
    """Whether the input is complete JSON: msgspec calls it truncated if a text ends in half a surrogate pair."""
    try:
        json.loads(sent)
    except (ValueError, RecursionError):
        return False
    return True


def _values(sent: bytes | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(sent, bytes):
        with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
            return msgspec.json.decode(sent, type=dict[str, Any])
        return {}
    return sent


def _with_key(field: str, values: Mapping[str, Any], kind: type[msgspec.Struct] | None) -> str:
    """Return the field of an object, and in it the first key that is wrong or has a wrong value."""
    kind = kind or _BY_TAG.get(str(values.get("command")))
    types = {known.name: known.type for known in msgspec.structs.fields(kind)} if kind else {}
    inside = values.get(field)
    for key, value in inside.items() if field in types and isinstance(inside, Mapping) else ():
        try:
            msgspec.convert({key: value}, types[field])
        except msgspec.ValidationError:
            return f"{field}.{key or _EMPTY}"
    return field


# --- in plain words -------------------------------------------------------------------------------------------

_KIND_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "datetime": "a time",
    "null": "null",
}
_GOT = {**_KIND_WORDS, "float": "a number with a fraction"}
_ODD = "a Python object that JSON cannot represent"
_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_PARTS = {"str": "characters", "array": "entries", "object": "entries"}
_NAMED = (BatchName, LocalName, UserKey, ScheduleName, SourceName, TraceContext, RateName, RateText)
_PATTERNS = {meta.pattern: meta.description for meta in (get_args(kind)[1] for kind in _NAMED)}
_NO_CHOICE = "Invalid enum value "
_EXAMPLE = "2026-08-01T22:00:00Z"

_BOUND = re.compile(r"Expected `(int|float)` ([<>]=?) (.*)")
_LENGTH = re.compile(r"Expected `(str|array|object)` of length ([<>]=) (\d+)")
_PATTERN = re.compile(r"Expected `str` matching regex (['\"])(.*)\1", re.DOTALL)
_KIND = re.compile(r"Expected `([a-z |]+)`(?:, got `(\w+)`)?")


def sentence(subject: str, text: str, field: str, *kinds: type[msgspec.Struct]) -> str:
    """Make a sentence about `subject`. A text that is not msgspec's, such as one of a handler, stays as it is.

    Args:
        subject: the beginning of the sentence.
        text: the message of msgspec, without the place.
        field: that place, such as `tasks[0].notify_on[1]`.
        kinds: Structs that may have the field, to list the words that it takes.
    """
    clause = _clause(text)
    if text.startswith(_NO_CHOICE):
        name = re.sub(r"\[[^]]*\]$", "", field).rpartition(".")[2]
        clause = f"cannot be {text.removeprefix(_NO_CHOICE)}: allowed is {', '.join(_choices(kinds).get(name, ()))}"
    return f"{subject} {clause}" if clause else f"{subject}: {text}"


def _clause(text: str) -> str:
    if match := _MISSING.fullmatch(text):
        return f"needs `{match[1]}`"
    if match := _UNKNOWN.fullmatch(text):
        return f"has no field `{match[1]}`"
    if text == "Number out of range":
        return "is too large a number"
    if text == "Invalid RFC3339 encoded datetime":
        return f"has to be a time such as {_EXAMPLE}"
    if text == "Expected `datetime` with a timezone component":
        return f"has to be a time with its zone, such as {_EXAMPLE}"
    if match := _BOUND.fullmatch(text):
        return f"has to be {_KIND_WORDS[match[1]]}, {_BOUNDS[match[2]]} {match[3].removesuffix('.0')}"
    if match := _LENGTH.fullmatch(text):
        if match[2] == ">=" and match[3] == "1":
            return "may not be empty"
        return f"has to have {_BOUNDS[match[2]]} {match[3]} {_PARTS[match[1]]}"
    if match := _PATTERN.fullmatch(text):
        pattern = match[2].replace("\\\\", "\\")
        return f"has to be {_PATTERNS[pattern]}" if pattern in _PATTERNS else f"has to match {pattern}"
    if match := _KIND.fullmatch(text):
        kinds = " or ".join(_KIND_WORDS.get(kind, kind) for kind in match[1].split(" | "))
        got = _ODD if match[1] == match[2] else _GOT.get(match[2], match[2])  # a class of Python's is an `object`, too
        return f"has to be {kinds}, not {got}" if got else f"has to be {kinds}"
    return ""


@cache
def _choices(kinds: tuple[type[msgspec.Struct], ...]) -> dict[str, tuple[str, ...]]:
    """Map each field to the words that it takes. If several Structs have the field, the last one counts."""
    fields = (field for kind in kinds for field in _fields_of(kind, set()))
    return {field.encode_name: words for field in fields if (words := tuple(dict.fromkeys(_words(field.type))))}


def _fields_of(kind: Any, seen: set[Any]) -> Iterator[msgspec.structs.FieldInfo]:
    """The fields of a Struct, those of the Structs in it first."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in seen:
        seen.add(kind)
        for field in msgspec.structs.fields(kind):
            yield from _fields_of(field.type, seen)
            yield field
    for part in get_args(kind):
        yield from _fields_of(part, seen)


def _words(kind: Any) -> Iterator[str]:
    if get_origin(kind) is Literal:
        yield from map(str, get_args(kind))
    elif isinstance(kind, EnumType):
        members: Iterable[Enum] = kind
        yield from (str(member.value) for member in members)
    else:
        for part in get_args(kind):
            yield from _words(part)


# --- From the options of a command to the Struct of its type, or to a refusal that names the option. ---


def convert_options(task_type: TaskType, options: dict[str, Any]) -> msgspec.Struct:
    """Convert options to what the type's handler sees. Raises InvalidOptions."""
    _refuse_unknown(task_type, options)
    try:
        return task_type.options_from(options)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$.")
        if not where and (names := _lacking(task_type, options)):
            raise _left_out(task_type, names) from error
        name = where.rstrip("`") or _blamed(task_type, options, text)
        subject = f"option {name} of {task_type.name}" if name else f"options of {task_type.name}"
        message = sentence(subject, text, name, task_type.options)
        status = 0 if _is_of_the_schema(text, where) else CONTRADICTION
        remedy = _how_to_write(text, name) if name in options else ""
        field = f"options.{name}" if name else "options"
        raise InvalidOptions(message, field=field, remedy=remedy, status=status) from error


def _how_to_write(text: str, name: str) -> str:
    """What to do about a list or an object that came as a text, mostly from a command line: show one."""
    match = _KIND.fullmatch(text)
    kinds = match[1].split(" | ") if match else []
    examples = [example for kind, example in (("array", "[1, 2]"), ("object", '{"a": 1}')) if kind in kinds]
    return f"Write it as JSON (CLI: -o '{name}={examples[0]}')." if examples else ""


def _lacking(task_type: TaskType, options: dict[str, Any]) -> list[str]:
    """Return the options without a default that are not given."""
    fields = msgspec.structs.fields(task_type.options)
    return [field.encode_name for field in fields if field.required and field.encode_name not in options]


def _left_out(task_type: TaskType, names: list[str]) -> InvalidOptions:
    option, has, them = ("option", "has", "it") if len(names) == 1 else ("options", "have", "them")
    example = " ".join(f"-o {name}=VALUE" for name in names)
    return InvalidOptions(
        f"{option} {', '.join(names)} of {task_type.name} {has} to be given",
        field=f"options.{names[0]}",
        remedy=f"Give {them} among the options (CLI: {example}); `tasktrail types {task_type.name}` lists them all.",
    )


def check_options(task_type: TaskType, options: dict[str, Any]) -> None:
    """Check the options of a batch or a source, whose schema does not know which options go with a type.

    Raises InvalidOptions.
    """
    try:
        convert_options(task_type, options)
    except InvalidOptions as error:
        error.status = CONTRADICTION
        raise


def preset_faults(registry: Registry) -> list[TasktrailError]:
    """Return the faults of the configured presets: unknown types and options, and values that are never allowed.

    A type's rules for several options together are checked for each task, which may give other options.
    """
    faults: list[TasktrailError] = []
    for preset in registry.presets.own:
        try:
            task_type = registry.get(preset.type)
            _refuse_unknown(task_type, preset.options)
            if not _lacking(task_type, preset.options):  # else a task has to give the others
                convert_options(task_type, preset.options)
        except (InvalidOptions, UnknownType) as error:
            if error.status != CONTRADICTION:
                error.message = f"preset {preset.name}: {error.message}"
                faults.append(error)
    return faults


def _is_of_the_schema(text: str, where: str) -> bool:
    """Whether the schema of the options forbids the same. It does not know the rules of a type's `__post_init__`."""
    return bool(where) and (bool(_clause(text)) or text.startswith(("Invalid ", "Object ")))


def _blamed(task_type: TaskType, options: dict[str, Any], text: str) -> str:
    """Find the wrong option, because the errors of a type's own rules come without a name.

    Best is the first option that the text names and without which the others are valid. Else it is the first one named,
    or else the first one without which the others are valid.
    """
    named = sorted((name for name in options if name in text), key=text.find)
    cures = [name for name in options if _are_valid(task_type, {key: options[key] for key in options if key != name})]
    best = [name for name in named if name in cures] or named or cures
    return best[0] if best else ""


def _are_valid(task_type: TaskType, options: dict[str, Any]) -> bool:
    try:
        task_type.options_from(options)
    except msgspec.ValidationError:
        return False
    return True


def _refuse_unknown(task_type: TaskType, options: dict[str, Any]) -> None:
    """Refuse an option that the type does not have, with the nearest one that it has."""
    config = task_type.options.__struct_config__
    if not config.forbid_unknown_fields:
        return
    known = task_type.options.__struct_encode_fields__
    for name in options:
        if name not in known and name != config.tag_field:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidOptions(
                f"{task_type.name} has no option {name!r}{hint}",
                field=f"options.{name}",
                remedy="" if near else _what_there_is(task_type),
            )


def _what_there_is(task_type: TaskType) -> str:
    """Where to read the type's options. The parameters of a function that are files are none of them."""
    remedy = f"`tasktrail types {task_type.name}` lists them."
    if not (task_type.needs_input or task_type.needs_output):
        return remedy
    return f"{remedy} Files are given as `input_file` and `output_file` (CLI: {task_type.name} INPUT OUTPUT)."
