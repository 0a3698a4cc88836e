"""The Scheduler's step: `step(state, message, now) → (facts, effects)`. The actor runs it, and so can a simulator.

It is deterministic: the same state, message and time always lead to the same result. It changes `state` as if the facts
were already in the log. A caller whose append fails must throw the state away and fold the log again. The finished
tasks and dependencies that a message is about must be in `state.tasks`: `tasks_to_load` names those to load.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from ...events import (
    CreateGraph,
    CreateTask,
    EnableEndpoint,
    OperatorCommand,
    RedeliverNotice,
    RetryTask,
    TaskCommand,
)
from ...events.errors import NotReady
from ...events.system_events import ClockJumped, ErasureFinished
from . import attempts, commands, lifecycle, retention, timeouts
from .dispatch import dispatch
from .messages import (
    Archive,
    Boot,
    Close,
    Delivered,
    Drain,
    ErasureDone,
    Forget,
    Jumped,
    LimitsConfigured,
    Message,
    Reconcile,
    RecordRefusals,
    Sampled,
    Staged,
    Submit,
    Tick,
    WorkOn,
)
from .state import Running, SchedulerState
from .unit_of_work import BY_SCHEDULER, Origin, UnitOfWork


def tasks_to_load(state: SchedulerState, message: Message) -> Iterator[int]:
    """Yield the finished tasks that the message is about and memory does not hold.

    Load them and call it again until it yields none: a retried task needs its dependencies, too.
    """
    if isinstance(message, Forget):
        yield from (task_id for task_id in message.tasks if task_id not in state.tasks)
    if not isinstance(message, Submit):
        return
    command = message.command
    if isinstance(command, CreateTask) and command.parent_task_id is None and not command.depends_on:
        return  # most commands create a plain task, which names no other: the code below is slower
    if isinstance(command, OperatorCommand):
        return
    for task_id in _tasks_named_by(state, command, known_to=message.only_user):
        if task_id not in state.tasks and 1 <= task_id <= state.durable.last_task_id:
            yield task_id


def _tasks_named_by(state: SchedulerState, command: TaskCommand, *, known_to: int | None) -> Iterator[int]:
    match command:
        case CreateTask():
            yield from command.depends_on
            yield from _ancestors_to_load(state, command.parent_task_id)
        case CreateGraph():
            for task in command.tasks:
                yield from (other for other in task.depends_on if isinstance(other, int))
                yield from _ancestors_to_load(state, task.parent if isinstance(task.parent, int) else None)
        case RedeliverNotice():
            if known_to is not None:
                yield command.task_id
            return
        case EnableEndpoint():
            return
        case _:
            yield command.task_id
    if isinstance(command, RetryTask) and command.task_id in state.tasks:
        spec = state.tasks[command.task_id].spec
        yield from spec.depends_on
        yield from _ancestors_to_load(state, spec.parent_task_id)


def _ancestors_to_load(state: SchedulerState, parent: int | None) -> Iterator[int]:
    """The tasks above a new one, up to the first that has another open task below it."""
    while parent is not None and parent not in state.families.parents:
        yield parent
        task = state.tasks.get(parent)
        parent = task.spec.parent_task_id if task else None


def step(state: SchedulerState, message: Message, now: datetime) -> Staged:
    """Handle `message` at `now`. Returns the facts and effects that it leads to."""
    work = UnitOfWork(state, now)
    state.open_due(now)
    if state.closed:
        _refuse(work, message)
    else:
        _handle(work, message)
        dispatch(work)
        if not state.closed:
            commands.note_drained(work)
    return Staged(work.facts, work.effects)


def _handle(work: UnitOfWork, message: Message) -> None:
    match message:
        case Submit():
            commands.handle(work, message)
        case Tick():
            timeouts.tick(work)
            _fire(work)
        case Jumped():
            timeouts.clock_jumped(work, message.jump)
            _fire(work)
        case Sampled():
            lifecycle.sampled(work, message)
        case LimitsConfigured():
            lifecycle.limits_changed(work, message.limits)
        case Delivered():
            work.record(0, message.fact, Origin(actor="notifier"))
        case RecordRefusals():
            for one in message.refusals:
                work.record(0, one.event, Origin(actor=one.actor, reason=one.why))
        case ErasureDone():
            if message.erasure in work.state.durable.erasures:
                work.record(0, ErasureFinished(erasure=message.erasure), BY_SCHEDULER)
        case Reconcile():
            attempts.ask_for_held(work)
        case Boot():
            lifecycle.boot(work, message)
        case Forget():
            retention.forget_tasks(work, message)
        case Archive():
            retention.archive_range(work, message)
        case WorkOn():
            lifecycle.work_on(work, message.task_id)
        case Drain():
            lifecycle.drain_service(work)
        case Close():
            lifecycle.close(work)
        case _:
            attempts.handle_report(work, message)


def _fire(work: UnitOfWork) -> None:
    if not work.state.draining and work.state.own is None:
        timeouts.fire(work)


def _refuse(work: UnitOfWork, message: Message) -> None:
    """Answer a command after `Close`: nothing is recorded any more."""
    if isinstance(message, Submit | Forget | Archive):
        work.answer(message.token, NotReady("The service has stopped"))


def resume_from_log(
    state: SchedulerState, running: Mapping[int, Running], now: datetime, jumps: Sequence[ClockJumped] = ()
) -> Staged:
    """Go on with a state folded anew while the executor still holds the attempts in `running`.

    `jumps`: jumps of the wall clock that may not be recorded yet.
    """
    work = UnitOfWork(state, now)
    state.open_due(now)
    for jump in jumps:
        if jump not in state.durable.jumps.kept:
            work.record(0, jump, BY_SCHEDULER)
    lifecycle.recover(work, running)
    return Staged(work.facts, work.effects)
