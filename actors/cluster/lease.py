"""The two sides of a lease: what lets the holder go on, and from when on it has surely stopped.

The holder's clock decides, and only its own readings count. Each answer of the holder bears a stamp: what its clock
shows. Who grants sends the stamp back, and the lease then lasts so many seconds from that reading. So a renewal that is
late on its way, however late, gives no more time than it would have given at once; and one whose answer is lost is
counted, because counting begins when it is sent.

The grantor has received the stamp after it was taken. So the holder has stopped `seconds` after that by the grantor's
clock at the latest, with a margin for clocks that do not run alike and for the time that stopping takes.
"""

DRIFT = 0.01
"""How much slower than the grantor's a holder's clock may run, as a share. Real ones differ by a hundredth of that."""
OWNED_FOR = 3.0
"""Seconds for which a service grants leases after it was last sure that its log is its own.

Where another machine may take the log, the next service counts from so long after that it took it. Until then a stamp
that the last one has received may come back to a host; one that it receives later never does.
"""


class Lease:
    """The holder's side. Times are seconds of its own monotonic clock. It begins as one that has run out."""

    def __init__(self, seconds: float, now: float) -> None:
        self._seconds = seconds
        self._until = now

    def renew(self, stamp: float) -> None:
        """The grantor has sent this stamp back."""
        self._until = max(self._until, stamp + self._seconds)

    def is_over(self, now: float) -> bool:
        """Whether the holder has to have stopped."""
        return now >= self._until


class Fence:
    """The grantor's side. Times are seconds of its own monotonic clock.

    Args:
        seconds: how long a lease lasts.
        margin: seconds that the holder may take to stop.
        since: the earliest moment from which on no earlier grantor can send a renewal any more.
    """

    def __init__(self, seconds: float, margin: float, since: float) -> None:
        self._lasts = seconds * (1 + DRIFT) + margin
        self._stamp: float | None = None
        self._granted: float | None = None
        self._received = since
        self._at = since + self._lasts

    def heard(self, stamp: float, now: float) -> None:
        """An answer of the holder with this stamp has come."""
        if self._stamp is None or stamp > self._stamp:
            self._stamp, self._received = stamp, now

    def grant(self) -> float | None:
        """The stamp to send back now; None: there is none yet. From here on it counts as received."""
        if self._stamp is not None:
            self._at = max(self._at, self._received + self._lasts)
            self._granted = self._stamp
        return self._stamp

    @property
    def granted(self) -> float | None:
        """The stamp that was sent back last: whoever sends it again grants nothing more."""
        return self._granted

    def is_passed(self, now: float) -> bool:
        """Whether the holder has surely stopped, unless it is granted anything more."""
        return now >= self._at

    @property
    def at(self) -> float:
        """From when on it has."""
        return self._at
