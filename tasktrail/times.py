"""Times as people write them."""

import re
from datetime import date, datetime, time, timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"([+-])((?:\d{1,9}[smhdw])+)")
_AGO = re.compile(r"(\d{1,6}) ?([smhdw])(?:ec|ecs|econds?|in|ins|inutes?|ours?|ays?|eeks?)? ago")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_AT = re.compile(r"\bat (?=\d{1,2}:\d{2}|noon|midnight)")
_NAMED = {"noon": "12:00", "midnight": "00:00"}
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NEAR = {"yesterday": -1, "today": 0, "tomorrow": 1}
FORMS = "+10m, 'tomorrow 9:00', 22:30, '2026-08-01 22:00' (local time) or 2026-08-01T22:00:00Z"
PAST_FORMS = "-10m, 'yesterday 12:00', 22:30, '2026-08-01 22:00' (local time) or 2026-08-01T22:00:00Z"


def read_time(text: str, now: datetime, *, earlier: bool = False) -> datetime:
    """Read a time. A text without a zone is local time. Raises `ValueError`.

    `+2h30m` counts from now, `-1d` and `1 day ago` back. `22:30` alone means the next 22:30, and `monday 9:00` the
    next Monday at 9:00. A day alone begins at midnight.

    Args:
        text: as it was typed.
        now: an aware time.
        earlier: a clock time or a weekday means the last one, not the next.
    """
    words = _AT.sub("", " ".join(text.lower().split()))
    words = " ".join(_NAMED.get(word, word) for word in words.split())
    if words == "now":
        return now
    if span := _SPAN.fullmatch(words):
        return now + _length(span[2]) * (1 if span[1] == "+" else -1)
    if ago := _AGO.fullmatch(words):
        return now - _length(ago[1] + ago[2])
    first, _, rest = words.partition(" ")
    here = now.astimezone()
    if first in _NEAR:
        return _at(here.date() + timedelta(days=_NEAR[first]), rest)
    if first in _DAYS:
        ahead = (_DAYS.index(first) - here.weekday()) % 7
        return _nearest(here.date() + timedelta(days=ahead), rest, now, 7, earlier=earlier)
    if _CLOCK.fullmatch(words):
        return _nearest(here.date(), words, now, 1, earlier=earlier)
    at = datetime.fromisoformat(words.upper())
    return at if at.tzinfo else _local(at)


def _length(text: str) -> timedelta:
    parts = re.findall(r"(\d+)([smhdw])", text)
    return timedelta(seconds=sum(int(number) * _UNITS[unit] for number, unit in parts))


def _nearest(day: date, clock: str, now: datetime, days: int, *, earlier: bool) -> datetime:
    """Return the next time that has this clock time on a day that recurs every `days`; with `earlier`, the last one.

    `day` is the first such day from today on.
    """
    at = _at(day, clock)
    if earlier:
        return at if at <= now else _at(day - timedelta(days=days), clock)
    return at if at > now else _at(day + timedelta(days=days), clock)


def _at(day: date, clock: str) -> datetime:
    """The local time of that day; midnight when no clock is given."""
    found = _CLOCK.fullmatch(clock or "0:00")
    if found is None:
        raise ValueError(f"{clock!r} is no time of a day")
    hour, minute, second = (int(part or 0) for part in found.groups())
    return _local(datetime.combine(day, time(hour, minute, second)))


def _local(local: datetime) -> datetime:
    """Return a local time with its zone. A time that is skipped as clocks go forward moves later by what is skipped.

    Python 3.11 moves it earlier instead.
    """
    at = local.astimezone()
    left_out = local - at.replace(tzinfo=None)
    return (at + left_out).astimezone() if left_out > timedelta() else at
