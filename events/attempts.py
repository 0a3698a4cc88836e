"""What an executor's report about an attempt leads to. A report of an attempt that is over is refused: the fence."""

from math import isfinite
from typing import assert_never

from msgspec.structs import replace

from .commands import EndAttempt, RecordCheckpoint, RecordProgress
from .errors import IllegalTransition, InvalidValue, StaleAttempt
from .facts import Facts
from .recorded import Event
from .retry import RULES, chance_of, crash_delay, matching_rule, retry_delay, retry_due
from .state import TaskState
from .task_events import Checkpoint, Checkpointed, Completed, Failed, Progressed, Retried


def reported(
    state: TaskState, report: RecordProgress | RecordCheckpoint | EndAttempt, facts: Facts
) -> tuple[Event, ...]:
    """What the report leads to. Raises `StaleAttempt`, and `InvalidValue` for numbers that are none."""
    _refuse_stale(state, report)
    match report:
        case RecordProgress():
            return (Progressed(progress=_percent(report.progress), message=report.message),)
        case RecordCheckpoint():
            return _checkpoint(report)
        case EndAttempt():
            return _end(state, report, facts)


def _checkpoint(report: RecordCheckpoint) -> tuple[Event, ...]:
    progress = None if report.progress is None else _percent(report.progress)
    return (Checkpointed(checkpoint=readable(report.checkpoint), progress=progress, message=report.message),)


def readable(checkpoint: Checkpoint) -> Checkpoint:
    """JSON has no NaN and no infinity: the log could be written with them and not be read."""
    if not isfinite(checkpoint.last_position):
        raise InvalidValue(f"A position must be a number, not {checkpoint.last_position}", field="last_position")
    return checkpoint


def _end(state: TaskState, report: EndAttempt, facts: Facts) -> tuple[Event, ...]:
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


def _after_crash(state: TaskState, report: EndAttempt, facts: Facts) -> tuple[Event, ...]:
    """A worker that dies by itself is tried again whatever `max_retries` says, but not for ever: then it is poison.

    A rule of the user's own may forbid that. The built-in table may not: it reads the error's text, and what a dying
    worker printed last is no reason.
    """
    rule = matching_rule(report.error_type, report.error, facts.retry_rules, report.exit_code)
    if rule is not None and not rule.retryable:
        return (_failure(report, rule.name, final=True),)
    crashes = state.crash_count + 1
    if crashes >= facts.max_crashes:
        return (_failure(report, f"poison: {crashes} crashes in a row", final=True),)
    due_at = retry_due(facts.now, crash_delay(crashes))
    return (_failure(report, rule.name if rule else "crash", final=False), Retried(cause="crash", due_at=due_at))


def _after_failure(state: TaskState, report: EndAttempt, facts: Facts) -> tuple[Event, ...]:
    rule = matching_rule(report.error_type, report.error, (*facts.retry_rules, *RULES), report.exit_code)
    retryable = report.retryable and rule is not None and rule.retryable
    name = rule.name if rule else ""
    if not retryable or state.retry_count >= state.spec.max_retries:
        return (_failure(report, name, final=True),)
    delay = retry_delay(state.spec, state.retry_count, chance_of(state.id, state.attempt))
    return (_failure(report, name, final=False), Retried(cause="rule", due_at=retry_due(facts.now, delay)))
