"""The Scheduler's shell without threads: stages, commits, starts over. The core below it is the real one."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeAlias

import msgspec

from tasktrail.actors.core.admission import Limits
from tasktrail.actors.core.messages import (
    Answered,
    Boot,
    Commanded,
    LimitsChanged,
    Message,
    Sampled,
    Staged,
    Submit,
    Tick,
)
from tasktrail.actors.core.running import Running
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.core.step import needed, resume, step
from tasktrail.events import Accepted, Fact, Recorded, TaskEvent, TasktrailError
from tasktrail.events.memory_log import MemoryEventLog
from tasktrail.events.state import TaskState, fold
from tasktrail.handlers.process.frames import Order

Answer: TypeAlias = Accepted | TasktrailError


class SimulatedService:
    """One life of the service, from the fold of the log to its crash or its end.

    Args:
        on_commit: gets the new records and the state, before answers and orders go out.
        on_answer: gets the token of a command and its answer; none when the commit failed.
        on_order: carries out an order.
        on_load: gets a finished task that was read back from the log.
    """

    def __init__(
        self,
        log: MemoryEventLog,
        limits: Limits,
        grace: Mapping[str, float],
        *,
        on_commit: Callable[[list[Recorded], SchedulerState], None],
        on_answer: Callable[[int, Answer | None], None],
        on_order: Callable[[Order], None],
        on_load: Callable[[TaskState], None],
    ) -> None:
        self._log = log
        self._grace = grace
        self._on_commit = on_commit
        self._on_answer = on_answer
        self._on_order = on_order
        self._on_load = on_load
        self.state = self._folded(limits)
        self._begin_batch_of({})

    def boot(self, now: datetime, epoch: int) -> None:
        """Recover, and record it."""
        self.take(Boot(version="0", epoch=epoch, pid=1, host="here"), now)

    def take(self, message: Message, now: datetime) -> None:
        """Step one message and stage what it leads to."""
        if not isinstance(message, Submit | Tick | Sampled | LimitsChanged):
            self._reports.append(message)
        while missing := list(needed(self.state, message)):
            for task_id in missing:
                self._load(task_id)
        self._stage(step(self.state, message, now))

    def commit(self) -> None:
        """Append what is staged; then, and only then, answer and order."""
        records = self._log.append(self._facts, expected=self.state.position - len(self._facts))
        self.state.forget_finished(self._loaded | {record.task_id for record in records})
        answers, orders = self._answers, self._orders
        self._begin_batch_of(self.state.running)
        self._on_commit(records, self.state)
        for token, answer in answers:
            self._on_answer(token, answer)
        for order in orders:
            self._on_order(order)

    def fail_to_commit(self, now: datetime, *, written: bool) -> list[Recorded]:
        """The append fails, after the facts were written or before. Everybody waiting is told so; start over."""
        expected = self.state.position - len(self._facts)
        records = self._log.append(self._facts, expected=expected) if written else []
        for token, _ in self._answers:
            self._on_answer(token, None)
        reports, running, old = self._reports, self._running_before, self.state
        self.state = self._folded(old.limit_book.configured)
        self.state.slots, self.state.sample, self.state.draining = old.slots, old.sample, old.draining
        self._begin_batch_of(running)
        self._stage(resume(self.state, running, now))
        for report in reports:
            self.take(report, now)
        return records

    def _stage(self, staged: Staged) -> None:
        self._facts += staged.facts
        for effect in staged.effects:
            match effect:
                case Answered(token=token, answer=answer):
                    self._answers.append((token, answer))
                case Commanded(order=order):
                    self._orders.append(order)

    def _load(self, task_id: int) -> None:
        events: list[tuple[TaskEvent, datetime]] = [
            (record.event, record.recorded_at)  # type: ignore[misc]  # a task's records hold task events
            for record in self._log.read_task(task_id)
        ]
        task = fold(task_id, events)
        assert task is not None
        self._on_load(task)
        self.state.tasks[task_id] = task
        self._loaded.add(task_id)

    def _begin_batch_of(self, running: dict[int, Running]) -> None:
        self._facts: list[Fact] = []
        self._orders: list[Order] = []
        self._answers: list[tuple[int, Answer]] = []
        self._loaded: set[int] = set()
        self._reports: list[Message] = []
        self._running_before = {task_id: msgspec.structs.replace(entry) for task_id, entry in running.items()}

    def _folded(self, limits: Limits) -> SchedulerState:
        state = SchedulerState(limits, grace=self._grace, work_root="/work")
        for record in self._log.read():
            state.apply(record)
        return state
