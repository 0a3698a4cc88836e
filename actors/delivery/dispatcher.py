"""Decides which notice may go now. This is bookkeeping only: no thread, no clock, no network.

Nothing is marked as delivered here. The outbox changes only when the record of a delivery comes back through the log.
Until then this module keeps a sent notice from being sent twice.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from heapq import heapify, heappop, heappush, heapreplace

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
from ...projections.mail_limit import bare_address
from ...projections.notices import Channel
from ...projections.outbox import Due, KeptOutbox, Notice, Outbox
from .attempt import LONGEST_RETRY_AFTER, Result, next_delay, wanted_pause
from .ssrf import EndpointRefused, host_and_port, parse_endpoint

MAX_DELIVERIES = 8
"""The most deliveries at the same time; each endpoint has at most one."""

CONFIRM_WITHIN = timedelta(seconds=30)
"""A report that has not come back through the log by then is sent again: the Scheduler may have started over."""


class _Unconfirmed(msgspec.Struct):
    fact: DeliveryAttempted | DeliveryPostponed
    at: datetime


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The folded notices, for a snapshot."""

    outbox: KeptOutbox
    rests: dict[str, tuple[int, datetime]]
    """Endpoint or address → failures in a row, and until when it is left alone."""


class Dispatcher:
    """Hands out due notices and takes back results."""

    def __init__(self, outbox: Outbox, *, at_once: int = MAX_DELIVERIES) -> None:
        self._outbox = outbox
        self._queues = EndpointQueues(outbox.counts, at_once)
        self._sending: dict[str, Due] = {}
        self._unconfirmed: dict[str, _Unconfirmed] = {}
        """Reports on their way through the log, by notice id."""
        self._unsent: list[DeliveryAttempted | DeliveryPostponed] = []
        self._mailed: dict[str, str] = {}
        """Notice id → address, for delivered mails whose record is not in the log yet."""
        self.mail_limit = 0
        """The most mails that one address gets within an hour; 0 for no limit."""

    @property
    def position(self) -> int:
        """The position of the last folded record."""
        return self._outbox.position

    def __len__(self) -> int:
        """How many notices are neither delivered nor given up."""
        return len(self._outbox)

    def apply(self, records: Iterable[Recorded]) -> bool:
        """Fold records in. Returns whether that may have changed what can be sent."""
        before, changed = len(self._outbox), False
        for record in records:
            self._outbox.apply((record,))
            match record.event:
                case DeliveryPostponed() as postponed:
                    self._unconfirmed.pop(postponed.notice_id, None)
                    changed = True
                case DeliveryAttempted() as attempt:
                    self._unconfirmed.pop(attempt.notice_id, None)
                    self._mailed.pop(attempt.notice_id, None)
                    if attempt.rest_until is not None:
                        self._queues.rest_until(attempt.target, attempt.rest_until)
                    changed = True
                case ClockJumped() as jump if corrects(jump):
                    self._queues.come_back(jump.shows)
                    for report in self._unconfirmed.values():
                        report.at = min(report.at, jump.shows)
                    changed = True
                case EndpointEnabled(target=target):
                    self._queues.end_rest("webhook", target)
                    changed = True
                case RedeliveryRequested() as wanted:
                    self._queues.end_rest(wanted.channel, wanted.target)
                    changed = True
        return changed or len(self._outbox) != before

    def begin(self, records: Iterable[Recorded], until: int) -> None:
        """Fold a log up to a position into an empty dispatcher. `records` may lack tasks without receivers."""
        for record in records:
            self._outbox.pass_over(record.position - 1)
            self.apply((record,))
        self._outbox.pass_over(until)

    def kept(self) -> Kept:
        """The folded state as data. Use it only before the first call of `take`."""
        return Kept(outbox=self._outbox.kept(), rests=self._queues.rests())

    def restore(self, kept: Kept) -> None:
        """Fill a new dispatcher with the state in `kept`."""
        self._outbox.restore(kept.outbox)
        self._queues.restore(kept.rests)

    def take(self, now: datetime) -> list[Notice]:
        """Take the notices to send now. Each must come back through `done`."""
        for ripe in self._outbox.take_due(now):
            self._queues.add(ripe)
        taken: list[Notice] = []
        while (due := self._queues.take(now)) is not None:
            if self._is_over_mail_limit(due, now):
                continue
            notice = self._outbox.notice(due)
            if notice is None:
                self._queues.free(due)
                self._give_up(due, now)
                continue
            self._sending[due.notice_id] = due
            taken.append(notice)
        return taken

    def _is_over_mail_limit(self, due: Due, now: datetime) -> bool:
        """Whether the address of a mail has had its mails for this hour. If so, the notice is postponed."""
        if due.channel != "email" or not self.mail_limit:
            return False
        address = bare_address(due.target)
        under_way = sum(one == address for one in self._mailed.values())
        until = self._outbox.mail.wait(due.target, due.notice_id, now, self.mail_limit, under_way)
        if until is None:
            return False
        self._queues.free(due)
        self._outbox.mail.reserve(due.target, due.notice_id, until)  # the next mail must not be promised the same time
        self._report_later(
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

    def _report_later(self, fact: DeliveryAttempted | DeliveryPostponed, now: datetime) -> None:
        self._unconfirmed[fact.notice_id] = _Unconfirmed(fact, now)
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
        self._report_later(attempt, now)

    def unsent(self) -> list[DeliveryAttempted | DeliveryPostponed]:
        """Reports about notices that have to wait or cannot be composed any more. Each is returned once."""
        unsent, self._unsent = self._unsent, []
        return unsent

    def done(self, notice: Notice, result: Result, now: datetime, jitter: float) -> DeliveryAttempted:
        """Take the result of a delivery, and return the report about it. `jitter` is a random number from 0 to 1."""
        due = self._sending.pop(notice.notice_id, None)
        if due is not None:  # otherwise it began before everything was folded anew, or was sent twice because of that
            self._queues.free(due)
            self._queues.note_result(due, result, now)
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
            rest_until=now + timedelta(seconds=wanted_pause(result))
            if wanted_pause(result) and not result.ok
            else None,
        )
        self._unconfirmed[notice.notice_id] = _Unconfirmed(attempt, now)
        if result.ok and notice.channel == "email":
            self._mailed[notice.notice_id] = bare_address(notice.target)
        return attempt

    def unconfirmed(self, now: datetime) -> list[DeliveryAttempted | DeliveryPostponed]:
        """Reports to send again, because they have not come back in time."""
        late = [report for report in self._unconfirmed.values() if now - report.at >= CONFIRM_WITHIN]
        for report in late:
            report.at = now
        return [report.fact for report in late]

    def wake_at(self, now: datetime) -> datetime | None:
        """When to look again unless something happens before, or None if there is nothing to wait for."""
        moments = [report.at + CONFIRM_WITHIN for report in self._unconfirmed.values()]
        due = self._outbox.next_due()
        if due is not None:
            moments.append(max(due, now))
        waiting = self._queues.next_at(now)
        if waiting is not None:
            moments.append(waiting)
        return min(moments, default=None)


FIRST_REST = 5.0
LONGEST_REST = 300.0
"""Seconds for which an endpoint or a receiver is left alone after a failure; they double with each failure in a row."""

_MANY = 1000
_LONGEST_PAUSE = timedelta(seconds=LONGEST_RETRY_AFTER)


class _Rest(msgspec.Struct):
    failures: int
    until: datetime


class EndpointQueues:
    """Due notices, queued by endpoint, so that no notice waits for another endpoint.

    An endpoint gets one delivery at a time, and failing endpoints never hold all places. A queue takes a few words of
    memory for each notice and no thread. So 10,000 notices for a dead endpoint cost only that and one delivery at a
    time.

    Args:
        counts: whether a notice still waits for exactly this delivery.
        at_once: places for all deliveries; endpoints that failed last time get at most half of them.
    """

    def __init__(self, counts: Callable[[Due], bool], at_once: int) -> None:
        self._counts = counts
        self._at_once = at_once
        self._queues: dict[str, list[tuple[datetime, Due]]] = {}
        self._busy: set[str] = set()
        self._rests: dict[str, _Rest] = {}
        """Endpoint that did not answer, or whole address of a receiver whose delivery failed otherwise → its rest."""

    def __len__(self) -> int:
        """The number of queues with waiting notices."""
        return len(self._queues)

    def add(self, due: Due) -> None:
        """Queue a notice that is due."""
        queue = self._queues.setdefault(endpoint_of(due.channel, due.target), [])
        heappush(queue, (due.at, due))
        if len(queue) % _MANY == 0:  # redeliveries leave entries that no longer count
            queue[:] = [entry for entry in queue if self._counts(entry[1])]
            heapify(queue)

    def take(self, now: datetime) -> Due | None:
        """Take the notice that has been due longest among those that may go. Give its place back with `free`."""
        while len(self._busy) < self._at_once:
            best = min(
                ((heads[0], name) for name in list(self._queues) if (heads := self._open(name, now))), default=None
            )
            if best is None:
                return None
            name = best[1]
            if self._set_aside(name, now):
                continue
            self._busy.add(name)
            queue = self._queues[name]
            due = heappop(queue)[1]
            if not queue:
                del self._queues[name]
            return due
        return None

    def _open(self, name: str, now: datetime) -> list[tuple[datetime, Due]]:
        """The queue, beginning with a notice that counts and may go; empty if there is none."""
        if name in self._busy or self._rests_until(name, now) or (name in self._rests and not self._room_for_failing()):
            return []
        queue = self._queues[name]
        while queue and not self._counts(queue[0][1]):
            heappop(queue)
        if not queue:
            del self._queues[name]
            return []
        return queue if queue[0][0] <= now else []

    def _room_for_failing(self) -> bool:
        return sum(name in self._rests for name in self._busy) < max(1, self._at_once // 2)

    def _rests_until(self, name: str, now: datetime) -> datetime | None:
        rest = self._rests.get(name)
        return rest.until if rest is not None and rest.until > now else None

    def _set_aside(self, name: str, now: datetime) -> bool:
        """Delay the first notices until the rests of their receivers are over. Returns whether any was delayed."""
        queue = self._queues[name]
        moved = False
        while queue[0][0] <= now and (until := self._rests_until(queue[0][1].target, now)):
            heapreplace(queue, (until, queue[0][1]))
            moved = True
        return moved

    def free(self, due: Due) -> None:
        """Free the place of a delivery that is over, with any result."""
        self._busy.discard(endpoint_of(due.channel, due.target))

    def note_result(self, due: Due, result: Result, now: datetime) -> None:
        """After a failure, leave the receiver alone for a while; if nothing answered, the whole endpoint."""
        endpoint = endpoint_of(due.channel, due.target)
        if result.ok or result.answered or not result.retryable:
            self._rests.pop(endpoint, None)
        if result.ok or not result.retryable:
            self._rests.pop(due.target, None)
            return
        name = due.target if result.answered else endpoint
        failures = self._rests[name].failures + 1 if name in self._rests else 1
        seconds = max(min(LONGEST_REST, FIRST_REST * 2.0 ** min(failures - 1, 30)), wanted_pause(result))
        self._rests[name] = _Rest(failures, now + timedelta(seconds=seconds))
        if len(self._rests) > _MANY:
            self._rests = {name: rest for name, rest in self._rests.items() if rest.until > now}

    def rest_until(self, target: str, until: datetime) -> None:
        """Leave a receiver alone until then, because by the log it has asked for that."""
        rest = self._rests.setdefault(target, _Rest(1, until))
        rest.until = max(rest.until, until)
        if len(self._rests) > _MANY:  # no rest is longer than a day, so a rest that ends a day earlier is over
            self._rests = {name: rest for name, rest in self._rests.items() if rest.until > until - _LONGEST_PAUSE}

    def rests(self) -> dict[str, tuple[int, datetime]]:
        """Endpoint or address → failures in a row, and until when it is left alone."""
        return {name: (rest.failures, rest.until) for name, rest in self._rests.items()}

    def restore(self, rests: dict[str, tuple[int, datetime]]) -> None:
        """Take over the rests from a snapshot."""
        self._rests = {name: _Rest(*rest) for name, rest in rests.items()}

    def end_rest(self, channel: Channel, target: str) -> None:
        """End the rest of a receiver, because an operator says that it is there again."""
        endpoint = endpoint_of(channel, target)
        self._rests.pop(target, None)
        self._rests.pop(endpoint, None)
        queue = self._queues.get(endpoint, [])
        queue[:] = [(due.at if due.target == target else at, due) for at, due in queue]
        heapify(queue)

    def come_back(self, now: datetime) -> None:
        """End all rests and waits by `now`, because the clock was far ahead until now."""
        for rest in self._rests.values():
            rest.until = min(rest.until, now)
        for queue in self._queues.values():
            queue[:] = [(min(at, now), due) for at, due in queue]
            heapify(queue)

    def next_at(self, now: datetime) -> datetime | None:
        """When to look again, or None if only the end of a delivery can change anything."""
        moments = (
            max(queue[0][0], self._rests[name].until if name in self._rests else queue[0][0])
            for name, queue in self._queues.items()
            if name not in self._busy
        )
        return min((moment for moment in moments if moment > now), default=None)


@lru_cache(maxsize=4096)
def endpoint_of(channel: Channel, target: str) -> str:
    """The endpoint of a receiver: the web server of its address, the one mail server, or the target.

    Names other than `host:port` contain a space, so they cannot equal one.
    """
    if channel == "email":
        return "mail server"
    if channel == "apprise":
        return f"target {target}"
    try:
        host, port = host_and_port(parse_endpoint(target))
    except EndpointRefused:
        return "refused addresses"
    return f"{host}:{port}"
