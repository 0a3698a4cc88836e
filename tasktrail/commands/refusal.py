"""A decoder's complaint as one of our errors, in words and with the field it is about."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, get_args

import msgspec

from ..events import Command, GraphTask, TasktrailError
from ..events.errors import InvalidValue, Malformed
from ..events.values import in_words
from .wording import told

_KINDS: tuple[type[Any], ...] = get_args(Command)
_BY_TAG = {str(kind.__struct_config__.tag): kind for kind in _KINDS}
KNOWN = tuple(_BY_TAG)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_ANY_KEY = "[...]"
_EMPTY = '""'


def check_commands(commands: object) -> None:
    """Raise `InvalidValue` unless they are a sequence of commands; then none of them is sent."""
    if isinstance(commands, str | bytes) or not isinstance(commands, Sequence):
        raise InvalidValue(f"commands have to be a list of commands, not {in_words(commands)}", field="commands")
    for one in commands:
        if not isinstance(one, _KINDS):
            raise InvalidValue(
                f"A command has to be a Struct such as CreateTask or CancelTask, not {in_words(one)}",
                field="command",
                remedy="Import it from tasktrail.events, or use a method such as `cancel_task`.",
            )


def unknown_field(name: str, kind: type[msgspec.Struct] | None, *, field: str = "", remedy: str = "") -> Malformed:
    """The refusal of a field that `kind` does not have, with the nearest one that it has. `field`: where it stands."""
    near = get_close_matches(name, kind.__struct_fields__, n=1) if kind else []
    hint = f"; did you mean `{near[0]}`?" if near else ""
    return Malformed(f"There is no field `{name}`{hint}", field=field or name, remedy=remedy)


def refusal(
    error: Exception, given: bytes | Mapping[str, Any] = b"", kind: type[msgspec.Struct] | None = None
) -> TasktrailError:
    """What `error`, raised while bytes or values were made a command, means to its sender.

    Args:
        error: msgspec's, or that of reading text.
        given: what was decoded or converted; msgspec does not say which key of an object it is about.
        kind: what it was to be; none: the command that it names.
    """
    if isinstance(error, RecursionError):
        return Malformed("The JSON is nested too deeply")
    if isinstance(error, UnicodeError):
        return Malformed("The body is not valid UTF-8")
    text, _, where = str(error).partition(" - at `")
    field = where.removeprefix("key` in `").removeprefix("$").lstrip(".").rstrip("`")
    if field == "command":
        return Malformed(f"{text}; the commands are {', '.join(KNOWN)}", field="command")
    if match := _MISSING.fullmatch(text):
        name = f"{field}.{match[1]}" if field else match[1]
        more = f"; the commands are {', '.join(KNOWN)}" if name == "command" else ""
        return Malformed(f"`{name}` has to be given{more}", field=name)
    if match := _UNKNOWN.fullmatch(text):
        if field:
            inner = GraphTask if field.startswith("tasks[") else None
            return unknown_field(match[1], inner, field=f"{field}.{match[1]}")
        return unknown_field(match[1], kind or _BY_TAG.get(str(_values(given).get("command"))))
    if not isinstance(error, msgspec.ValidationError) or not field:
        return Malformed(told("The body", text, "") if text.startswith("Expected") else text)
    if where.startswith("key` in") or field.endswith(_ANY_KEY):
        field = _with_key(field.removesuffix(_ANY_KEY), _values(given), kind)
    return InvalidValue(told(field, text, field, *_KINDS, GraphTask), field=field)


def _values(given: bytes | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(given, bytes):
        with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
            return msgspec.json.decode(given, type=dict[str, Any])
        return {}
    return given


def _with_key(field: str, values: Mapping[str, Any], kind: type[msgspec.Struct] | None) -> str:
    """The field of an object, and the first key in it that cannot be, or whose value cannot."""
    kind = kind or _BY_TAG.get(str(values.get("command")))
    types = {known.name: known.type for known in msgspec.structs.fields(kind)} if kind else {}
    inside = values.get(field)
    for key, value in inside.items() if field in types and isinstance(inside, Mapping) else ():
        try:
            msgspec.convert({key: value}, types[field])
        except msgspec.ValidationError:
            return f"{field}.{key or _EMPTY}"
    return field
