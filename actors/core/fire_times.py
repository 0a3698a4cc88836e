"""When a schedule runs: a pure function of its expression, its zone and the moment before.

Cron expressions go by `cronsim`, which does as Debian's cron: a run in the hour that a change to summer time leaves
out comes right after it, one in the hour that is there twice comes once; those of every minute or hour go by the clock.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from ...events.errors import InvalidValue
from ...events.system_events import ScheduleAdded

_WINDOWS = tuple(timedelta(hours=hours) for hours in (1, 24, 24 * 31, 24 * 366))


def check(schedule: ScheduleAdded) -> None:
    """Raises `InvalidValue` for a schedule that cannot be read, or that never runs."""
    if bool(schedule.cron) == (schedule.every is not None):
        raise InvalidValue("A schedule has either a cron expression or an interval", field="cron")
    try:
        ZoneInfo(schedule.timezone)
    except (KeyError, OSError, ValueError) as error:
        raise InvalidValue(f"There is no time zone {schedule.timezone!r}", field="timezone") from error
    try:
        never = next_after(schedule, schedule.starting_at) is None
    except (CronSimError, AssertionError, ValueError) as error:
        raise InvalidValue(
            f"{schedule.cron!r} is no cron expression: {error}",
            field="cron",
            remedy="It has five fields: minute, hour, day, month, day of the week. '30 2 * * *' is 2:30 every day.",
        ) from error
    if never:
        raise InvalidValue(f"{schedule.cron!r} names no time within fifty years", field="cron")


def next_after(schedule: ScheduleAdded, after: datetime) -> datetime | None:
    """The first run behind `after`; none when there is none any more. UTC."""
    return next(times_after(schedule, after), None)


def times_after(schedule: ScheduleAdded, after: datetime) -> Iterator[datetime]:
    """All runs behind `after`, in order."""
    if schedule.every is not None:
        return _intervals(schedule.starting_at, timedelta(seconds=schedule.every), after)
    just_before = schedule.starting_at - timedelta(microseconds=1)
    return _cron_times(schedule, max(after, just_before))


def latest(schedule: ScheduleAdded, after: datetime, until: datetime, count: int) -> list[datetime]:
    """The last `count` runs behind `after`, up to `until`, in order; found without walking through years of them."""
    for window in _WINDOWS:
        if until - window <= after:
            break
        found = list(takewhile(lambda at: at <= until, times_after(schedule, until - window)))
        if len(found) >= count:
            return found[-count:]
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
        if moment > last:  # in the hour that is there twice the wall clock says the same again
            last = moment
            yield moment
