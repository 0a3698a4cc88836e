"""Recurring schedules: which there are, when each runs next, and which missed runs are made up for.

The schedules are a fold of the log: `Created` says which runs were made. The time of a run is a pure function of the
schedule's expression, its time zone and the time before. Cron expressions go by `cronsim`, which does as Debian's cron.
A run in the hour that a change to summer time leaves out comes right after it. A run in the hour that comes twice comes
once. Runs of every minute or hour go by the clock.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import takewhile
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError
from msgspec.structs import replace

from ...events import Created, Fact
from ...events.clock_jumps import corrects
from ...events.errors import CONTRADICTION, InvalidValue, UnusableOrder
from ...events.system_events import ClockJumped, Deduplicated, ScheduleAdded, ScheduleReached, ScheduleRemoved

ON_TIME = timedelta(seconds=60)
"""A run that would be later than this counts as missed."""
FIRE_TIME = "{fire_time}"
_WINDOWS = tuple(timedelta(hours=hours) for hours in (1, 24, 24 * 31, 24 * 366))


class Schedule(msgspec.Struct, kw_only=True):
    """A schedule, and how far it has come."""

    spec: ScheduleAdded
    added_at: datetime
    actor: str
    position: int
    done_until: datetime
    """Runs up to this time are made or given up."""
    runs: int = 0


class Schedules(msgspec.Struct):
    """All schedules by name. A fold of the log, except for the missed runs that were given up since the start."""

    by_name: dict[str, Schedule] = {}

    def apply(self, fact: Fact, position: int) -> list[str]:
        """Fold one record. Returns the schedules whose next run may have changed."""
        event = fact.event
        if isinstance(event, ScheduleAdded):
            added_at = event.added_at or fact.recorded_at
            before = self.by_name.get(event.schedule)
            self.by_name[event.schedule] = Schedule(
                spec=event,
                added_at=added_at,
                actor=fact.actor,
                position=position,
                done_until=before.done_until if before and same_times(event, before.spec) else added_at,
                runs=before.runs if before else 0,
            )
            return [event.schedule]
        if isinstance(event, ScheduleRemoved):
            self.by_name.pop(event.schedule, None)
        elif isinstance(event, ClockJumped) and corrects(event):
            return self._discount_future_runs(event.shows)
        elif isinstance(event, Created | Deduplicated) and event.fire_time and event.schedule in self.by_name:
            schedule = self.by_name[event.schedule]
            schedule.runs += isinstance(event, Created)
            schedule.done_until = max(schedule.done_until, event.fire_time)
            return [event.schedule]
        return []

    def reached(self, by_name: Mapping[str, ScheduleReached]) -> None:
        """Set how far schedules have come, because tasks that showed it were forgotten."""
        for name, reached in by_name.items():
            if name in self.by_name:
                self.by_name[name].done_until, self.by_name[name].runs = reached.done_until, reached.runs

    def _discount_future_runs(self, now: datetime) -> list[str]:
        """Discount runs that a wrong clock made ahead of time: their right times are still to come."""
        ahead = [name for name, schedule in self.by_name.items() if schedule.done_until > now]
        for name in ahead:
            self.by_name[name].done_until = now
        return ahead


class NextRuns:
    """When each schedule runs next. Computed from the schedules, anew at each start."""

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules
        self._next: dict[str, datetime | None] = {}
        self._changed = dict.fromkeys(schedules.by_name)
        self._heap: list[tuple[datetime, str]] = []

    def changed(self, name: str) -> None:
        """The schedule is new, or has come further."""
        self._changed[name] = None

    def of(self, name: str) -> datetime | None:
        """When the schedule runs next; None if never again."""
        self._refresh()
        return self._next.get(name)

    def first(self) -> datetime | None:
        """When the first schedule runs next; None if none does."""
        self._refresh()
        while self._heap:
            at, name = self._heap[0]
            if name in self._schedules.by_name and self._next.get(name) == at:
                return at
            heappop(self._heap)
        return None

    def take_due(self, now: datetime) -> Schedule | None:
        """Take a schedule whose time has come. Its next run is not computed before `done`."""
        at = self.first()
        if at is None or at > now:
            return None
        _, name = heappop(self._heap)
        return self._schedules.by_name[name]

    def done(self, name: str, until: datetime) -> None:
        """Note that all runs of the schedule up to `until` are made or given up."""
        schedule = self._schedules.by_name[name]
        schedule.done_until = max(schedule.done_until, until)
        self._changed[name] = None

    def _refresh(self) -> None:
        for name in self._changed:
            schedule = self._schedules.by_name.get(name)
            if schedule is None:
                self._next.pop(name, None)
                continue
            at = self._next[name] = next_run(schedule, schedule.done_until)
            if at is not None:
                heappush(self._heap, (at, name))
        self._changed.clear()


def same_times(one: ScheduleAdded, other: ScheduleAdded) -> bool:
    """Whether both run at the same times, regardless of when they begin."""
    return (one.cron, one.every, one.timezone) == (other.cron, other.every, other.timezone)


_encoder = msgspec.json.Encoder(order="deterministic")


def is_same_schedule(one: ScheduleAdded, other: ScheduleAdded) -> bool:
    """Whether the two are the same schedule, regardless of when they were added."""
    return _encoder.encode(replace(one, added_at=None)) == _encoder.encode(replace(other, added_at=None))


def check_schedule(schedule: ScheduleAdded) -> None:
    """Raises `InvalidValue` for a schedule that cannot be read, or that never runs."""
    if bool(schedule.cron) == (schedule.every is not None):
        raise InvalidValue(
            "A schedule has either a cron expression or an interval",
            field="cron",
            remedy="Give one of the two: `cron` as '30 2 * * *', or `every` in seconds (CLI: --cron, --every).",
        )
    if not _is_zone(schedule.timezone):
        raise InvalidValue(
            f"There is no time zone {schedule.timezone!r}",
            field="timezone",
            remedy="Give one by its name, such as Europe/Berlin or UTC.",
        )
    try:
        never = next_after(schedule, schedule.starting_at) is None
    except (CronSimError, AssertionError, ValueError) as error:
        raise InvalidValue(
            f"{schedule.cron!r} is no cron expression: {error}",
            field="cron",
            remedy="It has five fields: minute, hour, day, month, day of the week; with seconds first, six. "
            "'30 2 * * *' is 2:30 every day.",
            status=CONTRADICTION,
        ) from error
    if never:
        raise InvalidValue(f"{schedule.cron!r} names no time within fifty years", field="cron", status=CONTRADICTION)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return False
    return True


def next_after(schedule: ScheduleAdded, after: datetime) -> datetime | None:
    """The first run after `after`, in UTC; None if there is none any more."""
    return next(times_after(schedule, after), None)


def times_after(schedule: ScheduleAdded, after: datetime) -> Iterator[datetime]:
    """All runs after `after`, in order."""
    if schedule.every is not None:
        if schedule.every < 1:  # no accepted command says so
            raise ValueError(f"{schedule.every:g} s is no interval that can be followed")
        return _intervals(schedule.starting_at, timedelta(seconds=schedule.every), after)
    just_before = schedule.starting_at - timedelta(microseconds=1)
    return _cron_times(schedule, max(after, just_before))


def next_run(schedule: Schedule, after: datetime) -> datetime | None:
    """As `next_after`, for a recorded schedule. Raises `UnusableOrder` if it cannot run here."""
    try:
        return next_after(schedule.spec, after)
    except (CronSimError, AssertionError, ValueError, ArithmeticError, LookupError, OSError) as error:
        spec = schedule.spec
        why = f"there is no time zone {spec.timezone!r}" if not _is_zone(spec.timezone) else str(error)
        raise UnusableOrder(schedule.position, f"the schedule {spec.schedule} cannot run here: {why}") from error


def latest(schedule: ScheduleAdded, after: datetime, until: datetime, count: int) -> list[datetime]:
    """The last `count` runs after `after` and up to `until`, in order, found without walking through years of runs."""
    for window in _WINDOWS:
        if until - window <= after:
            break
        runs = list(takewhile(lambda at: at <= until, times_after(schedule, until - window)))
        if len(runs) >= count:
            return runs[-count:]
    return list(takewhile(lambda at: at <= until, times_after(schedule, max(after, until - _WINDOWS[-1]))))[-count:]


def _intervals(start: datetime, every: timedelta, after: datetime) -> Iterator[datetime]:
    number = max(0, (after - start) // every + 1)
    while True:
        yield start + number * every
        number += 1


def _cron_times(schedule: ScheduleAdded, after: datetime) -> Iterator[datetime]:
    last = after
    for at in CronSim(schedule.cron, after.astimezone(ZoneInfo(schedule.timezone))):
        moment = at.astimezone(UTC)
        if moment > last:  # in the hour that comes twice the wall clock repeats its times
            last = moment
            yield moment


def due_runs(schedule: Schedule, now: datetime) -> list[datetime]:
    """The runs to make now: those on time, and as many missed ones as the schedule's policy says."""
    spec = schedule.spec
    match spec.missed:
        case "skip":
            return latest(spec, max(schedule.done_until, now - ON_TIME), now, spec.max_missed)
        case "once":
            return latest(spec, schedule.done_until, now, 1)
        case _:
            return latest(spec, schedule.done_until, now, spec.max_missed)
