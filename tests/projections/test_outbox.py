"""Each notice is due until it is delivered or given up, under one id, however often the fold starts again."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from histories import BEGIN, Journal
from hypothesis import given
from hypothesis import strategies as st
from outboxes import DONE, HOOK, MAIL, all_due, completed, due, outbox_of, steps, tried, wanted_again

from tasktrail.events import CancelTask, RetryTask
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.reports import AttemptEnded
from tasktrail.events.system_events import DeliveryAttempted, EndpointEnabled, ServiceStopped
from tasktrail.events.task_events import Failed, Started, is_terminal
from tasktrail.projections import ViewsGap
from tasktrail.projections.history import recall_from
from tasktrail.projections.notices import log_id, redelivery
from tasktrail.projections.outbox import Outbox


def test_a_webhook_hears_of_the_start_and_the_end(journal: Journal) -> None:
    completed(journal, **HOOK)
    due = all_due(outbox_of(journal), journal)
    assert [(notice.channel, notice.event) for notice in due] == [("webhook", "started"), ("webhook", "completed")]
    assert {notice.target for notice in due} == {"https://example.org/hook"}


def test_a_callback_and_a_mail_come_once_at_the_end(journal: Journal) -> None:
    task_id = journal.create(**DONE, **MAIL)
    journal.start(task_id)
    assert all_due(outbox_of(journal), journal) == []
    journal.send(CancelTask(task_id=task_id))
    due = all_due(outbox_of(journal), journal)
    assert [(notice.channel, notice.event) for notice in due] == [("callback", "cancelled"), ("email", "cancelled")]
    assert [notice.target for notice in due] == ["https://example.org/done", "user@example.org"]


def test_a_failure_that_is_tried_again_is_nobodys_business(journal: Journal) -> None:
    task_id = journal.create(max_retries=1, **HOOK, **DONE, **MAIL)
    for attempt in (1, 2):
        journal.start(task_id)
        journal.send(AttemptEnded(task_id=task_id, attempt=attempt, outcome="failed", error="timeout"))
    tags = Counter((notice.channel, notice.event) for notice in all_due(outbox_of(journal), journal))
    assert tags == {
        ("webhook", "started"): 2,
        ("webhook", "failed"): 1,
        ("callback", "failed"): 1,
        ("email", "failed"): 1,
    }


def test_each_life_has_an_end_to_tell(journal: Journal) -> None:
    task_id = journal.create(**DONE)
    journal.send(CancelTask(task_id=task_id))
    journal.send(RetryTask(task_id=task_id, force=True))
    journal.send(CancelTask(task_id=task_id))
    first, second = all_due(outbox_of(journal), journal)
    assert (first.life, second.life) == (1, 2)
    assert first.notice_id != second.notice_id


def test_a_task_that_notifies_nobody_leaves_no_trace(journal: Journal) -> None:
    completed(journal)
    journal.create()
    outbox = outbox_of(journal)
    assert len(outbox) == 0
    assert outbox.next_due() is None
    assert outbox._tasks == {}


@pytest.mark.parametrize(
    ("notify_on", "webhook", "mail"),
    [
        ((), ["started", "started", "completed"], ["completed"]),
        (("created", "retried"), ["created", "retried"], []),
        (("completed",), ["completed"], ["completed"]),
        (("failed", "cancelled"), [], []),
    ],
)
def test_webhook_and_mail_hear_of_what_the_task_names_and_the_callback_of_every_end(
    journal: Journal, notify_on: tuple[str, ...], webhook: list[str], mail: list[str]
) -> None:
    task_id = journal.create(max_retries=1, notify_on=notify_on, **HOOK, **DONE, **MAIL)
    journal.start(task_id)
    journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="failed", error="timeout"))
    journal.start(task_id)
    journal.send(AttemptEnded(task_id=task_id, attempt=2, outcome="completed"))
    told: dict[str, list[str]] = {"webhook": [], "email": [], "callback": []}
    for notice in all_due(outbox_of(journal), journal):
        told[notice.channel].append(notice.event)
    assert told == {"webhook": webhook, "email": mail, "callback": ["completed"]}


def test_a_failure_that_is_not_final_is_not_told_even_when_failures_are_named(journal: Journal) -> None:
    task_id = journal.create(max_retries=1, notify_on=("failed",), **HOOK)
    journal.start(task_id)
    journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="failed", error="timeout"))
    assert all_due(outbox_of(journal), journal) == []


def test_an_endpoint_that_is_gone_gets_nothing_more_until_it_is_enabled(journal: Journal) -> None:
    completed(journal, **HOOK, **DONE)
    first, *_ = [notice for notice in all_due(outbox_of(journal), journal) if notice.channel == "webhook"]
    tried(journal, first, ok=False, final=True, disabled=True)
    completed(journal, **HOOK)
    assert [notice.channel for notice in all_due(outbox_of(journal), journal)] == ["callback"]
    journal.record(0, EndpointEnabled(target=first.target))
    assert [notice.channel for notice in all_due(outbox_of(journal), journal)] == ["callback"]
    completed(journal, **HOOK)
    told = Counter(notice.channel for notice in all_due(outbox_of(journal), journal))
    assert told == {"callback": 1, "webhook": 2}


def test_a_notice_that_is_wanted_again_is_due_at_once_as_it_was(journal: Journal) -> None:
    completed(journal, **DONE)
    [notice] = all_due(outbox_of(journal), journal)
    tried(journal, notice, ok=False, final=True)
    assert all_due(outbox_of(journal), journal) == []
    wanted_again(journal, notice)
    assert all_due(outbox_of(journal), journal) == [notice]
    tried(journal, notice, ok=True)
    assert len(outbox_of(journal)) == 0


def test_a_notice_that_waits_for_its_next_try_goes_at_once_when_it_is_wanted(journal: Journal) -> None:
    completed(journal, **DONE)
    [notice] = all_due(outbox_of(journal), journal)
    tried(journal, notice, ok=False, wait=3600)
    outbox = outbox_of(journal)
    assert due(outbox, journal.at) == []
    wanted_again(journal, notice)
    outbox.apply(journal.records)
    assert due(outbox, journal.at) == [notice]
    assert len(outbox) == 1


def test_only_a_notice_that_the_task_really_has_can_be_wanted_again(journal: Journal) -> None:
    task_id = completed(journal, **DONE)
    log, records = log_id(journal.records[0]), journal.log.read_task(task_id)
    assert redelivery(log, records, f"{log}-{task_id}-1-3-callback") is not None
    for name in ("", "x", f"{log}-{task_id}-1-2-callback", f"{log}-{task_id}-1-3-webhook", f"0-{task_id}-1-3-callback"):
        assert redelivery(log, records, name) is None


def test_a_notice_is_due_from_the_moment_of_its_event(journal: Journal) -> None:
    completed(journal, **DONE)
    outbox = outbox_of(journal)
    assert outbox.next_due() == BEGIN
    assert due(outbox, BEGIN - timedelta(microseconds=1)) == []
    assert len(due(outbox, BEGIN)) == 1


def test_each_notice_is_handed_out_once(journal: Journal) -> None:
    completed(journal, **HOOK, **DONE)
    outbox = outbox_of(journal)
    handed_out = list(outbox.take_due(journal.at))
    assert len(handed_out) == len(outbox) == 3
    assert list(outbox.take_due(journal.at)) == []
    assert outbox.next_due() is None
    assert all(outbox.counts(one) for one in handed_out)


def test_the_longest_due_comes_first(journal: Journal) -> None:
    for _number in range(5):
        completed(journal, **HOOK)
        journal.at += timedelta(seconds=1)
    due = all_due(outbox_of(journal), journal)
    assert [notice.position for notice in due] == sorted(notice.position for notice in due)


@pytest.mark.parametrize(("ok", "final"), [(True, False), (True, True), (False, True)])
def test_what_is_delivered_or_given_up_is_due_no_more(journal: Journal, ok: bool, final: bool) -> None:  # noqa: FBT001 - the two flags of the event
    completed(journal, **DONE)
    [notice] = all_due(outbox_of(journal), journal)
    tried(journal, notice, ok=ok, final=final)
    outbox = outbox_of(journal)
    assert len(outbox) == 0
    assert all_due(outbox, journal) == []
    assert outbox.next_due() is None


def test_a_failed_try_is_due_again_at_its_time_and_counted(journal: Journal) -> None:
    completed(journal, **DONE)
    [notice] = all_due(outbox_of(journal), journal)
    for tries in (1, 2, 3):
        tried(journal, notice, ok=False, wait=30)
        outbox = outbox_of(journal)
        again = journal.at + timedelta(seconds=30)
        assert outbox.next_due() == again
        assert due(outbox, again - timedelta(microseconds=1)) == []
        [one] = due(outbox, again)
        assert (one.notice_id, one.tries) == (notice.notice_id, tries)


def test_a_failed_try_without_a_time_is_due_at_once_and_only_once(journal: Journal) -> None:
    completed(journal, **DONE)
    [notice] = all_due(outbox_of(journal), journal)
    tried(journal, notice, ok=False)
    assert [one.tries for one in due(outbox_of(journal), journal.at)] == [1]


def test_a_delivery_of_an_unknown_notice_is_no_matter(journal: Journal) -> None:
    task_id = completed(journal, **DONE)
    [notice] = all_due(outbox_of(journal), journal)
    event = DeliveryAttempted(notice_id="unknown", task_id=task_id, channel="email", target="x", ok=True)
    journal.record(0, event)
    tried(journal, notice, ok=True)
    tried(journal, notice, ok=False, wait=5)
    assert len(outbox_of(journal)) == 0


def test_ids_of_two_logs_are_never_the_same() -> None:
    ids = set()
    for day in range(3):
        journal = Journal(MemoryEventLog(), BEGIN + timedelta(days=day))
        completed(journal, **DONE)
        ids.add(all_due(outbox_of(journal), journal)[0].notice_id)
    assert len(ids) == 3


@given(steps)
def test_ids_are_the_same_after_every_restart_and_all_different(steps: list[tuple[str, int, int]]) -> None:
    journal = Journal(MemoryEventLog())
    grown = Outbox(recall_from(journal.log))
    for step in steps:
        journal.play(*step)
        grown.apply(journal.records)
    fresh = outbox_of(journal)
    ids = [notice.notice_id for notice in all_due(fresh, journal)]
    assert len(set(ids)) == len(ids) == len(fresh)
    assert all_due(grown, journal) == all_due(fresh, journal)


def expected_notices(journal: Journal) -> Counter[tuple[int, str]]:
    """Return (position, channel), by the rule as it is documented."""
    expected: Counter[tuple[int, str]] = Counter()
    for record in journal.records:
        if not record.task_id:
            continue
        spec, event = journal.states[record.task_id].spec, record.event
        if spec.notify_webhook and (is_terminal(event) or isinstance(event, Started)):
            expected[record.position, "webhook"] += 1
        if is_terminal(event):
            expected.update([(record.position, "callback")] if spec.callback_url else [])
            expected.update([(record.position, "email")] if spec.notify_email else [])
            expected.update((record.position, "apprise") for _name in spec.notify_targets)
    return expected


@given(steps)
def test_exactly_the_notices_that_the_rule_asks_for_are_posted(steps: list[tuple[str, int, int]]) -> None:
    journal = Journal(MemoryEventLog())
    for step in steps:
        journal.play(*step)
    due = all_due(outbox_of(journal), journal)
    assert Counter((notice.position, notice.channel) for notice in due) == expected_notices(journal)


def test_each_target_gets_a_notice_of_its_own_at_the_end_or_of_what_the_task_names(journal: Journal) -> None:
    completed(journal, notify_targets=("team", "ops"))
    completed(journal, notify_targets=("team",), notify_on=("created", "started"))
    notices = all_due(outbox_of(journal), journal)
    assert [(notice.task_id, notice.target, notice.event) for notice in notices] == [
        (1, "team", "completed"),
        (1, "ops", "completed"),
        (2, "team", "created"),
        (2, "team", "started"),
    ]
    assert {notice.channel for notice in notices} == {"apprise"}
    for notice in notices:
        records = journal.log.read_task(notice.task_id)
        wanted = redelivery(log_id(journal.records[0]), records, notice.notice_id)
        assert wanted is not None
        assert (wanted.target, wanted.told) == (notice.target, notice.position)


@given(steps, st.randoms(use_true_random=False))
def test_every_notice_is_delivered_or_given_up_exactly_once(steps: list[tuple[str, int, int]], chance: Any) -> None:
    """A sender that fails at random, and a fold that is discarded at random and made anew from the log."""
    journal = Journal(MemoryEventLog())
    for step in steps:
        journal.play(*step)
    expected = sum(expected_notices(journal).values())
    outbox = outbox_of(journal)
    settled: Counter[str] = Counter()
    for _round in range(10 * expected + 1):
        due_at = outbox.next_due()
        if due_at is None:
            break
        journal.at = max(journal.at, due_at)
        notice = chance.choice(due(outbox, journal.at))
        ok, final = chance.random() < 0.5, notice.tries >= 3
        settled[notice.notice_id] += ok or final
        tried(journal, notice, ok=ok, final=final, wait=None if ok or final else chance.randrange(60))
        outbox.apply(journal.records)
        if chance.random() < 0.2:
            outbox = outbox_of(journal)
    assert outbox.next_due() is None
    assert len(outbox) == 0
    assert len(settled) == expected
    assert all(number == 1 for number in settled.values())


def test_records_seen_before_are_skipped_and_a_gap_is_refused(journal: Journal) -> None:
    completed(journal, **HOOK)
    outbox = outbox_of(journal)
    outbox.apply(journal.records)
    assert len(outbox) == 2
    journal.record(0, ServiceStopped())
    journal.record(0, ServiceStopped())
    with pytest.raises(ViewsGap):
        outbox.apply(journal.records[-1:])
    assert outbox.position == 3
    outbox.apply(journal.records)
    assert outbox.position == 5


def test_what_has_ended_is_not_kept_and_comes_back_when_it_lives_again(journal: Journal) -> None:
    task_id = journal.create(**DONE)
    journal.start(task_id)
    journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="failed", error="no codec"))
    outbox = outbox_of(journal)
    tried(journal, all_due(outbox, journal)[0], ok=True)
    outbox.apply(journal.records)
    assert (outbox._tasks, outbox._pending.by_id) == ({}, {})
    journal.send(RetryTask(task_id=task_id, force=True))
    journal.start(task_id)
    journal.send(AttemptEnded(task_id=task_id, attempt=2, outcome="completed"))
    outbox.apply(journal.records)
    [notice] = all_due(outbox, journal)
    assert (notice.event, notice.life, notice.task["attempt"], notice.task["last_error"]) == (
        "completed",
        2,
        2,
        "no codec",
    )


def test_old_entries_do_not_pile_up(journal: Journal) -> None:
    completed(journal, **DONE)
    [notice] = all_due(outbox_of(journal), journal)
    outbox = outbox_of(journal)
    for _try in range(500):
        tried(journal, notice, ok=False, wait=1)
        wanted_again(journal, notice)
        outbox.apply(journal.records)
        assert len(due(outbox, journal.at)) == 1
    assert len(outbox._pending._times) < 100


def test_final_failures_are_told_and_others_not() -> None:
    journal = Journal(MemoryEventLog())
    task_id = journal.create(**HOOK)
    journal.record(task_id, Failed(outcome="not_started", error="the deadline has passed", final=True))
    [notice] = all_due(outbox_of(journal), journal)
    assert (notice.event, notice.task["error"]) == ("failed", "the deadline has passed")
