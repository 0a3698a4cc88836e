"""Questions about the Scheduler's own memory: why a task waits, the queue, the limits, the schedules.

A running service asks its Scheduler. Without one the log is folded: then slots, handlers and the machine are unknown.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeVar

from msgspec.structs import replace

from ..actors.core.board import (
    LimitsBoard,
    QueueBoard,
    ScheduleBoard,
    limits_board,
    queue_board,
    schedule_boards,
)
from ..actors.core.dependencies import retries
from ..actors.core.explanation import Obstacle, WaitReason, Why, explain
from ..actors.core.limits import Limits
from ..actors.core.state import SchedulerState
from ..actors.core.turn import Turn
from ..events import Recorded, Task, TaskState
from ..events.state import FINISHED, fold
from ..events.values import check_task_id, check_whole
from ..projections.describe import describe

T = TypeVar("T")

QUEUE_SHOWN = 50
"""Tasks of the queue that are shown when nobody says how many."""


class Asking(ABC):
    """Answers from a state that somebody else provides."""

    live = False
    """Whether the state is that of a running Scheduler."""

    @abstractmethod
    def asked(self, function: Callable[[SchedulerState, datetime], T]) -> T:
        """The function's answer about the state as it is now."""

    @abstractmethod
    def get_task(self, task_id: int) -> Task:
        """One task. Raises `UnknownTask`."""

    @abstractmethod
    def events(self, task_id: int) -> list[Recorded]:
        """Its recorded events."""

    @abstractmethod
    def status_since(self, task_id: int) -> int:
        """Where the status that it has now is recorded."""

    def why(self, task_id: int) -> Why:
        """All reasons why a task waits, and what is ahead of it. Raises `UnknownTask`."""
        check_task_id(task_id)
        live = self.live
        found = self.asked(lambda state, now: explain(state, task_id, now, live=live))
        if found is None or found.status in FINISHED:
            task, last = self.get_task(task_id), self.events(task_id)[-1]
            remark = f"It ended at position {last.position}, by {last.actor}: {last.reason or describe(last.event)}"
            return Why(task_id=task_id, status=task.status, waiting=False, live=live, remark=remark)
        return replace(found, reasons=tuple(self._with_the_log(task_id, one) for one in found.reasons))

    def queue(self, limit: int = QUEUE_SHOWN) -> QueueBoard:
        """The first of the queue in its order, with the terms of each priority, and what runs."""
        check_whole(limit, "limit")
        live = self.live
        return self.asked(lambda state, now: queue_board(state, now, limit, live=live))

    def limits(self) -> LimitsBoard:
        """What may run at once, and what of it operators have changed."""
        return self.asked(lambda state, _now: limits_board(state))

    def schedules(self) -> list[ScheduleBoard]:
        """All schedules, by name."""
        return list(self.asked(lambda state, _now: schedule_boards(state)))

    def _with_the_log(self, task_id: int, one: Obstacle) -> Obstacle:
        """What only the log can tell: `Created`, the last `Retried`, what others have come to and what retries them."""
        match one.reason:
            case _ if one.evidence:
                return one
            case WaitReason.HELD | WaitReason.NOT_BEFORE:
                return replace(one, evidence=(self.events(task_id)[0].position,))
            case WaitReason.RETRY_DELAY:
                return replace(one, evidence=(self.status_since(task_id),))
            case WaitReason.DEPENDENCY:
                return replace(one, evidence=tuple(map(self.status_since, one.tasks)))
            case WaitReason.DEPENDENCY_FAILED:
                evidence, commands = map(self.status_since, one.tasks), retries(one.tasks, self._read)
                return replace(one, evidence=tuple(evidence), commands=commands)
            case _:
                return one

    def _read(self, task_id: int) -> TaskState:
        task = fold(task_id, ((record.event, record.recorded_at) for record in self.events(task_id)))  # type: ignore[misc]  # task events
        assert task is not None, "a task without events is refused as unknown"
        return task


def folded(records: Iterable[Recorded], limits: Limits, now: datetime) -> SchedulerState:
    """What a Scheduler would know from the log alone; every task that could wait for room stands in the queue."""
    state = SchedulerState(limits, grace={})
    for record in records:
        state.apply(record, record.position)
    state.grace = {task.spec.type: 0.0 for task in state.tasks.values()}
    turn = Turn(state, now)
    for task in state.tasks.values():
        if task.waiting:
            state.block(task)
            turn.place(task)
    return state
