"""The names of a batch's outputs: a path with parts in braces, such as `out/{folder}/{stem}-{height}p.mp4`."""

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from string import Formatter
from typing import Any, TypeAlias

from ..events.errors import CONTRADICTION, InvalidPath, InvalidValue

PLACEHOLDERS = ("stem", "suffix", "folder", "number", "type")
_FALLBACK = {"width": "max_width", "height": "max_height"}
"""Option → the option whose value is used if it is not given."""
_FREE = {"number"}
"""Placeholders that take a format, such as {number:04}."""
_FORMAT = re.compile("0?[0-9]{0,2}")
_LONGEST = 4096
"""The most bytes of a path."""
_Part: TypeAlias = tuple[str, str | None, str | None, str | None]
"""Text, and the placeholder after it, if there is one: its name, its format, its conversion."""


class Naming:
    """One pattern for the names of outputs."""

    def __init__(self, to: str) -> None:
        """Raises `InvalidValue` for a pattern that cannot be read."""
        self._parts = _parts(to)
        for _text, name, spec, conversion in self._parts:
            if name is not None and (not name.isidentifier() or conversion or not _is_format(name, spec)):
                shown = f"{{{name}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}}"
                raise InvalidValue(f"to: {shown} is no placeholder", field="to", remedy=_REMEDY, status=CONTRADICTION)
        self.names = {name for _text, name, _spec, _conversion in self._parts if name is not None}
        self.fixed = os.path.dirname(_literal(to)[0])  # noqa: PTH120 - it may end in a slash
        """The folder that all outputs are below."""

    def output(self, path: Path, folder: str, number: int, type_name: str, options: Mapping[str, Any]) -> str:
        """Return the path of a file's output.

        Args:
            path: the input.
            folder: the input's folder, relative to the named folder; empty at its top.
            number: its place among all files, from 1.
            type_name: the task type.
            options: the options that were given.

        Raises:
            InvalidValue: a placeholder has no value.
            InvalidPath: the file's name makes no valid path, or one that is too long.
        """
        values: dict[str, Any] = {
            **{name: value for name, value in options.items() if isinstance(value, str | int | float)},
            "stem": path.stem,
            "suffix": path.suffix,
            "folder": folder,
            "number": number,
            "type": type_name,
        }
        for name, other in _FALLBACK.items():
            if name not in values and other in values:
                values[name] = values[other]
        text = "".join(
            literal + ("" if name is None else self._value(name, spec or "", values))
            for literal, name, spec, _conversion in self._parts
        )
        if ".." in text.split("/") or len(os.fsencode(text)) > _LONGEST:
            raise InvalidPath(
                f"`to` gives no valid path for a file named {path.name!r}",
                field="to",
                remedy="Leave `..` out of it, and make it shorter.",
                status=CONTRADICTION,
            )
        return os.path.normpath(text)

    @staticmethod
    def _value(name: str, spec: str, values: Mapping[str, Any]) -> str:
        if name not in values:
            near = get_close_matches(name, values, n=1)
            hint = f"; did you mean {{{near[0]}}}?" if near else ""
            raise InvalidValue(
                f"to: {{{name}}} has no value here{hint}", field="to", remedy=_REMEDY, status=CONTRADICTION
            )
        try:
            text = format(values[name], spec)
        except ValueError as error:
            raise InvalidValue(
                f"to: {{{name}:{spec}}}: {error}", field="to", remedy=_REMEDY, status=CONTRADICTION
            ) from error
        return text if name == "folder" else text.replace("/", "_")


def _parts(to: str) -> list[_Part]:
    """Split the pattern into its parts. Raises `InvalidValue` if it cannot be read."""
    try:
        return list(Formatter().parse(to))
    except ValueError as error:
        raise InvalidValue(
            f"to: {to!r} cannot be read: {error}", field="to", remedy=_REMEDY, status=CONTRADICTION
        ) from error


def _literal(to: str) -> tuple[str, bool]:
    """Return the text before the first placeholder, with `{{` as `{`, and whether that is the whole pattern."""
    parts = _parts(to)
    before = list(takewhile(lambda part: part[1] is None, parts))
    following = "".join(text for text, *_ in parts[len(before) :][:1])
    return "".join(text for text, *_ in before) + following, len(before) == len(parts)


def _is_format(name: str, spec: str | None) -> bool:
    return not spec or (name in _FREE and _FORMAT.fullmatch(spec) is not None)


def is_folder(to: str) -> bool:
    """Whether the pattern means just a folder: an existing one, or a new name without a suffix."""
    to, is_all = _literal(to)
    if not is_all:
        return False
    return to.endswith("/") or os.path.isdir(to) or not (os.path.splitext(to)[1] or os.path.lexists(to))  # noqa: PTH112, PTH122


def literal_folder(to: str) -> str:
    """Return the folder that is known without a look at the disk: the one before the first placeholder."""
    before, is_all = _literal(to)
    return before if is_all else os.path.dirname(before)  # noqa: PTH120 - it may end in a slash


def full_pattern(to: str, suffix: str) -> str:
    """Complete the pattern: just a folder means that each file keeps its place and name below it."""
    if not to.startswith("/"):
        raise InvalidPath(f"to: {to!r} is not an absolute path", field="to")
    if ".." in to.split("/"):
        raise InvalidPath(f"to: {to!r} contains `..`", field="to", remedy="Write the path out.")
    if is_folder(to):
        return f"{to.rstrip('/')}/{{folder}}/{{stem}}{suffix or '{suffix}'}"
    return to


_REMEDY = (
    f"There are {', '.join(f'{{{name}}}' for name in PLACEHOLDERS)} and each option that is given, as {{height}}; "
    "{number:04} has leading zeros, and a brace of the name itself is written twice."
)
