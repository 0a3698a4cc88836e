"""Rates: how many attempts of a type, a user or a label may start in a time. The window slides, exact and bounded.

A rate such as `10/m` is kept by remembering the last ten starts: the next may come when the first of them is a minute
ago. So no minute, wherever it begins, has more than ten. The starts are a fold of the log, and so are the rates, which
a service records if their configuration has changed. So after a restart the window goes on where it was.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import starmap
from typing import NamedTuple

import msgspec

from ...events import TaskState
from ...events.commands import RateName, RateText
from .limits import EACH, LimitKey, LimitKind, limit_keys_of

MOST_STARTS = 9999
"""The highest number of starts in a rate: more would take too much memory."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SLACK = 64


class Rate(NamedTuple):
    """The most starts in a period."""

    starts: int
    period: timedelta

    def within(self, starts: Iterable[datetime], now: datetime) -> int:
        """How many of the starts are within the period before `now`."""
        return sum(1 for at in starts if at + self.period > now)


def rate_of(text: str) -> Rate:
    """Parse `10/m`, or `3/15m` for three in a quarter of an hour; see `events.commands.RateText`."""
    starts, _, period = text.partition("/")
    return Rate(int(starts), timedelta(seconds=int(period[:-1] or 1) * _SECONDS[period[-1]]))


def rate_name(key: LimitKey) -> str:
    """The name of a rate of this type, user or label, such as `type:video_convert`."""
    return f"{key[0]}:{key[1]}"


def key_named(name: str) -> LimitKey:
    """The type, user or label of a name."""
    kind, _, rest = name.partition(":")
    return LimitKind(kind), int(rest) if kind == LimitKind.USER and rest != EACH else rest


def _read(name: str, text: str) -> tuple[LimitKey, Rate]:
    try:
        return key_named(msgspec.convert(name, RateName)), rate_of(msgspec.convert(text, RateText))
    except msgspec.ValidationError:
        raise ValueError(f"{name}={text}") from None


class Starts(msgspec.Struct):
    """The starts that rates count: for each type, user or label with a rate, the last ones, as many as it allows."""

    by_name: dict[str, list[datetime]] = {}
    tidy_at: int = _SLACK
    """With more names than this, those whose starts are all too long ago are dropped."""

    def set_clock(self, by: timedelta) -> None:
        """Move the starts with the wall clock, which was set, so that the time passed since stays the same."""
        for name, times in self.by_name.items():
            self.by_name[name] = [at + by for at in times]


class Rates:
    """The rates in force, as a table for quick look-up."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """Raises ValueError with the first rate that cannot be read."""
        self.texts = dict(texts)
        self._rates = dict(starmap(_read, texts.items()))

    def __bool__(self) -> bool:
        return bool(self._rates)

    def of(self, key: LimitKey) -> Rate | None:
        """The rate of a type, a user or a label; one by name takes precedence over `*`."""
        return self._rates.get(key) or self._rates.get((key[0], EACH))

    def set_for(self, key: LimitKey) -> str:
        """The name under which the rate of this key is set."""
        return rate_name(key) if key in self._rates else rate_name((key[0], EACH))

    def count(self, starts: Starts, task: TaskState, at: datetime) -> None:
        """Count a start of the task, at that time by the clock."""
        for key in limit_keys_of(task):
            rate = self.of(key)
            if rate is not None:
                times = starts.by_name.setdefault(rate_name(key), [])
                times.append(at)
                del times[: -rate.starts]
        if len(starts.by_name) > starts.tidy_at:
            for name, times in list(starts.by_name.items()):
                rate = self.of(key_named(name))
                if rate is None or times[-1] + rate.period <= at:
                    del starts.by_name[name]
            starts.tidy_at = 2 * len(starts.by_name) + _SLACK

    def keep_to(self, starts: Starts) -> None:
        """Forget the starts of names that have no rate any more."""
        starts.by_name = {name: times for name, times in starts.by_name.items() if self.of(key_named(name))}

    def opens_at(self, key: LimitKey, starts: Starts) -> datetime | None:
        """When the next attempt of this type, user or label may start; None if its rate is not reached."""
        rate, times = self.of(key), starts.by_name.get(rate_name(key), ())
        if rate is None or len(times) < rate.starts:
            return None
        return times[-rate.starts] + rate.period

    def left(self, key: LimitKey, starts: Starts, now: datetime) -> int | None:
        """How many more may start now; None for any number."""
        rate, times = self.of(key), starts.by_name.get(rate_name(key), ())
        return None if rate is None else max(0, rate.starts - rate.within(times, now))

    def reached(self, starts: Starts) -> Iterator[tuple[LimitKey, datetime]]:
        """Yield each key with as many starts as its rate allows, and when the next start may come."""
        for name in starts.by_name:
            key = key_named(name)
            at = self.opens_at(key, starts)
            if at is not None:
                yield key, at
