"""An attempt that holds a slot: what the Scheduler knows of it beside the log."""

from datetime import datetime, timedelta
from typing import TypeAlias

import msgspec

from ...events import Created, TaskState
from ...events.task_events import Estimated
from ...events.timeouts import End, Signs
from .messages import Submit

PUBLISH_PATIENCE = timedelta(seconds=60)
"""How long publishing may take: a file is only renamed. Longer, and it is taken for hung."""


Key: TypeAlias = tuple[int, int]
"""Task and attempt."""

MAX_BEAT = 15.0
"""Seconds between two signs of life, at most."""


class Running(msgspec.Struct):
    """An attempt that holds a slot, from its `Started` until the executor reports its process tree gone."""

    task_id: int
    attempt: int
    started_position: int
    reserved_for: TaskState
    since: datetime
    """When it began. Like all moments here, as the clock would have shown it that shows the present."""
    seen: bool = False
    """Whether the machine was sampled since it started."""
    stopping: bool = False
    granted_at: datetime | None = None
    """When it was allowed to publish its output."""
    estimate: Estimated | None = None
    """What its look into the input led to."""
    temp_peak: int = 0
    """The most temp space that a sample saw it use."""
    reported_at: datetime | None = None
    """When its progress was last recorded."""
    deferred: list[Submit] = []
    """Commands that wait for the end of publishing."""
    heard_at: datetime | None = None
    """Its last sign of life; none: nothing was heard yet."""
    moved_at: datetime | None = None
    """When its percentage last changed, or a checkpoint came."""
    doubted: End | None = None
    """The limit on silence that was reached when it was looked at last."""
    percent: float = 0.0
    """What it reported last, recorded or not."""

    def signs(self) -> Signs:
        """What the limits of an attempt are measured by."""
        since = self.since
        return Signs(started_at=since, heard_at=self.heard_at or since, moved_at=self.moved_at or since)

    def set_clock(self, by: timedelta) -> None:
        """The wall clock was set: nothing has lasted longer or shorter for that."""
        self.since += by
        for name in ("granted_at", "reported_at", "heard_at", "moved_at"):
            moment = getattr(self, name)
            if moment is not None:
                setattr(self, name, moment + by)

    @property
    def publishing(self) -> bool:
        """Whether its output may appear at any moment."""
        return self.granted_at is not None


class Reconciliation(msgspec.Struct):
    """How far the comparison of running attempts with those that the executor holds has come."""

    number: int = 0
    """Of the last question."""
    asked: frozenset[Key] = frozenset()
    """What ran when it was put."""
    held: bool = False
    """Whether the executor held anything when it answered last."""
    missing: frozenset[Key] = frozenset()
    """What the last answer did not hold."""
    strange: frozenset[Key] = frozenset()
    """What only the last answer held."""


def beat_every(spec: Created) -> float:
    """Seconds between two signs of life of a task's worker; 0 for none."""
    return 0.0 if spec.heartbeat_timeout is None else beat_in(spec.heartbeat_timeout)


def beat_in(limit: float) -> float:
    """Seconds: four beats in the time that may pass without a sign."""
    return min(MAX_BEAT, limit / 4)
