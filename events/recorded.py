"""The envelope of an event: where it stands in the log, when, by whom and because of what it was recorded."""

from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from .system_events import SYSTEM_TAGS, SystemEvent
from .task_events import TAGS, TaskEvent, is_terminal

SERVICE_ACTORS = frozenset({"http", "notifier", "owner", "page", "python", "recovery", "scheduler", "worker"})
"""The names in the history of the service itself and of the owner of the data folder."""


class Stub(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Stands where a record was dropped. Only place, task, version, time and hash are left of it.

    It is not an event and is never appended: a later record, such as `TasksForgotten`, puts it there. Folds skip it.
    """


Event: TypeAlias = TaskEvent | SystemEvent | Stub

STUB = "stub"
EVENT_TAGS: dict[type[Any], str] = {**TAGS, **SYSTEM_TAGS, Stub: STUB}


class Fact(msgspec.Struct, frozen=True, gc=False):
    """An event with all of its envelope except its place in the log; the core passes it to `EventLog.append`."""

    task_id: int
    """0 for system events."""
    version: int
    """Counts the task's events from 1, without gaps; likewise for task 0."""
    event: Event
    recorded_at: datetime
    actor: str = ""
    reason: str = ""
    command_id: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    """Its cause: the position of another event, as `event:41`, or a command id."""
    attempt: int = 0
    life: int = 0


class Recorded(Fact, frozen=True, gc=False):
    """A fact in the log. `position` is global, gap-free, from 1; `hash` chains it to all records before it."""

    position: int = 0
    hash: bytes = b""

    @property
    def name(self) -> str:
        """The event's tag, such as `completed`."""
        return EVENT_TAGS[type(self.event)]

    @property
    def ends_life(self) -> bool:
        """Whether it completes or cancels the task, or is its final failure."""
        return is_terminal(self.event)

    def flat(self) -> dict[str, Any]:
        """The one flat object that CLI and HTTP show: the envelope, the event's tag, and its fields as `data`."""
        return {
            "position": self.position,
            "task_id": self.task_id,
            "version": self.version,
            "event": self.name,
            "recorded_at": self.recorded_at,
            "actor": self.actor,
            "reason": self.reason,
            "command_id": self.command_id,
            "correlation_id": self.correlation_id,
            "causation_id": self.causation_id,
            "attempt": self.attempt,
            "life": self.life,
            "hash": self.hash.hex(),
            "data": msgspec.to_builtins(self.event, builtin_types=(datetime,)),
        }


def timestamp(at: datetime) -> str:
    """RFC 3339 in UTC with six digits, so that texts sort like times."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def to_the_second(at: datetime) -> str:
    """A time in UTC for people to read: 2026-01-31 12:00:00Z."""
    return at.astimezone(UTC).isoformat(" ", timespec="seconds")[:19] + "Z"


def record_at(fact: Fact, position: int, digest: bytes) -> Recorded:
    """The fact at its place in the log."""
    return Recorded(
        fact.task_id,
        fact.version,
        fact.event,
        fact.recorded_at,
        fact.actor,
        fact.reason,
        fact.command_id,
        fact.correlation_id,
        fact.causation_id,
        fact.attempt,
        fact.life,
        position,
        digest,
    )
