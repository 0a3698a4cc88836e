"""Lists of pages such as "1-3,7", "5-" and "all". No image library here: the service imports this."""

import re
from collections.abc import Iterator
from typing import Annotated, TypeAlias

import msgspec

from ...events.counted import counted
from ..contract import Unusable

_RANGE = re.compile(r"\s*(\d{1,7})\s*(-)?\s*(\d{1,7})?\s*")
_PART = "[1-9][0-9]{0,6}( *- *([1-9][0-9]{0,6})?)?"
_PATTERN = f"^ *([aA][lL][lL]|{_PART}( *, *{_PART})*) *$"
"""The same for the schema, which cannot check that a range goes forward."""
PageList: TypeAlias = Annotated[
    Annotated[int, msgspec.Meta(ge=1, extra_json_schema={"maximum": 9_999_999})]
    | Annotated[str, msgspec.Meta(max_length=1000, extra_json_schema={"pattern": _PATTERN})],
    msgspec.Meta(description='A number, or like "1-3,7", "5-" or "all".'),
]
"""The type of an option; `parse_pages` checks what this cannot."""


def parse_pages(text: str) -> list[tuple[int, int | None]]:
    """The ranges (first, last) of a list like "1-3,7", "5-" or "all", from 1; last is None for "to the end".

    Raises:
        ValueError: it is not such a list.
    """
    if text.strip().lower() == "all":
        return [(1, None)]
    return [_parse_range(part) for part in text.split(",")]


def _parse_range(part: str) -> tuple[int, int | None]:
    match = _RANGE.fullmatch(part)
    if match is None or (match[3] and not match[2]):
        raise ValueError(f'pages are given like "1-3,7", "5-" or "all", not {part.strip()!r}')
    first = int(match[1])
    last = (int(match[3]) if match[3] else None) if match[2] else first
    if first < 1 or (last is not None and last < first):
        raise ValueError(f"{part.strip()!r} is no range of pages: they count from 1 and go forward")
    return first, last


def choose_pages(text: str, count: int, limit: int) -> list[int]:
    """The page numbers in the given order, each once. A range may end after the last page, but not begin there.

    Raises:
        Unusable: a page does not exist, or there are more than `limit`.
    """
    chosen: dict[int, None] = {}
    for number in _numbers(text, count):
        chosen[number] = None
        if len(chosen) > limit:
            raise Unusable(
                f"more than {limit} of {counted(count, 'page')} are asked for: choose fewer, or raise max_pages"
            )
    return list(chosen)


def _numbers(text: str, count: int) -> Iterator[int]:
    for first, last in parse_pages(text):
        if first > count:
            raise Unusable(f"there is no page {first}: the document has {count}")
        yield from range(first, min(count, last or count) + 1)


def most_pages(text: str, limit: int) -> int:
    """The highest possible number of pages in the list, while the document's own number is unknown."""
    total = 0
    for first, last in parse_pages(text):
        total += limit if last is None else last - first + 1
    return min(total, limit)
