"""The rules: what a command leads to, given what is true. Pure: guards raise, then events are built; nothing else.

One small function per command; `decide` only dispatches. What the rules need beyond the task's own state comes in as
`DecisionContext`, so that the same decision can be made again by a simulator, a replay or a what-if.
"""

from math import isfinite
from typing import assert_never

from msgspec.structs import replace

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
from .context import DecisionContext
from .creation import check_start, create, create_graph
from .errors import (
    IllegalTransition,
    InvalidValue,
    OutputTaken,
    RetriesExhausted,
    StaleAttempt,
    UnknownTask,
)
from .recorded import Event
from .retry import RULES, chance_of, crash_delay, matching_rule, retry_delay, retry_due
from .state import TaskState
from .system_events import Adjusted
from .task_events import (
    Cancelled,
    Checkpoint,
    Checkpointed,
    Completed,
    Created,
    DependencyPolicy,
    Failed,
    Progressed,
    Retried,
    output_of,
)


def decide(  # noqa: C901 - a branch for each command, and nothing else
    state: TaskState | None, command: LifeCommand | AttemptReport, context: DecisionContext
) -> tuple[Event, ...]:
    """The events that `command` leads to. Raises a `TasktrailError` when the rules forbid it."""
    if isinstance(command, CreateTask):
        return create(command, context)
    if isinstance(command, CreateGraph):
        return create_graph(command, context)
    if state is None:
        raise UnknownTask(f"Task {command.task_id} does not exist", field="task_id")
    match command:
        case StartTask():
            return _start(state)
        case CancelTask():
            return _cancel(state)
        case RetryTask():
            return _retry(state, command, context)
        case SaveCheckpoint():
            return _save_checkpoint(state, command)
        case AdjustTask():
            return _adjust(state, command)
        case RecordProgress() | RecordCheckpoint() | EndAttempt():
            return reported(state, command, context)
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


def _retry(state: TaskState, command: RetryTask, context: DecisionContext) -> tuple[Event, ...]:
    if state.status not in ("failed", "cancelled"):
        raise _illegal(state, f"is {state.status}: only a failed or cancelled task can be retried by hand")
    beyond = state.retry_count >= state.spec.max_retries
    if beyond and not command.force:
        raise RetriesExhausted(f"Task {state.id} has used {state.retry_count} of {state.spec.max_retries} retries")
    holder = context.outputs.get(output_of(state.spec), state.id)
    if holder != state.id and not state.spec.overwrite:
        raise OutputTaken(
            f"Task {holder} is not finished and will write the output of task {state.id}, {output_of(state.spec)!r}",
            remedy=f"Wait for task {holder}, or cancel it, and retry this one then.",
        )
    if context.ended_dependencies:
        first = context.ended_dependencies[0]
        raise IllegalTransition(
            f"Task {state.id} depends on task {first}, which has ended without success and would end it again",
            remedy=f"Retry task {first} first, then this one.",
        )
    return (Retried(cause="manual", due_at=retry_due(context.now, command.delay), forced=beyond),)


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


# --- what attempts say ---


def reported(
    state: TaskState, report: RecordProgress | RecordCheckpoint | EndAttempt, context: DecisionContext
) -> tuple[Event, ...]:
    """What the report leads to. Raises `StaleAttempt`, and `InvalidValue` for numbers that are none."""
    _refuse_stale(state, report)
    match report:
        case RecordProgress():
            return (Progressed(progress=_percent(report.progress), message=report.message),)
        case RecordCheckpoint():
            return _checkpoint(report)
        case EndAttempt():
            return _end(state, report, context)


def _checkpoint(report: RecordCheckpoint) -> tuple[Event, ...]:
    progress = None if report.progress is None else _percent(report.progress)
    return (Checkpointed(checkpoint=readable(report.checkpoint), progress=progress, message=report.message),)


def readable(checkpoint: Checkpoint) -> Checkpoint:
    """JSON has no NaN and no infinity: the log could be written with them and not be read."""
    if not isfinite(checkpoint.last_position):
        raise InvalidValue(f"A position must be a number, not {checkpoint.last_position}", field="last_position")
    return checkpoint


def _end(state: TaskState, report: EndAttempt, context: DecisionContext) -> tuple[Event, ...]:
    if not (isfinite(report.cpu_used) and isfinite(report.time_used)):  # the end itself cannot be refused
        report = replace(report, cpu_used=0.0, time_used=0.0)
    match report.outcome:
        case "completed":
            return (
                Completed(
                    result=report.result,
                    message=report.message,
                    memory_used=report.memory_used,
                    cpu_used=report.cpu_used,
                    temp_used=report.temp_used,
                    time_used=report.time_used,
                    estimate=report.estimate,
                ),
            )
        case "lost":
            return _after_crash(state, report, context)
        case "interrupted" if report.outgrown:
            return (_failure(report, "", final=False), Retried(cause="estimate", estimate=report.estimate))
        case "interrupted":
            return (_failure(report, "", final=False), Retried(cause="recovery"))
        case "failed" | "timed_out":
            return _after_failure(state, report, context)
        case "cancelled":
            raise IllegalTransition(f"Task {state.id}: an attempt is cancelled by CancelTask, not by its own report")
        case _:
            assert_never(report.outcome)


def _refuse_stale(state: TaskState, report: RecordProgress | RecordCheckpoint | EndAttempt) -> None:
    if state.status != "running" or report.attempt != state.attempt:
        raise StaleAttempt(
            f"Attempt {report.attempt} of task {state.id} is over: the task is {state.status}, "
            f"its latest attempt is {state.attempt}"
        )


def _percent(value: float) -> float:
    if not isfinite(value):
        raise InvalidValue(f"Progress must be a number from 0 to 100, not {value}", field="progress")
    return min(100.0, max(0.0, value))


def _failure(report: EndAttempt, rule: str, *, final: bool) -> Failed:
    if report.outcome == "completed" or report.outcome == "cancelled":  # noqa: PLR1714 - mypy narrows this form only
        raise ValueError(report.outcome)
    return Failed(
        outcome=report.outcome,
        error=report.error or report.outcome,
        error_type=report.error_type,
        rule=rule,
        final=final,
        memory_used=report.memory_used,
        cpu_used=report.cpu_used,
        temp_used=report.temp_used,
        time_used=report.time_used,
        estimate=report.estimate,
        exit_code=report.exit_code,
    )


def _after_crash(state: TaskState, report: EndAttempt, context: DecisionContext) -> tuple[Event, ...]:
    """A worker that dies by itself is tried again whatever `max_retries` says, but not for ever: then it is poison.

    A rule of the user's own may forbid that. The built-in table may not: it reads the error's text, and what a dying
    worker printed last is no reason.
    """
    rule = matching_rule(report.error_type, report.error, context.retry_rules, report.exit_code)
    if rule is not None and not rule.retryable:
        return (_failure(report, rule.name, final=True),)
    crashes = state.crash_count + 1
    if crashes >= context.max_crashes:
        return (_failure(report, f"poison: {crashes} crashes in a row", final=True),)
    due_at = retry_due(context.now, crash_delay(crashes))
    return (_failure(report, rule.name if rule else "crash", final=False), Retried(cause="crash", due_at=due_at))


def _after_failure(state: TaskState, report: EndAttempt, context: DecisionContext) -> tuple[Event, ...]:
    rule = matching_rule(report.error_type, report.error, (*context.retry_rules, *RULES), report.exit_code)
    retryable = report.retryable and rule is not None and rule.retryable
    name = rule.name if rule else ""
    if not retryable or state.retry_count >= state.spec.max_retries:
        return (_failure(report, name, final=True),)
    delay = retry_delay(state.spec, state.retry_count, chance_of(state.id, state.attempt))
    return (_failure(report, name, final=False), Retried(cause="rule", due_at=retry_due(context.now, delay)))


# --- dependencies ---

DEPENDENCY_FAILED = "DependencyFailed"
"""The error type, and the rule, of a task that failed because another did."""


def policy_for(spec: Created, dependency: int) -> DependencyPolicy:
    """What a task wants when `dependency`, one of its own, ends otherwise than completed."""
    policies = spec.on_dependency_failure
    return policies if isinstance(policies, str) else policies[spec.depends_on.index(dependency)]


def is_met(task: TaskState, dependency: TaskState) -> bool:
    """Whether `dependency` stands in the way of `task` no longer. Once a life has had a start, none does."""
    return task.life_started_at is not None or dependency.status == "completed" or dependency.id in task.ignored


def ends_with(task: TaskState, dependency: TaskState) -> bool:
    """Whether `dependency` has ended in a way that ends `task` at once when it gets another life."""
    broken = dependency.status in ("failed", "cancelled")
    return broken and policy_for(task.spec, dependency.id) in ("cancel", "fail")


def how_it_ended(dependency: TaskState) -> str:
    """The end of a dependency in words: the reason of what it leads to."""
    return f"task {dependency.id} {'was cancelled' if dependency.status == 'cancelled' else 'has failed'}"


def after_dependency(task: TaskState, dependency: TaskState) -> tuple[Event, ...]:
    """What a waiting task's edge wants now that `dependency` is over; nothing when it is met or to be waited for."""
    if not task.waiting or not dependency.finished or is_met(task, dependency):
        return ()
    match policy_for(task.spec, dependency.id):
        case "wait":
            return ()
        case "ignore":
            return (Adjusted(task_id=task.id, ignored_dependency=dependency.id),)
        case "cancel":
            return (Cancelled(),)
        case "fail":
            error = f"{DEPENDENCY_FAILED}: {how_it_ended(dependency)}"
            return (
                Failed(
                    outcome="not_started", error=error, error_type=DEPENDENCY_FAILED, rule=DEPENDENCY_FAILED, final=True
                ),
            )
