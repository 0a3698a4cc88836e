"""Computes the runs of the simulator's schedules without a cron library: each has a number, in order of time."""

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from tasktrail.events.system_events import ScheduleAdded

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_TWO_MINUTES = timedelta(minutes=2)
_NIGHTLY = (time(2, 30), time(3, 0))
"""02:30, or the end of the hour that a change to summer time leaves out."""


def number(spec: ScheduleAdded, at: datetime) -> int | None:
    """Return the number of its run at that time; None if the schedule has none."""
    if spec.every is not None:
        count, rest = divmod(at - spec.starting_at, timedelta(seconds=spec.every))
        return None if rest else count
    if spec.cron.startswith("*/2"):
        count, rest = divmod(at - _EPOCH, _TWO_MINUTES)
        return None if rest else count
    local = at.astimezone(ZoneInfo(spec.timezone))
    return local.toordinal() if local.time() in _NIGHTLY else None


def latest(spec: ScheduleAdded, after: datetime, now: datetime) -> int | None:
    """Return the number of the last run after `after`, up to `now`; None if there is none or it is too close."""
    if spec.every is not None:
        every, start = timedelta(seconds=spec.every), spec.starting_at
    elif spec.cron.startswith("*/2"):
        every, start = _TWO_MINUTES, _EPOCH
    else:
        zone = ZoneInfo(spec.timezone)
        local = now.astimezone(zone)
        day = local.toordinal() - (local.time() < time(3, 30))
        return day if day > after.astimezone(zone).toordinal() else None
    count = (now - start) // every
    return count if start + count * every > after else None
