"""The rules: what a command leads to, given what is true. Pure: guards raise, then events are built; nothing else.

One small function per command; `decide` only dispatches. What the rules need beyond the task's own state comes in as
`Facts`, so that the same decision can be made again by a simulator, a replay or a what-if.
"""

from typing import assert_never

from .attempts import readable, reported
from .commands import (
    AdjustTask,
    AttemptReport,
    CancelTask,
    CreateGraph,
    CreateTask,
    EndAttempt,
    GiveUp,
    LifeCommand,
    RecordCheckpoint,
    RecordProgress,
    RetryTask,
    SaveCheckpoint,
    StartTask,
)
from .creation import check_start, create, create_graph
from .errors import IllegalTransition, InvalidValue, OutputTaken, RetriesExhausted, UnknownTask
from .facts import Facts
from .recorded import Event
from .retry import retry_due
from .state import TaskState
from .system_events import Adjusted
from .task_events import Cancelled, Checkpointed, Failed, Retried, output_of


def decide(  # noqa: C901 - a branch for each command, and nothing else
    state: TaskState | None, command: LifeCommand | AttemptReport, facts: Facts
) -> tuple[Event, ...]:
    """The events that `command` leads to. Raises a `TasktrailError` when the rules forbid it."""
    if isinstance(command, CreateTask):
        return create(command, facts)
    if isinstance(command, CreateGraph):
        return create_graph(command, facts)
    if state is None:
        raise UnknownTask(f"Task {command.task_id} does not exist", field="task_id")
    match command:
        case StartTask():
            return _start(state)
        case CancelTask():
            return _cancel(state)
        case RetryTask():
            return _retry(state, command, facts)
        case SaveCheckpoint():
            return _save_checkpoint(state, command)
        case AdjustTask():
            return _adjust(state, command)
        case RecordProgress() | RecordCheckpoint() | EndAttempt():
            return reported(state, command, facts)
        case GiveUp():
            return _give_up(state, command)
        case _:
            assert_never(command)


def _illegal(state: TaskState, why: str) -> IllegalTransition:
    remedy = f"`tasktrail history {state.id}` tells how the task came to this state."
    return IllegalTransition(f"Task {state.id} {why}", remedy=remedy)


def _start(state: TaskState) -> tuple[Event, ...]:
    """A held task is released; for a waiting one there is nothing to record until it really starts."""
    if not state.waiting:
        raise _illegal(state, f"is {state.status}: only a waiting task can be started")
    return (Adjusted(task_id=state.id, held=False),) if state.held else ()


def _adjust(state: TaskState, command: AdjustTask) -> tuple[Event, ...]:
    if not state.waiting:
        raise _illegal(state, f"is {state.status}: only a waiting task can be adjusted")
    if command.priority is None and command.scheduled_for is None and command.held is None:
        raise InvalidValue("Nothing to adjust: give priority, scheduled_for or held", field="priority")
    if command.scheduled_for is not None and state.started_at is not None:
        raise _illegal(state, "has been started before: a time binds the first attempt only")
    if state.life == 1:  # a deadline is about the first start
        check_start(command.scheduled_for, state.spec.deadline, field="scheduled_for")
    change = Adjusted(
        task_id=state.id, held=command.held, priority=command.priority, scheduled_for=command.scheduled_for
    )
    return (change,)


def _cancel(state: TaskState) -> tuple[Event, ...]:
    if state.finished:
        raise _illegal(state, f"is {state.status}: there is nothing to cancel")
    return (Cancelled(attempt_running=state.status == "running"),)


def _retry(state: TaskState, command: RetryTask, facts: Facts) -> tuple[Event, ...]:
    if state.status not in ("failed", "cancelled"):
        raise _illegal(state, f"is {state.status}: only a failed or cancelled task can be retried by hand")
    beyond = state.retry_count >= state.spec.max_retries
    if beyond and not command.force:
        raise RetriesExhausted(f"Task {state.id} has used {state.retry_count} of {state.spec.max_retries} retries")
    holder = facts.outputs.get(output_of(state.spec), state.id)
    if holder != state.id and not state.spec.overwrite:
        raise OutputTaken(
            f"Task {holder} is not finished and will write the output of task {state.id}, {output_of(state.spec)!r}",
            remedy=f"Wait for task {holder}, or cancel it, and retry this one then.",
        )
    if facts.ended_dependencies:
        first = facts.ended_dependencies[0]
        raise IllegalTransition(
            f"Task {state.id} depends on task {first}, which has ended without success and would end it again",
            remedy=f"Retry task {first} first, then this one.",
        )
    return (Retried(cause="manual", due_at=retry_due(facts.now, command.delay), forced=beyond),)


def _save_checkpoint(state: TaskState, command: SaveCheckpoint) -> tuple[Event, ...]:
    if state.status != "running":
        raise _illegal(state, f"is {state.status}: a checkpoint belongs to a running task")
    return (Checkpointed(checkpoint=readable(command.checkpoint)),)


def _give_up(state: TaskState, command: GiveUp) -> tuple[Event, ...]:
    if not state.waiting:
        raise _illegal(state, f"is {state.status}: only a waiting task can be given up")
    return (
        Failed(
            outcome="not_started",
            error=command.error,
            error_type=command.error_type,
            rule=command.rule,
            final=True,
        ),
    )


__all__ = ["Facts", "decide"]
