"""What has happened since the service started, in numbers: counts and distributions, kept from committed records.

Counts whose labels are known beforehand begin with 0, so that the first of them is a growth to whoever compares.

Nothing waits for it: the Scheduler only hands records over, and a thread of its own counts them. Asking costs the same
however many tasks there are. Types without a handler here are counted as `other`, so nobody can make up new labels.
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from itertools import product
from typing import get_args

from ..actors.base import Committed
from ..actors.feed import Feed
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
"""Seconds, as all bounds of times."""
RUNS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400)
COMMITS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
ANSWERS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Distribution:
    """How often a value fell between two bounds, and the sum of all."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """One more value."""
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
        """Task → its open attempt, and when that began; as many as there are workers."""
        self.created: Counter[tuple[str, ...]] = Counter()
        """Type → tasks."""
        self.ended: Counter[tuple[str, ...]] = Counter(dict.fromkeys(product(sorted(types), sorted(FINISHED)), 0))
        """Type and status → lives that are over."""
        self.started: Counter[tuple[str, ...]] = Counter()
        """Type → attempts."""
        self.attempts: Counter[tuple[str, ...]] = Counter(dict.fromkeys(product(sorted(types), _OUTCOMES), 0))
        """Type and outcome → attempts that are over."""
        self.retries: Counter[tuple[str, ...]] = Counter()
        """Type and cause."""
        self.deliveries: Counter[tuple[str, ...]] = Counter(dict.fromkeys(product(_CHANNELS, _DELIVERED), 0))
        """Channel and outcome → tries."""
        self.deaths = 0
        """Worker processes that ended unexpectedly."""
        self.bytes = 0
        """Of the events of all commits, as JSON."""
        self.waits: dict[tuple[str, ...], Distribution] = {}
        """Type → seconds in the queue before an attempt."""
        self.runs: dict[tuple[str, ...], Distribution] = {}
        """Type and outcome → seconds of an attempt."""
        self.commits = Distribution(COMMITS)
        """Seconds of a commit."""
        self.records = 0
        """Of all commits."""
        self._feed: Feed[Committed] = Feed(self.count, clock, "numbers", _GATHER)

    def known(self, kind: str) -> str:
        """The type, if there is a handler for it, and else `other`."""
        return kind if kind in self._types else OTHER

    def put(self, message: Committed) -> None:
        """These records are durable."""
        self._feed.put((message,))

    def count(self) -> None:
        """Count what has come. Called by the feed, and by whoever wants to know the latest."""
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
        if attempt == record.attempt:  # else it had begun before this service did
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
