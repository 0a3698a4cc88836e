"""Earlier moments: the words that people type, the position of the log that they mean, and the choices offered."""

import re
from datetime import UTC, datetime

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
"""The choices offered, in words that may also be typed."""
_GROUPED = re.compile(r"[1-9]\d{0,2}(,\d{3})+", re.ASCII)
"""A position with commas, as the pages show it."""


class ShownMoment(msgspec.Struct, frozen=True):
    """A moment of the past, as it is shown."""

    position: int
    """The last record at that moment."""
    at: datetime


def moment_of(service: Served, text: str, field: str = "as_of") -> ShownMoment:
    """Return the moment that a parameter of an address names. Raises `InvalidValue` and `BeyondTheLog`."""
    log, point = service.source.log(), parse_point(text, field)
    if isinstance(point, datetime):
        return ShownMoment(position_at(log, point), point)
    return ShownMoment(point, time_of(log, point, field))


def canonical(service: Served | OneUser, words: str, now: datetime, field: str = "as_of") -> str:
    """Turn the words of a field into the form of addresses: a position, or a time in UTC. Raises `InvalidValue`."""
    words = " ".join(words.lower().split())
    if words == LAST_FAILURE:
        return str(_before_last_failure(service, field))
    try:
        if words.isascii() and words.isdecimal():
            return str(int(words))
        if _GROUPED.fullmatch(words):
            return words.replace(",", "")
        text = unescaped(words) if words[:4].isdecimal() else words
        at = read_time(text, now, earlier=True).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidValue(
            f"{field}: {words[:40]!r} is not a position or a time",
            field=field,
            remedy="Write a position of the log, a time such as 2026-01-31 12:00, or a distance such as 3 hours ago.",
        ) from None
    if at > now:
        raise InvalidValue(f"{field}: {words[:40]!r} is in the future", field=field, remedy="Choose an earlier moment.")
    return at.isoformat().replace("+00:00", "Z")


def _before_last_failure(service: Served | OneUser, field: str) -> int:
    failed, _total = service.list_tasks(TaskFilters(status="failed", sort="-updated_at", limit=1))
    if not failed:
        raise InvalidValue(f"{field}: no task has failed", field=field, remedy="Choose another moment.")
    return service.status_since(failed[0].id) - 1
