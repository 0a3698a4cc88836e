"""Reading a heap in order without changing it."""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T", bound=tuple[Any, ...])


def in_order(heap: list[T]) -> Iterator[T]:
    """The smallest first, found as they are asked for: the next one is a child of those that have been."""
    fringe = [(heap[0], 0)] if heap else []
    while fringe:
        entry, place = heappop(fringe)
        yield entry
        for child in (2 * place + 1, 2 * place + 2):
            if child < len(heap):
                heappush(fringe, (heap[child], child))
