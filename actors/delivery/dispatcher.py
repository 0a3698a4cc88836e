"""Which notice may go now. Bookkeeping only: no thread, no clock, no network.

Nothing is marked as delivered here. The outbox changes when the record of a delivery comes back through the log; until
then a sent notice is only kept from being sent twice.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from ...events import Recorded
from ...events.system_events import DeliveryAttempted, EndpointEnabled, RedeliveryRequested
from ...projections.outbox import Due, Notice, Outbox
from ...projections.outbox_kept import KeptOutbox
from .lanes import Lanes
from .result import Result, next_delay, wish

AT_ONCE = 8
"""Deliveries at the same time, at most one to each endpoint."""

CONFIRM_WITHIN = timedelta(seconds=30)
"""A report that has not come back through the log by then is told again: its hearer may have started anew."""


class _Told(msgspec.Struct):
    attempt: DeliveryAttempted
    at: datetime


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says about notices, for a snapshot."""

    outbox: KeptOutbox
    rests: dict[str, tuple[int, datetime]]
    """Endpoint or address → failures in a row, and until when it is left alone."""


class Dispatcher:
    """Hands out due notices and takes back results."""

    def __init__(self, outbox: Outbox, *, at_once: int = AT_ONCE) -> None:
        self._outbox = outbox
        self._lanes = Lanes(outbox.counts, at_once)
        self._sending: dict[str, Due] = {}
        self._told: dict[str, _Told] = {}
        """Reports on their way through the log, by notice id."""
        self._lost: list[DeliveryAttempted] = []

    @property
    def position(self) -> int:
        """The last record that is folded in."""
        return self._outbox.position

    def apply(self, records: Iterable[Recorded]) -> bool:
        """Fold records in; whether that may have changed what can be sent."""
        before, changed = len(self._outbox), False
        for record in records:
            self._outbox.apply((record,))
            match record.event:
                case DeliveryAttempted() as attempt:
                    self._told.pop(attempt.notice_id, None)
                    if attempt.rest_until is not None:
                        self._lanes.rest_until(attempt.target, attempt.rest_until)
                    changed = True
                case EndpointEnabled(target=target):
                    self._lanes.forgive("webhook", target)
                    changed = True
                case RedeliveryRequested() as wanted:
                    self._lanes.forgive(wanted.channel, wanted.target)
                    changed = True
        return changed or len(self._outbox) != before

    def kept(self) -> Kept:
        """What was folded, as data. Only of a dispatcher that was never asked what to send."""
        return Kept(outbox=self._outbox.kept(), rests=self._lanes.rests())

    def restore(self, kept: Kept) -> None:
        """Bring a new dispatcher to where `kept` was taken."""
        self._outbox.restore(kept.outbox)
        self._lanes.restore(kept.rests)

    def take(self, now: datetime) -> list[Notice]:
        """Notices to send now. Each must come back by `done`."""
        for ripe in self._outbox.take_due(now):
            self._lanes.add(ripe)
        taken: list[Notice] = []
        while (due := self._lanes.take(now)) is not None:
            notice = self._outbox.notice(due)
            if notice is None:
                self._lanes.free(due)
                self._give_up(due, now)
                continue
            self._sending[due.notice_id] = due
            taken.append(notice)
        return taken

    def _give_up(self, due: Due, now: datetime) -> None:
        task_id = self._outbox.task_of(due)
        attempt = DeliveryAttempted(
            notice_id=due.notice_id,
            task_id=task_id,
            channel=due.channel,
            target=due.target,
            ok=False,
            final=True,
            detail="the log does not hold the task any more",
        )
        self._told[due.notice_id] = _Told(attempt, now)
        self._lost.append(attempt)

    def lost(self) -> list[DeliveryAttempted]:
        """What to report about notices that cannot be made any more; each once."""
        lost, self._lost = self._lost, []
        return lost

    def done(self, notice: Notice, result: Result, now: datetime, jitter: float) -> DeliveryAttempted:
        """What to report about a delivery. `jitter` is a random number from 0 to 1."""
        due = self._sending.pop(notice.notice_id)
        self._lanes.free(due)
        self._lanes.judge(due, result, now)
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
            disabled=result.disabled,
            rest_until=now + timedelta(seconds=wish(result)) if wish(result) and not result.ok else None,
        )
        self._told[notice.notice_id] = _Told(attempt, now)
        return attempt

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
            moments.append(max(due, now))
        waiting = self._lanes.next_at(now)
        if waiting is not None:
            moments.append(waiting)
        return min(moments, default=None)
