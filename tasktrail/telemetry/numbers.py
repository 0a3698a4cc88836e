"""Counts and distributions since the service started, computed from committed records.

Counts whose labels are known beforehand start at 0, so that a monitoring system sees the first increment.

Nothing waits for the counting: the Scheduler only hands records over, and a separate thread counts. A query costs the
same however many tasks there are. Types without a handler here are counted as `other`, so the set of labels is bounded.
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from itertools import product
from typing import get_args

from ..actors.feed import Feed
from ..actors.messages import Committed
from ..actors.service_log import has_died
from ..events import Cancelled, Completed, Created, Failed, Recorded, Retried, Started, TaskState
from ..events.clock import Clock
from ..events.log.rows import encode
from ..events.state import FINISHED
from ..events.system_events import DeliveryAttempted, DeliveryPostponed, WorkerExited
from ..events.task_events import AttemptOutcome, is_terminal
from ..projections.notices import Channel

OTHER = "other"
_OUTCOMES: tuple[str, ...] = get_args(AttemptOutcome)
_CHANNELS: tuple[str, ...] = get_args(Channel)
_DELIVERED = ("delivered", "failed", "given_up", "postponed")
_GATHER = timedelta(milliseconds=500)

WAITS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 1800, 3600, 14400, 43200, 86400)
"""Seconds, like the other bounds of times below."""
RUNS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400)
COMMITS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
ANSWERS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Distribution:
    """A histogram: how many values fell between two bounds, and the sum of all values."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Add a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class ServiceNumbers:
    """Counts and distributions since the start, by labels that are tuples of texts.

    Args:
        types: the task types that have a handler here.
        clock: for the thread that counts.
    """

    def __init__(self, types: Collection[str], clock: Clock) -> None:
        self._types = frozenset(types)
        self._counting = threading.Lock()
        self._running: dict[int, tuple[int, datetime]] = {}
        """Task → its open attempt and when it began; at most one for each worker."""
        self.created: Counter[tuple[str, ...]] = Counter()
        """Type → tasks."""
        self.ended: Counter[tuple[str, ...]] = Counter(dict.fromkeys(product(sorted(types), sorted(FINISHED)), 0))
        """Type and status → lives that are over."""
        self.started: Counter[tuple[str, ...]] = Counter()
        """Type → attempts."""
        self.attempts: Counter[tuple[str, ...]] = Counter(dict.fromkeys(product(sorted(types), _OUTCOMES), 0))
        """Type and outcome → attempts that are over."""
        self.retries: Counter[tuple[str, ...]] = Counter()
        """Type and cause → retries."""
        self.deliveries: Counter[tuple[str, ...]] = Counter(dict.fromkeys(product(_CHANNELS, _DELIVERED), 0))
        """Channel and outcome → tries."""
        self.deaths = 0
        """Worker processes that ended unexpectedly."""
        self.bytes = 0
        """Size of the events of all commits, as JSON."""
        self.waits: dict[tuple[str, ...], Distribution] = {}
        """Type → seconds in the queue before an attempt."""
        self.runs: dict[tuple[str, ...], Distribution] = {}
        """Type and outcome → seconds of an attempt."""
        self.commits = Distribution(COMMITS)
        """Seconds that commits took."""
        self.records = 0
        """Records of all commits."""
        self._feed: Feed[Committed] = Feed(self.count, clock, "numbers", _GATHER)

    def known(self, kind: str) -> str:
        """Return the type if it has a handler here, else `other`."""
        return kind if kind in self._types else OTHER

    def put(self, message: Committed) -> None:
        """Take records that are durable now."""
        self._feed.put((message,))

    def count(self) -> None:
        """Count what has arrived. Called by the feed, and by callers that need the latest numbers."""
        with self._counting:
            for message in self._feed.take():
                self._count(message)

    def close(self) -> None:
        """Stop counting."""
        self._feed.close()

    def _count(self, message: Committed) -> None:
        self.commits.add(message.seconds)
        self.records += len(message.records)
        for record in message.records:
            self.bytes += len(encode(record.event)[1].encode())
            task = message.tasks.get(record.task_id)
            if task is not None:
                self._count_task(record, task, message)
            elif record.task_id == 0:
                self._count_service(record)

    def _count_task(self, record: Recorded, task: TaskState, message: Committed) -> None:
        event = record.event
        kind = self.known(task.spec.type)
        match event:
            case Created():
                self.created[kind,] += 1
            case Started():
                self.started[kind,] += 1
                self._running[record.task_id] = record.attempt, record.recorded_at
                queued_at = message.queued_at.get(record.task_id, record.recorded_at)
                waited = max(0.0, (record.recorded_at - queued_at).total_seconds())
                self.waits.setdefault((kind,), Distribution(WAITS)).add(waited)
            case Completed():
                self._end_attempt(record, kind, "completed")
            case Failed() if event.outcome != "not_started":
                self._end_attempt(record, kind, event.outcome)
            case Cancelled(attempt_running=True):
                self._end_attempt(record, kind, "cancelled")
            case Retried():
                self.retries[kind, event.cause] += 1
        if is_terminal(event):
            status = {Completed: "completed", Cancelled: "cancelled"}.get(type(event), "failed")
            self.ended[kind, status] += 1

    def _end_attempt(self, record: Recorded, kind: str, outcome: str) -> None:
        self.attempts[kind, outcome] += 1
        attempt, began = self._running.pop(record.task_id, (0, record.recorded_at))
        if attempt == record.attempt:  # else the attempt began before this service did
            seconds = max(0.0, (record.recorded_at - began).total_seconds())
            self.runs.setdefault((kind, outcome), Distribution(RUNS)).add(seconds)

    def _count_service(self, record: Recorded) -> None:
        match record.event:
            case DeliveryAttempted(ok=ok, final=final, channel=channel):
                self.deliveries[channel, "delivered" if ok else "given_up" if final else "failed"] += 1
            case DeliveryPostponed(channel=channel):
                self.deliveries[channel, "postponed"] += 1
            case WorkerExited() as exited if has_died(exited):
                self.deaths += 1
