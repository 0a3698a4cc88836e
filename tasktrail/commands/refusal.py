"""A decoder's complaint as one of our errors, with the field it is about."""

import re
from typing import Any, get_args

import msgspec

from ..events import Command, TasktrailError
from ..events.errors import InvalidValue, Malformed

_KINDS: tuple[type[Any], ...] = get_args(Command)
KNOWN = tuple(str(kind.__struct_config__.tag) for kind in _KINDS)
_NAMED = re.compile(r"(?:required|unknown) field `(?P<name>.*)`")


def refusal(error: Exception) -> TasktrailError:
    """What `error`, raised while bytes or values were made a command, means to its sender."""
    if isinstance(error, RecursionError):
        return Malformed("The JSON is nested too deeply")
    if isinstance(error, UnicodeError):
        return Malformed("The body is not valid UTF-8")
    text, _, where = str(error).partition(" - at `")
    field = where.removeprefix("key` in `").removeprefix("$").lstrip(".").rstrip("`")
    if field == "command":
        return Malformed(f"{text}; the commands are {', '.join(KNOWN)}", field="command")
    if named := _NAMED.search(text):
        name = f"{field}.{named['name']}" if field else named["name"]
        more = f"; the commands are {', '.join(KNOWN)}" if name == "command" else ""
        return Malformed(f"{text}{more}", field=name)
    if isinstance(error, msgspec.ValidationError) and field:
        return InvalidValue(f"{field}: {text}", field=field)
    return Malformed(text)
