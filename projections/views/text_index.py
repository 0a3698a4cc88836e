"""The stored form of SQLite's text indexes (FTS5), as far as it shows rows that no search reads."""

import sqlite3
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence

_TOTALS, _STRUCTURE = 1, 10
"""The ids of two special rows among the pages of an index."""
_PAGE = 0x7FFFFFFF
"""The bits of the page number in the id of a page."""
_MERGED = (0, 0)
"""The first and the last page of a segment whose words an unfinished merge has all copied."""


def unread_part(views: sqlite3.Connection, table: str) -> str:
    """A page or an entry that belongs to no segment of a text index, in words; empty if there is none.

    One row has the first and the last page of each segment. The id of a page consists of its segment's number, a mark,
    a level and a page number. The mark is set for pages that only help to find a place in the long list of one word
    (SQLite's `fts5_index.c`).
    """
    pages = _segments(views, table)
    if pages is None:
        return "a structure of an odd form"
    numbers = [number for (number,) in views.execute(f"SELECT id FROM {table}_data ORDER BY id")]  # noqa: S608 - our own names
    for segment, first_and_last in pages.items():
        if first_and_last == _MERGED:
            pages[segment] = _left(numbers, segment)
    entries: defaultdict[int, dict[int, bool]] = defaultdict(dict)
    """Segment → page → whether its last word has such a list."""
    for segment, number in views.execute(f"SELECT segid, pgno FROM {table}_idx ORDER BY segid, pgno"):  # noqa: S608 - our own names
        if segment not in pages or number >> 1 in entries[segment] or not 0 < number >> 1 <= pages[segment][1]:
            return f"an entry of segment {segment}"
        entries[segment][number >> 1] = bool(number & 1)
    starts = {segment: list(found) for segment, found in entries.items()}
    for number in numbers:
        segment, page = number >> 37, number & _PAGE
        first, last = pages.get(segment, (1, 0))
        is_due = first <= page <= last and not number >> 31 & 0x3F
        if number >> 36 & 1 and page <= last:
            before = bisect_right(starts.get(segment, []), page)
            is_due = before > 0 and entries[segment][starts[segment][before - 1]]
        if not is_due and number not in (_TOTALS, _STRUCTURE):
            return f"a page, {number},"
    return ""


def _segments(views: sqlite3.Connection, table: str) -> dict[int, tuple[int, int]] | None:
    """Each segment of a text index → its first and its last page; None if the row that says so is odd."""
    ((structure,),) = views.execute(f"SELECT block FROM {table}_data WHERE id = {_STRUCTURE}")  # noqa: S608 - our own names
    numbers = _integers(structure[4:])  # a counter comes first
    pages: dict[int, tuple[int, int]] = {}
    try:
        levels, _segment_count, _written = next(numbers), next(numbers), next(numbers)
        for _level in range(levels):
            _merging, segments = next(numbers), next(numbers)
            for _segment in range(segments):
                segment, first, last = next(numbers), next(numbers), next(numbers)
                pages[segment] = (first, last)
    except StopIteration:
        return None
    return None if any(True for _more in numbers) else pages


def _left(numbers: Sequence[int], segment: int) -> tuple[int, int]:
    """The first and the last page that are left of a merged segment; none if one between them is missing.

    They stay until the merge has copied the other segments, too.
    """
    pages = [number & _PAGE for number in numbers if number >> 31 == segment << 6]
    return (pages[0], pages[-1]) if pages and pages[-1] - pages[0] == len(pages) - 1 else (1, 0)


def _integers(block: bytes) -> Iterator[int]:
    """Decode SQLite's integers of variable length: each byte has seven bits, and a mark if another byte follows.

    If the last integer is cut or too long, the part that was read of it comes last: the caller has one too many.
    """
    number, goes_on = 0, False
    for byte in block:
        number, goes_on = number << 7 | byte & 0x7F, byte & 0x80 > 0
        if goes_on and number >> 63:
            break
        if not goes_on:
            yield number
            number = 0
    if goes_on:
        yield number
