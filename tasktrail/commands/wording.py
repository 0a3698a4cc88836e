"""What msgspec says about a value, in words for whoever gave it."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, get_args, get_origin

import msgspec

from ..events.commands import LocalName, ScheduleName, UserKey

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "datetime": "a time",
    "null": "null",
}
_GOT = {**_KINDS, "float": "a number with a fraction"}
_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_PARTS = {"str": "characters", "array": "entries", "object": "entries"}
_PATTERNS = {
    meta.pattern: meta.description for meta in (get_args(kind)[1] for kind in (LocalName, UserKey, ScheduleName))
}
_NO_CHOICE = "Invalid enum value "
_EXAMPLE = "2026-08-01T22:00:00Z"

_BOUND = re.compile(r"Expected `(int|float)` ([<>]=?) (.*)")
_LENGTH = re.compile(r"Expected `(str|array|object)` of length ([<>]=) (\d+)")
_PATTERN = re.compile(r"Expected `str` matching regex (['\"])(.*)\1", re.DOTALL)
_KIND = re.compile(r"Expected `([a-z |]+)`(?:, got `(\w+)`)?")


def told(subject: str, text: str, field: str, *kinds: type[msgspec.Struct]) -> str:
    """A sentence on `subject`. What is not msgspec's own, such as the words of a handler, stays as it is.

    Args:
        subject: what the sentence begins with.
        text: msgspec's own, without the place.
        field: that place, such as `tasks[0].notify_on[1]`.
        kinds: where fields of that name may be defined, with the words that they take.
    """
    clause = _clause(text)
    if text.startswith(_NO_CHOICE):
        name = re.sub(r"\[[^]]*\]$", "", field).rpartition(".")[2]
        clause = f"cannot be {text.removeprefix(_NO_CHOICE)}: allowed is {', '.join(_choices(kinds).get(name, ()))}"
    return f"{subject} {clause}" if clause else f"{subject}: {text}"


def _clause(text: str) -> str:
    if text == "Number out of range":
        return "is too large a number"
    if text == "Invalid RFC3339 encoded datetime":
        return f"has to be a time such as {_EXAMPLE}"
    if text == "Expected `datetime` with a timezone component":
        return f"has to be a time with its zone, such as {_EXAMPLE}"
    if match := _BOUND.fullmatch(text):
        return f"has to be {_KINDS[match[1]]}, {_BOUNDS[match[2]]} {match[3].removesuffix('.0')}"
    if match := _LENGTH.fullmatch(text):
        if match[2] == ">=" and match[3] == "1":
            return "may not be empty"
        return f"has to have {_BOUNDS[match[2]]} {match[3]} {_PARTS[match[1]]}"
    if match := _PATTERN.fullmatch(text):
        pattern = match[2].replace("\\\\", "\\")
        return f"has to be {_PATTERNS[pattern]}" if pattern in _PATTERNS else f"has to match {pattern}"
    if match := _KIND.fullmatch(text):
        kinds = " or ".join(_KINDS.get(kind, kind) for kind in match[1].split(" | "))
        return f"has to be {kinds}, not {_GOT.get(match[2], match[2])}" if match[2] else f"has to be {kinds}"
    return ""


@cache
def _choices(kinds: tuple[type[msgspec.Struct], ...]) -> dict[str, tuple[str, ...]]:
    """Field → the words that it takes."""
    fields = (field for kind in kinds for field in msgspec.structs.fields(kind))
    return {field.name: words for field in fields if (words := tuple(dict.fromkeys(_words(field.type))))}


def _words(kind: Any) -> Iterator[str]:
    if get_origin(kind) is Literal:
        yield from get_args(kind)
    else:
        for part in get_args(kind):
            yield from _words(part)
