"""Texts with a NUL in them, which PostgreSQL cannot store: the only ones that are stored otherwise than they are."""

from typing import Any

_NUL, _MARK = "\0", "\x1b"
MARK_IN_JSON = r"\u001b"
_AS = {_NUL: f"{_MARK}0", _MARK: f"{_MARK}1"}
_FIRST, _END = 5, 10
"""The columns with texts of others: `actor` to `causation_id`. The rest is ours, or JSON, which has no bare NUL."""


def kept(text: str) -> str:
    """The text as it is stored."""
    if _NUL not in text and _MARK not in text:
        return text
    return text.replace(_MARK, _AS[_MARK]).replace(_NUL, _AS[_NUL])


def told(text: str) -> str:
    """The text that was stored."""
    return text if _MARK not in text else text.replace(_AS[_NUL], _NUL).replace(_AS[_MARK], _MARK)


def kept_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row of an event as it is stored."""
    texts = row[_FIRST:_END]
    joined = "".join(texts)
    if _NUL not in joined and _MARK not in joined:
        return row
    return (*row[:_FIRST], *map(kept, texts), *row[_END:])


def told_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row of an event that was stored."""
    texts = row[_FIRST:_END]
    return row if _MARK not in "".join(texts) else (*row[:_FIRST], *map(told, texts), *row[_END:])
