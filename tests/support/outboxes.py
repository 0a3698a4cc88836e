"""An outbox over a journal, and what its receivers answer."""

from copy import copy
from datetime import datetime, timedelta
from typing import Any

from histories import OPERATIONS, Journal
from hypothesis import strategies as st

from tasktrail.events.reports import AttemptEnded
from tasktrail.events.system_events import DeliveryAttempted
from tasktrail.projections.history import recall_from
from tasktrail.projections.notices import Notice, log_id, redelivery
from tasktrail.projections.outbox import Outbox

HOOK = {"notify_webhook": "https://example.org/hook"}
DONE = {"callback_url": "https://example.org/done"}
MAIL = {"notify_email": "user@example.org"}
OPERATIONS_HERE = [operation for operation in OPERATIONS if operation != "deliver"]
steps = st.lists(st.tuples(st.sampled_from(OPERATIONS_HERE), st.integers(0, 20), st.integers(0, 100)), max_size=50)


def outbox_of(journal: Journal, **kwargs: Any) -> Outbox:
    outbox = Outbox(recall_from(journal.log), **kwargs)
    outbox.apply(journal.records)
    return outbox


def due(outbox: Outbox, at: datetime) -> list[Notice]:
    """Return what is due, without handing it out."""
    twin = copy(outbox._pending)
    twin._times = list(twin._times)
    return [notice for due in twin.take_due(at) if (notice := outbox.notice(due)) is not None]


def all_due(outbox: Outbox, journal: Journal) -> list[Notice]:
    return due(outbox, journal.at + timedelta(days=1))


def tried(
    journal: Journal,
    notice: Notice,
    *,
    ok: bool,
    final: bool = False,
    disabled: bool = False,
    wait: float | None = None,
) -> None:
    next_at = None if wait is None else journal.at + timedelta(seconds=wait)
    event = DeliveryAttempted(
        notice_id=notice.notice_id,
        task_id=notice.task_id,
        channel=notice.channel,
        target=notice.target,
        ok=ok,
        final=final,
        disabled=disabled,
        next_at=next_at,
    )
    journal.record(0, event)


def completed(journal: Journal, **fields: Any) -> int:
    task_id = journal.create(**fields)
    journal.start(task_id)
    journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="completed"))
    return task_id


def wanted_again(journal: Journal, notice: Notice) -> None:
    found = redelivery(log_id(journal.records[0]), journal.log.read_task(notice.task_id), notice.notice_id)
    assert found is not None
    journal.record(0, found)
