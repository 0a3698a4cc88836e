"""An address gets a limited number of mails an hour; mail over the limit waits its turn, and none is lost."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.actors.delivery.attempt import Result
from tasktrail.actors.delivery.dispatcher import CONFIRM_WITHIN, Dispatcher
from tasktrail.events import Cancelled, Created, Event, Fact
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.system_events import ClockJumped, DeliveryAttempted, DeliveryPostponed
from tasktrail.projections.history import recall_from
from tasktrail.projections.mail_limit import MailPace, bare_address
from tasktrail.projections.notices import Notice, log_id, redelivery
from tasktrail.projections.outbox import Outbox

START = datetime(2026, 11, 24, tzinfo=UTC)
HOUR = timedelta(hours=1)
OK = Result(ok=True, detail="accepted by the mail server")
BUSY = Result(ok=False, detail="the mail server answered 451", answered=True)


class Post:
    """A dispatcher with a limit, its log, and a clock that only it moves."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.log = MemoryEventLog()
        self.now = START
        self.sent: list[tuple[datetime, str, int]] = []
        """Time, address and task of each mail."""
        self.postponed: list[DeliveryPostponed] = []
        self.tasks = 0
        self.start()

    def start(self) -> None:
        self.dispatcher = self._new()
        self.dispatcher.apply(self.log.read())

    def start_from_snapshot(self) -> None:
        """Save the fold in a snapshot and continue from it."""
        folded = self._new()
        folded.apply(self.log.read())
        self.dispatcher = self._new()
        self.dispatcher.restore(folded.kept())
        assert self.dispatcher.kept() == folded.kept()

    def _new(self) -> Dispatcher:
        dispatcher = Dispatcher(Outbox(recall_from(self.log)))
        dispatcher.mail_limit = self.limit
        return dispatcher

    def record(self, task_id: int, *events: Event) -> None:
        version = len(self.log.read_task(task_id))
        last = next((record.recorded_at for record in self.log.read(self.log.head().position - 1)), self.now)
        facts = [
            Fact(task_id, version + number, event, max(last, self.now), life=min(1, task_id))
            for number, event in enumerate(events, 1)
        ]
        self.dispatcher.apply(self.log.append(facts, expected=self.log.head().position))

    def end(self, address: str, **more: Any) -> None:
        """End a task, so that mail reports it."""
        self.tasks += 1
        self.record(self.tasks, Created(type="noop", notify_email=address, **more), Cancelled())

    def take(self) -> list[Notice]:
        """Return what may be sent; the rest is recorded as postponed."""
        notices = self.dispatcher.take(self.now)
        for fact in self.dispatcher.unsent():
            assert isinstance(fact, DeliveryPostponed)
            self.postponed.append(fact)
            self.record(0, fact)
        return notices

    def send(self, result: Result = OK) -> int:
        """Send what may be sent now, one after the other; return the number."""
        number = 0
        while notices := self.take():
            for notice in notices:
                number += 1
                if result.ok:
                    self.sent.append((self.now, notice.target, notice.task_id))
                self.record(0, self.dispatcher.done(notice, result, self.now, 0.0))
        return number

    def play(self) -> None:
        """Go from one time to the next until nothing is left to send."""
        self.send()
        while (moment := self.dispatcher.wake_at(self.now)) is not None:
            self.now = max(moment, self.now)
            self.send()

    def told(self) -> list[int]:
        return [task_id for _at, _target, task_id in self.sent]


def test_what_is_over_the_limit_waits_its_turn_and_each_wait_is_recorded_once() -> None:
    post = Post(limit=2)
    for _number in range(7):
        post.end("a@example.org")
    assert post.send() == 2
    assert [fact.until - START for fact in post.postponed] == [HOUR, HOUR, 2 * HOUR, 2 * HOUR, 3 * HOUR]
    assert {fact.limit for fact in post.postponed} == {2}
    post.play()
    assert [at - START for at, *_ in post.sent] == [hours * HOUR for hours in (0, 0, 1, 1, 2, 2, 3)]
    assert post.told() == [1, 2, 3, 4, 5, 6, 7]
    assert len(post.postponed) == 5


def test_each_address_has_its_own_hour_and_other_ways_have_none() -> None:
    post = Post(limit=1)
    for address in ("a@example.org", "b@example.org", "a@example.org"):
        post.end(address, callback_url="https://a.test/")
    assert post.send() == 5
    assert [fact.target for fact in post.postponed] == ["a@example.org"]


def test_an_address_is_the_same_whatever_name_stands_before_it() -> None:
    post = Post(limit=1)
    for address in ("a@example.org", "Ann <A@Example.org>", "Boss < a@example.org >"):
        post.end(address)
    assert post.send() == 1
    assert bare_address("Ann <A@Example.org>") == bare_address("a@example.org") == "a@example.org"


def test_mail_that_did_not_arrive_does_not_count() -> None:
    post = Post(limit=1)
    post.end("a@example.org")
    assert post.send(BUSY) == 1
    post.now += timedelta(seconds=5)
    assert post.send() == 1
    assert post.postponed == []


def test_mail_that_the_log_does_not_tell_of_yet_counts() -> None:
    post = Post(limit=1)
    post.end("a@example.org")
    post.end("a@example.org")
    (first,) = post.take()
    attempt = post.dispatcher.done(first, OK, post.now, 0.0)
    assert post.take() == []
    assert [fact.until for fact in post.postponed] == [START + HOUR]
    post.record(0, attempt)
    post.now += HOUR
    assert len(post.take()) == 1


def test_a_report_that_is_lost_is_told_again() -> None:
    post = Post(limit=1)
    post.end("a@example.org")
    post.end("a@example.org")
    (notice,) = post.dispatcher.take(START)
    post.record(0, post.dispatcher.done(notice, OK, START, 0.0))
    assert post.dispatcher.take(START) == []
    (fact,) = post.dispatcher.unsent()
    assert post.dispatcher.unconfirmed(START + CONFIRM_WITHIN) == [fact]
    post.record(0, fact)
    assert post.dispatcher.unconfirmed(START + 2 * CONFIRM_WITHIN) == []


def test_a_redelivery_counts_like_any_mail() -> None:
    post = Post(limit=1)
    post.end("a@example.org")
    (notice,) = post.take()
    post.record(0, post.dispatcher.done(notice, OK, post.now, 0.0))
    wanted = redelivery(log_id(next(post.log.read())), post.log.read_task(1), notice.notice_id)
    assert wanted is not None
    post.record(0, wanted)
    assert post.send() == 0
    assert [fact.notice_id for fact in post.postponed] == [notice.notice_id]


def test_without_a_limit_everything_goes_at_once() -> None:
    post = Post(limit=0)
    for _number in range(100):
        post.end("a@example.org")
    assert post.send() == 100


def test_after_an_outage_no_more_than_the_limit_goes_out_at_once() -> None:
    """All promised times have passed."""
    post = Post(limit=2)
    for _number in range(8):
        post.end("a@example.org")
    post.send()
    post.now += timedelta(days=1)
    post.start()
    assert post.send() == 2
    post.play()
    assert sorted(post.told()) == list(range(1, 9))


@given(st.integers(0, 10**6), st.integers(1, 4))
def test_no_hour_has_more_than_the_limit_and_all_mail_arrives(seed: int, limit: int) -> None:
    """Ends of tasks, failures and restarts come at random."""
    dice, post = Random(seed), Post(limit)
    for _step in range(30):
        match dice.randrange(6):
            case 0:
                post.now += timedelta(minutes=dice.randrange(90))
            case 1:
                post.send(dice.choice((OK, BUSY)))
            case 2:
                dice.choice((post.start, post.start_from_snapshot))()
            case _:
                post.end(dice.choice(("a@example.org", "A <a@example.org>", "b@example.org")))
    post.play()
    assert Counter(post.told()) == Counter(range(1, post.tasks + 1))
    for address in ("a@example.org", "b@example.org"):
        times = [at for at, target, _task in post.sent if bare_address(target) == address]
        assert all(later - earlier >= HOUR for earlier, later in zip(times, times[limit:], strict=False))


def test_ten_thousand_mails_to_one_address_are_decided_quickly_and_recorded_once_each() -> None:
    """The work for each does not grow with their number, counted in looks at the promises instead of seconds."""
    pace, looks = MailPace(), 0

    class Counting(dict[str, datetime]):
        def __getitem__(self, key: str) -> datetime:
            nonlocal looks
            looks += 1
            return super().__getitem__(key)

    pace._reserved["a@b.c"] = Counting()
    for _number in range(5):
        pace.count_delivered("a@b.c", START)
    for number in range(10_000):
        until = pace.wait("a@b.c", f"n{number}", START, 5, 0)
        assert until == START + (1 + number // 5) * HOUR
        pace.reserve("a@b.c", f"n{number}", until)
    assert looks <= 5 * 10_000


def test_a_notice_is_not_held_back_by_its_own_promise() -> None:
    pace = MailPace()
    pace.count_delivered("a@b.c", START)
    pace.reserve("a@b.c", "n1", START + HOUR)
    assert pace.wait("a@b.c", "n1", START, 1, 0) == START + HOUR
    assert pace.wait("a@b.c", "n2", START, 1, 0) == START + 2 * HOUR
    assert pace.wait("a@b.c", "n2", START + HOUR, 1, 0) is None


def test_a_later_notice_is_never_promised_an_earlier_moment() -> None:
    """The delivery under way was counted as of now; the log then had a slightly earlier time."""
    pace, now, address = MailPace(), datetime(2026, 1, 1, tzinfo=UTC), "a@example.org"
    first = pace.wait(address, "first", now, limit=2, under_way=2)
    assert first is not None
    pace.reserve(address, "first", first)
    pace.count_delivered(address, now - timedelta(seconds=2))
    pace.count_delivered(address, now - timedelta(seconds=1))

    assert pace.wait(address, "second", now, limit=2, under_way=0) == first


def test_addresses_that_had_no_mail_for_an_hour_take_no_room() -> None:
    pace = MailPace()
    for number in range(1000):
        pace.count_delivered(f"{number}@example.org", START + timedelta(seconds=number))
    pace.count_delivered("a@example.org", START + HOUR + timedelta(seconds=989))
    assert len(pace.kept().had) == 11
    pace.reserve("a@example.org", "n", START)
    pace.release("a@example.org", "n")
    assert pace.kept().promised == {}


def test_the_fact_says_who_waits_for_what() -> None:
    post = Post(limit=1)
    post.end("a@example.org")
    post.end("a@example.org")
    post.send()
    (fact,) = post.postponed
    assert (fact.task_id, fact.channel, fact.target) == (2, "email", "a@example.org")
    assert not any(
        isinstance(record.event, DeliveryAttempted) and record.event.task_id == 2 for record in post.log.read()
    )


@pytest.mark.parametrize("start", ["start", "start_from_snapshot"])
def test_notices_go_out_although_the_clock_was_far_ahead(start: str) -> None:
    """The log's time then stands still, more than a year ahead."""
    post = Post(limit=2)
    post.now += timedelta(days=400)
    for address in ("a@example.org", "a@example.org", "a@example.org", "b@example.org"):
        post.end(address)
    assert post.send(BUSY) == 2, "each address is tried, and left alone for a while"
    assert post.send() == 0
    shown, post.now = post.now, START + HOUR
    post.record(0, ClockJumped(shown=shown, shows=post.now))
    getattr(post, start)()
    assert post.send() == 3, "the third mail for one address has to wait for its hour"
    post.end("c@example.org")
    assert post.send() == 1
    post.now += HOUR
    assert post.send() == 1
    assert Counter(target for _, target, _ in post.sent) == {
        "a@example.org": 3,
        "b@example.org": 1,
        "c@example.org": 1,
    }
