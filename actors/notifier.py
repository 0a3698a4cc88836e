"""The Notifier: sends the notices that are due, and reports each try to the Scheduler, which records it.

Only the record counts. A service that dies between sending and recording sends again after its start, with the same
id, by which the receiver recognises the repetition.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import pykka

from ..events import EventLog, Recorded
from ..events.clock import Clock
from ..events.log.log_reader import LogReader
from ..projections.outbox import Notice
from .actor import Actor
from .alarm import Alarm
from .core.messages import Delivered, Tick
from .delivery.attempt import DELIVER_WITHIN, Deadline, Result
from .delivery.dispatcher import MAX_DELIVERIES, Dispatcher
from .feed import Feed, Retrier
from .logger import get_logger, log_error
from .messages import WAKE
from .snapshots import folded_outbox

if TYPE_CHECKING:
    from .delivery.mail import MailSender
    from .delivery.targets import TargetSender
    from .delivery.webhook import WebhookSender

logger = get_logger()

Deliver: TypeAlias = Callable[[Notice, Deadline, datetime], Result]


class Senders:
    """Delivers a notice to its receiver over the notice's channel. One object serves all threads."""

    def __init__(self, webhooks: "WebhookSender", mail: "MailSender", targets: "TargetSender") -> None:
        self._webhooks = webhooks
        self._mail = mail
        self._targets = targets

    def deliver(self, notice: Notice, deadline: Deadline, now: datetime) -> Result:
        """Try once, and return the result."""
        match notice.channel:
            case "webhook" | "callback":
                return self._webhooks.send(notice, deadline, now)
            case "email":
                return self._mail.send(notice, deadline)
            case "apprise":
                return self._targets.send(notice, deadline)


class NoticesHealth:
    """The state of the Notifier, for others to read."""

    def __init__(self) -> None:
        self.position = 0
        """The position of the last record that it has folded."""
        self.waiting = 0
        """How many notices are neither delivered nor given up."""
        self.trouble: Exception | None = None
        """Why it cannot go on now: mostly because it cannot read the log."""

    def set_trouble(self, error: Exception | None) -> None:
        """Set the reason why it cannot go on; None when it can again."""
        self.trouble = error


class DeliveryFinished(msgspec.Struct, frozen=True):
    """From a sending thread: the result of a delivery."""

    notice: Notice
    result: Result


class Notifier(Actor):
    """Decides which notices are sent and when. A few threads send them.

    Args:
        feed: the committed records.
        open_log: called in this actor's thread; the outbox is folded from this log at every start.
        snapshot: the file from which the fold goes on, if it can be used.
        deliver: sends one notice, in a thread of its own; see `Senders.deliver`.
        report: gets every try; called in this actor's thread.
        clock: decides which notices are due.
        within: seconds after which a delivery is cut off.
        mail_limit: how many mails one address gets within an hour at most; 0 for no limit.
        health: gets this actor's state.
    """

    def __init__(
        self,
        *,
        feed: Feed[Recorded],
        open_log: Callable[[], EventLog | LogReader],
        deliver: Deliver,
        report: Callable[[Delivered], None],
        clock: Clock,
        within: float = DELIVER_WITHIN,
        snapshot: Path | None = None,
        mail_limit: int = 0,
        health: NoticesHealth | None = None,
    ) -> None:
        super().__init__()
        self._feed = feed
        self._open_log = open_log
        self._deliver = deliver
        self._report = report
        self._clock = clock
        self._within = within
        self._snapshot = snapshot
        self._mail_limit = mail_limit
        self._health = health or NoticesHealth()
        self._threads = ThreadPoolExecutor(MAX_DELIVERIES, thread_name_prefix="notice")
        self._deadlines: set[Deadline] = set()
        self._deadlines_lock = threading.Lock()
        self._stopping = False
        self._log: EventLog | LogReader | None = None
        self._folded: Dispatcher | None = None
        self._behind = False
        """Whether records may be missing, so that the log has to be read."""
        self._news = False
        """Whether the set of notices that can be sent may have changed."""
        self._results: deque[DeliveryFinished] = deque()
        """Results of deliveries. They wait while the log cannot be read."""
        self._chance = Random()  # noqa: S311 - spreads load, keeps no secret
        """Not the shared generator: a program that seeds it would make all its services send at the same times."""

    def on_start(self) -> None:
        """Fold the outbox from the log, and send the notices that are due."""
        self._alarm = Alarm(lambda: self._tell_self(Tick()), self._clock, "notifier-alarm")
        self._retrier = Retrier("notifier", lambda: self._tell_self(WAKE), self._clock, self._health.set_trouble)
        self._retrier.run(self._go_on)

    def on_stop(self) -> None:
        """Cut off the deliveries under way. They are not recorded, so the next start sends them again."""
        self._alarm.close()
        self._retrier.close()
        with self._deadlines_lock:
            self._stopping = True
            under_way = list(self._deadlines)
        for deadline in under_way:
            deadline.end()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._log is not None:
            self._log.close()

    def settle(self) -> None:
        """Fold: a ping is answered when all committed records are folded."""
        self.receive(WAKE)

    def receive(self, message: Any) -> None:
        """Follow the log, take results, and send the notices that are due."""
        match message:
            case DeliveryFinished():
                self._results.append(message)
            case Tick():
                self._news = True
        self._retrier.run(self._go_on)

    def _go_on(self) -> None:
        self._catch_up()
        try:
            while self._results:
                self._news = True
                self._take_back(self._results.popleft())
            if self._news:
                self._send_due()
                self._news = False
        except BaseException as error:
            log_error("notices could not be handed out", error)
            self._folded = None  # notices that were taken out to be sent are now only in the log
            raise

    def _catch_up(self) -> None:
        """Fold the committed records."""
        records = self._feed.take()
        behind, self._behind = self._behind, True  # until this succeeds
        if self._log is None:
            self._log = self._open_log()
        if self._folded is None:
            self._folded = folded_outbox(self._log, self._snapshot)
            self._folded.mail_limit = self._mail_limit
            self._news = True
        elif behind or (records and records[0].position > self._folded.position + 1):
            self._news = True  # records folded before a failure may have changed what can be sent
            self._folded.apply(self._log.read(after=self._folded.position))
        else:
            self._news |= self._folded.apply(records)
        self._behind = False
        self._health.position, self._health.waiting = self._folded.position, len(self._folded)

    @property
    def _dispatcher(self) -> Dispatcher:
        assert self._folded is not None, "nothing is sent before the log was read"
        return self._folded

    def _take_back(self, finished: DeliveryFinished) -> None:
        jitter = self._chance.random()
        attempt = self._dispatcher.done(finished.notice, finished.result, self._clock.now(), jitter)
        if not attempt.ok:
            logger.warning(
                "a notice was not delivered",
                task_id=attempt.task_id,
                channel=attempt.channel,
                detail=attempt.detail,
                next_at=None if attempt.next_at is None else attempt.next_at.isoformat(),
            )
        self._report(Delivered(attempt))

    def _send_due(self) -> None:
        now = self._clock.now()
        for notice in self._dispatcher.take(now):
            try:
                self._threads.submit(self._send, notice)
            except RuntimeError as error:  # no thread can be started: the notice must come back all the same
                self._tell_self(DeliveryFinished(notice, Result(ok=False, detail=f"no thread to send it: {error}")))
        for fact in (*self._dispatcher.unconfirmed(now), *self._dispatcher.unsent()):
            self._report(Delivered(fact))
        self._alarm.set(self._dispatcher.wake_at(now))

    def _send(self, notice: Notice) -> None:
        """Send a notice and report the result, even after an error. Runs in a sending thread."""
        deadline = Deadline(self._within)
        with self._deadlines_lock:
            if self._stopping:
                return
            self._deadlines.add(deadline)
        try:
            with deadline:
                result = self._deliver(notice, deadline, self._clock.now())
        except Exception as error:
            logger.exception("a delivery broke", notice_id=notice.notice_id)
            result = Result(ok=False, detail=f"internal error: {type(error).__name__}")
        finally:
            with self._deadlines_lock:
                self._deadlines.discard(deadline)
        self._tell_self(DeliveryFinished(notice, result))

    def _tell_self(self, message: Any) -> None:
        with contextlib.suppress(pykka.ActorDeadError):  # stopped meanwhile: the next start folds and sends again
            self.actor_ref.tell(message)
