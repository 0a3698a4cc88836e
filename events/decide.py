"""The rules: which events a command or an attempt's report leads to. Pure: guards raise, then events are built.

There is one small function for each command; `decide` only dispatches. What the rules need beyond the task's own state
comes in as `DecisionContext`, so that a simulator, a replay or a what-if can make the same decision again.
"""

from math import isfinite
from typing import assert_never

from msgspec.structs import replace

from .commands import (
    AbortAttempt,
    AdjustTask,
    CancelTask,
    CreateGraph,
    CreateTask,
    GiveUp,
    LifeCommand,
    RetryTask,
    SaveCheckpoint,
    SchedulerCommand,
    StartTask,
)
from .context import DecisionContext
from .counted import counted
from .creation import check_start, create_graph, created_event
from .errors import (
    IllegalTransition,
    InvalidValue,
    KeyTaken,
    NeverFits,
    OutputTaken,
    RetriesExhausted,
    StaleAttempt,
    UnknownTask,
)
from .recorded import Event
from .reports import (
    AttemptCheckpointed,
    AttemptEnded,
    AttemptProgressed,
    AttemptReport,
)
from .retry import POISON, RULES, RetryRule, chance_of, crash_delay, matching_rule, retry_delay, retry_due
from .state import TaskState
from .system_events import Adjusted
from .task_events import (
    Cancelled,
    Checkpoint,
    Checkpointed,
    Completed,
    Created,
    DependencyPolicy,
    Estimated,
    Failed,
    FailureOutcome,
    Progressed,
    Retried,
    output_of,
    unique_key_of,
)


def decide(
    state: TaskState | None, command: LifeCommand | SchedulerCommand | AttemptReport, context: DecisionContext
) -> tuple[Event, ...]:
    """The events that `command` leads to. Raises a `TasktrailError` when the rules forbid it."""
    if isinstance(command, CreateTask):
        return created_event(command, context)
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
        case GiveUp():
            return _give_up(state, command)
        case AbortAttempt():
            return _abort(state, command, context)
        case _:
            return _decide_report(state, command, context)


def _illegal(state: TaskState, why: str) -> IllegalTransition:
    remedy = f"`tasktrail history {state.id}` shows how the task came to this state."
    return IllegalTransition(f"Task {state.id} {why}", remedy=remedy)


def _start(state: TaskState) -> tuple[Event, ...]:
    """Release a held task; for any other waiting one nothing is recorded until it really starts."""
    if not state.waiting:
        raise _illegal(state, f"is {state.status}: only a waiting task can be started")
    return (Adjusted(task_id=state.id, held=False),) if state.held else ()


def _adjust(state: TaskState, command: AdjustTask) -> tuple[Event, ...]:
    if not state.waiting:
        raise _illegal(state, f"is {state.status}: only a waiting task can be adjusted")
    if command.priority is None and command.scheduled_for is None and command.held is None:
        raise InvalidValue("Nothing to adjust: give priority, scheduled_for or held", field="priority")
    if command.scheduled_for is not None and state.started_at is not None:
        raise _illegal(state, "has been started before: scheduled_for holds for its first attempt only")
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
        raise RetriesExhausted(
            f"Task {state.id} has used {state.retry_count} of {counted(state.spec.max_retries, 'retry', 'retries')}"
        )
    holder = context.outputs.get(output_of(state.spec), state.id)
    if holder != state.id and not state.spec.overwrite:
        raise OutputTaken.by(
            holder,
            f"the output of task {state.id}, {output_of(state.spec)!r}",
            remedy=f"Wait for task {holder}, or cancel it, then retry this one.",
        )
    holder = context.open_keys.get(unique_key_of(state.spec), state.id)
    if holder != state.id:
        raise KeyTaken(f"Task {holder} is not finished and has the key of task {state.id}, {state.spec.unique!r}")
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
    return (Checkpointed(checkpoint=_readable(command.checkpoint)),)


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


# --- reports of attempts ---


def _decide_report(state: TaskState, report: AttemptReport, context: DecisionContext) -> tuple[Event, ...]:
    _refuse_stale(state, report)
    match report:
        case AttemptProgressed():
            return (Progressed(progress=_percent(report.progress), message=report.message),)
        case AttemptCheckpointed():
            return _checkpointed(report)
        case AttemptEnded():
            return _ended(state, report, context)
        case _:
            return ()  # other reports only matter to the Scheduler at this moment and are not recorded


def _refuse_stale(state: TaskState, report: AttemptReport) -> None:
    """The fence: an attempt that is over can change nothing, whatever its worker still says."""
    if state.status != "running" or report.attempt != state.attempt:
        raise StaleAttempt(
            f"Attempt {report.attempt} of task {state.id} is over: the task is {state.status}, "
            f"its latest attempt is {state.attempt}"
        )


def _percent(value: float) -> float:
    if not isfinite(value):
        raise InvalidValue(f"Progress must be a number from 0 to 100, not {value}", field="progress")
    return min(100.0, max(0.0, value))


def _checkpointed(report: AttemptCheckpointed) -> tuple[Event, ...]:
    progress = None if report.progress is None else _percent(report.progress)
    return (Checkpointed(checkpoint=_readable(report.checkpoint), progress=progress, message=report.message),)


def _readable(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint. Raises `InvalidValue` for NaN and infinity: JSON has neither, so the log could not be read."""
    if not isfinite(checkpoint.last_position):
        raise InvalidValue(f"A position must be a number, not {checkpoint.last_position}", field="last_position")
    return checkpoint


def _ended(state: TaskState, report: AttemptEnded, context: DecisionContext) -> tuple[Event, ...]:
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
                    temp_used=max(report.temp_used, context.temp_peak),
                    time_used=report.time_used,
                    estimate=context.probed,
                    input_read=report.input_read,
                    tools=report.tools,
                    output_sha256=report.output_sha256,
                ),
            )
        case "lost":
            return _after_crash(state, _failure(report, "lost", context), context)
        case "interrupted":
            return _after_interruption(_failure(report, "interrupted", context))
        case "stopped" if context.draining:
            return _after_interruption(
                _failure(report, "interrupted", context, "the service was stopped while the attempt ran")
            )
        case "stopped":
            error = report.error or "the handler stopped without being asked to"
            return _after_failure(state, _failure(report, "failed", context, error), context)
        case "failed":
            return _after_failure(state, _failure(report, "failed", context), context, retry_on=report.retry_on)
        case "rejected":
            return _after_failure(state, _failure(report, "failed", context), context, retryable=False)
        case "outgrown":
            return _outgrown(state, report, context)
        case _:
            assert_never(report.outcome)


def _outgrown(state: TaskState, report: AttemptEnded, context: DecisionContext) -> tuple[Event, ...]:
    """The attempt's probe showed that it needs more than was reserved, so it gave its place back."""
    probed = context.probed
    if probed is None or state.estimate is not None:
        error = "the worker asked for more room, but gave no estimate"
        return _after_failure(state, _failure(report, "failed", context, error), context)
    if context.never_fits:
        error = str(NeverFits(f"A look into the input has shown: {context.never_fits}"))
        failure = replace(_failure(report, "failed", context, error), error_type=NeverFits.__name__)
        return _after_failure(state, failure, context, retryable=False)
    error = (
        f"a look into the input showed that it needs {probed.memory:,} bytes of memory and {probed.temp:,} of temp "
        f"space; {state.memory_needed:,} and {state.temp_needed:,} were reserved"
    )
    failure = replace(_failure(report, "interrupted", context, error), final=False)
    return (failure, Retried(cause="estimate", estimate=probed))


def _failure(report: AttemptEnded, outcome: FailureOutcome, context: DecisionContext, error: str = "") -> Failed:
    """The failure as it is recorded if no retry follows; the caller decides about that."""
    return Failed(
        outcome=outcome,
        error=error or report.error or outcome,
        error_type=report.error_type,
        final=True,
        memory_used=report.memory_used,
        cpu_used=report.cpu_used,
        temp_used=max(report.temp_used, context.temp_peak),
        time_used=report.time_used,
        estimate=context.probed,
        input_read=report.input_read,
        exit_code=report.exit_code,
    )


def _abort(state: TaskState, command: AbortAttempt, context: DecisionContext) -> tuple[Event, ...]:
    if state.status != "running":
        raise _illegal(state, f"is {state.status}: there is no attempt to end")
    failure = Failed(
        outcome=command.outcome,
        error=command.error,
        error_type=command.error_type,
        final=True,
        temp_used=context.temp_peak,
        estimate=context.probed,
    )
    if command.outcome == "interrupted":
        return _after_interruption(failure)
    return _after_failure(state, failure, context, retryable=command.retryable)


def _after_interruption(failure: Failed) -> tuple[Event, ...]:
    return (replace(failure, final=False), Retried(cause="recovery"))


_KILLED = -9
"""The exit code of a worker or a tool that was killed with SIGKILL."""
_MUCH_MORE = 1.5
"""A reservation has to grow by more than this factor, so that kills which do not count come to an end."""


def _after_crash(state: TaskState, failure: Failed, context: DecisionContext) -> tuple[Event, ...]:
    """After a worker died by itself: retry whatever `max_retries` says, until too many crashes make the task poison.

    A configured rule may forbid that retry. The built-in table may not: it reads the error's text, and what a dying
    worker printed last is no reason.
    """
    rule = matching_rule(failure.error_type, failure.error, context.retry_rules, failure.exit_code)
    if rule is not None and not rule.retryable:
        return (replace(failure, rule=rule.name),)
    crashes, estimate = state.crash_count + 1, _after_a_kill(state, failure, context)
    if crashes >= context.max_crashes and estimate is None:
        return (replace(failure, rule=f"{POISON}{counted(crashes, 'crash', 'crashes')} in a row"),)
    due_at = retry_due(context.now, crash_delay(crashes))
    return (
        replace(failure, rule=rule.name if rule else "crash", final=False),
        Retried(cause="crash", due_at=due_at, estimate=estimate),
    )


def _after_a_kill(state: TaskState, failure: Failed, context: DecisionContext) -> Estimated | None:
    """What to reserve after a kill of an attempt that had more in memory than expected; None: the same as before.

    The kernel kills like this when memory runs out. With the same reservation, the same would start together again.
    Such a crash is not counted, so it has to be much more each time. A type that expects a time is left to its probe,
    if it has one, which finds more than this estimate could say.
    """
    expected = failure.estimate or state.estimate
    if expected is None and state.spec.guessed_time and context.has_probe:
        return None
    expected = expected or state.needed
    too_little = failure.exit_code == _KILLED and failure.memory_used > expected.memory
    much_more = context.memory_next > _MUCH_MORE * expected.memory
    return replace(expected, memory=context.memory_next) if too_little and much_more else None


def _after_failure(
    state: TaskState, failure: Failed, context: DecisionContext, *, retryable: bool = True, retry_on: str = ""
) -> tuple[Event, ...]:
    """Retry or not: by the configured rules, then by what the type says (`retry_on`), then by the built-in rules."""
    own = (RetryRule(f"retry_on:{retry_on}", retryable=True, error_type=failure.error_type),) if retry_on else ()
    rules = (*context.retry_rules, *own, *RULES)
    rule = matching_rule(failure.error_type, failure.error, rules, failure.exit_code)
    name = rule.name if rule else ""
    retryable = retryable and rule is not None and rule.retryable
    if not retryable or state.retry_count >= state.spec.max_retries:
        return (replace(failure, rule=name),)
    delay = retry_delay(state.spec, state.retry_count, chance_of(state.id, state.attempt))
    return (
        replace(failure, rule=name, final=False),
        Retried(cause="rule", due_at=retry_due(context.now, delay), estimate=_after_a_kill(state, failure, context)),
    )


# --- dependencies ---

DEPENDENCY_FAILED = "DependencyFailed"
"""The error type, and the rule, of a task that failed because another did."""


def policy_for(spec: Created, dependency: int) -> DependencyPolicy:
    """The policy of a task for the case that `dependency`, one of its own, ends without success."""
    policies = spec.on_dependency_failure
    return policies if isinstance(policies, str) else policies[spec.depends_on.index(dependency)]


def is_met(task: TaskState, dependency: TaskState) -> bool:
    """Whether `dependency` no longer stands in the way of `task`. After the first start of a life none does."""
    return task.life_started_at is not None or dependency.status == "completed" or dependency.id in task.ignored


def ends_with(task: TaskState, dependency: TaskState) -> bool:
    """Whether `dependency` has ended so that it would end another life of `task` at once."""
    broken = dependency.status in ("failed", "cancelled")
    return broken and policy_for(task.spec, dependency.id) in ("cancel", "fail")


def end_in_words(dependency: TaskState) -> str:
    """The end of a dependency in words: the reason of what it leads to."""
    return f"task {dependency.id} {'was cancelled' if dependency.status == 'cancelled' else 'has failed'}"


def after_dependency(task: TaskState, dependency: TaskState) -> tuple[Event, ...]:
    """The events that a task's policy leads to when `dependency` is over. None if it is met, or is to be waited for."""
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
            error = f"{DEPENDENCY_FAILED}: {end_in_words(dependency)}"
            return (
                Failed(
                    outcome="not_started", error=error, error_type=DEPENDENCY_FAILED, rule=DEPENDENCY_FAILED, final=True
                ),
            )
