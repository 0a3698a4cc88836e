"""The rate limit of tokens, and the delay of answers to wrong credentials."""

import time
from asyncio import sleep
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from ..actors.logger import get_logger
from ..errors import TooManyRequests
from ..events.counted import plural

_REMEMBERED = 10_000
"""Names and addresses that are kept in memory; those that were silent longest are forgotten."""

logger = get_logger("tasktrail.http")


class _Bucket(msgspec.Struct):
    left: float
    at: float


class Pace:
    """Lets `rate` requests a second pass for each name, and twice as many after a pause (token bucket)."""

    def __init__(self, rate: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`rate`: requests a second; 0: any number."""
        self._rate = rate
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str) -> None:
        """Count a request. Raises `TooManyRequests`."""
        if not self._rate:
            return
        now, most = self._monotonic(), max(1.0, 2 * self._rate)
        bucket = self._buckets.pop(name, None) or _Bucket(most, now)
        bucket.left = min(most, bucket.left + (now - bucket.at) * self._rate)
        bucket.at = now
        self._buckets[name] = bucket
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        if bucket.left < 1:
            raise TooManyRequests(
                f"{name} may send {self._rate:g} {plural(self._rate, 'request')} a second",
                after=(1 - bucket.left) / self._rate,
            )
        bucket.left -= 1


FIRST_WAIT, LONGEST_WAIT = 0.1, 4.0
"""Seconds until a wrong credential is answered: at first, and at most. From the third one on, the wait doubles."""
_PATIENCE = 2
FORGOTTEN_AFTER = 60.0
"""Seconds without a wrong credential after which the count of an address begins anew."""
MOST_WAITING = 64
"""Wrong credentials whose answers wait at once; more are answered right away, to spare the connections."""
_LOGGED_EVERY = 10.0


class _Failures(msgspec.Struct):
    number: int = 0
    at: float = 0.0
    logged_at: float = float("-inf")
    unlogged: int = 0


class FailedLogins:
    """Counts wrong credentials by address. Valid ones are never delayed, so no one can shut others out."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._known: OrderedDict[str, _Failures] = OrderedDict()
        self._waiting = 0

    async def note(self, client: str, how: str) -> None:
        """Log a wrong credential, without its text, and wait. Raises `TooManyRequests` when too many wait already.

        Args:
            client: the address it came from.
            how: the way it was shown: header, form, address.
        """
        now = self._monotonic()
        failures = self._known.pop(client, None) or _Failures()
        failures.number = failures.number + 1 if now - failures.at < FORGOTTEN_AFTER else 1
        failures.at = now
        failures.unlogged += 1
        self._known[client] = failures
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        if now - failures.logged_at >= _LOGGED_EVERY:
            logger.warning("a log-in failed", client=client, how=how, times=failures.unlogged)
            failures.logged_at, failures.unlogged = now, 0
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(20, max(0, failures.number - _PATIENCE)))
        if self._waiting >= MOST_WAITING:
            raise TooManyRequests("Too many log-ins have failed", after=LONGEST_WAIT)
        self._waiting += 1
        try:
            await sleep(wait)
        finally:
            self._waiting -= 1
