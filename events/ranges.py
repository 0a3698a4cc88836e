"""Many whole numbers in few characters: `3-17,20` stands for 3 to 17, and 20."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class NumberRange(NamedTuple):
    """The numbers from `first` to `last`."""

    first: int
    last: int


def to_ranges(numbers: Iterable[int]) -> str:
    """The numbers, in any order, as ranges."""
    spans = united(NumberRange(number, number) for number in numbers)
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def spans_of(ranges: str) -> list[NumberRange]:
    """The spans that ranges stand for, in order. Raises ValueError for text that is not ranges."""
    spans: list[NumberRange] = []
    for part in ranges.split(",") if ranges else ():
        first, _, last = part.partition("-")
        span = NumberRange(int(first), int(last or first))
        if span.first > span.last or (spans and span.first <= spans[-1].last):
            raise ValueError(f"{part[:40]!r} does not come after the part before it")
        spans.append(span)
    return spans


def united(spans: Iterable[NumberRange]) -> list[NumberRange]:
    """Merge spans, given in any order, into spans that are in order and disjoint."""
    result: list[NumberRange] = []
    for span in sorted(spans):
        if result and span.first <= result[-1].last + 1:
            result[-1] = NumberRange(result[-1].first, max(result[-1].last, span.last))
        else:
            result.append(span)
    return result


def is_within(number: int, spans: Sequence[NumberRange]) -> bool:
    """Whether a number is in one of the spans, which are in order and disjoint."""
    place = bisect_right(spans, number, key=_first) - 1
    return place >= 0 and number <= spans[place].last


def overlaps(one: NumberRange, spans: Sequence[NumberRange]) -> bool:
    """Whether a span shares a number with one of `spans`, which are in order and disjoint."""
    place = bisect_right(spans, one.last, key=_first) - 1
    return place >= 0 and one.first <= spans[place].last


def _first(span: NumberRange) -> int:
    return span.first


def numbers_of(ranges: str) -> Iterator[int]:
    """The numbers, in order. Raises ValueError for text that is not ranges."""
    for first, last in spans_of(ranges):
        yield from range(first, last + 1)


def shortened(ranges: str, most: int = 60) -> str:
    """The ranges for people to read; only the beginning if they are long."""
    if len(ranges) <= most:
        return ranges
    return f"{ranges[:most].rpartition(',')[0]}, …"
