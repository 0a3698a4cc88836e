"""The two sides of a lease: how long the holder may go on, and when it has surely stopped.

The holder's clock decides, and only its own readings count. Each answer of the holder bears a stamp, the reading of its
clock. The grantor sends the stamp back, and the lease then lasts for its seconds from that reading. So a renewal that
arrives late gives no more time than one that arrives at once. A renewal whose answer is lost is counted, because the
grantor counts from when it sends it.

The grantor receives a stamp after it was taken. So by the grantor's clock the holder has stopped at the latest
`seconds` after that, plus a margin for clocks that run at different speeds and for the time that stopping takes.
"""

DRIFT = 0.01
"""The share by which a holder's clock may run slower than the grantor's. Real clocks differ by a hundredth of that."""
OWNED_FOR = 3.0
"""Seconds for which a service grants leases after it was last sure that its log is its own.

If another machine may take the log, the next service starts its fences this long after it took the log. Until then the
last service may still send back a stamp that it has received; a stamp that it receives later it never sends back.
"""


class Lease:
    """The holder's side. Times are seconds of its own monotonic clock. A new lease counts as over."""

    def __init__(self, seconds: float, now: float) -> None:
        self._seconds = seconds
        self._until = now

    def renew(self, stamp: float) -> None:
        """Renew the lease: the grantor has sent this stamp back."""
        self._until = max(self._until, stamp + self._seconds)

    def is_over(self, now: float) -> bool:
        """Whether the holder must have stopped."""
        return now >= self._until


class Fence:
    """The grantor's side. Times are seconds of its own monotonic clock.

    Args:
        seconds: how long a lease lasts.
        margin: seconds that the holder may take to stop.
        since: the earliest time after which no earlier grantor can send a renewal any more.
    """

    def __init__(self, seconds: float, margin: float, since: float) -> None:
        self._lasts = seconds * (1 + DRIFT) + margin
        self._stamp: float | None = None
        self._granted: float | None = None
        self._received = since
        self._at = since + self._lasts

    def heard(self, stamp: float, now: float) -> None:
        """Take the stamp of a holder's answer that has come."""
        if self._stamp is None or stamp > self._stamp:
            self._stamp, self._received = stamp, now

    def grant(self) -> float | None:
        """The stamp to send back now; None if there is none yet. From now on it counts as received by the holder."""
        if self._stamp is not None:
            self._at = max(self._at, self._received + self._lasts)
            self._granted = self._stamp
        return self._stamp

    @property
    def granted(self) -> float | None:
        """The stamp that was sent back last: to send it again grants no more time."""
        return self._granted

    def is_passed(self, now: float) -> bool:
        """Whether the holder has surely stopped, unless it is granted more time."""
        return now >= self._at

    @property
    def at(self) -> float:
        """When the holder has surely stopped."""
        return self._at
