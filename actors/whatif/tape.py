"""A recorded log as it can be played: what came from outside and when, what the attempts did, and how things went.

The log does not hold all that wakes a Scheduler: the executor's capacity, samples of the machine, the moment at which
a stopped attempt is gone, how late a timer is. Some of it shows in the log by what was started then. It tells when the
Scheduler looked, and is never used to tell what it decided.
"""

from bisect import bisect_left
from datetime import datetime, timedelta

import msgspec

from ...events import CancelTask, CreateTask, Recorded
from ..core.messages import Message, Submit
from .attempts import Attempts
from .course import Course

LATE = timedelta(seconds=1)
"""A timer is taken to be as late as the log shows, up to this."""
_STEP = 2
"""Between the orders of two neighbours."""


class Killed(msgspec.Struct, frozen=True):
    """The service went without a word; from here on nothing happened until the next one came."""


class Expected(msgspec.Struct, frozen=True):
    """The log has a start here, soon after an attempt was asked to stop."""

    attempt: int


class Ready(msgspec.Struct, frozen=True):
    """All workers are ready."""


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """Something from outside. `joined`: it was handled together with the next one, before anything was started."""

    at: datetime
    order: int
    """Among what comes at the same moment: twice the position, one less or more for what stands between records."""
    message: Message | Killed | Ready | Expected
    task_id: int = 0
    joined: bool = False


class Tape:
    """What a reader has made of a log.

    What lies before its beginning is only folded, what lies behind its end only tells how attempts ended.
    """

    def __init__(self) -> None:
        self.before: list[Recorded] = []
        self.arrivals: list[Arrival] = []
        self.attempts = Attempts()
        self.course = Course()
        """How things went, from the beginning to the end."""
        self.began_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.stopped_at: datetime | None = None
        """When the last service was asked to stop, if it was and none came after it."""
        self.records = 0
        self.first_position = self.last_position = 0
        self.types: set[str] = set()
        self.peak = 0
        """The most attempts that were open at once."""
        self.changes_concurrency = False
        """Whether operators have changed `max_concurrent`."""
        self.starts_with_a_service = False
        self.up_at_the_beginning = True
        """Whether a service ran when the tape begins, if it does not begin with the log."""
        self.gone_after: dict[tuple[int, int], timedelta] = {}
        """Task and attempt → how long after it was asked to stop it was gone. Found out while the tape is played."""
        self.running_at_the_beginning: set[tuple[int, int]] = set()
        """Task and attempt."""
        self._moments: list[datetime] = []

    def looked_at(self, earliest: datetime, within: timedelta) -> datetime | None:
        """The first moment from `earliest` on at which the log shows that a timer had gone off."""
        place = bisect_left(self._moments, earliest)
        if place < len(self._moments) and self._moments[place] <= earliest + within:
            return self._moments[place]
        return None

    def saw(self, at: datetime) -> None:
        """A timer had gone off by then, maybe late."""
        if not self._moments or self._moments[-1] < at:
            self._moments.append(at)

    def arrive(self, arrival: Arrival) -> None:
        """Something came from outside."""
        before = self.arrivals[-1] if self.arrivals else None
        if before is not None and _go_together(before, arrival):
            self.arrivals[-1] = msgspec.structs.replace(before, joined=True)
        self.arrivals.append(arrival)


def _go_together(one: Arrival, other: Arrival) -> bool:
    """Whether two were one message, or might as well have been: nothing is recorded between them."""
    if one.at != other.at or other.order - one.order != _STEP:
        return False
    if not isinstance(one.message, Submit) or not isinstance(other.message, Submit):
        return False
    kinds = {type(one.message.command), type(other.message.command)}
    return kinds in ({CreateTask}, {CancelTask})
