"""The receivers of an event, and the names of notices. Pure: the same for the outbox, the view and a redelivery."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec

from ..events import Created, Failed, Recorded
from ..events.recorded import EVENT_TAGS
from ..events.system_events import RedeliveryRequested
from ..events.task_events import NoticeEvent, is_terminal

Channel: TypeAlias = Literal["webhook", "callback", "email", "apprise"]

USUAL: tuple[NoticeEvent, ...] = ("started", "completed", "failed", "cancelled")
"""The events for a webhook if the task names none (`notify_on`); of these, mail and targets get only the end."""

ENDS: frozenset[str] = frozenset({"completed", "failed", "cancelled"})

_LOG_ID = 12


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one receiver, with everything its sender needs."""

    notice_id: str
    """The same over all tries, restarts and redeliveries, and unique among the notices of all logs."""
    channel: Channel
    target: str
    """A web or mail address, as the task has it, or the name of a target in the configuration."""
    event: str
    position: int
    recorded_at: datetime
    task_id: int
    life: int
    task: dict[str, Any]
    """The fields of `Task` right after the event."""
    tries: int
    """How many deliveries have failed so far."""
    traceparent: str = ""
    """The trace that the task belongs to."""


TELLING = ("notify_", "callback_url")
"""The beginnings of the names of `Created`'s fields that name receivers. A task without these notifies nobody."""


def has_receiver(spec: Created) -> bool:
    """Whether the task has any receiver."""
    return bool(spec.notify_webhook or spec.callback_url or spec.notify_email or spec.notify_targets)


def receivers(spec: Created, event: Any) -> Iterator[tuple[Channel, str]]:
    """Channel and target of each receiver of an event. The callback gets every end, whatever `notify_on` says."""
    ends = is_terminal(event)
    is_wanted = (ends or not isinstance(event, Failed)) and EVENT_TAGS[type(event)] in (spec.notify_on or USUAL)
    if spec.notify_webhook and is_wanted:
        yield "webhook", spec.notify_webhook
    if spec.callback_url and ends:
        yield "callback", spec.callback_url
    if spec.notify_email and ends and is_wanted:
        yield "email", spec.notify_email
    if is_wanted and (ends or spec.notify_on):
        for name in spec.notify_targets:
            yield "apprise", name


def log_id(first: Recorded) -> str:
    """The id that distinguishes the notices of one log from those of all others, made from its first record."""
    return first.hash.hex()[:_LOG_ID]


def notice_id(log: str, record: Recorded, channel: Channel, target: str) -> str:
    """The name of a notice: log, task, life, version of the event, channel; for a target also its name."""
    name = f"{log}-{record.task_id}-{record.life}-{record.version}-{channel}"
    return f"{name}-{target}" if channel == "apprise" else name


def redelivery(log: str, records: Sequence[Recorded], name: str) -> RedeliveryRequested | None:
    """The event that requests a notice again; None if the task with these `records` has no such notice."""
    spec = records[0].event
    if not isinstance(spec, Created):
        return None
    for record in records:
        for channel, target in receivers(spec, record.event):
            if notice_id(log, record, channel, target) == name:
                return RedeliveryRequested(
                    notice_id=name,
                    task_id=record.task_id,
                    channel=channel,
                    target=target,
                    told=record.position,
                )
    return None
