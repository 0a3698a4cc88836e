"""Ways to follow the log: a feed of committed records for each consumer, and waits for a position or for a task's end.

Access to a consumer's own files may fail: a full disk, a lock, a missing permission. This does not affect the log,
which holds the truth. So such a failure must not end the consumer's actor and the service. The work is tried again.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Generic, TypeAlias, TypeVar

from ..events import Recorded
from ..events.clock import Clock
from ..events.errors import NotReady
from ..events.task_events import is_terminal
from .alarm import Alarm
from .logger import get_logger

logger = get_logger()

GATHER = timedelta(milliseconds=50)
GATHER_MANY = timedelta(milliseconds=500)
MANY = 1000
"""Records a second. While more come, a consumer may gather them for longer."""


_T = TypeVar("_T")


class Feed(Generic[_T]):
    """Gathers committed records for one consumer.

    A message for every commit would wake the consumer's thread each time, and the Scheduler would wait until that
    thread lets go of the interpreter. So the first commit after a `take` sets an alarm, and later ones are only added.
    A consumer in a hurry may take earlier.

    Args:
        ring: called in a thread of its own when there are records to take.
        clock: for the alarm.
        name: the consumer's name, for the thread's name.
        gather: how long commits are gathered.
        gather_many: the same while more than `MANY` records a second come; None for the same time. Large batches cost
            less.
        most: how many commits may wait; further ones are dropped. With None all wait.
    """

    def __init__(
        self,
        ring: Callable[[], None],
        clock: Clock,
        name: str,
        gather: timedelta = GATHER,
        *,
        gather_many: timedelta | None = None,
        most: int | None = None,
    ) -> None:
        self._gather = gather.total_seconds()
        self._gather_many = (gather_many or gather).total_seconds()
        self.rate = 0.0
        """Records a second up to the last `take`, measured over at least `gather`."""
        self._clock = clock
        self._counted = 0
        self._counted_since = clock.monotonic()
        self._alarm = Alarm(ring, clock, f"{name}-feed")
        self._waiting: deque[Sequence[_T]] = deque()
        self._set = False
        self._most = most
        self._dropped = 0

    def put(self, records: Sequence[_T]) -> None:
        """Add the records of a commit."""
        if self._most is not None and len(self._waiting) >= self._most:
            self._dropped += len(records)
            return
        self._waiting.append(records)
        if not self._set:
            self._set = True
            self._alarm.set_after(self._gather_many if self.rate > MANY else self._gather)

    def take(self) -> list[_T]:
        """Take all records that wait, in order. The next `put` rings again."""
        self._set = False
        taken: list[_T] = []
        while self._waiting:
            taken += self._waiting.popleft()
        self._counted += len(taken)
        now = self._clock.monotonic()
        passed = now - self._counted_since
        if passed >= self._gather:
            self.rate = self._counted / passed
            self._counted, self._counted_since = 0, now
        return taken

    def dropped(self) -> int:
        """How many records were dropped since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def close(self) -> None:
        """Stop ringing."""
        self._alarm.close()


FIRST_RETRY = 0.25
LAST_RETRY = 1.0
"""Seconds between two tries. The pause starts at `FIRST_RETRY` and doubles each time, up to `LAST_RETRY`."""
REST_AFTER_BUILD = 3.0
"""After a failed build of the views, the pause is at least this many times as long as the build took.

Without room on the disk each try folds the whole log and fails.
"""

OnTrouble: TypeAlias = Callable[[Exception | None], None]


class Postponed(NotReady):
    """The work waits for other work and will go on by itself: no trouble that a person has to look at."""


class Retrier:
    """Runs a consumer's work, and after a failure runs it again until it succeeds.

    Args:
        name: the consumer's name, for the log and the alarm's thread.
        ring: asks for another try; called in the alarm's thread.
        clock: measures the pauses.
        on_trouble: gets the error when the work fails, and None when it succeeds again.
        rest: after a failure the pause is at least this many times as long as the work took.
    """

    def __init__(
        self, name: str, ring: Callable[[], None], clock: Clock, on_trouble: OnTrouble, rest: float = 0.0
    ) -> None:
        self._name = name
        self._clock = clock
        self._on_trouble = on_trouble
        self._rest = rest
        self._alarm = Alarm(ring, clock, f"{name}-retry")
        self._pause = FIRST_RETRY
        self._not_before = 0.0
        self._trouble: Exception | None = None

    @property
    def failing(self) -> bool:
        """Whether the work has failed and not succeeded since."""
        return self._trouble is not None

    def run(self, work: Callable[[], None]) -> bool:
        """Do the work, unless the pause after a failure still lasts. Returns whether the work was done."""
        if self._trouble is not None and self._clock.monotonic() < self._not_before:
            return False
        began = self._clock.monotonic()
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the consumer goes on after any error
            self._failed(error, self._rest * (self._clock.monotonic() - began))
            return False
        if self._trouble is not None:
            logger.info("a consumer goes on", consumer=self._name)
            self._trouble, self._pause = None, FIRST_RETRY
            self._on_trouble(None)
        return True

    def _failed(self, error: Exception, rest: float) -> None:
        if isinstance(error, Postponed):
            if not isinstance(self._trouble, Postponed):
                logger.info("a consumer waits", consumer=self._name, reason=str(error))
        elif type(error) is not type(self._trouble):
            logger.error("a consumer has to wait", consumer=self._name, error=str(error) or type(error).__name__)
        self._trouble = error
        pause = max(self._pause, rest)
        self._not_before = self._clock.monotonic() + pause
        self._alarm.set_after(pause)
        self._pause = min(2 * self._pause, LAST_RETRY)
        self._on_trouble(error)

    def close(self) -> None:
        """Stop ringing."""
        self._alarm.close()


class Watermark:
    """The position that a consumer has reached in the log. It is cheap to raise when no thread waits."""

    def __init__(self) -> None:
        self.position = 0
        self._waiting = 0
        self._ended = False
        self._risen = threading.Condition()

    def rise(self, position: int) -> None:
        """Set the position: everything up to `position` is done now."""
        self.position = max(self.position, position)
        if self._waiting:
            with self._risen:
                self._risen.notify_all()

    def end(self) -> None:
        """End all waits: the position may never rise again."""
        with self._risen:
            self._ended = True
            self._risen.notify_all()

    def wait(self, position: int, timeout: float | None) -> bool:
        """Wait until `position` is reached. Returns whether it was reached in time."""
        if self.position >= position:
            return True
        with self._risen:
            self._waiting += 1
            try:
                self._risen.wait_for(lambda: self.position >= position or self._ended, timeout)
            finally:
                self._waiting -= 1
        return self.position >= position


class Endings:
    """Wakes those who wait for a task, when its terminal event is durable."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: defaultdict[int, set[Callable[[], object]]] = defaultdict(set)

    def note(self, records: Sequence[Recorded]) -> None:
        """Look for ends in committed records. Called by the Scheduler; does nothing when no one waits."""
        if not self._waiting:
            return
        for record in records:
            if record.task_id in self._waiting and is_terminal(record.event):
                with self._lock:
                    for wake in self._waiting.get(record.task_id, ()):
                        wake()

    def wake_all(self) -> None:
        """Wake all who wait, so that they look again: ends may have gone unseen."""
        with self._lock:
            for waiting in self._waiting.values():
                for wake in waiting:
                    wake()

    def awaits(self, task_id: int) -> bool:
        """Whether a thread waits for the end of this task."""
        return task_id in self._waiting

    @contextmanager
    def expecting(self, task_id: int, wake: Callable[[], object]) -> Iterator[None]:
        """Call `wake` each time that the task ends, in the Scheduler's thread, which it must not hold up.

        Register first, then look whether the task has ended already.
        """
        with self._lock:
            self._waiting[task_id].add(wake)
        try:
            yield
        finally:
            with self._lock:
                self._waiting[task_id].discard(wake)
                if not self._waiting[task_id]:
                    del self._waiting[task_id]
