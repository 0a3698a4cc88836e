"""The unit of work of one message: it stages facts, folds them into memory, and collects effects."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from ...events import Accepted, Created, Event, Fact, Retried, TaskState, TasktrailError
from ...events.context import DecisionContext
from ...events.estimates import Correction
from ...events.reports import Order, Stop
from ...events.system_events import SYSTEM_TAGS
from ...events.timeouts import limits_attempts, limits_waiting
from .messages import Answered, Commanded, Effect, Intake
from .state import ParkedBy, Running, SchedulerState, publish_patience


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Who causes a record, why, and what led to it."""

    actor: str
    reason: str = ""
    command_id: str = ""
    correlation_id: str = ""
    causation_id: str = ""


BY_SCHEDULER = Origin(actor="scheduler")
NOTHING = Intake()


class UnitOfWork:
    """Collects the facts and effects that one message leads to.

    Timers and delays go by the wall clock. If that is set back, the log's time stands still: it never runs backwards.
    """

    def __init__(self, state: SchedulerState, now: datetime) -> None:
        self.state = state
        self.now = now
        self._recorded_at = now if state.durable.last_at is None else max(now, state.durable.last_at)
        self.facts: list[Fact] = []
        self.effects: list[Effect] = []

    @property
    def stands_still(self) -> bool:
        """Whether the log's time is ahead of the clock, so that all records get the same time."""
        return self._recorded_at > self.now

    def later(self, seconds: float) -> datetime:
        """The time `seconds` from now."""
        return self.now + timedelta(seconds=seconds)

    def decision_context(
        self,
        intake: Intake = NOTHING,
        ended_dependencies: tuple[int, ...] = (),
        correction: Correction | None = None,
    ) -> DecisionContext:
        """What `decide` has to know besides the task."""
        state = self.state
        return DecisionContext(
            now=self.now,
            last_task_id=state.durable.last_task_id,
            max_crashes=state.limits.max_crashes,
            outputs=state.outputs.first,
            open_keys=state.durable.open_keys,
            output_real=intake.output_real,
            retry_rules=state.retry_rules,
            ended_dependencies=ended_dependencies,
            can_resume=intake.can_resume,
            estimate=intake.estimate,
            correction=correction,
        )

    def record(self, task_id: int, event: Event, origin: Origin) -> int:
        """Stage one event and fold it into memory. Returns its position."""
        state = self.state
        position = state.durable.position + 1
        if type(event) in SYSTEM_TAGS:
            task_id, version = 0, state.durable.system_version + 1
        else:
            before = state.tasks.get(task_id)
            version = 1 if before is None else before.version + 1
        fact = Fact(
            task_id,
            version,
            event,
            self._recorded_at,
            origin.actor,
            origin.reason,
            origin.command_id,
            origin.correlation_id,
            origin.causation_id,
        )
        state.apply(fact, position)
        if task_id:
            task = state.tasks[task_id]
            fact = replace(fact, attempt=task.attempt, life=task.life)
            if task.finished:
                state.outputs.give_back(task)
            elif type(event) in (Created, Retried):
                state.outputs.claim(task)
        self.facts.append(fact)
        return position

    def record_all(self, task_id: int, events: tuple[Event, ...], origin: Origin) -> int:
        """Stage the events of one decision, each caused by the one before. Returns the last position."""
        position = self.state.position
        for number, event in enumerate(events):
            if number:
                origin = replace(origin, causation_id=f"event:{position}")
            position = self.record(task_id, event, origin)
        return position

    def order(self, order: Order) -> None:
        """Give the executor an order, once everything staged is durable."""
        self.effects.append(Commanded(order))

    def answer(self, token: Any, answer: Accepted | TasktrailError) -> None:
        """Answer the sender of a command, once everything staged is durable."""
        if token is not None:
            self.effects.append(Answered(token, answer))

    def stop(self, running: Running) -> None:
        """Have a running attempt stopped. It holds its slot until the executor reports its process tree gone."""
        if not running.stopping:
            running.stopping = True
            self.order(Stop(running.task_id, running.attempt))

    def place(self, task: TaskState) -> None:
        """Put a waiting task into the queue, unless it is held or waits for a dependency, a time or its old attempt.

        A task whose type has no handler here is parked: it uses no attempt, and goes on when the handler is back. A
        task that this service does not work on stays out of the queue, too.
        """
        if self._is_ready(task):
            self.state.queue.push(task)
        else:
            self.state.queue.remove(task.id)

    def place_all(self, tasks: Iterable[TaskState]) -> None:
        """Place waiting tasks, none of which is in the queue yet."""
        self.state.queue.fill(task for task in tasks if self._is_ready(task))

    def _is_ready(self, task: TaskState) -> bool:
        """Whether a waiting task only waits for free resources. If it also waits for a time, a timer is set."""
        state = self.state
        state.set_aside.discard(task.id)
        not_before = state.not_before(task)
        early = not_before is not None and not_before > self.now
        if early or limits_waiting(task.spec):
            self.watch_waiting(task)
        elsewhere = task.id in state.running or bool(state.blocked.get(task.id))
        parked = None if elsewhere else self._parked_by(task, early=early)
        state.parked.put(task.id, parked)
        return not (elsewhere or parked) and state.is_own(task.id)

    def _parked_by(self, task: TaskState, *, early: bool) -> ParkedBy | None:
        if task.held:
            return "Held"
        if task.spec.type not in self.state.grace:
            return "NoHandler"
        if early:
            return "NotBefore" if task.started_at is None else "RetryDelay"
        return None

    def watch_waiting(self, task: TaskState) -> None:
        """Look at a waiting task again when it is due, or when the first of its limits may be reached."""
        moments = [end.at for end in self.state.waiting_ends(task)]
        not_before = self.state.not_before(task)
        if not_before is not None and not_before > self.now:
            moments.append(not_before)
        if moments:
            self.state.set_timer(min(moments), task.id)

    def watch_attempt(self, running: Running) -> None:
        """Look at a running attempt again when the first of its limits may be reached."""
        if running.granted_at is not None:
            patience = publish_patience(self.state.tasks[running.task_id].spec.output_file)
            self.state.set_timer(running.granted_at + patience, running.task_id, running.attempt)
        elif limits_attempts(self.state.tasks[running.task_id].spec):
            first = min(self.state.attempt_ends(running))
            self.state.set_timer(first.at, running.task_id, running.attempt)

    def look_again(self) -> None:
        """Look at all tasks again after limits or pauses have changed: some may start now."""
        self.state.look_at_rates()
        self.state.look_at_windows()
        self.state.queue.wake_all()

    def unplace(self, task_id: int) -> None:
        """Take a task that waits no longer out of everything in which it waited."""
        state = self.state
        state.queue.remove(task_id)
        state.set_aside.discard(task_id)
        state.overtaken.pop(task_id, None)
        state.unblocked_at.pop(task_id, None)
        for dependency in state.blocked.pop(task_id, ()):
            waiting = state.dependents[dependency]
            waiting.discard(task_id)
            if not waiting:
                del state.dependents[dependency]
