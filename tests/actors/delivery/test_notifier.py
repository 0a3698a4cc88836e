"""The Notifier with a real Scheduler, a real receiver, and deliveries that are held back by hand."""

import contextlib
import queue
import threading
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pykka
import pytest

from tasktrail.actors import notifier
from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import Boot, Delivered, Intake, Submit, Tick
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.delivery import dispatcher
from tasktrail.actors.delivery.attempt import Deadline, Result
from tasktrail.actors.delivery.dispatcher import MAX_DELIVERIES, endpoint_of
from tasktrail.actors.delivery.mail import MailSender
from tasktrail.actors.delivery.post import Poster
from tasktrail.actors.delivery.targets import TargetSender
from tasktrail.actors.delivery.webhook import WebhookSender
from tasktrail.actors.feed import Feed
from tasktrail.actors.messages import PING, PONG, WAKE, Committed, Ticket
from tasktrail.actors.notifier import NoticesHealth, Notifier, Senders
from tasktrail.actors.scheduler import Scheduler
from tasktrail.actors.secret import Secret
from tasktrail.events import Accepted, CancelTask, Command, CreateTask, Recorded, RetryTask, TasktrailError
from tasktrail.events.clock import SystemClock
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.system_events import DeliveryAttempted, DeliveryPostponed
from tasktrail.projections.notices import Notice

WITHIN = 20
OK = Result(ok=True, detail="HTTP 204")
FAILED = Result(ok=False, detail="HTTP 500")


class ShiftedClock(SystemClock):
    """The machine's clock, shifted by some seconds."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


class Deliveries:
    """A delivery that waits for the test to give its result."""

    def __init__(self) -> None:
        self.begun: queue.Queue[Notice] = queue.Queue()
        self.results: queue.Queue[Result | Exception] = queue.Queue()

    def __call__(self, notice: Notice, _deadline: Deadline, _now: datetime) -> Result:
        self.begun.put(notice)
        result = self.results.get(timeout=WITHIN)
        if isinstance(result, Exception):
            raise result
        return result

    def next(self) -> Notice:
        return self.begun.get(timeout=WITHIN)


def courier_to(allowed: Collection[str]) -> Callable[[Notice, Deadline, datetime], Result]:
    """Make real deliveries by web, to these hosts of ours too."""
    return Senders(WebhookSender(Secret(""), Poster(allowed)), MailSender(None), TargetSender({})).deliver


class House:
    """A Scheduler on a log in memory, and a Notifier that follows it."""

    def __init__(self) -> None:
        self.log = MemoryEventLog()
        self.clock = ShiftedClock()
        self.deliveries = Deliveries()
        self.recorded = threading.Condition()
        self.attempts: list[DeliveryAttempted] = []
        self.postponed: list[DeliveryPostponed] = []
        self.lost: list[Committed] = []
        self.deaf = False
        self.health = NoticesHealth()
        self.notifier: Any = None
        self.feed: Feed[Recorded] = Feed(self._ring, SystemClock(), "notifier", gather=timedelta())
        self.scheduler = Scheduler.start(
            open_log=lambda: self.log,
            new_state=lambda: SchedulerState(Limits(), grace={"noop": 0.5}),
            boot=lambda _log: Boot(version="1", epoch=1, pid=1, host="here"),
            clock=self.clock,
            order=lambda _orders: None,
            publish=self._publish,
            on_fatal=lambda _error: None,
        )
        assert self.scheduler.ask(PING, timeout=WITHIN) == PONG

    def start_notifier(self, deliver: Any = None, mail_limit: int = 0) -> None:
        self.notifier = Notifier.start(
            feed=self.feed,
            open_log=lambda: self.log,
            deliver=deliver or self.deliveries,
            report=self._report,
            clock=self.clock,
            mail_limit=mail_limit,
            health=self.health,
        )
        assert self.notifier.ask(PING, timeout=WITHIN) == PONG

    def _report(self, delivered: Delivered) -> None:
        self.scheduler.tell(delivered)

    def _publish(self, message: Committed) -> None:
        with self.recorded:
            self.postponed += [one.event for one in message.records if isinstance(one.event, DeliveryPostponed)]
            self.attempts += [one.event for one in message.records if isinstance(one.event, DeliveryAttempted)]
            self.recorded.notify_all()
        if self.deaf:
            self.lost.append(message)
        elif self.notifier is not None:
            self.feed.put(message.records)

    def _ring(self) -> None:
        with contextlib.suppress(pykka.ActorDeadError):  # a test may stop it in between
            if self.notifier is not None:
                self.notifier.tell(WAKE)

    def wait_for_attempts(self, count: int) -> list[DeliveryAttempted]:
        with self.recorded:
            assert self.recorded.wait_for(lambda: len(self.attempts) >= count, WITHIN)
            return list(self.attempts)

    def send(self, command: Command) -> Accepted:
        answers: queue.Queue[Accepted | TasktrailError] = queue.Queue()
        self.scheduler.tell(Submit(command, Intake(), Ticket(answers.put, "", b"", fresh=True)))
        answer = answers.get(timeout=WITHIN)
        assert isinstance(answer, Accepted)
        return answer

    def cancelled_task(self, **fields: Any) -> int:
        """Create a task that ends at once, so that its end has to be sent."""
        task_id = self.send(CreateTask(type="noop", held=True, **fields)).task_id
        self.send(CancelTask(task_id=task_id))
        return task_id

    def forward(self, seconds: float) -> None:
        assert self.notifier.ask(PING, timeout=WITHIN) == PONG
        self.clock.ahead += timedelta(seconds=seconds)
        self.notifier.tell(Tick())

    def stop(self) -> None:
        for _ in range(10):
            self.deliveries.results.put(OK)
        if self.notifier is not None and self.notifier.is_alive():
            self.notifier.stop(timeout=WITHIN)
        self.scheduler.stop(timeout=WITHIN)


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.stop()


def test_the_end_of_a_task_is_told_and_the_log_says_so(house: House, receiver: Any) -> None:
    deliver = courier_to(receiver.allowed)
    house.start_notifier(deliver)
    task_id = house.cancelled_task(callback_url=receiver.url)
    (attempt,) = house.wait_for_attempts(1)
    assert (attempt.task_id, attempt.ok, attempt.final, attempt.channel) == (task_id, True, True, "callback")
    assert receiver.requests[0][2]["webhook-id"] == attempt.notice_id


def test_each_channel_gets_its_own_notice(house: House) -> None:
    house.start_notifier()
    house.deliveries.results.put(OK)
    house.deliveries.results.put(OK)
    house.deliveries.results.put(OK)
    house.cancelled_task(callback_url="https://a.test/", notify_webhook="https://b.test/", notify_email="a@b.org")
    attempts = house.wait_for_attempts(3)
    assert {attempt.channel for attempt in attempts} == {"callback", "webhook", "email"}
    assert len({attempt.notice_id for attempt in attempts}) == 3


def test_a_failed_delivery_is_tried_again_under_the_same_id(house: House) -> None:
    house.start_notifier()
    house.cancelled_task(callback_url="https://a.test/")
    house.deliveries.results.put(FAILED)
    first = house.deliveries.next()
    (failed,) = house.wait_for_attempts(1)
    assert (failed.ok, failed.final, failed.detail) == (False, False, "HTTP 500")
    assert failed.next_at is not None
    house.forward(60)
    house.deliveries.results.put(OK)
    second = house.deliveries.next()
    assert (second.notice_id, second.tries) == (first.notice_id, 1)
    assert house.wait_for_attempts(2)[1].ok


def test_mail_over_the_limit_goes_out_when_the_hour_is_over(house: House) -> None:
    house.start_notifier(mail_limit=1)
    first, second = (house.cancelled_task(notify_email="a@b.org") for _number in range(2))
    house.deliveries.results.put(OK)
    assert house.deliveries.next().task_id == first
    with house.recorded:
        assert house.recorded.wait_for(lambda: house.postponed, WITHIN)
    house.forward(3590)
    assert house.notifier.ask(PING, timeout=WITHIN) == PONG
    assert house.deliveries.begun.empty()
    house.forward(20)
    house.deliveries.results.put(OK)
    assert house.deliveries.next().task_id == second
    assert len(house.wait_for_attempts(2)) == 2
    assert [fact.task_id for fact in house.postponed] == [second]


def test_a_slow_receiver_does_not_hold_up_another(house: House) -> None:
    house.start_notifier()
    slow = house.cancelled_task(callback_url="https://slow.test/")
    assert house.deliveries.next().task_id == slow
    quick = house.cancelled_task(callback_url="https://quick.test/")
    assert house.deliveries.next().task_id == quick


def test_after_a_restart_the_outbox_is_folded_from_the_log(house: House) -> None:
    """The first Notifier sent one notice and stopped before its result was recorded: it is sent again."""
    house.cancelled_task(callback_url="https://a.test/")
    house.start_notifier()
    first = house.deliveries.next()
    house.notifier.stop(timeout=WITHIN)
    house.deliveries.results.put(OK)
    house.start_notifier()
    second = house.deliveries.next()
    assert second.notice_id == first.notice_id
    house.deliveries.results.put(OK)
    assert house.wait_for_attempts(1)[0].ok


def test_commits_that_were_missed_are_read_from_the_log(house: House) -> None:
    house.start_notifier()
    house.deaf = True
    missed = house.cancelled_task(callback_url="https://a.test/")
    house.deaf = False
    heard = house.cancelled_task(callback_url="https://b.test/")
    assert len(house.lost) >= 2
    assert {house.deliveries.next().task_id, house.deliveries.next().task_id} == {missed, heard}


def test_a_delivery_that_breaks_is_reported_and_loses_nothing(house: House) -> None:
    house.start_notifier()
    house.cancelled_task(callback_url="https://a.test/")
    house.deliveries.results.put(RuntimeError("canary: a fault of ours"))
    (attempt,) = house.wait_for_attempts(1)
    assert (attempt.ok, attempt.final, attempt.detail) == (False, False, "internal error: RuntimeError")


def test_a_report_that_was_lost_is_told_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    told: queue.Queue[Delivered] = queue.Queue()
    monkeypatch.setattr(house, "_report", told.put)
    house.start_notifier()
    house.cancelled_task(callback_url="https://a.test/")
    house.deliveries.results.put(OK)
    first = told.get(timeout=WITHIN)
    house.forward(31)
    assert told.get(timeout=WITHIN) == first
    assert house.deliveries.begun.qsize() == 1


def test_what_could_not_be_handed_out_is_found_in_the_log_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first notice needs an import, for example, and there may be no file descriptors left for it."""
    house.start_notifier()
    house.cancelled_task(callback_url="https://a.test/")
    before = house.deliveries.next()
    faults = [OSError("Too many open files"), MemoryError()]

    def failing(*due: Any) -> str:
        if faults:
            raise faults.pop()
        return endpoint_of(*due)

    monkeypatch.setattr(dispatcher, "endpoint_of", failing)
    house.cancelled_task(callback_url="https://b.test/")
    begun = {house.deliveries.next().notice_id for _ in range(2)}  # in two threads, so in any order
    assert before.notice_id in begun, "whether it will go well nobody knows by now"
    for _ in range(3):
        house.deliveries.results.put(OK)
    told = house.wait_for_attempts(3)
    assert sorted(attempt.notice_id for attempt in told) == sorted([before.notice_id, *begun])
    assert len(begun) == 2
    assert house.notifier.ask(PING, timeout=WITHIN) == PONG
    house.forward(3600)
    assert house.notifier.ask(PING, timeout=WITHIN) == PONG
    assert house.deliveries.begun.empty()
    assert house.health.trouble is None


class Mute:
    """An alarm that does not ring, so that the test can."""

    def __init__(self, *_: Any) -> None:
        pass

    def set(self, at: Any) -> None:
        pass

    def close(self) -> None:
        pass


def test_what_has_become_due_while_the_log_cannot_be_read_goes_out_afterwards(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "Alarm", Mute)
    house.start_notifier()
    house.cancelled_task(callback_url="https://a.test/")
    house.deliveries.results.put(FAILED)
    first = house.deliveries.next()
    house.wait_for_attempts(1)
    assert house.notifier.ask(PING, timeout=WITHIN) == PONG
    faults = [OSError("the disk is gone")]

    def failing(_feed: Any) -> Any:
        if faults:
            raise faults.pop()
        return []

    monkeypatch.setattr(Feed, "take", failing)
    house.clock.ahead += timedelta(seconds=60)
    house.notifier.tell(Tick())
    assert house.deliveries.next().notice_id == first.notice_id


def test_what_was_folded_before_the_log_failed_goes_out_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.start_notifier()
    house.deaf = True
    missed = house.cancelled_task(callback_url="https://a.test/")
    house.deaf = False
    read, faults = house.log.read, [OSError("the disk is gone")]

    def failing(*args: Any, **limits: Any) -> Iterator[Recorded]:
        yield from read(*args, **limits)
        if faults:
            raise faults.pop()

    monkeypatch.setattr(house.log, "read", failing)
    house.cancelled_task()
    assert house.deliveries.next().task_id == missed


def test_stopping_does_not_wait_for_a_receiver_that_hangs(house: House, receiver: Any) -> None:
    called = threading.Event()

    def hang(_handler: Any) -> None:
        called.set()
        receiver.released.wait()

    receiver.answer = hang
    deliver = courier_to(receiver.allowed)
    before = set(threading.enumerate())
    house.start_notifier(deliver)
    house.cancelled_task(callback_url=receiver.url)
    assert called.wait(WITHIN)
    house.notifier.stop(timeout=5)
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("notice"):
            thread.join(timeout=5)
            assert not thread.is_alive()
    assert house.attempts == []


def test_a_task_that_notifies_nobody_is_not_told_about(house: House) -> None:
    house.start_notifier()
    house.cancelled_task()
    told = house.cancelled_task(callback_url="https://a.test/")
    assert house.deliveries.next().task_id == told
    assert house.deliveries.begun.empty()


def test_a_second_life_is_told_under_a_new_id(house: House) -> None:
    house.start_notifier()
    task_id = house.cancelled_task(callback_url="https://a.test/")
    house.deliveries.results.put(OK)
    first = house.deliveries.next()
    house.wait_for_attempts(1)
    house.send(RetryTask(task_id=task_id, force=True))
    house.send(CancelTask(task_id=task_id))
    house.deliveries.results.put(OK)
    second = house.deliveries.next()
    assert second.notice_id != first.notice_id
    assert (second.life, second.task["status"]) == (2, "cancelled")


def hang(handler: Any, released: threading.Event) -> None:
    """Give no answer at all."""
    assert handler
    released.wait()


def drip(handler: Any, released: threading.Event) -> None:
    """Send a header that never ends, a byte at a time."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
    while not released.wait(0.02):
        with contextlib.suppress(OSError):
            handler.wfile.write(b"a")


def stuck_receivers(receivers: Callable[[], Any], number: int) -> tuple[list[Any], threading.Semaphore]:
    """Start receivers that hang or drip, and return a semaphore that counts those being held."""
    stuck, called = [receivers() for _number in range(number)], threading.Semaphore(0)

    def hold(way: Any, released: threading.Event) -> Any:
        def answer(handler: Any) -> None:
            called.release()
            way(handler, released)

        return answer

    for place, one in enumerate(stuck):
        one.answer = hold((hang, drip)[place % 2], one.released)
    return stuck, called


def test_receivers_that_hang_or_drip_hold_up_nobody_else(
    house: House, receiver: Any, receivers: Callable[[], Any]
) -> None:
    stuck, called = stuck_receivers(receivers, MAX_DELIVERIES - 1)
    allowed = [host for one in (receiver, *stuck) for host in one.allowed]
    house.start_notifier(courier_to(allowed))
    for one in stuck:
        for _number in range(3):
            house.cancelled_task(callback_url=one.url)
    for _one in stuck:
        assert called.acquire(timeout=WITHIN)
    good = {house.cancelled_task(callback_url=receiver.url) for _number in range(20)}
    attempts = house.wait_for_attempts(20)
    assert {attempt.task_id for attempt in attempts} == good
    assert all(attempt.ok for attempt in attempts)
    assert [len(one.requests) for one in stuck] == [1] * len(stuck)


def test_however_many_receivers_hang_the_threads_are_bounded(house: House, receivers: Callable[[], Any]) -> None:
    of_others = set(threading.enumerate())  # an earlier notifier may still hold some
    stuck, called = stuck_receivers(receivers, MAX_DELIVERIES + 4)
    allowed = [host for one in stuck for host in one.allowed]
    house.start_notifier(courier_to(allowed))
    for one in stuck:
        for _number in range(10):
            house.cancelled_task(callback_url=one.url)
    for _number in range(MAX_DELIVERIES):
        assert called.acquire(timeout=WITHIN)
    assert house.notifier.ask(PING, timeout=WITHIN) == PONG
    assert sum(len(one.requests) for one in stuck) == MAX_DELIVERIES
    own = set(threading.enumerate()) - of_others
    assert sum(thread.name.startswith("notice_") for thread in own) <= MAX_DELIVERIES


@pytest.mark.parametrize("as_date", [False, True])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured_for_every_notice_to_the_receiver(
    house: House, receiver: Any, status: int, *, as_date: bool
) -> None:
    asked = threading.Semaphore(0)

    def busy(handler: Any) -> None:
        wish = format_datetime(house.clock.now().astimezone(UTC) + timedelta(seconds=1000), usegmt=True)
        handler.send_response(status)
        handler.send_header("retry-after", wish if as_date else "1000")
        handler.send_header("content-length", "0")
        handler.end_headers()
        asked.release()

    receiver.answer = busy
    house.start_notifier(courier_to(receiver.allowed))
    for _number in range(3):
        house.cancelled_task(callback_url=receiver.url)
    (attempt,) = house.wait_for_attempts(1)
    assert attempt.next_at == attempt.rest_until
    assert attempt.next_at is not None
    assert 990 <= (attempt.next_at - house.clock.now()).total_seconds() < 1001  # a date has whole seconds
    house.forward(900)
    assert house.notifier.ask(PING, timeout=WITHIN) == PONG
    assert len(receiver.requests) == 1
    receiver.answer = lambda handler: (handler.send_response(204), handler.end_headers())
    house.forward(101)
    attempts = house.wait_for_attempts(4)
    assert all(attempt.ok for attempt in attempts[1:])
    assert len({attempt.notice_id for attempt in attempts}) == 3


def test_the_one_id_of_a_notice_outlives_failures_and_restarts_at_the_receiver(house: House, receiver: Any) -> None:
    receiver.answer = lambda handler: (handler.send_error(500),)
    deliver = courier_to(receiver.allowed)
    house.start_notifier(deliver)
    house.cancelled_task(callback_url=receiver.url)
    for tries in (1, 2, 3):
        house.wait_for_attempts(tries)
        house.notifier.stop(timeout=WITHIN)
        house.clock.ahead += timedelta(hours=1)
        house.start_notifier(deliver)
    house.wait_for_attempts(4)
    assert len({sent["webhook-id"] for _method, _path, sent, _content in receiver.requests}) == 1
    assert len({content for _method, _path, _sent, content in receiver.requests}) == 1
