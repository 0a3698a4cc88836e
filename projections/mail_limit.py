"""How much mail each address has had lately, and when it may have more. Pure: fed by the log, given the time."""

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice

import msgspec

_WINDOW = timedelta(hours=1)


class KeptPace(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All of it, for a snapshot."""

    had: dict[str, list[datetime]] = {}
    promised: dict[str, dict[str, datetime]] = {}


class MailPace:
    """Counts what was delivered, and keeps a moment for each notice that has to wait, so that they go in turn.

    An address is its bare form in lower case: another name before it, or another spelling, is no other person.
    """

    def __init__(self) -> None:
        self._had: dict[str, deque[datetime]] = {}
        """Times of the last hour, the earliest first; the address that has waited longest for a mail stands first."""
        self._promised: dict[str, dict[str, datetime]] = {}
        """Address → notice id → moment, in the order of the promises."""

    def had(self, target: str, at: datetime) -> None:
        """A mail was delivered; `at` is never before that of an earlier one."""
        address = bare(target)
        times = self._had.pop(address, deque())
        times.append(at)
        self._had[address] = times
        while times[0] <= at - _WINDOW:
            times.popleft()
        while self._had[first := next(iter(self._had))][-1] <= at - _WINDOW:
            del self._had[first]

    def come_back(self, now: datetime) -> None:
        """The clock was far ahead until now: no mail was delivered later, and none has to wait for longer."""
        self._had = {address: deque(min(at, now) for at in times) for address, times in self._had.items()}
        self._promised = {
            address: {name: min(until, now) for name, until in promised.items()}
            for address, promised in self._promised.items()
        }

    def promise(self, target: str, notice_id: str, until: datetime) -> None:
        """The notice waits until then."""
        promised = self._promised.setdefault(bare(target), {})
        promised.pop(notice_id, None)
        promised[notice_id] = until

    def settle(self, target: str, notice_id: str) -> None:
        """The notice waits no more, whatever became of it."""
        address = bare(target)
        promised = self._promised.get(address)
        if promised is not None and promised.pop(notice_id, None) is not None and not promised:
            del self._promised[address]

    def wait(self, target: str, notice_id: str, now: datetime, limit: int, under_way: int) -> datetime | None:
        """Until when a notice has to wait; none: it may go now.

        Args:
            target: where it goes.
            notice_id: its own promise does not stand in its way.
            now: the time.
            limit: mails that one address gets within an hour, 1 or more.
            under_way: mails to the address that were delivered, and that the log does not tell of yet.
        """
        address = bare(target)
        had = [at for at in self._had.get(address, ()) if at > now - _WINDOW] + [now] * under_way
        if len(had) < limit:
            return None
        promised = self._promised.get(address, {})
        last = tuple(islice((promised[one] for one in reversed(promised) if one != notice_id), limit))
        return max((sorted((*had, *last))[-limit] + _WINDOW, *last))  # in turn, though times under way are only guessed

    def kept(self) -> KeptPace:
        """Everything, as data."""
        return KeptPace(
            had={address: list(times) for address, times in self._had.items()},
            promised={address: dict(promised) for address, promised in self._promised.items()},
        )

    def restore(self, kept: KeptPace) -> None:
        """Bring a new one to where `kept` was taken."""
        self._had = {address: deque(times) for address, times in sorted(kept.had.items(), key=_latest)}
        self._promised = {
            address: dict(sorted(promised.items(), key=lambda one: one[1]))
            for address, promised in kept.promised.items()
        }


def bare(target: str) -> str:
    """`Ann <Ann@Example.org>` → `ann@example.org`."""
    return target.rpartition("<")[2].strip(" >").lower()


def _latest(entry: tuple[str, Iterable[datetime]]) -> datetime:
    return max(entry[1])
