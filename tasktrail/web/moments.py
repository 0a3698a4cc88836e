"""Earlier moments: what people write for one, the position of the log that it is, and the choices that are offered."""

import re
from datetime import UTC, datetime, timedelta

import msgspec

from ..api.one_user import OneUser
from ..api.served import Served
from ..events.errors import InvalidValue
from ..http.requests import unescaped
from ..projections import TaskFilters
from ..projections.queries.as_of import parse_point, position_at, time_of
from ..times import read_time

LAST_FAILURE = "before the last failure"
QUICK = ("5 minutes ago", "1 hour ago", "today 0:00", "yesterday 12:00", "7 days ago", LAST_FAILURE)
"""The choices that are offered, in words that may be typed as well."""
_AGO = re.compile(r"(\d{1,6}) ?(m|h|d|w)(?:in|ins|inutes?|ours?|ays?|eeks?)? ago")
_CLOCK = re.compile(r"\d{1,2}:\d\d(:\d\d)?")
_WEEKDAY = re.compile(r"(mon|tues|wednes|thurs|fri|satur|sun)day.*")


class ShownMoment(msgspec.Struct, frozen=True):
    """A moment of the past, as it is shown."""

    position: int
    """The last record that is known then."""
    at: datetime


def moment_of(service: Served, as_of: str) -> ShownMoment:
    """The moment that an address names. Raises `InvalidValue` when it names none, and `BeyondTheLog`."""
    log, point = service.source.log(), parse_point(as_of)
    if isinstance(point, datetime):
        return ShownMoment(position_at(log, point), point)
    return ShownMoment(point, time_of(log, max(point, 1)))  # before the first record: the time of that


def canonical(service: Served | OneUser, words: str, now: datetime) -> str:
    """What the words mean, as addresses have it: a position, or a time in UTC. Raises `InvalidValue`."""
    words = " ".join(words.lower().split())
    if words == LAST_FAILURE:
        return str(_before_last_failure(service))
    try:
        if words.isascii() and words.isdecimal():
            return str(int(words))
        at = _earlier(words, now).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidValue(
            f"as_of: {words[:40]!r} is no moment that is understood here",
            field="as_of",
            remedy="Write a position of the log, a time such as 2026-01-31 12:00, or a distance such as 3 hours ago.",
        ) from None
    if at > now:
        raise InvalidValue(f"as_of: {words[:40]!r} is still to come", field="as_of", remedy="Choose an earlier moment.")
    return at.isoformat().replace("+00:00", "Z")


def _earlier(words: str, now: datetime) -> datetime:
    """Like `read_time`; where that would take the next clock or weekday, the last one. Raises `ValueError`."""
    if found := _AGO.fullmatch(words):
        words = f"-{found[1]}{found[2]}"
    words = words.replace("at ", "").replace("noon", "12:00").replace("midnight", "0:00")
    at = read_time(unescaped(words).upper(), now)
    if at > now and _CLOCK.fullmatch(words):
        return at - timedelta(days=1)
    return at - timedelta(days=7) if at > now and _WEEKDAY.fullmatch(words) else at


def _before_last_failure(service: Served | OneUser) -> int:
    failed, _total = service.list_tasks(TaskFilters(status="failed", sort="-updated_at", limit=1))
    if not failed:
        raise InvalidValue("as_of: no task has failed", field="as_of", remedy="Choose another moment.")
    return service.status_since(failed[0].id) - 1
