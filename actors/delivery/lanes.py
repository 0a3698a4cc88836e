"""Due notices in lanes, one for each endpoint, so that none ever waits for another endpoint's receiver.

A lane holds a few words for each notice, never a thread: 10,000 notices for a dead endpoint cost their queue and one
delivery at a time. Pure bookkeeping.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush, heapreplace

import msgspec

from ...projections.notices.outbox import Due
from ...projections.notices.rules import Channel
from .courier import endpoint_of
from .result import LONGEST_RETRY_AFTER, Result, wish

FIRST_REST = 5.0
LONGEST_REST = 300.0
"""Seconds an endpoint or a receiver is left alone after failing; doubled with each failure in a row."""

_MANY = 1000
_LONGEST_WISH = timedelta(seconds=LONGEST_RETRY_AFTER)


class _Rest(msgspec.Struct):
    failures: int
    until: datetime


class Lanes:
    """Who may go now: one delivery at a time to an endpoint, and failing endpoints never hold all places.

    Args:
        counts: whether a notice still waits for just this delivery.
        at_once: places in all; endpoints that failed last time get at most half of them.
    """

    def __init__(self, counts: Callable[[Due], bool], at_once: int) -> None:
        self._counts = counts
        self._at_once = at_once
        self._lanes: dict[str, list[tuple[datetime, Due]]] = {}
        self._busy: set[str] = set()
        self._rests: dict[str, _Rest] = {}
        """By endpoint, when it did not answer, and by the whole address, when it did."""

    def __len__(self) -> int:
        """How many lanes have notices that wait."""
        return len(self._lanes)

    def add(self, due: Due) -> None:
        """A notice is due."""
        lane = self._lanes.setdefault(endpoint_of(due.channel, due.target), [])
        heappush(lane, (due.at, due))
        if len(lane) % _MANY == 0:  # redeliveries leave entries behind that count no more
            lane[:] = [entry for entry in lane if self._counts(entry[1])]
            heapify(lane)

    def take(self, now: datetime) -> Due | None:
        """The longest due of those that may go. Give its place back with `free`."""
        while len(self._busy) < self._at_once:
            best = min(
                ((heads[0], name) for name in list(self._lanes) if (heads := self._open(name, now))), default=None
            )
            if best is None:
                return None
            name = best[1]
            if self._set_aside(name, now):
                continue
            self._busy.add(name)
            lane = self._lanes[name]
            due = heappop(lane)[1]
            if not lane:
                del self._lanes[name]
            return due
        return None

    def _open(self, name: str, now: datetime) -> list[tuple[datetime, Due]]:
        """The lane, its first notice being one that counts and may go; empty when there is none."""
        if name in self._busy or self._rests_until(name, now) or (name in self._rests and not self._room_for_failing()):
            return []
        lane = self._lanes[name]
        while lane and not self._counts(lane[0][1]):
            heappop(lane)
        if not lane:
            del self._lanes[name]
            return []
        return lane if lane[0][0] <= now else []

    def _room_for_failing(self) -> bool:
        return sum(name in self._rests for name in self._busy) < max(1, self._at_once // 2)

    def _rests_until(self, name: str, now: datetime) -> datetime | None:
        rest = self._rests.get(name)
        return rest.until if rest is not None and rest.until > now else None

    def _set_aside(self, name: str, now: datetime) -> bool:
        """Put notices of resting receivers behind their rest; whether the first one was such a notice."""
        lane = self._lanes[name]
        moved = False
        while lane[0][0] <= now and (until := self._rests_until(lane[0][1].target, now)):
            heapreplace(lane, (until, lane[0][1]))
            moved = True
        return moved

    def free(self, due: Due) -> None:
        """The delivery is over, whatever came of it."""
        self._busy.discard(endpoint_of(due.channel, due.target))

    def judge(self, due: Due, result: Result, now: datetime) -> None:
        """Who fails is left alone for a while: the receiver if it answered, else all behind its endpoint."""
        endpoint = endpoint_of(due.channel, due.target)
        if result.ok or result.answered or not result.retryable:
            self._rests.pop(endpoint, None)
        if result.ok or not result.retryable:
            self._rests.pop(due.target, None)
            return
        name = due.target if result.answered else endpoint
        failures = self._rests[name].failures + 1 if name in self._rests else 1
        seconds = max(min(LONGEST_REST, FIRST_REST * 2.0 ** min(failures - 1, 30)), wish(result))
        self._rests[name] = _Rest(failures, now + timedelta(seconds=seconds))
        if len(self._rests) > _MANY:
            self._rests = {name: rest for name, rest in self._rests.items() if rest.until > now}

    def rest_until(self, target: str, until: datetime) -> None:
        """The log says that the receiver has asked to be left alone so long."""
        rest = self._rests.setdefault(target, _Rest(1, until))
        rest.until = max(rest.until, until)
        if len(self._rests) > _MANY:  # nobody may rest longer than a day, so what ends a day earlier is over
            self._rests = {name: rest for name, rest in self._rests.items() if rest.until > until - _LONGEST_WISH}

    def rests(self) -> dict[str, tuple[int, datetime]]:
        """Who is left alone: failures in a row, and until when."""
        return {name: (rest.failures, rest.until) for name, rest in self._rests.items()}

    def restore(self, rests: dict[str, tuple[int, datetime]]) -> None:
        """Leave those alone of whom an earlier fold of the log has said so."""
        self._rests = {name: _Rest(*rest) for name, rest in rests.items()}

    def forgive(self, channel: Channel, target: str) -> None:
        """Somebody says that the receiver is there again: it rests no more."""
        endpoint = endpoint_of(channel, target)
        self._rests.pop(target, None)
        self._rests.pop(endpoint, None)
        lane = self._lanes.get(endpoint, [])
        lane[:] = [(due.at if due.target == target else at, due) for at, due in lane]
        heapify(lane)

    def come_back(self, now: datetime) -> None:
        """The clock was far ahead until now: nobody rests longer than that, nothing waits for longer."""
        for rest in self._rests.values():
            rest.until = min(rest.until, now)
        for lane in self._lanes.values():
            lane[:] = [(min(at, now), due) for at, due in lane]
            heapify(lane)

    def next_at(self, now: datetime) -> datetime | None:
        """When to look again; none when only the end of a delivery can change anything."""
        moments = (
            max(lane[0][0], self._rests[name].until if name in self._rests else lane[0][0])
            for name, lane in self._lanes.items()
            if name not in self._busy
        )
        return min((moment for moment in moments if moment > now), default=None)
