"""The order of notices: one at a time to an endpoint, never twice, and only the log's word counts."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from tasktrail.actors.delivery.attempt import Result
from tasktrail.actors.delivery.dispatcher import CONFIRM_WITHIN, MAX_DELIVERIES, Dispatcher, endpoint_of
from tasktrail.events import Cancelled, Created, Event, Fact
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.system_events import DeliveryAttempted, EndpointEnabled
from tasktrail.projections.history import recall_from
from tasktrail.projections.notices import Notice, log_id, redelivery
from tasktrail.projections.outbox import Outbox

START = datetime(2026, 11, 24, tzinfo=UTC)
OK = Result(ok=True, detail="HTTP 204")
FAILED = Result(ok=False, detail="HTTP 500", answered=True)
SILENT = Result(ok=False, detail="no complete answer within 20 s")
GONE = Result(ok=False, detail="HTTP 410", retryable=False, disabled=True, answered=True)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Desk:
    """A dispatcher and the log that it follows."""

    def __init__(self, *targets: str, log: MemoryEventLog | None = None) -> None:
        self.log = log or MemoryEventLog()
        self.dispatcher = Dispatcher(Outbox(recall_from(self.log)))
        self.dispatcher.apply(self.log.read())
        for target in targets:
            self.cancelled_task(target)

    def record(self, task_id: int, *events: Event, at: datetime = START) -> bool:
        version = len(self.log.read_task(task_id))
        facts = [
            Fact(task_id, version + number, event, at, life=min(1, task_id)) for number, event in enumerate(events, 1)
        ]
        return self.dispatcher.apply(self.log.append(facts, expected=self.log.head().position))

    def cancelled_task(self, target: str) -> None:
        """Cancel a task whose end is sent to `target`."""
        task_id = 1 + max((record.task_id for record in self.log.read()), default=0)
        self.record(task_id, Created(type="noop", callback_url=target), Cancelled())

    def finish(self, notice: Notice, result: Result, seconds: float) -> DeliveryAttempted:
        return self.dispatcher.done(notice, result, after(seconds), 0.0)

    def take(self, seconds: float) -> list[Notice]:
        return self.dispatcher.take(after(seconds))


def tasks(notices: Sequence[Notice]) -> list[int]:
    return [notice.task_id for notice in notices]


def test_a_due_notice_is_handed_out_once() -> None:
    desk = Desk("https://a.test/")
    assert tasks(desk.take(0)) == [1]
    assert desk.take(1) == []


def test_a_delivered_notice_waits_for_its_record_and_is_then_over() -> None:
    desk = Desk("https://a.test/")
    attempt = desk.finish(desk.take(0)[0], OK, 1)
    assert (attempt.ok, attempt.final, attempt.next_at, attempt.channel) == (True, True, None, "callback")
    assert desk.take(1) == []
    assert desk.record(0, attempt)
    assert desk.take(1000) == []
    assert desk.dispatcher.wake_at(after(1000)) is None


def test_a_failed_notice_comes_back_when_the_record_says() -> None:
    desk = Desk("https://a.test/")
    first = desk.take(0)[0]
    attempt = desk.finish(first, FAILED, 1)
    assert (attempt.ok, attempt.final, attempt.next_at) == (False, False, after(6))
    desk.record(0, attempt, at=after(1))
    assert desk.take(5.9) == []
    assert desk.dispatcher.wake_at(after(2)) == after(6)
    (second,) = desk.take(6)
    assert (second.notice_id, second.tries) == (first.notice_id, 1)
    assert desk.finish(second, FAILED, 6).next_at == after(306)


def test_a_receiver_that_is_gone_is_final() -> None:
    desk = Desk("https://a.test/")
    attempt = desk.finish(desk.take(0)[0], GONE, 1)
    assert (attempt.ok, attempt.final) == (False, True)
    desk.record(0, attempt)
    assert desk.take(10**6) == []


def test_after_ten_tries_it_is_given_up() -> None:
    desk = Desk("https://a.test/")
    moment, attempts = START, []
    while notices := desk.dispatcher.take(moment):
        attempts.append(desk.dispatcher.done(notices[0], FAILED, moment, 1.0))
        desk.record(0, attempts[-1], at=moment)
        moment = attempts[-1].next_at or moment + timedelta(days=9)
    assert len(attempts) == 10
    assert [attempt.final for attempt in attempts] == [False] * 9 + [True]


def test_an_endpoint_gets_one_notice_at_a_time() -> None:
    desk = Desk("https://a.test/1", "https://a.test:443/2", "https://b.test/")
    first = desk.take(0)
    assert tasks(first) == [1, 3]
    desk.finish(first[0], OK, 1)
    assert tasks(desk.take(1)) == [2]


def test_no_more_are_under_way_than_allowed() -> None:
    desk = Desk(*(f"https://{name}.test/" for name in "abcdefghijkl"))
    first = desk.take(0)
    assert len(first) == MAX_DELIVERIES
    desk.finish(first[0], OK, 1)
    assert len(desk.take(1)) == 1


def test_a_failing_endpoint_rests_longer_and_longer_while_others_go_on() -> None:
    desk = Desk("https://dead.test/1", "https://dead.test/2", "https://dead.test/3", "https://live.test/")
    (dead, live) = desk.take(0)
    desk.finish(dead, SILENT, 0)
    assert desk.take(4.9) == []
    (second,) = desk.take(5)
    desk.finish(second, SILENT, 5)
    desk.finish(live, OK, 5)
    assert desk.take(14.9) == []
    assert tasks(desk.take(15)) == [3]


def test_an_endpoint_that_answers_again_rests_no_more() -> None:
    desk = Desk("https://a.test/1", "https://a.test/2", "https://a.test/3")
    desk.finish(desk.take(0)[0], SILENT, 0)
    desk.finish(desk.take(5)[0], OK, 5)
    assert tasks(desk.take(5)) == [3]


def test_ten_thousand_notices_for_a_dead_endpoint_cost_one_place_and_hide_nobody() -> None:
    desk = Desk()
    created, ended = Created(type="noop", callback_url="https://dead.test/"), Cancelled()
    facts = [
        Fact(task, version, event, START, life=1)
        for task in range(1, 10_001)
        for version, event in ((1, created), (2, ended))
    ]
    desk.dispatcher.apply(desk.log.append(facts, expected=0))
    desk.cancelled_task("https://live.test/")
    assert [notice.target for notice in desk.take(0)] == ["https://dead.test/", "https://live.test/"]
    for second in range(50):
        desk.cancelled_task(f"https://live{second}.test/")
        (notice,) = desk.take(second)
        desk.record(0, desk.finish(notice, OK, second))


def test_a_report_that_does_not_come_back_is_told_again_but_not_sent_again() -> None:
    desk = Desk("https://a.test/")
    attempt = desk.finish(desk.take(0)[0], OK, 1)
    late = 1 + CONFIRM_WITHIN.total_seconds()
    assert desk.dispatcher.unconfirmed(after(late - 0.1)) == []
    assert desk.dispatcher.unconfirmed(after(late)) == [attempt]
    assert desk.dispatcher.unconfirmed(after(late + 1)) == []
    assert desk.take(late) == []
    desk.record(0, attempt)
    assert desk.dispatcher.unconfirmed(after(10 * late)) == []


def test_a_new_dispatcher_sends_again_under_the_same_id_what_was_not_recorded() -> None:
    desk = Desk("https://a.test/", "https://b.test/")
    first = desk.take(0)
    desk.record(0, desk.finish(first[0], OK, 1))
    desk.finish(first[1], OK, 1)
    after_restart = Desk(log=desk.log)
    assert [notice.notice_id for notice in after_restart.take(2)] == [first[1].notice_id]


def test_what_waits_for_a_delivery_needs_no_alarm_and_what_waits_for_a_rest_has_one() -> None:
    desk = Desk("https://a.test/1", "https://a.test/2")
    (first,) = desk.take(0)
    assert desk.dispatcher.wake_at(START) is None
    desk.record(0, desk.finish(first, SILENT, 1), at=after(1))
    assert desk.take(1) == []
    assert desk.dispatcher.wake_at(after(1)) == after(6)


def test_a_receiver_that_answers_badly_rests_alone_behind_its_endpoint() -> None:
    """For two users of one big provider, the bad address of one must not hold up the other's."""
    desk = Desk(
        "https://hooks.test/bad", "https://hooks.test/bad", "https://hooks.test/good", "https://hooks.test/good"
    )
    desk.finish(desk.take(0)[0], FAILED, 0)
    (third,) = desk.take(0)
    assert third.task_id == 3
    desk.finish(third, OK, 0)
    assert tasks(desk.take(0)) == [4]


def test_a_receiver_that_asks_for_rest_gets_it_for_all_its_notices_and_after_a_restart() -> None:
    desk = Desk("https://a.test/1", "https://a.test/1")
    asked = Result(ok=False, detail="HTTP 429", retry_after=1000.0, answered=True)
    attempt = desk.finish(desk.take(0)[0], asked, 0)
    assert attempt.next_at == attempt.rest_until == after(1000)
    desk.record(0, attempt)
    for one in (desk, Desk(log=desk.log)):
        assert one.take(999) == []
        assert one.dispatcher.wake_at(after(999)) == after(1000)
        assert len(one.take(1000)) == 1


def test_a_wish_for_rest_is_honoured_for_a_day_at_most() -> None:
    desk = Desk("https://a.test/1")
    asked = Result(ok=False, detail="HTTP 503", retry_after=10.0**9, answered=True)
    assert desk.finish(desk.take(0)[0], asked, 0).next_at == after(86400)


def test_a_receiver_that_is_gone_loses_its_other_notices_until_it_is_enabled() -> None:
    desk = Desk("https://a.test/1", "https://a.test/1", "https://a.test/2")
    attempt = desk.finish(desk.take(0)[0], GONE, 0)
    assert attempt.disabled
    desk.record(0, attempt)
    assert tasks(desk.take(0)) == [3]
    desk.cancelled_task("https://a.test/1")
    assert desk.take(1000) == []
    desk.record(0, EndpointEnabled(target="https://a.test/1"))
    desk.cancelled_task("https://a.test/1")
    assert desk.take(1000) == []  # task 3 is still under way to the same endpoint


def test_endpoints_that_failed_get_at_most_half_of_the_places() -> None:
    """Receivers that hang have to hang once before they can all hang together again."""
    desk = Desk(*(f"https://slow{number}.test/" for number in range(MAX_DELIVERIES)))
    for notice in desk.take(0):
        desk.record(0, desk.finish(notice, SILENT, 20), at=after(20))
    assert len(desk.take(1000)) == MAX_DELIVERIES // 2
    desk.cancelled_task("https://live.test/")
    assert [notice.target for notice in desk.take(1000)] == ["https://live.test/"]


def test_a_notice_that_is_wanted_again_does_not_wait_for_the_rest_of_its_endpoint() -> None:
    desk = Desk("https://a.test/1")
    (notice,) = desk.take(0)
    desk.record(0, desk.finish(notice, SILENT, 0))
    found = redelivery(log_id(next(desk.log.read())), desk.log.read_task(1), notice.notice_id)
    assert found is not None
    assert desk.take(1) == []
    desk.record(0, found, at=after(1))
    assert [one.notice_id for one in desk.take(1)] == [notice.notice_id]


def test_a_notice_whose_task_the_log_has_lost_is_given_up_and_reported() -> None:
    dispatcher = Dispatcher(Outbox(lambda _task, _position: None, kept_states=0))
    desk = Desk("https://a.test/1")
    dispatcher.apply(desk.log.read())
    assert dispatcher.take(START) == []
    (attempt,) = dispatcher.unsent()
    assert isinstance(attempt, DeliveryAttempted)
    assert (attempt.task_id, attempt.ok, attempt.final) == (1, False, True)
    assert dispatcher.unsent() == []


def test_records_that_concern_no_notice_change_nothing() -> None:
    desk = Desk()
    assert not desk.record(1, Created(type="noop"), Cancelled())
    assert desk.record(2, Created(type="noop", callback_url="https://a.test/"), Cancelled())


@pytest.mark.parametrize(
    ("channel", "target", "endpoint"),
    [
        ("webhook", "HTTPS://A.test/x", "a.test:443"),
        ("callback", "http://a.test:81", "a.test:81"),
        ("callback", "ftp://a.test", "refused addresses"),
        ("email", "a@b.org", "mail server"),
        ("apprise", "mail", "target mail"),
    ],
)
def test_the_endpoint_is_who_has_to_bear_it(channel: str, target: str, endpoint: str) -> None:
    assert endpoint_of(channel, target) == endpoint
