"""An attempt that holds a slot: what the Scheduler knows of it beside the log."""

from datetime import datetime, timedelta

import msgspec

from ...events import Created, TaskState
from ...events.task_events import Estimated
from ...events.timeouts import Signs
from .messages import Submit

PUBLISH_PATIENCE = timedelta(seconds=60)
"""How long publishing may take: a file is only renamed. Longer, and it is taken for hung."""


MAX_BEAT = 15.0
"""Seconds between two signs of life, at most."""


class Running(msgspec.Struct):
    """An attempt that holds a slot, from its `Started` until the executor reports its process tree gone."""

    task_id: int
    attempt: int
    started_position: int
    reserved_for: TaskState
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
    since: datetime | None = None
    """When it began; none: as the log says."""
    heard_at: datetime | None = None
    """Its last sign of life; none: nothing was heard yet."""
    moved_at: datetime | None = None
    """When its percentage last changed, or a checkpoint came."""
    percent: float = 0.0
    """What it reported last, recorded or not."""

    def signs(self, task: TaskState) -> Signs:
        """What the limits of an attempt are measured by."""
        since = self.since or task.started_at or task.updated_at
        return Signs(started_at=since, heard_at=self.heard_at or since, moved_at=self.moved_at or since)

    @property
    def publishing(self) -> bool:
        """Whether its output may appear at any moment."""
        return self.granted_at is not None


def beat_every(spec: Created) -> float:
    """Seconds between two signs of life of a task's worker: four in the time it may be silent; 0 for none."""
    return 0.0 if spec.heartbeat_timeout is None else min(MAX_BEAT, spec.heartbeat_timeout / 4)
