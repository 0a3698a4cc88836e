"""Marks inside a line of Markdown: emphasis, code and links."""

import re
from typing import NamedTuple

from .fonts import Face

STYLES: dict[str, Face] = {"p": "plain", "b": "bold", "i": "italic", "m": "mono", "u": "plain"}
"""A letter for each style → its face. `u` is a link, which is underlined."""
UNDERLINED = "u"

_MARKS = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)|`([^`]+)`|(\*\*|__|\*)(?=\S)([^*`]+?)(?<=\S)\3")
_LETTERS = {"**": "b", "__": "b", "*": "i"}


class Styled(NamedTuple):
    """A text without its marks, and the style of each character as a letter."""

    text: str
    styles: str


def styled(text: str, style: str = "p") -> Styled:
    """The text without marks; `style` is that of what stands outside of any."""
    parts, end = [], 0
    for match in _MARKS.finditer(text):
        parts.append(_alike(text[end : match.start()], style))
        end = match.end()
        label, code, mark, marked = match.groups()
        if label is not None:
            parts.append(_alike(styled(label).text, UNDERLINED))
        elif code is not None:
            parts.append(_alike(code, "m"))
        else:
            parts.append(styled(marked, _LETTERS[mark]))
    parts.append(_alike(text[end:], style))
    return Styled("".join(part.text for part in parts), "".join(part.styles for part in parts))


def _alike(text: str, style: str) -> Styled:
    return Styled(text, style * len(text))
