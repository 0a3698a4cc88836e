"""Notices that are neither delivered nor given up, and the order in which they are sent."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from heapq import heapify, heappop, heappush
from typing import cast

import msgspec
from msgspec.structs import replace

from ...events import Recorded, TaskState
from .kept import KeptNotice
from .rules import Channel

KEPT_STATES = 1000
"""So many pending notices keep their task's state in memory; for the others it is read from the log at their turn."""


class Due(msgspec.Struct, frozen=True, order=True, gc=False):
    """A place in the order of sending. Out of date when the notice is gone or was rescheduled since."""

    at: datetime
    position: int
    turn: int
    notice_id: str
    channel: Channel
    target: str


class Pending(msgspec.Struct, gc=False):
    """One notice."""

    task_id: int
    position: int
    """Of the record that it tells of."""
    target: str
    tries: int = 0
    turn: int = 0
    """Which entry in the order of sending is the one that counts."""
    told: tuple[Recorded, TaskState] | None = None
    """The record and the task after it, where there was room to keep them."""


class PendingNotices:
    """By id, and in the order of sending."""

    def __init__(self, kept_states: int = KEPT_STATES) -> None:
        self.by_id: dict[str, Pending] = {}
        self._room = kept_states
        """How many more may keep their state."""
        self._times: list[Due] = []
        self._turns = 0

    def post(self, notice_id: str, target: str, record: Recorded, state: TaskState) -> Pending:
        """A new one, with no place in the order yet."""
        pending = Pending(record.task_id, record.position, target)
        if self._room > 0:
            self._room -= 1
            pending.told = (record, state)
        self.by_id[notice_id] = pending
        return pending

    def schedule(self, notice_id: str, channel: str, at: datetime) -> None:
        """It is sent at `at`, and no more when it was to be sent before."""
        pending = self.by_id[notice_id]
        self._turns += 1
        pending.turn = self._turns
        due = Due(at, pending.position, pending.turn, notice_id, cast("Channel", channel), pending.target)
        heappush(self._times, due)
        if len(self._times) > 2 * len(self.by_id) + 64:
            self._times = [due for due in self._times if self.counts(due)]
            heapify(self._times)

    def come_back(self, now: datetime) -> None:
        """The clock was far ahead until now: what was to be sent at one of its times is due."""
        self._times = [replace(due, at=min(due.at, now)) for due in self._times]
        heapify(self._times)

    def forget(self, notice_id: str) -> None:
        """It is delivered, or given up."""
        if self.by_id.pop(notice_id).told is not None:
            self._room += 1

    def take_due(self, now: datetime) -> Iterator[Due]:
        """What has become due by `now`, the longest due first. Each comes once, until it is scheduled again."""
        while self._drop_stale() and self._times[0].at <= now:
            yield heappop(self._times)

    def next_due(self) -> datetime | None:
        """When the next one that was not handed out is due, be it past or future."""
        return self._times[0].at if self._drop_stale() else None

    def counts(self, due: Due) -> bool:
        """Whether what was handed out still waits for just that delivery."""
        pending = self.by_id.get(due.notice_id)
        return pending is not None and pending.turn == due.turn

    def _drop_stale(self) -> bool:
        """Let the first entry be one that counts; whether there is one."""
        while self._times and not self.counts(self._times[0]):
            heappop(self._times)
        return bool(self._times)

    def kept(self) -> tuple[int, list[KeptNotice]]:
        """The number of turns so far, and all notices as data. What was handed out is not among them."""
        return self._turns, [self._kept(due) for due in sorted(self._times) if self.counts(due)]

    def _kept(self, due: Due) -> KeptNotice:
        pending = self.by_id[due.notice_id]
        return KeptNotice(
            notice_id=due.notice_id,
            channel=due.channel,
            target=due.target,
            at=due.at,
            task_id=pending.task_id,
            position=due.position,
            turn=due.turn,
            tries=pending.tries,
        )

    def restore(self, turns: int, notices: Iterable[KeptNotice]) -> None:
        """Bring a new one to where it was when `kept` was asked."""
        self._turns = turns
        for one in notices:
            self.by_id[one.notice_id] = Pending(one.task_id, one.position, one.target, one.tries, one.turn)
            self._times.append(Due(one.at, one.position, one.turn, one.notice_id, one.channel, one.target))
        heapify(self._times)
