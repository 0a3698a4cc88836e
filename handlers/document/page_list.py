"""Which pages are meant by "1-3,7", "5-" or "all". Pages count from 1."""

import re
from collections.abc import Iterator

from ..contract import Unusable

_PART = re.compile(r"\s*(\d{1,7})\s*(-)?\s*(\d{1,7})?\s*")


def parse_pages(text: str) -> list[tuple[int, int | None]]:
    """The ranges (first, last) as written; last is none for "to the end".

    Raises:
        ValueError: it is not such a list.
    """
    if text.strip().lower() == "all":
        return [(1, None)]
    return [_parse_part(part) for part in text.split(",")]


def _parse_part(part: str) -> tuple[int, int | None]:
    match = _PART.fullmatch(part)
    if match is None or (match[3] and not match[2]):
        raise ValueError(f'pages are given like "1-3,7", "5-" or "all", not {part.strip()!r}')
    first = int(match[1])
    last = (int(match[3]) if match[3] else None) if match[2] else first
    if first < 1 or (last is not None and last < first):
        raise ValueError(f"{part.strip()!r} is no range of pages: they count from 1 and go forward")
    return first, last


def choose_pages(text: str, count: int, limit: int) -> list[int]:
    """The page numbers in the order written, each once. A range may end behind the last page, not begin there.

    Raises:
        Unusable: a page is not there, or there are more than `limit`.
    """
    chosen: dict[int, None] = {}
    for number in _numbers(text, count):
        chosen[number] = None
        if len(chosen) > limit:
            raise Unusable(f"more than {limit} of {count} pages are asked for: choose fewer, or raise max_pages")
    return list(chosen)


def _numbers(text: str, count: int) -> Iterator[int]:
    for first, last in parse_pages(text):
        if first > count:
            raise Unusable(f"there is no page {first}: the document has {count}")
        yield from range(first, min(count, last or count) + 1)


def most_pages(text: str, limit: int) -> int:
    """How many pages are meant at most, for a document nobody has looked into."""
    total = 0
    for first, last in parse_pages(text):
        total += limit if last is None else last - first + 1
    return min(total, limit)
