"""The view's notices are those of the outbox, however the records come."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from histories import OPERATIONS, Journal
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events import CancelTask
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.system_events import DeliveryAttempted, DeliveryPostponed, EndpointEnabled
from tasktrail.projections import NoticeStatus, TaskQueries, TaskViews
from tasktrail.projections.history import recall_from
from tasktrail.projections.notices import log_id, redelivery
from tasktrail.projections.outbox import Outbox

WHERE = ("https://a.test/", "https://b.test/", "m@example.org")
PLAYED = [operation for operation in OPERATIONS if operation != "deliver"]
DELIVERIES = ("delivered", "failed", "given up", "gone", "again", "enabled", "waits")
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(PLAYED), st.integers(0, 20), st.integers(0, 100)),
        st.tuples(st.sampled_from(DELIVERIES), st.integers(0, 20), st.integers(0, 100)),
    ),
    max_size=60,
)


def views_of(journal: Journal, size: int = 10_000) -> TaskViews:
    views = TaskViews(":memory:")
    records = list(journal.log.read())
    for start in range(0, len(records), size):
        views.apply(records[start : start + size])
    return views


def all_notices(views: TaskViews, journal: Journal) -> list[NoticeStatus]:
    queries = TaskQueries(views.connection)
    return [notice for task_id in sorted(journal.states) for notice in queries.notices(task_id)]


def postponed(notice: NoticeStatus, until: datetime) -> DeliveryPostponed:
    return DeliveryPostponed(
        notice_id=notice.notice_id,
        task_id=notice.task_id,
        channel=notice.channel,
        target=notice.target,
        until=until,
        limit=3,
    )


def deliver(journal: Journal, what: str, number: int) -> None:
    """Let something happen to a random one of the notices, and so to its end."""
    views = views_of(journal)
    notices = all_notices(views, journal)
    if not notices:
        return
    notice = notices[number % len(notices)]
    if what == "enabled":
        journal.record(0, EndpointEnabled(target=notice.target))
    elif what == "again":
        wanted = redelivery(log_id(journal.records[0]), journal.log.read_task(notice.task_id), notice.notice_id)
        assert wanted is not None
        journal.record(0, wanted)
    elif what == "waits":
        journal.record(0, postponed(notice, journal.at + timedelta(seconds=number)))
    else:
        event = DeliveryAttempted(
            notice_id=notice.notice_id,
            task_id=notice.task_id,
            channel=notice.channel,
            target=notice.target,
            ok=what == "delivered",
            final=what != "failed",
            disabled=what == "gone",
            next_at=journal.at + timedelta(seconds=number) if what == "failed" else None,
        )
        journal.record(0, event)


def played(chosen: list[tuple[str, int, int]]) -> Journal:
    journal = Journal(MemoryEventLog())
    for number in range(3):
        journal.create(notify_webhook=WHERE[0], callback_url=WHERE[number % 2], notify_email=WHERE[2] if number else "")
    for what, where, number in chosen:
        if what in DELIVERIES:
            deliver(journal, what, where)
        else:
            journal.play(what, where, number)
    return journal


@pytest.mark.slow
@given(steps)
def test_the_view_and_the_outbox_agree_on_what_is_pending_and_what_is_disabled(
    chosen: list[tuple[str, int, int]],
) -> None:
    journal = played(chosen)
    views = views_of(journal)
    outbox = Outbox(recall_from(journal.log))
    outbox.apply(journal.log.read())
    pending = {notice.notice_id for notice in all_notices(views, journal) if notice.state == "pending"}
    assert pending == set(outbox._pending.by_id)
    assert {endpoint.target for endpoint in TaskQueries(views.connection).endpoints()} == outbox._disabled


@pytest.mark.slow
@given(steps, st.integers(1, 7))
def test_the_rows_are_the_same_however_the_records_are_batched(chosen: list[tuple[str, int, int]], size: int) -> None:
    journal = played(chosen)
    assert all_notices(views_of(journal, size), journal) == all_notices(views_of(journal), journal)


def test_a_notice_tells_of_its_event_and_of_its_last_try(journal: Journal) -> None:
    task_id = journal.create(callback_url=WHERE[0])
    (cancelled,) = journal.send(CancelTask(task_id=task_id))
    (notice,) = TaskQueries(views_of(journal).connection).notices(task_id)
    assert (notice.state, notice.tries, notice.detail, notice.tried_at, notice.next_at) == (
        "pending",
        0,
        "",
        None,
        None,
    )
    assert (notice.event, notice.position, notice.recorded_at) == ("cancelled", cancelled.position, journal.at)
    next_at = journal.at + timedelta(minutes=5)
    journal.at += timedelta(seconds=3)
    tried: dict[str, Any] = {
        "notice_id": notice.notice_id,
        "task_id": task_id,
        "channel": "callback",
        "target": WHERE[0],
    }
    journal.record(0, DeliveryAttempted(**tried, ok=False, detail="HTTP 500", next_at=next_at))
    (notice,) = TaskQueries(views_of(journal).connection).notices(task_id)
    assert (notice.state, notice.tries, notice.detail) == ("pending", 1, "HTTP 500")
    assert (notice.tried_at, notice.next_at) == (journal.at, next_at)


def test_a_notice_that_has_to_wait_says_why_and_until_when_and_that_is_no_try(journal: Journal) -> None:
    task_id = journal.create(notify_email=WHERE[2])
    journal.send(CancelTask(task_id=task_id))
    (notice,) = TaskQueries(views_of(journal).connection).notices(task_id)
    journal.record(0, postponed(notice, journal.at + timedelta(hours=1)))
    (notice,) = TaskQueries(views_of(journal).connection).notices(task_id)
    assert (notice.state, notice.tries, notice.tried_at) == ("pending", 0, None)
    assert notice.next_at == journal.at + timedelta(hours=1)
    assert notice.detail == "waits: the address gets at most 3 an hour"


@pytest.mark.parametrize(
    ("fields", "state"),
    [({"ok": True}, "delivered"), ({"disabled": True, "final": True}, "disabled"), ({}, "disabled")],
)
def test_a_try_that_was_under_way_when_its_endpoint_was_disabled_is_shown(
    journal: Journal, fields: dict[str, Any], state: str
) -> None:
    task_id = journal.create(callback_url=WHERE[0], notify_webhook=WHERE[0])
    journal.send(CancelTask(task_id=task_id))
    callback, webhook = TaskQueries(views_of(journal).connection).notices(task_id)
    for notice, outcome in ((webhook, {"disabled": True, "final": True}), (callback, fields)):
        tried: dict[str, Any] = {"ok": False, "next_at": journal.at, "detail": "answered", **outcome}
        about: dict[str, Any] = {"task_id": task_id, "channel": notice.channel, "target": WHERE[0]}
        journal.record(0, DeliveryAttempted(notice_id=notice.notice_id, **about, **tried))
    callback = TaskQueries(views_of(journal).connection).notices(task_id)[0]
    assert (callback.state, callback.tries, callback.detail, callback.next_at) == (state, 1, "answered", None)
