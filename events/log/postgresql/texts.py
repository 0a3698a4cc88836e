"""Escapes texts with a NUL, which PostgreSQL cannot store. All other texts are stored unchanged."""

from typing import Any

_NUL, _MARK = "\0", "\x1b"
MARK_IN_JSON = r"\u001b"
_AS = {_NUL: f"{_MARK}0", _MARK: f"{_MARK}1"}
_FIRST, _END = 5, 10
"""The columns with foreign texts: `actor` to `causation_id`. The rest is ours, or JSON, which has no bare NUL."""


def escaped(text: str) -> str:
    """The text in its stored form."""
    if _NUL not in text and _MARK not in text:
        return text
    return text.replace(_MARK, _AS[_MARK]).replace(_NUL, _AS[_NUL])


def unescaped(text: str) -> str:
    """The text read back from its stored form."""
    return text if _MARK not in text else text.replace(_AS[_NUL], _NUL).replace(_AS[_MARK], _MARK)


def escaped_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row of an event in its stored form."""
    texts = row[_FIRST:_END]
    joined = "".join(texts)
    if _NUL not in joined and _MARK not in joined:
        return row
    return (*row[:_FIRST], *map(escaped, texts), *row[_END:])


def unescaped_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row of an event read back from its stored form."""
    texts = row[_FIRST:_END]
    return row if _MARK not in "".join(texts) else (*row[:_FIRST], *map(unescaped, texts), *row[_END:])
