"""Hits in the order of a list: selects those after a place, and merges streams of them."""

from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from .walk import END, START, Hit, Place


class Part(NamedTuple):
    """The tasks after a place that have a key, or those without a key, which are in the order of ids."""

    keyless: bool
    key: float | None = None
    id: int = 0
    """They come after this key and id, if these are set."""


def by_key(hit: Hit) -> tuple[float, int]:
    """The sort key of a hit in the order of keys."""
    return hit[1] or 0.0, hit[0]


def parts(place: Place, *, down: bool, every: bool) -> list[Part]:
    """The parts after the place, in order; `every`: all tasks that pass have a key."""
    named = place not in (START, END)
    keyed = Part(keyless=False, key=place.key, id=place.id)
    keyless = Part(keyless=True, id=place.id if named and place.key is None else 0)
    if every:
        return [keyed]
    order = [keyless, keyed] if down else [keyed, keyless]
    beyond_first = named and order[0].keyless != (place.key is None)
    return order[1:] if beyond_first else order


def beyond(hits: Iterable[Hit], part: Part, *, down: bool) -> Iterator[Hit]:
    """The hits that come after the beginning of the part."""
    if part.key is None and not part.id:
        yield from hits
        return
    for hit in hits:
        if part.keyless:
            behind = not part.id or (hit[0] < part.id if down else hit[0] > part.id)
        else:
            at = None if part.key is None else (part.key, part.id)
            behind = at is None or (by_key(hit) < at if down else by_key(hit) > at)
        if behind:
            yield hit


def in_order(hits: Iterable[Hit], part: Part, *, down: bool) -> Iterator[Hit]:
    """The hits that belong to a part, sorted."""
    own = (hit for hit in hits if (hit[1] is None) == part.keyless)
    return iter(sorted(beyond(own, part, down=down), key=by_key, reverse=down))


def ties_by_id(hits: Iterable[Hit], part: Part, *, down: bool) -> Iterator[Hit]:
    """Hits in the order of their keys, with ties in the order of ids."""
    for _at, same in groupby(hits, key=itemgetter(1)):
        yield from in_order(same, part, down=down)


def lazily(streams: Iterable[tuple[Any, Iterator[Hit]]], key: Callable[[Hit], Any], *, down: bool) -> Iterator[Hit]:
    """Merge streams that are each in order. A stream with a bound is begun only when the merge reaches the bound."""
    turn = _turned if down else _as_is
    waiting: list[tuple[Any, int, Hit | None, Iterator[Hit]]] = []
    for number, (bound, stream) in enumerate(streams):
        if bound is None:
            head = next(stream, None)
            if head is not None:
                waiting.append((turn(key(head)), number, head, stream))
        else:
            waiting.append((turn(bound), -number - 1, None, stream))
    heapify(waiting)
    while waiting:
        _at, number, hit, stream = heappop(waiting)
        if hit is not None:
            yield hit
        hit = next(stream, None)
        if hit is not None:
            heappush(waiting, (turn(key(hit)), abs(number), hit, stream))


def _as_is(key: Any) -> Any:
    return key


def _turned(key: Any) -> Any:
    return tuple(-one for one in key) if isinstance(key, tuple) else -key
