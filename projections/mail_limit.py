"""Limits the mail to each address: how much it has had lately, and when it may get more. Pure: the time is given."""

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice

import msgspec

_WINDOW = timedelta(hours=1)


class KeptPace(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole state of a `MailPace`, for a snapshot."""

    had: dict[str, list[datetime]] = {}
    promised: dict[str, dict[str, datetime]] = {}


class MailPace:
    """Counts delivered mails, and keeps a moment for each notice that has to wait, so that they go in turn.

    An address is its bare form in lower case: another name before it, or another spelling, is still the same person.
    """

    def __init__(self) -> None:
        self._delivered: dict[str, deque[datetime]] = {}
        """Address → the times of its mails in the last hour, in order; the address with the oldest last mail first."""
        self._reserved: dict[str, dict[str, datetime]] = {}
        """Address → notice id → moment, in the order of the promises."""

    def count_delivered(self, target: str, at: datetime) -> None:
        """Count a delivered mail; `at` never decreases from call to call."""
        address = bare_address(target)
        times = self._delivered.pop(address, deque())
        times.append(at)
        self._delivered[address] = times
        while times[0] <= at - _WINDOW:
            times.popleft()
        while self._delivered[first := next(iter(self._delivered))][-1] <= at - _WINDOW:
            del self._delivered[first]

    def correct_future_times(self, now: datetime) -> None:
        """Correct all times later than `now`, because the clock was far ahead until now."""
        self._delivered = {address: deque(min(at, now) for at in times) for address, times in self._delivered.items()}
        self._reserved = {
            address: {name: min(until, now) for name, until in reserved.items()}
            for address, reserved in self._reserved.items()
        }

    def reserve(self, target: str, notice_id: str, until: datetime) -> None:
        """Note that the notice waits until then."""
        reserved = self._reserved.setdefault(bare_address(target), {})
        reserved.pop(notice_id, None)
        reserved[notice_id] = until

    def release(self, target: str, notice_id: str) -> None:
        """Note that the notice no longer waits, whatever its outcome."""
        address = bare_address(target)
        reserved = self._reserved.get(address)
        if reserved is not None and reserved.pop(notice_id, None) is not None and not reserved:
            del self._reserved[address]

    def wait(self, target: str, notice_id: str, now: datetime, limit: int, under_way: int) -> datetime | None:
        """Until when a notice has to wait; None: it may go now.

        Args:
            target: its address.
            notice_id: its id; its own promise is ignored.
            now: the time.
            limit: mails that one address may get within an hour, 1 or more.
            under_way: mails to the address that were delivered but are not in the log yet.
        """
        address = bare_address(target)
        delivered = [at for at in self._delivered.get(address, ()) if at > now - _WINDOW] + [now] * under_way
        if len(delivered) < limit:
            return None
        promised = self._reserved.get(address, {})
        last = tuple(islice((promised[one] for one in reversed(promised) if one != notice_id), limit))
        # In turn, though times under way are guesses.
        return max((sorted((*delivered, *last))[-limit] + _WINDOW, *last))

    def kept(self) -> KeptPace:
        """The whole state, as data."""
        return KeptPace(
            had={address: list(times) for address, times in self._delivered.items()},
            promised={address: dict(promised) for address, promised in self._reserved.items()},
        )

    def restore(self, kept: KeptPace) -> None:
        """Bring a new object to the state `kept`."""
        self._delivered = {address: deque(times) for address, times in sorted(kept.had.items(), key=_latest)}
        self._reserved = {
            address: dict(sorted(promised.items(), key=lambda one: one[1]))
            for address, promised in kept.promised.items()
        }


def bare_address(target: str) -> str:
    """`Ann <Ann@Example.org>` → `ann@example.org`."""
    return target.rpartition("<")[2].strip(" >").lower()


def _latest(entry: tuple[str, Iterable[datetime]]) -> datetime:
    return max(entry[1])
