"""A notifier without threads or network: the real outbox and dispatcher, and receivers that fail by the seed."""

from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from random import Random
from typing import TypeAlias

from broken import broken, must

from tasktrail.actors.core.messages import Delivered
from tasktrail.actors.delivery.attempt import Result
from tasktrail.actors.delivery.dispatcher import Dispatcher
from tasktrail.events import Failed, Recorded, TaskState
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.recorded import EVENT_TAGS
from tasktrail.events.system_events import DeliveryAttempted, EndpointEnabled, RedeliveryRequested
from tasktrail.events.task_events import is_terminal
from tasktrail.projections.history import recall_from
from tasktrail.projections.outbox import Notice, Outbox

Place: TypeAlias = tuple[int, str, str]
"""Position of the event, channel and target: the subject of a notice, whatever its id."""

MAIL_LIMIT = 4
"""The number of mails that an address gets within an hour."""

OK = Result(ok=True, detail="200")
FAILURES = (
    Result(ok=False, detail="503"),
    Result(ok=False, detail="429", retry_after=100.0),
    Result(ok=False, detail="410", retryable=False, disabled=True),
)


class Receivers:
    """All receivers of notices. They outlive the service and remember what they got."""

    def __init__(self) -> None:
        self.due: set[Place] = set()
        """The notices to come, which the log does not call done."""
        self.disabled: set[str] = set()
        """Targets that have said that they are gone: they get nothing until they are enabled."""
        self.got: deque[RedeliveryRequested] = deque(maxlen=30)
        """Recent notices, by the name under which they are requested again."""
        self._ids: dict[Place, str] = {}
        self._places: dict[str, Place] = {}
        self._mailed: deque[datetime] = deque()
        """The times of recent mail. There is one address."""

    def follow(self, records: list[Recorded], tasks: dict[int, TaskState]) -> None:
        """Follow durable records: note which notices they call for, and which are done."""
        for record in records:
            event = record.event
            if isinstance(event, DeliveryAttempted):
                self._delivered(event, record.recorded_at)
            elif isinstance(event, EndpointEnabled):
                self.disabled.discard(event.target)
            elif isinstance(event, RedeliveryRequested):
                must(event.target not in self.disabled, f"I9: {event.notice_id} is wanted where nobody is")
                self.due.add((event.told, event.channel, event.target))
            elif record.task_id:
                for channel, target in _told(record, tasks[record.task_id]):
                    if target not in self.disabled:
                        self.due.add((record.position, channel, target))

    def _delivered(self, event: DeliveryAttempted, at: datetime) -> None:
        place = self._places[event.notice_id]
        if event.ok and event.channel == "email" and place in self.due:
            self._mailed.append(at)
            full = len(self._mailed) > MAIL_LIMIT and at - self._mailed.popleft() < timedelta(hours=1)
            must(not full, f"I9: more than {MAIL_LIMIT} mails went to {event.target} within an hour")
        if event.ok or event.final:
            self.due.discard(place)
        if event.disabled:
            self.disabled.add(event.target)
            self.due = {place for place in self.due if place[2] != event.target}

    def get(self, notice: Notice, *, knowing: bool) -> None:
        """Receive a notice, perhaps not for the first time. `knowing`: its sender knew all durable records."""
        place = (notice.position, notice.channel, notice.target)
        known = self._ids.setdefault(place, notice.notice_id)
        if known != notice.notice_id or self._places.setdefault(known, place) != place:
            broken(f"I9: {place} has the ids {known} and {notice.notice_id}")
        self.got.append(
            RedeliveryRequested(
                notice_id=known,
                task_id=notice.task_id,
                channel=notice.channel,
                target=notice.target,
                told=notice.position,
            )
        )
        must(place in self.due or not knowing, f"I9: {notice.notice_id} is sent, and the log says it is done with")


def _told(record: Recorded, task: TaskState) -> Iterator[tuple[str, str]]:
    """Return the receivers of an event, as the documents say."""
    event, spec = record.event, task.spec
    chosen = spec.notify_on or ("started", "completed", "failed", "cancelled")
    told = EVENT_TAGS[type(event)] in chosen and not (isinstance(event, Failed) and not event.final)
    if spec.notify_webhook and told:
        yield "webhook", spec.notify_webhook
    if spec.callback_url and is_terminal(event):
        yield "callback", spec.callback_url
    if spec.notify_email and is_terminal(event) and told:
        yield "email", spec.notify_email
    if told and (spec.notify_on or is_terminal(event)):
        yield from (("apprise", name) for name in spec.notify_targets)


class SimulatedNotifier:
    """One life of the notifier. `report` takes the messages to the Scheduler."""

    def __init__(
        self, rng: Random, log: MemoryEventLog, receivers: Receivers, report: Callable[[Delivered], None]
    ) -> None:
        self._rng = rng
        self._log = log
        self._receivers = receivers
        self._report = report
        self._sending: deque[Notice] = deque()
        self._dispatcher = Dispatcher(Outbox(recall_from(log)))
        self._dispatcher.mail_limit = MAIL_LIMIT
        self._dispatcher.apply(log.read())

    def follow(self, records: list[Recorded]) -> None:
        """Follow durable records. When some were not passed on, all missing ones are read from the log."""
        if records and records[0].position > self._dispatcher.position + 1:
            self._dispatcher.apply(self._log.read(after=self._dispatcher.position))
        else:
            self._dispatcher.apply(records)

    def catch_up(self) -> None:
        """Read the missing records, as it does when it is pinged."""
        self._dispatcher.apply(self._log.read(after=self._dispatcher.position))

    def send(self, now: datetime) -> None:
        """Send the due notices, which arrive."""
        knowing = self._dispatcher.position == self._log.head().position
        for notice in self._dispatcher.take(now):
            self._receivers.get(notice, knowing=knowing)
            self._sending.append(notice)
        for fact in self._dispatcher.unsent():
            self._report(Delivered(fact))

    def hear(self, now: datetime, *, kind: bool = False) -> None:
        """Let a receiver answer, well or not."""
        if self._sending:
            result = OK if kind or self._rng.random() < 0.6 else self._rng.choice(FAILURES)
            attempt = self._dispatcher.done(self._sending.popleft(), result, now, self._rng.random())
            self._report(Delivered(attempt))

    def tell_again(self, now: datetime) -> None:
        """Repeat the reports that have not come back through the log."""
        for late in self._dispatcher.unconfirmed(now):
            self._report(Delivered(late))

    @property
    def busy(self) -> bool:
        """Return whether a receiver still has to answer."""
        return bool(self._sending)

    def wake_at(self, now: datetime) -> datetime | None:
        """Return when there is something to send or to repeat."""
        return self._dispatcher.wake_at(now)
