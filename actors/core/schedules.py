"""The schedules that there are, and when each runs next. A fold of the log: what has run is in `Created`."""

from collections.abc import Iterable
from datetime import datetime
from heapq import heappop, heappush

import msgspec

from ...events import Created, Fact
from ...events.clock_jumps import corrects
from ...events.system_events import ClockJumped, ScheduleAdded, ScheduleRemoved
from .fire_times import next_after


class Schedule(msgspec.Struct, kw_only=True):
    """A schedule, and how far it has come."""

    spec: ScheduleAdded
    added_at: datetime
    actor: str
    position: int
    done_until: datetime
    """Runs up to here are made or given up."""
    runs: int = 0
    next_at: datetime | None = None


class Schedules:
    """All schedules by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, Schedule] = {}
        self._stale: dict[str, None] = {}
        self._heap: list[tuple[datetime, str]] = []

    def apply(self, fact: Fact, position: int) -> None:
        """Fold one record."""
        event = fact.event
        if isinstance(event, ScheduleAdded):
            added_at = event.added_at or fact.recorded_at
            self.by_name[event.schedule] = Schedule(
                spec=event, added_at=added_at, actor=fact.actor, position=position, done_until=added_at
            )
            self._stale[event.schedule] = None
        elif isinstance(event, ScheduleRemoved):
            self.by_name.pop(event.schedule, None)
        elif isinstance(event, ClockJumped) and corrects(event):
            self._come_back(event.shows)
        elif isinstance(event, Created) and event.fire_time is not None and event.schedule in self.by_name:
            self.by_name[event.schedule].runs += 1
            self.done(event.schedule, event.fire_time)

    def _come_back(self, now: datetime) -> None:
        """Runs made ahead of time by a clock that was wrong count no longer: the right times are still to come."""
        for name, schedule in self.by_name.items():
            if schedule.done_until > now:
                schedule.done_until = now
                self._stale[name] = None

    def restore(self, schedules: Iterable[Schedule]) -> None:
        """The schedules as they were folded before."""
        self.by_name = {schedule.spec.schedule: schedule for schedule in schedules}
        self._stale = dict.fromkeys(self.by_name)

    def done(self, name: str, until: datetime) -> None:
        """Runs up to `until` are made or given up."""
        schedule = self.by_name[name]
        schedule.done_until = max(schedule.done_until, until)
        self._stale[name] = None

    def next_wake(self) -> datetime | None:
        """When the next of them runs."""
        self._refresh()
        while self._heap:
            at, name = self._heap[0]
            schedule = self.by_name.get(name)
            if schedule is not None and schedule.next_at == at:
                return at
            heappop(self._heap)
        return None

    def take_due(self, now: datetime) -> Schedule | None:
        """One whose time has come, taken from the order until `done` puts it back."""
        at = self.next_wake()
        if at is None or at > now:
            return None
        _, name = heappop(self._heap)
        return self.by_name[name]

    def _refresh(self) -> None:
        for name in self._stale:
            schedule = self.by_name.get(name)
            if schedule is None:
                continue
            schedule.next_at = next_after(schedule.spec, schedule.done_until)
            if schedule.next_at is not None:
                heappush(self._heap, (schedule.next_at, name))
        self._stale.clear()
