"""Whose turn it is when users share the machine: who has the least running, then who has waited longest for a start.

The second is what makes users take turns where one slot is all there is: nobody has anything running when it is free.
"""

from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heapreplace
from itertools import count
from typing import NamedTuple, TypeAlias

Entry: TypeAlias = tuple[float, int, int]
"""Key, id, number of the bucket. Numbers only, so that the collector of garbage has no million tuples to look at."""

KNOWN_USERS = 10_000
"""So many users' last starts are remembered; one whose last start is further back counts as one who had none."""


class Share(NamedTuple):
    """What a user has had of the machine; the least goes first."""

    running: int
    last_start: int
    """Position of the user's last `Started`; 0: none that is remembered."""


EQUAL = Share(0, 0)
"""What everybody has while nothing is shared out."""


class Turns:
    """When each user's last attempt started. A fold of the log."""

    def __init__(self) -> None:
        self.last_starts: dict[int, int] = {}
        """User → position of the last `Started`; the user who has waited longest first."""

    def take(self, user_id: int, position: int) -> int | None:
        """An attempt of the user has started there. Returns the user who is forgotten for it, if one is."""
        self.last_starts.pop(user_id, None)
        self.last_starts[user_id] = position
        if len(self.last_starts) <= KNOWN_USERS:
            return None
        forgotten = next(iter(self.last_starts))
        del self.last_starts[forgotten]
        return forgotten

    def of(self, user_id: int) -> int:
        """Position of the user's last `Started`, or 0."""
        return self.last_starts.get(user_id, 0)


class Line(NamedTuple):
    """A user's tasks that wait."""

    share: Share
    best: Entry
    waiting: int
    others: Callable[[], Iterator[Entry]]
    """Those after the best, best first. Asked of few users."""


_LATER = 2**63
"""Behind every position of the log."""


def in_turns(lines: Iterable[Line]) -> Iterator[Entry]:
    """The tasks of all users in the order in which they start if there are slots for all and nothing ends meanwhile.

    When what runs will end, nobody knows.
    """
    found = list(lines)
    heap = [(line.share, line.best, number) for number, line in enumerate(found)]
    heapify(heap)
    others: dict[int, Iterator[Entry]] = {}
    starts = count(_LATER)
    while heap:
        share, entry, number = heap[0]
        yield entry
        following = next(others.setdefault(number, found[number].others()), None)
        if following is None:
            heappop(heap)
        else:
            heapreplace(heap, (Share(share.running + 1, next(starts)), following, number))


def ahead_in_turns(mine: Line, own_ahead: int, others: Iterable[Line]) -> int:
    """How many come `in_turns` before the task of `mine` that has `own_ahead` before it, without looking at each.

    It starts when its user has so many running; by then another user has as many, or one more if his turn comes first.
    Of two with as many running, it first comes to the one who began with more: the other had his last start before.
    """
    running = mine.share.running + own_ahead
    turn = (-mine.share.running, mine.share.last_start, mine.best)
    ahead = own_ahead
    for other in others:
        first = (-other.share.running, other.share.last_start, other.best) < turn
        ahead += min(other.waiting, max(0, running - other.share.running + first))
    return ahead
