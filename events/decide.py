"""The rules: what a command leads to, given what is true. Pure: guards raise, then events are built; nothing else.

One small function per command; `decide` only dispatches. Facts the rules need beyond the task's own state come in
as `Facts`, so that the same decision can be made again by a simulator, a replay or a what-if.
"""

from datetime import datetime
from math import isfinite
from typing import Any, assert_never

import msgspec

from .commands import (
    AdjustTask,
    AttemptReport,
    CancelTask,
    CreateTask,
    EndAttempt,
    LifeCommand,
    RecordCheckpoint,
    RecordProgress,
    RetryTask,
    SaveCheckpoint,
    StartTask,
)
from .errors import IllegalTransition, InvalidValue, RetriesExhausted, StaleAttempt, UnknownDependency, UnknownTask
from .recorded import Event
from .retry import crash_delay, matching_rule, retry_due
from .state import TaskState
from .system_events import Adjusted
from .task_events import Cancelled, Checkpoint, Checkpointed, Completed, Created, Failed, Progressed, Retried


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision may need beyond the state of the task."""

    now: datetime
    last_task_id: int = 0
    max_crashes: int = 3
    can_resume: bool = False
    """Whether the task type's handler can resume."""
    estimated_memory: int = 0
    estimated_temp: int = 0
    estimated_time: float = 0.0
    guessed_memory: int = 0
    guessed_time: float = 0.0
    estimate_basis: dict[str, Any] = {}


def decide(  # noqa: C901 - a branch for each command, and nothing else
    state: TaskState | None, command: LifeCommand | AttemptReport, facts: Facts
) -> tuple[Event, ...]:
    """The events that `command` leads to. Raises a `TasktrailError` when the rules forbid it."""
    if isinstance(command, CreateTask):
        return _create(command, facts)
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
        case RecordProgress():
            return _record_progress(state, command)
        case RecordCheckpoint():
            return _record_checkpoint(state, command)
        case EndAttempt():
            return _end_attempt(state, command, facts)
        case _:
            assert_never(command)


def _create(command: CreateTask, facts: Facts) -> tuple[Event, ...]:
    for other in (*command.depends_on, *filter(None, (command.parent_task_id,))):
        if not 1 <= other <= facts.last_task_id:
            field = "depends_on" if other in command.depends_on else "parent_task_id"
            raise UnknownDependency(f"Task {other} does not exist", field=field)
    can_resume = facts.can_resume
    return (
        Created(
            type=command.type,
            input_file=command.input_file,
            output_file=command.output_file,
            options=command.options,
            priority=command.priority,
            user_level=command.user_level,
            estimated_time=command.estimated_time or facts.estimated_time,
            max_retries=command.max_retries,
            retry_delay=command.retry_delay,
            resumable=can_resume if command.resumable is None else command.resumable and can_resume,
            parent_task_id=command.parent_task_id,
            depends_on=tuple(dict.fromkeys(command.depends_on)),
            notify_email=command.notify_email,
            notify_webhook=command.notify_webhook,
            callback_url=command.callback_url,
            notify_on=tuple(dict.fromkeys(command.notify_on)),
            user_id=command.user_id,
            document_id=command.document_id,
            label=command.label,
            scheduled_for=command.scheduled_for,
            held=command.held,
            timeout=command.timeout,
            overwrite=command.overwrite,
            estimated_memory=facts.estimated_memory,
            estimated_temp=facts.estimated_temp,
            guessed_memory=facts.guessed_memory,
            guessed_time=facts.guessed_time,
            estimate_basis=facts.estimate_basis,
        ),
    )


def _start(state: TaskState) -> tuple[Event, ...]:
    """A held task is released; for a waiting one there is nothing to record until it really starts."""
    if not state.waiting:
        raise IllegalTransition(f"Task {state.id} is {state.status}: only a waiting task can be started")
    return (Adjusted(task_id=state.id, held=False),) if state.held else ()


def _adjust(state: TaskState, command: AdjustTask) -> tuple[Event, ...]:
    if not state.waiting:
        raise IllegalTransition(f"Task {state.id} is {state.status}: only a waiting task can be adjusted")
    if command.priority is None and command.scheduled_for is None and command.held is None:
        raise InvalidValue("Nothing to adjust: give priority, scheduled_for or held", field="priority")
    if command.scheduled_for is not None and state.started_at is not None:
        raise IllegalTransition(f"Task {state.id} has been started before: a time binds the first attempt only")
    change = Adjusted(
        task_id=state.id, held=command.held, priority=command.priority, scheduled_for=command.scheduled_for
    )
    return (change,)


def _cancel(state: TaskState) -> tuple[Event, ...]:
    if state.finished:
        raise IllegalTransition(f"Task {state.id} is {state.status}: there is nothing to cancel")
    return (Cancelled(attempt_running=state.status == "running"),)


def _retry(state: TaskState, command: RetryTask, facts: Facts) -> tuple[Event, ...]:
    if state.status not in ("failed", "cancelled"):
        raise IllegalTransition(
            f"Task {state.id} is {state.status}: only a failed or cancelled task can be retried by hand"
        )
    beyond = state.retry_count >= state.spec.max_retries
    if beyond and not command.force:
        raise RetriesExhausted(f"Task {state.id} has used {state.retry_count} of {state.spec.max_retries} retries")
    return (Retried(cause="manual", due_at=retry_due(facts.now, state.spec.retry_delay), forced=beyond),)


def _save_checkpoint(state: TaskState, command: SaveCheckpoint) -> tuple[Event, ...]:
    if state.status != "running":
        raise IllegalTransition(f"Task {state.id} is {state.status}: a checkpoint belongs to a running task")
    return (Checkpointed(checkpoint=_readable(command.checkpoint)),)


def _readable(checkpoint: Checkpoint) -> Checkpoint:
    """JSON has no NaN and no infinity: the log could be written with them and not be read."""
    if not isfinite(checkpoint.last_position):
        raise InvalidValue(f"A position must be a number, not {checkpoint.last_position}", field="last_position")
    return checkpoint


def _refuse_stale(state: TaskState, report: AttemptReport) -> None:
    if state.status != "running" or report.attempt != state.attempt:
        raise StaleAttempt(
            f"Attempt {report.attempt} of task {state.id} is over: the task is {state.status}, "
            f"its latest attempt is {state.attempt}"
        )


def _percent(value: float) -> float:
    if not isfinite(value):
        raise InvalidValue(f"Progress must be a number from 0 to 100, not {value}", field="progress")
    return min(100.0, max(0.0, value))


def _record_progress(state: TaskState, report: RecordProgress) -> tuple[Event, ...]:
    _refuse_stale(state, report)
    return (Progressed(progress=_percent(report.progress), message=report.message),)


def _record_checkpoint(state: TaskState, report: RecordCheckpoint) -> tuple[Event, ...]:
    _refuse_stale(state, report)
    progress = None if report.progress is None else _percent(report.progress)
    return (Checkpointed(checkpoint=_readable(report.checkpoint), progress=progress, message=report.message),)


def _end_attempt(state: TaskState, report: EndAttempt, facts: Facts) -> tuple[Event, ...]:
    _refuse_stale(state, report)
    if not (isfinite(report.cpu_used) and isfinite(report.time_used)):  # the end itself cannot be refused
        report = msgspec.structs.replace(report, cpu_used=0.0, time_used=0.0)
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
            return _after_crash(state, report, facts)
        case "interrupted" if report.outgrown:
            return (_failure(report, "", final=False), Retried(cause="estimate", estimate=report.estimate))
        case "interrupted":
            return (_failure(report, "", final=False), Retried(cause="recovery"))
        case "failed" | "timed_out":
            return _after_failure(state, report, facts)
        case "cancelled":
            raise IllegalTransition(f"Task {state.id}: an attempt is cancelled by CancelTask, not by its own report")
        case _:
            assert_never(report.outcome)


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
    )


def _after_crash(state: TaskState, report: EndAttempt, facts: Facts) -> tuple[Event, ...]:
    """A worker that dies by itself is tried again whatever `max_retries` says, but not for ever: then it is poison."""
    crashes = state.crash_count + 1
    if crashes >= facts.max_crashes:
        return (_failure(report, f"poison: {crashes} crashes in a row", final=True),)
    due_at = retry_due(facts.now, crash_delay(crashes))
    return (_failure(report, "crash", final=False), Retried(cause="crash", due_at=due_at))


def _after_failure(state: TaskState, report: EndAttempt, facts: Facts) -> tuple[Event, ...]:
    rule = matching_rule(report.error_type, report.error)
    retryable = report.retryable and rule is not None and rule.retryable
    name = rule.name if rule else ""
    if not retryable or state.retry_count >= state.spec.max_retries:
        return (_failure(report, name, final=True),)
    due_at = retry_due(facts.now, state.spec.retry_delay)
    return (_failure(report, name, final=False), Retried(cause="rule", due_at=due_at))
