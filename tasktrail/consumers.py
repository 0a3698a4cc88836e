"""The consumers of the log: each committed record is passed on to the actors and onlookers that wait for it."""

from typing import TYPE_CHECKING

from .actors.feed import GATHER_MANY, Endings, Feed, Watermark
from .actors.messages import WAKE, Committed
from .actors.service_log import ServiceLog
from .actors.snapshotter import SnapshotPace
from .actors.supervisor import Child
from .events.clock import Clock
from .events.system_events import TasksForgotten, UserErased
from .events.task_events import is_terminal
from .telemetry.numbers import ServiceNumbers
from .telemetry.tracing import Tracing

if TYPE_CHECKING:
    from .events import Recorded


class Consumers:
    """Passes on what the Scheduler has committed.

    Args:
        projector, notifier: take all records, each from its own feed.
        janitor: takes the records of commits that end a task.
        eraser, retention, snapshotter: are woken when there is something to do.
        snapshot_pace: says when a snapshot is due.
        service_log, tracing: None if nobody wants them.
    """

    def __init__(
        self,
        *,
        projector: Child,
        notifier: Child,
        janitor: Child,
        eraser: Child,
        retention: Child,
        snapshotter: Child,
        snapshot_pace: SnapshotPace,
        numbers: ServiceNumbers,
        service_log: ServiceLog | None,
        tracing: Tracing | None,
        clock: Clock,
    ) -> None:
        self.committed = Watermark()
        self.endings = Endings()
        self.to_projector: Feed[Recorded] = Feed(
            lambda: projector.tell(WAKE), clock, "projector", gather_many=GATHER_MANY
        )
        self.to_notifier: Feed[Recorded] = Feed(lambda: notifier.tell(WAKE), clock, "notifier")
        self.to_janitor: Feed[Recorded] = Feed(lambda: janitor.tell(WAKE), clock, "janitor")
        self._eraser, self._retention, self._snapshotter = eraser, retention, snapshotter
        self._snapshot_pace = snapshot_pace
        self.numbers = numbers
        self.service_log = service_log
        self.tracing = tracing
        self._looked_at = 0

    def publish(self, message: Committed) -> None:
        """Pass on committed records. This runs in the Scheduler's thread, so it is quick and never raises."""
        records = message.records
        self.committed.rise(records[-1].position)
        if self.service_log is not None:
            self.service_log.put(records)
        self.numbers.put(message)
        if self.tracing is not None:
            self.tracing.put(message)
        self.to_projector.put(records)
        self.to_notifier.put(records)
        if any(is_terminal(record.event) for record in records):
            self.to_janitor.put(records)
        if any(isinstance(record.event, UserErased) for record in records):
            self._eraser.tell(WAKE)
        self.endings.note(records)
        if any(isinstance(record.event, TasksForgotten) for record in records):
            self._retention.tell(WAKE)
        if self._snapshot_pace.is_due(self.committed.position):
            self._snapshotter.tell(WAKE)

    def log_has_grown(self) -> bool:
        """Whether anything was recorded since the last call; running attempts report twice a second."""
        before, self._looked_at = self._looked_at, self.committed.position
        return before != self._looked_at

    def close_feeds(self) -> None:
        """Pass on nothing more to actors."""
        for feed in (self.to_projector, self.to_notifier, self.to_janitor):
            feed.close()

    def close(self) -> None:
        """End the onlookers, once nothing more is committed."""
        if self.service_log is not None:
            self.service_log.close()
        self.numbers.close()
        if self.tracing is not None:
            self.tracing.close()
