"""Which notice may go now. Bookkeeping only: no thread, no clock, no network.

Nothing is marked as delivered here. The outbox changes when the record of a delivery comes back through the log; until
then a sent notice is only kept from being sent twice.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from ...events import Recorded
from ...events.clock_jumps import corrects
from ...events.system_events import (
    ClockJumped,
    DeliveryAttempted,
    DeliveryPostponed,
    EndpointEnabled,
    RedeliveryRequested,
)
from ...projections.notices.kept import KeptOutbox
from ...projections.notices.mail_pace import bare
from ...projections.notices.outbox import Due, Notice, Outbox
from .lanes import Lanes
from .result import Result, next_delay, wish

AT_ONCE = 8
"""Deliveries at the same time, at most one to each endpoint."""

CONFIRM_WITHIN = timedelta(seconds=30)
"""A report that has not come back through the log by then is told again: its hearer may have started anew."""


class _Told(msgspec.Struct):
    fact: DeliveryAttempted | DeliveryPostponed
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
        self._unsent: list[DeliveryAttempted | DeliveryPostponed] = []
        self._mailed: dict[str, str] = {}
        """Notice id → address of mails that were delivered, and that the log does not tell of yet."""
        self.mail_limit = 0
        """Mails that one address gets within an hour; 0: any number."""

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
                case DeliveryPostponed() as postponed:
                    self._told.pop(postponed.notice_id, None)
                    changed = True
                case DeliveryAttempted() as attempt:
                    self._told.pop(attempt.notice_id, None)
                    self._mailed.pop(attempt.notice_id, None)
                    if attempt.rest_until is not None:
                        self._lanes.rest_until(attempt.target, attempt.rest_until)
                    changed = True
                case ClockJumped() as jump if corrects(jump):
                    self._lanes.come_back(jump.shows)
                    for told in self._told.values():
                        told.at = min(told.at, jump.shows)
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
            if self._has_to_wait(due, now):
                continue
            notice = self._outbox.notice(due)
            if notice is None:
                self._lanes.free(due)
                self._give_up(due, now)
                continue
            self._sending[due.notice_id] = due
            taken.append(notice)
        return taken

    def _has_to_wait(self, due: Due, now: datetime) -> bool:
        """Whether it is mail to an address that has had enough for now; it then comes back when that is over."""
        if due.channel != "email" or not self.mail_limit:
            return False
        address = bare(due.target)
        under_way = sum(one == address for one in self._mailed.values())
        until = self._outbox.mail.wait(due.target, due.notice_id, now, self.mail_limit, under_way)
        if until is None:
            return False
        self._lanes.free(due)
        self._outbox.mail.promise(due.target, due.notice_id, until)  # the next one must not be promised the same moment
        self._tell_unsent(
            DeliveryPostponed(
                notice_id=due.notice_id,
                task_id=self._outbox.task_of(due),
                channel=due.channel,
                target=due.target,
                until=until,
                limit=self.mail_limit,
            ),
            now,
        )
        return True

    def _tell_unsent(self, fact: DeliveryAttempted | DeliveryPostponed, now: datetime) -> None:
        self._told[fact.notice_id] = _Told(fact, now)
        self._unsent.append(fact)

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
        self._tell_unsent(attempt, now)

    def unsent(self) -> list[DeliveryAttempted | DeliveryPostponed]:
        """What to report about notices that have to wait, or that cannot be made any more; each once."""
        unsent, self._unsent = self._unsent, []
        return unsent

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
        if result.ok and notice.channel == "email":
            self._mailed[notice.notice_id] = bare(notice.target)
        return attempt

    def unconfirmed(self, now: datetime) -> list[DeliveryAttempted | DeliveryPostponed]:
        """Reports to tell again."""
        late = [told for told in self._told.values() if now - told.at >= CONFIRM_WITHIN]
        for told in late:
            told.at = now
        return [told.fact for told in late]

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
