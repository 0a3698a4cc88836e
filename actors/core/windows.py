"""Windows: the times of day at which tasks of a type may start, by the local time of a time zone.

A window is open while the local time is within it. That holds when summer time begins or ends, too: an hour that is
left out opens nothing, and an hour that comes twice counts twice. Windows begin and end at quarters of an hour, and
time zones differ by quarters, so nothing changes between two quarters.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from ...events.errors import InvalidValue
from .limits import EACH, LimitKey, LimitKind

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_QUARTER = timedelta(minutes=15)
_AHEAD = 8 * 24 * 4
"""How many quarters of an hour it looks ahead: a week and a day."""
_FORM = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? )?(\d{1,2})(?::(00|15|30|45))?-(\d{1,2})(?::(00|15|30|45))?")


class Window(NamedTuple):
    """Minutes of the day, and the days of the week on which it begins, Monday 0. It may go on after midnight."""

    begin: int
    end: int
    days: frozenset[int]

    def holds(self, day: int, minute: int) -> bool:
        """Whether it is open at that minute of that day."""
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        return (day in self.days and minute >= self.begin) or ((day - 1) % 7 in self.days and minute < self.end)


def window_of(text: str) -> Window:
    """Parse `22-06`, `8:30-18`, `sat-sun 0-24`. Raises `InvalidValue`."""
    match = _FORM.fullmatch(text)
    if match is not None:
        first, last = match[1] or "mon", match[2] or match[1] or "sun"
        begin, end = int(match[3]) * 60 + int(match[4] or 0), int(match[5]) * 60 + int(match[6] or 0)
        if first in _DAYS and last in _DAYS and begin < 1440 and 0 <= end <= 1440 and begin != end:  # noqa: PLR2004 - minutes of a day
            number = (_DAYS.index(last) - _DAYS.index(first)) % 7 + 1
            return Window(begin, end, frozenset((_DAYS.index(first) + day) % 7 for day in range(number)))
    remedy = "`22-06` is from ten in the evening to six, `mon-fri 8:30-18` on days of the week, in quarters of an hour."
    raise InvalidValue(f"{text!r} is no window of time", field="windows", remedy=remedy)


class Windows:
    """The windows of all types that have any."""

    def __init__(self, texts: Mapping[str, tuple[str, ...]], timezone: str) -> None:
        self.texts = texts
        self.timezone = timezone
        self._zone = ZoneInfo(timezone)
        self._of = {name: tuple(map(window_of, some)) for name, some in texts.items()}
        self.closed: dict[str, datetime | None] = {}
        """Type, or `*`, that may not start now → when it may, if within a week."""
        self.since = self.until = datetime.min.replace(tzinfo=UTC)
        """`closed` is right from `since` until `until`."""

    def are_outdated(self, now: datetime) -> bool:
        """Whether `closed` has to be computed again."""
        return bool(self._of) and not self.since <= now < self.until

    def named(self, task_type: str) -> str:
        """The name under which the windows of the type are set; empty if it may start at any time."""
        return task_type if task_type in self._of else EACH if EACH in self._of else ""

    def look(self, now: datetime) -> "Windows":
        """Find out which types may start now."""
        self.closed = {}
        self.since, self.until = now, quarter_after(now) + _AHEAD * _QUARTER
        for name, windows in self._of.items():
            is_open, changes = self._at(windows, now)
            if not is_open:
                self.closed[name] = changes
            self.until = min(self.until, changes or self.until)
        return self

    def as_of(self, now: datetime) -> "Windows":
        """The same windows, with `closed` as of `now`."""
        return Windows(self.texts, self.timezone).look(now) if self.are_outdated(now) else self

    def closes(self, key: LimitKey) -> bool:
        """Whether the key is a type that may not start now."""
        return bool(self.closed) and key[0] is LimitKind.TYPE and self.named(str(key[1])) in self.closed

    def _at(self, windows: tuple[Window, ...], now: datetime) -> tuple[bool, datetime | None]:
        """Whether any is open, and when that changes; None if not within a week."""
        is_open = self._any(windows, now)
        return is_open, next((at for at in _quarters(now) if self._any(windows, at) != is_open), None)

    def _any(self, windows: tuple[Window, ...], at: datetime) -> bool:
        shown = at.astimezone(self._zone)
        day, minute = shown.weekday(), shown.hour * 60 + shown.minute
        return any(window.holds(day, minute) for window in windows)


def quarter_after(at: datetime) -> datetime:
    """The next full quarter of an hour."""
    return at - timedelta(minutes=at.minute % 15, seconds=at.second, microseconds=at.microsecond) + _QUARTER


def _quarters(now: datetime) -> Iterator[datetime]:
    first = quarter_after(now)
    return (first + number * _QUARTER for number in range(_AHEAD))
