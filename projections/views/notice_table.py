"""The state of each notice as rows of views.db: writes them with the fold of the tasks, and reads them."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, TypeAlias, TypeVar

import msgspec

from ...events import Cancelled, Completed, Created, Failed, Recorded, Retried, Started, TaskState
from ...events.recorded import EVENT_TAGS, timestamp
from ...events.system_events import DeliveryAttempted, DeliveryPostponed, EndpointEnabled, RedeliveryRequested
from ..notices import Channel, has_receiver, notice_id, receivers
from .checksums import sound

NoticeState: TypeAlias = Literal["pending", "delivered", "given_up", "disabled"]

T = TypeVar("T", bound=msgspec.Struct)

_NOTIFIABLE = frozenset({Created, Started, Retried, Completed, Failed, Cancelled})

_INSERT = """
INSERT INTO notices VALUES (?, ?, ?, ?, ?, ?, ?, ?,
    CASE WHEN EXISTS (SELECT 1 FROM disabled WHERE target = ?) THEN 'disabled' ELSE 'pending' END,
    0, '', NULL, NULL, NULL)
"""
_TRIED = """
UPDATE notices SET tries = tries + 1, detail = ?, tried_at = ?,
    next_at = CASE state WHEN 'pending' THEN ? END,
    state = CASE WHEN state = 'disabled' AND ? = 'pending' THEN 'disabled' ELSE ? END
WHERE task_id = ? AND notice_id = ? AND state IN ('pending', 'disabled')
"""  # disabled: this try was under way when another one got 410
_WAITS = "UPDATE notices SET detail = ?, next_at = ? WHERE task_id = ? AND notice_id = ? AND state = 'pending'"
_AGAIN = "UPDATE notices SET state = 'pending', next_at = NULL WHERE task_id = ? AND notice_id = ?"
_HELD_BACK = "UPDATE notices SET state = 'disabled', next_at = NULL WHERE target = ? AND state = 'pending'"
_DISABLE = "INSERT INTO disabled VALUES (?, ?, ?, ?, NULL) ON CONFLICT DO NOTHING"
_OF_TASK = """
SELECT * FROM notices WHERE task_id = ? ORDER BY version, channel, target
"""


class NoticeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One notice, and the state of its delivery."""

    notice_id: str
    task_id: int
    channel: Channel
    target: str
    event: str
    """The tag of the event that it reports."""
    position: int
    recorded_at: datetime
    """When that event was recorded."""
    state: NoticeState
    tries: int
    """Deliveries tried so far, redeliveries included."""
    detail: str
    """The result of the last try."""
    tried_at: datetime | None
    next_at: datetime | None
    """When the next try follows; None: at once, or never."""


class DisabledEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A receiver that answered that it is gone."""

    target: str
    position: int
    since: datetime
    detail: str


def write_notices(conn: sqlite3.Connection, records: Sequence[Recorded], states: Mapping[int, TaskState]) -> None:
    """Fold a batch in. `states` holds the tasks that its events are about."""
    log = ""
    for record in records:
        event = record.event
        if type(event) in _NOTIFIABLE:
            spec = states[record.task_id].spec
            for channel, target in receivers(spec, event) if has_receiver(spec) else ():
                log = log or conn.execute("SELECT log FROM progress").fetchone()[0]
                name = notice_id(log, record, channel, target)
                place = (record.task_id, record.version, channel, name, target)
                what = (EVENT_TAGS[type(event)], record.position, timestamp(record.recorded_at))
                conn.execute(_INSERT, (*place, *what, target))
        elif not record.task_id:
            _note(conn, record)


def _note(conn: sqlite3.Connection, record: Recorded) -> None:
    at = timestamp(record.recorded_at)
    match record.event:
        case DeliveryAttempted() as tried:
            next_at = None if tried.ok or tried.final or tried.next_at is None else timestamp(tried.next_at)
            state = _state(tried)
            conn.execute(_TRIED, (tried.detail, at, next_at, state, state, tried.task_id, tried.notice_id))
            if tried.disabled:
                conn.execute(_DISABLE, (tried.target, record.position, at, tried.detail))
                conn.execute(_HELD_BACK, (tried.target,))
        case DeliveryPostponed() as waits:
            why = f"waits: the address gets at most {waits.limit} an hour"
            conn.execute(_WAITS, (why, timestamp(waits.until), waits.task_id, waits.notice_id))
        case RedeliveryRequested() as wanted:
            conn.execute(_AGAIN, (wanted.task_id, wanted.notice_id))
        case EndpointEnabled(target=target):
            conn.execute("DELETE FROM disabled WHERE target = ?", (target,))


def _state(tried: DeliveryAttempted) -> NoticeState:
    if tried.ok:
        return "delivered"
    if tried.disabled:
        return "disabled"
    return "given_up" if tried.final else "pending"


def read_notices(conn: sqlite3.Connection, task_id: int) -> list[NoticeStatus]:
    """The notices of a task in the order of its events."""
    rows = sound(conn.execute(_OF_TASK, (task_id,)))
    # The table has its columns in the order of its key.
    return [_from_row(NoticeStatus, (row[3], row[0], row[2], *row[4:])) for row in rows]


def read_disabled(conn: sqlite3.Connection) -> list[DisabledEndpoint]:
    """The disabled endpoints, longest disabled first."""
    rows = conn.execute("SELECT * FROM disabled ORDER BY position, target")
    return [_from_row(DisabledEndpoint, row) for row in sound(rows)]


def _from_row(kind: type[T], row: Sequence[object]) -> T:
    return msgspec.convert(dict(zip(kind.__struct_fields__, row, strict=True)), kind)
