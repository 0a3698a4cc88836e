"""Marks inside a line of Markdown: emphasis, code and links."""

import re
from bisect import bisect_left
from typing import NamedTuple

from .fonts import Face

STYLES: dict[str, Face] = {"p": "plain", "b": "bold", "i": "italic", "m": "mono", "u": "plain"}
"""A letter for each style → its face. `u` is a link, which is underlined."""
UNDERLINED = "u"

_MARKS = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)|`([^`]+)`|(\*\*|__|\*)(?=\S)")
_LETTERS = {"**": "b", "__": "b", "*": "i"}
_STOPS = re.compile(r"[*`]")
_CLOSERS = re.compile(r"(?<=\S)(?=__)")


class Styled(NamedTuple):
    """A text without its marks, and the style of each character as a letter."""

    text: str
    styles: str


class _Emphasis:
    """Where an opened mark is closed. All places are found once: a text may open any number and close none."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._stops = [match.start() for match in _STOPS.finditer(text)]
        self._closers = [match.start() for match in _CLOSERS.finditer(text)]

    def end(self, mark: str, begin: int) -> int:
        """Where the mark stands again that was opened before `begin`; -1 when it does not."""
        stop = _first_from(self._stops, begin)
        if mark == "__":
            closer = _first_from(self._closers, begin + 1)
            return closer if closer >= 0 and (stop < 0 or closer + len(mark) <= stop) else -1
        closes = stop > begin and self._text.startswith(mark, stop) and not self._text[stop - 1].isspace()
        return stop if closes else -1


def _first_from(places: list[int], begin: int) -> int:
    at = bisect_left(places, begin)
    return places[at] if at < len(places) else -1


def styled(text: str, style: str = "p") -> Styled:
    """The text without marks; `style` is that of what stands outside of any."""
    emphasis = _Emphasis(text)
    parts, end = [], 0
    match = _MARKS.search(text)
    while match:
        label, code, mark = match.groups()
        after, close = match.end(), 0
        if mark is not None:
            close = emphasis.end(mark, after)
        if close >= 0:
            parts.append(_alike(text[end : match.start()], style))
            if label is not None:
                parts.append(_alike(styled(label).text, UNDERLINED))
            elif code is not None:
                parts.append(_alike(code, "m"))
            else:
                parts.append(styled(text[after:close], _LETTERS[mark]))
                after = close + len(mark)
            end = after
        match = _MARKS.search(text, after if close >= 0 else match.start() + 1)
    parts.append(_alike(text[end:], style))
    return Styled("".join(part.text for part in parts), "".join(part.styles for part in parts))


def _alike(text: str, style: str) -> Styled:
    return Styled(text, style * len(text))
