"""One life of the service: the real Scheduler, without its thread. Clock, inbox and alarm are turned by hand."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn, Protocol

from broken import BrokenInvariantError
from disk import SimulatedLog

from tasktrail.actors.base import Alarm, Committed, Orders
from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import Boot, Close, Message, Staged
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.scheduler import Scheduler
from tasktrail.actors.snapshots import folded_state
from tasktrail.events import Recorded, TaskState, TasktrailError
from tasktrail.events.clock import Clock
from tasktrail.events.reports import Order


class Watcher(Protocol):
    """Who sees everything that the service does."""

    def stepping(self, house: "House", message: Message, step: Callable[[], None]) -> None:
        """A message is about to be stepped, by `step`."""

    def staged(self, house: "House", staged: Staged) -> None:
        """A message was stepped."""

    def published(self, house: "House", records: list[Recorded]) -> None:
        """Consumers are told that these records are durable."""

    def ordered(self, house: "House", orders: list[Order]) -> None:
        """The executor is told what to do."""

    def loaded(self, house: "House", task: TaskState) -> None:
        """A task was read back from the log."""


class HandAlarm(Alarm):
    """Holds the moment. Whoever turns the clock looks at it; nobody is rung."""

    def __init__(self, ring: Callable[[], None], clock: Clock, name: str = "alarm") -> None:  # noqa: ARG002 - the same shape
        self.at: datetime | None = None

    def set(self, at: datetime | None) -> None:
        """Remember."""
        self.at = at

    def close(self) -> None:
        """There is no thread to end."""


class HandInbox:
    """The Scheduler commits when it sees its inbox empty; here somebody else says what it sees."""

    def __init__(self) -> None:
        self.dry = True

    def empty(self) -> bool:
        """Whether this batch is over."""
        return self.dry


class HandScheduler(Scheduler):
    """The real one. A fault in a step, which it would survive, is let out: the simulator is there to find it."""

    house: "House"

    def _take_or_drop(self, message: Message) -> None:
        self.house.watcher.stepping(self.house, message, lambda: super(HandScheduler, self)._take_or_drop(message))

    def _keep(self, staged: Staged) -> None:
        super()._keep(staged)
        self.house.quiet = False
        self.house.watcher.staged(self.house, staged)

    def _load(self, task_id: int) -> None:
        super()._load(task_id)
        self.house.watcher.loaded(self.house, self._state.tasks[task_id])

    def _tell(self, records: list[Recorded]) -> None:
        super()._tell(records)
        self.house.quiet = True

    def _pass_on(self, tell: Callable[[Any], None], what: Any) -> None:
        tell(what)  # the watchers' complaints have to come out

    def _drop(self, message: Message, error: BaseException) -> None:  # noqa: ARG002 - the same shape
        _let_out(error)

    def _append_failed(self, error: BaseException) -> None:
        if not isinstance(error, TasktrailError):
            raise error
        super()._append_failed(error)


def _let_out(error: BaseException) -> NoReturn:
    if isinstance(error, BrokenInvariantError):
        raise error
    raise BrokenInvariantError(f"a step broke: {type(error).__name__} {error}") from error


class House:
    """A service from its start to its crash or its end."""

    def __init__(
        self, log: SimulatedLog, clock: Clock, limits: Limits, grace: Mapping[str, float], watcher: Watcher
    ) -> None:
        self.watcher = watcher
        self.epoch = log.epoch
        self.inbox = HandInbox()
        self.quiet = False
        """Whether a batch is over and the next has not begun: memory must be as the log has it."""
        self.fatal: BaseException | None = None
        """Why the service gave up, if it did."""
        self._scheduler = HandScheduler(
            open_log=lambda: log,
            new_state=lambda: SchedulerState(limits, grace=grace, work_root="/work"),
            boot=lambda _: Boot(version="0", epoch=log.epoch, pid=1, host="here"),
            clock=clock,
            order=self._order,
            publish=self._publish,
            on_fatal=self._give_up,
            alarm=HandAlarm,
        )
        self._scheduler.house = self
        inbox: Any = self.inbox  # all that the Scheduler does with it is ask whether it is empty
        self._scheduler.actor_inbox = inbox

    def open(self) -> None:
        """Fold the log, recover, record it."""
        self._scheduler.on_start()

    def tell(self, message: Any, *, dry: bool) -> None:
        """One message reaches the Scheduler; `dry`: it is the last of its batch."""
        self.inbox.dry = dry
        self.quiet = False
        self._scheduler.receive(message)

    def commit(self) -> None:
        """The batch is over."""
        self._scheduler.settle()

    def close(self) -> None:
        """Stop in good order."""
        self.tell(Close(), dry=True)
        self._scheduler.on_stop()

    @property
    def state(self) -> SchedulerState:
        """The Scheduler's memory, as it is just now."""
        return self._scheduler._state

    @property
    def staged(self) -> int:
        """Facts that are not durable yet."""
        return len(self._scheduler._facts)

    @property
    def in_trouble(self) -> bool:
        """Whether the log could not be written, and commands are refused until it can."""
        return self._scheduler._trouble is not None

    def folded(self) -> SchedulerState:
        """A memory made anew from the log."""
        return folded_state(self._scheduler._log, self._scheduler._new_state)

    @property
    def wake_at(self) -> datetime | None:
        """What the alarm is set to, or the next timer if that is earlier: it may not be committed yet."""
        alarm: Any = self._scheduler._alarm
        return min((at for at in (alarm.at, self.state.next_wake()) if at is not None), default=None)

    def _order(self, message: Orders) -> None:
        self.watcher.ordered(self, message.orders)

    def _publish(self, message: Committed) -> None:
        self.watcher.published(self, message.records)

    def _give_up(self, error: BaseException) -> None:
        if not isinstance(error, TasktrailError):
            _let_out(error)
        self.fatal = error
