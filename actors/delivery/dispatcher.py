"""Which notice may go now. Bookkeeping only: no thread, no clock, no network.

Nothing is marked as delivered here. The outbox changes when the record of a delivery comes back through the log; until
then a sent notice is only kept from being sent twice.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from ...events import Recorded
from ...events.system_events import DeliveryAttempted
from ...projections.outbox import Channel, Notice, Outbox
from .courier import endpoint_of
from .result import Result, next_delay

AT_ONCE = 4
"""Deliveries at the same time, at most one to each endpoint."""

CONFIRM_WITHIN = timedelta(seconds=30)
"""A report that has not come back through the log by then is told again: its hearer may have started anew."""

FIRST_REST = 5.0
LONGEST_REST = 300.0
"""Seconds an endpoint is left alone after failing; doubled with each failure in a row."""

LOOK_AGAIN = timedelta(seconds=1)
_MANY_ENDPOINTS = 1000


class _Rest(msgspec.Struct):
    failures: int
    until: datetime


class _Told(msgspec.Struct):
    attempt: DeliveryAttempted
    at: datetime


class Dispatcher:
    """Hands out due notices and takes back results."""

    def __init__(self, outbox: Outbox, *, at_once: int = AT_ONCE) -> None:
        self._outbox = outbox
        self._at_once = at_once
        self._sending: dict[str, str] = {}
        """Notice id → endpoint."""
        self._told: dict[str, _Told] = {}
        """Reports on their way through the log, by notice id."""
        self._rests: dict[str, _Rest] = {}

    @property
    def position(self) -> int:
        """The last record that is folded in."""
        return self._outbox.position

    def apply(self, records: Iterable[Recorded]) -> bool:
        """Fold records in; whether that may have changed what can be sent."""
        before, confirmed = len(self._outbox), False
        for record in records:
            self._outbox.apply((record,))
            if isinstance(record.event, DeliveryAttempted):
                self._told.pop(record.event.notice_id, None)
                confirmed = True
        return confirmed or len(self._outbox) != before

    def take(self, now: datetime) -> list[Notice]:
        """Notices to send now. Each must come back by `done`."""
        taken: list[Notice] = []
        while len(self._sending) < self._at_once:
            due = self._outbox.due(now, 1, skip=lambda *one: self._must_wait(now, *one))
            if not due:
                break
            self._sending[due[0].notice_id] = endpoint_of(due[0].channel, due[0].target)
            taken += due
        return taken

    def _must_wait(self, now: datetime, notice_id: str, channel: Channel, target: str) -> bool:
        if notice_id in self._sending or notice_id in self._told:
            return True
        endpoint = endpoint_of(channel, target)
        rest = self._rests.get(endpoint)
        return endpoint in self._sending.values() or (rest is not None and rest.until > now)

    def done(self, notice: Notice, result: Result, now: datetime, jitter: float) -> DeliveryAttempted:
        """What to report about a delivery. `jitter` is a random number from 0 to 1."""
        self._judge_endpoint(self._sending.pop(notice.notice_id), result, now)
        delay = next_delay(result, notice.tries + 1, jitter)
        attempt = DeliveryAttempted(
            notice_id=notice.notice_id,
            task_id=notice.task_id,
            channel=notice.channel,
            target=notice.target,
            ok=result.ok,
            final=delay is None,
            detail=result.detail,
            next_at=None if delay is None else now + timedelta(seconds=delay),
        )
        self._told[notice.notice_id] = _Told(attempt, now)
        return attempt

    def _judge_endpoint(self, endpoint: str, result: Result, now: datetime) -> None:
        if result.ok or not result.retryable:
            self._rests.pop(endpoint, None)
            return
        failures = self._rests[endpoint].failures + 1 if endpoint in self._rests else 1
        seconds = min(LONGEST_REST, FIRST_REST * 2.0 ** min(failures - 1, 30))
        self._rests[endpoint] = _Rest(failures, now + timedelta(seconds=seconds))
        if len(self._rests) > _MANY_ENDPOINTS:
            self._rests = {name: rest for name, rest in self._rests.items() if rest.until > now}

    def unconfirmed(self, now: datetime) -> list[DeliveryAttempted]:
        """Reports to tell again."""
        late = [told for told in self._told.values() if now - told.at >= CONFIRM_WITHIN]
        for told in late:
            told.at = now
        return [told.attempt for told in late]

    def wake_at(self, now: datetime) -> datetime | None:
        """When to look again, unless something happens before; none when there is nothing to wait for."""
        moments = [told.at + CONFIRM_WITHIN for told in self._told.values()]
        due = self._outbox.next_due()
        if due is not None:
            moments.append(due if due > now else now + LOOK_AGAIN)
        return min(moments, default=None)
