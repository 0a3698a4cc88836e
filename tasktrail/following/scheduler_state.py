"""The Scheduler's state as folded from the log, kept up to date beside the views of a reader.

It answers why a task waits, what the queue looks like, and which tokens there are, on a machine without a Scheduler.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..actors.core.limits import Limits
from ..actors.core.state import Running, SchedulerState
from ..actors.core.unit_of_work import UnitOfWork
from ..actors.snapshots import SCHEDULER_SNAPSHOT, loader
from ..events import Completed, Recorded, TaskState
from ..events.clock import Clock
from ..events.collector import collector_waits
from ..events.errors import LogUnreachable, NotReady
from ..events.log.event_log import ReportProgress
from ..events.log.log_reader import LogReader
from ..events.recorded import Stub
from ..events.system_events import Adjusted, LimitsChanged, QueueDrained, QueuePaused, QueueResumed, ServiceStarted
from ..events.task_events import Checkpointed, Progressed
from .follower import Observer

if TYPE_CHECKING:
    from ..actors.core.tokens import Token

T = TypeVar("T")

_PAGE = 5000
_ASK_WITHIN = 2.0
"""Seconds that a question waits for a page that is being folded."""
_OVER = 2000
"""Finished tasks that are kept before those for which no task waits are dropped."""


class FollowedState(Observer):
    """Folds the records that a follower takes. Questions come from any thread, and hold the follower up meanwhile.

    Args:
        snapshot: the Scheduler's snapshot, with which the fold begins if it can be used.
        limits: the reader's configured limits; the operators' changes in the log go on top.
        clock: decides when a task that waits for a time may go on.
        on_tokens: called when tokens were added or revoked.
        on_records: called with new records once they are folded; with none when it has just caught up.
    """

    def __init__(
        self,
        snapshot: Path | None,
        limits: Limits,
        clock: Clock,
        on_tokens: Callable[[], None] = lambda: None,
        on_records: Callable[[Sequence[Recorded]], None] = lambda _: None,
    ) -> None:
        self._snapshot = snapshot
        self._limits = limits
        self._clock = clock
        self._on_tokens = on_tokens
        self._on_records = on_records
        self._lock = threading.Lock()
        self._state: SchedulerState | None = None
        self._log: LogReader | None = None
        self._trim_at = _OVER
        self._grace: dict[str, float] = {}
        self.tokens: Mapping[str, Token] = {}
        """Digest → recorded token; replaced as a whole."""
        self._tokens_at = -1
        self.service: ServiceStarted | None = None
        """The start of the service that has the log, or had it last."""
        self.began = threading.Event()
        """Set once it has caught up for the first time."""

    def ask(self, function: Callable[[SchedulerState, datetime], T], within: float = _ASK_WITHIN) -> T:
        """Call the function with the state and the time. Raises `NotReady` until the log is folded.

        `within`: seconds to wait for a page that is being folded.
        """
        if not self._lock.acquire(timeout=within):
            raise NotReady("The log is being folded", remedy="Ask again in a moment.")
        try:
            state = self._state
            if state is None:
                raise NotReady("The log is being folded", remedy="Ask again in a moment.")
            now = self._clock.now()
            work = UnitOfWork(state, now)
            for timer in state.due_timers(now):
                task = state.tasks.get(timer.task_id)
                if task is not None and task.waiting:
                    work.place(task)
            return function(state, now)
        finally:
            self._lock.release()

    def configure(self, limits: Limits) -> None:
        """Take new configured limits."""
        with self._lock:
            self._limits = limits
            if self._state is not None:
                self._state.configure(limits)

    def erasing(self) -> None:
        """Drop the state, which may hold erased data or be of another history. Tokens stay until new ones are known."""
        with self._lock:
            self._state = None
        self._tokens_at = -1

    def caught_up(self, log: LogReader, position: int, progress: ReportProgress = lambda _position, _end: None) -> None:
        """Fold up to a position, from the snapshot or from the present state. `progress` is called after each page."""
        with self._lock:
            self._log = log
            state, self._state = self._state, None  # a state left in the middle of a record is never used again
        if state is None or state.position > position:  # without the lock: callers meanwhile get `NotReady` at once
            with collector_waits():
                state = self._begin(log)
        self._fold(state, log, position, progress)
        if state.position < position:
            raise LogUnreachable(f"The log ended at position {state.position} while it was read up to {position}")
        with self._lock:
            state.configure(self._limits)  # they may have changed by now
            self._state = state
        writer = log.newest_writer()
        self.service = None if writer is None else _start_at(log, writer.position)
        self._tell_tokens(state)
        self._on_records(())
        self.began.set()

    def records_folded(self, records: Sequence[Recorded]) -> None:
        """Fold these records."""
        assert self._log is not None
        with self._lock:
            state, self._state = self._state, None
            assert state is not None
            self._take(state, self._log, records)
            self._state = state
        for record in records:
            if isinstance(record.event, ServiceStarted):
                self.service = record.event
        self._tell_tokens(state)
        self._on_records(records)

    def _tell_tokens(self, state: SchedulerState) -> None:
        tokens = state.durable.tokens
        if tokens.changed_at != self._tokens_at:
            self._tokens_at = tokens.changed_at
            self.tokens = {token.digest: token for token in tokens.by_name.values()}
            self._on_tokens()

    def _new(self) -> SchedulerState:
        self._grace = {}
        return SchedulerState(self._limits, grace=self._grace)

    def _begin(self, log: LogReader) -> SchedulerState:
        state = SCHEDULER_SNAPSHOT.recalled(log, self._snapshot, self._new) or self._new()
        work = UnitOfWork(state, self._clock.now())
        for task_id in state.tasks.open_ids():
            task = state.tasks[task_id]
            if task.waiting:
                self._wait(work, log, task)
            elif task.status == "running":
                state.hold(_running(task, 0))
        return state

    def _fold(self, state: SchedulerState, log: LogReader, position: int, progress: ReportProgress) -> None:
        records = log.read_to_fold(state.position, max(0, position - state.position))
        while page := list(islice(records, _PAGE)):
            self._take(state, log, page)
            progress(state.position, position)

    def _take(self, state: SchedulerState, log: LogReader, records: Iterable[Recorded]) -> None:
        work = UnitOfWork(state, self._clock.now())
        for record in records:
            if record.position > state.position:
                self._take_one(work, log, record)
        self._trim(state)

    def _take_one(self, work: UnitOfWork, log: LogReader, record: Recorded) -> None:
        state, event, task_id = work.state, record.event, record.task_id
        tasks = state.tasks
        if record.version > 1 and task_id and task_id not in tasks and type(event) is not Stub:
            tasks[task_id] = loader(log)(task_id, record.position - 1)  # it was over, and goes on
        state.apply(record, record.position)
        if not task_id:
            self._take_order(work, event)
            return
        if type(event) in (Progressed, Checkpointed, Stub):
            return
        task = tasks[task_id]
        held = state.running.get(task_id)
        if held is not None and (task.status != "running" or held.attempt != task.attempt):
            state.release(held)
        if task.waiting:
            self._wait(work, log, task)
            return
        work.unplace(task_id)
        if task.status == "running" and task_id not in state.running:
            state.hold(_running(task, record.position))
        if type(event) is Completed:
            for freed in state.unblock(task_id):
                work.place(freed)

    def _take_order(self, work: UnitOfWork, event: object) -> None:
        match event:
            case Adjusted():
                task = work.state.tasks.get(event.task_id)
                if task is not None and task.waiting:
                    work.place(task)
            case LimitsChanged() | QueuePaused() | QueueResumed() | QueueDrained():
                work.look_again()

    def _wait(self, work: UnitOfWork, log: LogReader, task: TaskState) -> None:
        state = work.state
        self._grace.setdefault(task.spec.type, 0.0)
        for other in task.spec.depends_on:
            if other not in state.tasks:
                state.tasks[other] = loader(log)(other, state.position)
        state.block(task)
        work.place(task)

    def _trim(self, state: SchedulerState) -> None:
        """Drop finished tasks from memory, except those that others wait for: the log has them."""
        state.passed()
        tasks = state.tasks
        if len(tasks.over) < self._trim_at:
            return
        needed = {other for task in tasks.special() if not task.finished for other in task.spec.depends_on}
        for task_id in tasks.over - needed:
            del tasks[task_id]
        self._trim_at = 2 * len(tasks.over) + _OVER


def _running(task: TaskState, position: int) -> Running:
    return Running(task.id, task.attempt, position, task, task.started_at or task.updated_at)


def _start_at(log: LogReader, position: int) -> ServiceStarted | None:
    record = next(iter(log.read(position - 1, 1)), None)
    return record.event if record is not None and isinstance(record.event, ServiceStarted) else None
