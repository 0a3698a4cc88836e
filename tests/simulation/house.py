"""One life of the service: the real Scheduler, without its thread. The simulator moves clock, inbox and alarm."""

from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, NoReturn, Protocol

from broken import BrokenInvariantError
from disk import SimulatedLog

from tasktrail.actors.alarm import Alarm
from tasktrail.actors.core import tasks
from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import Boot, Close, Message, Staged
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.messages import Committed, Orders
from tasktrail.actors.scheduler import Scheduler, SchedulerWatch
from tasktrail.actors.snapshots import folded_state
from tasktrail.events import Recorded, TaskState, TasktrailError
from tasktrail.events.clock import Clock
from tasktrail.events.reports import Order

tasks.FRESH = 3  # so that most are held as bytes, like those of a long queue


class Watcher(Protocol):
    """Sees everything that the service does."""

    def before(self, house: "House", message: Message) -> None:
        """Note that a message is about to be stepped."""

    def after(self, house: "House", message: Message) -> None:
        """Note that it was stepped, or put off."""

    def staged(self, house: "House", staged: Staged) -> None:
        """Note that a message was stepped."""

    def published(self, house: "House", records: list[Recorded]) -> None:
        """Note that consumers were told that these records are durable."""

    def ordered(self, house: "House", orders: list[Order]) -> None:
        """Note the orders to the executor."""

    def loaded(self, house: "House", task: TaskState) -> None:
        """Note that a task was read back from the log."""


class HandAlarm(Alarm):
    """Holds the time, which the simulator looks at when it moves the clock. It rings for no one."""

    def __init__(self) -> None:
        self.at: datetime | None = None

    def set(self, at: datetime | None) -> None:
        """Remember the time."""
        self.at = at

    def close(self) -> None:
        """There is no thread to end."""


class HandInbox:
    """The Scheduler commits when it sees its inbox empty; here the simulator decides what it sees."""

    def __init__(self) -> None:
        self.dry = True

    def empty(self) -> bool:
        """Return whether this batch is over."""
        return self.dry

    def fills_within(self, _seconds: float) -> bool:
        """Return whether more comes: nothing does once a batch is over."""
        return False


class SimulatedTypes(NamedTuple):
    """The task types of a service."""

    grace: dict[str, float]
    short: tuple[str, ...]
    at_once: int
    """Short attempts that share a worker."""
    outlived: bool = False
    """Whether attempts outlive the service, on a cluster."""

    def state(self, limits: Limits) -> SchedulerState:
        """Return an empty memory."""
        made = SchedulerState(limits, grace=self.grace, short=self.short, work_root="/work", outlived=self.outlived)
        if not self.outlived:  # nodes have the default
            made.workers.at_once = self.at_once
        return made


class House(SchedulerWatch):
    """A service from its start to its crash or its end. A fault that it would survive is raised, to be found."""

    def __init__(
        self, log: SimulatedLog, clock: Clock, limits: Limits, types: SimulatedTypes, watcher: Watcher
    ) -> None:
        self.watcher = watcher
        self.epoch = log.epoch
        self.inbox = HandInbox()
        self.quiet = False
        """Whether a batch is over and the next has not begun: memory must then equal the log."""
        self.fatal: BaseException | None = None
        """Why the service gave up, if it did."""
        self.staged_facts = 0
        """The number of events that are not durable yet."""
        self._log = log
        self._new_state = partial(types.state, limits)
        self._alarm = HandAlarm()
        self._scheduler = Scheduler(
            open_log=lambda: log,
            new_state=self._new_state,
            boot=lambda _: Boot(version="0", epoch=log.epoch, pid=1, host="here"),
            clock=clock,
            order=self._order,
            publish=self._publish,
            on_fatal=self._give_up,
            alarm=lambda *_: self._alarm,
            watch=self,
        )
        self.quiet = False
        inbox: Any = self.inbox  # the Scheduler only asks it whether more is there, or comes
        self._scheduler.actor_inbox = inbox

    # --- what the Scheduler does (see `SchedulerWatch`) ---------------------------------------------------------

    def before(self, message: Message) -> None:
        self.watcher.before(self, message)

    def after(self, message: Message) -> None:
        self.watcher.after(self, message)

    def staged(self, staged: Staged) -> None:
        self.quiet = False
        self.staged_facts += len(staged.facts)
        self.watcher.staged(self, staged)

    def loaded(self, task: TaskState) -> None:
        self.watcher.loaded(self, task)

    def batch_begins(self) -> None:
        self.quiet, self.staged_facts = True, 0

    def fault(self, error: BaseException) -> NoReturn:
        if isinstance(error, BrokenInvariantError):
            raise error
        raise BrokenInvariantError(f"a step broke: {type(error).__name__} {error}") from error

    # --- what is done with it -----------------------------------------------------------------------------------

    def open(self) -> None:
        """Fold the log, recover, record it."""
        self._scheduler.on_start()

    def tell(self, message: Any, *, dry: bool) -> None:
        """Give the Scheduler one message; `dry`: it is the last of its batch."""
        self.inbox.dry = dry
        self.quiet = False
        self._scheduler.receive(message)

    def commit(self) -> None:
        """End the batch."""
        self._scheduler.settle()

    def close(self) -> None:
        """Stop normally."""
        self.tell(Close(), dry=True)
        self._scheduler.on_stop()

    @property
    def state(self) -> SchedulerState:
        """Return the Scheduler's present memory."""
        return self._scheduler.state

    @property
    def in_trouble(self) -> bool:
        """Return whether the log could not be written, and commands are refused until it can."""
        return self._scheduler.trouble is not None

    def folded(self) -> SchedulerState:
        """Return a memory folded anew from the log."""
        return folded_state(self._log, self._new_state)

    @property
    def wake_at(self) -> datetime | None:
        """Return the time of the alarm, or of the next timer if that is earlier: it may not be committed yet."""
        return min((at for at in (self._alarm.at, self.state.next_wake()) if at is not None), default=None)

    def _order(self, message: Orders) -> None:
        self.watcher.ordered(self, message.orders)

    def _publish(self, message: Committed) -> None:
        self.watcher.published(self, message.records)

    def _give_up(self, error: BaseException) -> None:
        if not isinstance(error, TasktrailError):
            self.fault(error)
        self.fatal = error
