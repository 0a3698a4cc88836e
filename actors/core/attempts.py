"""What the executor says about attempts, and the comparison of running attempts with what it holds.

Reports of an attempt that is not the current one are refused.

Every known way to lose an attempt is closed where it occurs; the comparison is for the unknown ones. A question goes to
the executor behind the orders that were given before, and the answer comes behind the reports of what has ended. So an
attempt that is missing in an answer is really missing. Nothing is done before two answers in a row agree, because other
executors may be less exact.
"""

from contextlib import suppress
from datetime import timedelta

import msgspec

from ...events import TaskState, TasktrailError
from ...events.commands import EndAttempt, RecordCheckpoint, RecordProgress
from ...events.decide import decide
from ...events.errors import NeverFits
from ...events.reports import (
    AttemptBeat,
    AttemptCheckpointed,
    AttemptEnded,
    AttemptProbed,
    AttemptProgressed,
    AttemptsHeld,
    CapacityChanged,
    Grant,
    PublishWanted,
    Report,
    Saved,
    Stop,
    TellHeld,
    WorkerGone,
)
from ...events.system_events import WorkerExited
from ...events.task_events import AttemptOutcome, Estimated
from . import commands
from .dependencies import ended
from .resources import why_it_never_fits
from .state import AttemptId, Reconciliation, Running, SchedulerState
from .turn import BY_SCHEDULER, Origin, Turn

RECORD_PROGRESS_EVERY = timedelta(seconds=0.45)
"""Progress nearer to the last recorded one is dropped: two a second, with room for jitter. Workers thin it first."""
_DONE = 100.0


def handle_report(turn: Turn, report: Report) -> None:
    """Record what a report means and answer it. A report that is stale or breaks the rules changes nothing."""
    with suppress(TasktrailError):
        _handle(turn, report)


def _handle(turn: Turn, report: Report) -> None:
    match report:
        case AttemptProgressed():
            _progressed(turn, report)
        case AttemptCheckpointed():
            _checkpointed(turn, report)
        case AttemptBeat():
            _hear(turn, report)
        case AttemptProbed():
            if running := _current(turn, report.task_id, report.attempt):
                running.estimate = report.estimate
        case PublishWanted():
            _publish_wanted(turn, report)
        case AttemptEnded():
            _ended(turn, report)
        case CapacityChanged():
            turn.state.slots = report.slots
        case WorkerGone():
            event = WorkerExited(pid=report.pid, exit_code=report.exit_code, why=report.why)
            turn.record(0, event, BY_SCHEDULER)


def _current(turn: Turn, task_id: int, attempt: int) -> Running | None:
    """The running attempt that a report is about, if it is still the current one."""
    running = turn.state.running.get(task_id)
    task = turn.state.tasks.get(task_id)
    current = running is not None and running.attempt == attempt
    if not current or task is None or task.status != "running" or task.attempt != attempt:
        return None
    return running


def _hear(turn: Turn, report: AttemptBeat | AttemptProgressed | AttemptCheckpointed | PublishWanted) -> Running | None:
    """The current attempt that says something: it is alive, which is recorded nowhere."""
    running = _current(turn, report.task_id, report.attempt)
    if running is not None:
        running.heard_at = turn.now
    return running


def _origin(running: Running) -> Origin:
    return Origin(actor="worker", causation_id=f"event:{running.started_position}")


def _progressed(turn: Turn, report: AttemptProgressed) -> None:
    running = _hear(turn, report)
    if running is None:
        return
    if report.progress != running.percent:
        running.percent, running.moved_at = report.progress, turn.now
    if _too_soon(turn, running, report.progress):
        return
    command = RecordProgress(
        task_id=report.task_id, attempt=report.attempt, progress=report.progress, message=report.message
    )
    events = decide(turn.state.tasks[report.task_id], command, turn.decision_context())
    turn.record_all(report.task_id, events, _origin(running))
    running.reported_at = turn.now


def _too_soon(turn: Turn, running: Running, progress: float) -> bool:
    if running.reported_at is None:
        return False
    is_the_last = progress >= _DONE > turn.state.tasks[running.task_id].progress
    since = turn.now - running.reported_at  # negative when the clock was set back
    return not is_the_last and timedelta(0) <= since < RECORD_PROGRESS_EVERY


def _checkpointed(turn: Turn, report: AttemptCheckpointed) -> None:
    running = _hear(turn, report)
    if running is None:
        return
    running.moved_at = turn.now
    command = RecordCheckpoint(
        task_id=report.task_id,
        attempt=report.attempt,
        checkpoint=report.checkpoint,
        progress=report.progress,
        message=report.message,
    )
    events = decide(turn.state.tasks[report.task_id], command, turn.decision_context())
    turn.record_all(report.task_id, events, _origin(running))
    turn.order(Saved(report.task_id, report.attempt))


def _publish_wanted(turn: Turn, report: PublishWanted) -> None:
    """The grant is the last moment at which a cancel can win; a later one waits for the end of publishing."""
    running = _hear(turn, report)
    if running is not None:
        if running.granted_at is None:
            running.granted_at = turn.now
            turn.watch_attempt(running)
        turn.order(Grant(report.task_id, report.attempt))


def _ended(turn: Turn, report: AttemptEnded) -> None:
    state = turn.state
    running = state.running.get(report.task_id)
    if running is None or running.attempt != report.attempt:
        return
    state.release(running)
    task = state.tasks[report.task_id]
    if task.status == "running" and task.attempt == report.attempt:
        _record_end(turn, report, running)
        task = state.tasks[report.task_id]
        if task.finished:
            ended(turn, task.id)
    if task.waiting:
        turn.place(task)
    commands.handle_deferred(turn, running.deferred)


def _record_end(turn: Turn, report: AttemptEnded, running: Running) -> None:
    task = turn.state.tasks[report.task_id]
    command = msgspec.structs.replace(
        _as_command(turn.state, report, task, running),
        temp_used=max(report.temp_used, running.temp_peak),
        time_used=report.time_used,
        estimate=running.estimate,
    )
    events = decide(task, command, turn.decision_context())
    turn.record_all(report.task_id, events, _origin(running))


def _as_command(state: SchedulerState, report: AttemptEnded, task: TaskState, running: Running) -> EndAttempt:
    match report.outcome:
        case "completed":
            return _end(report, "completed")
        case "lost":
            return _end(report, "lost")
        case "stopped" if state.draining:
            return _end(report, "interrupted", error="the service was stopped while the attempt ran")
        case "stopped":
            return _end(report, "failed", error=report.error or "the handler stopped without being asked to")
        case "failed":
            return _end(report, "failed")
        case "rejected":
            return _end(report, "failed", retryable=False)
        case "outgrown":
            found = running.estimate
            if found is None or task.estimate is not None:
                return _end(report, "failed", error="the worker asked for more room than any estimate speaks of")
            if above := why_it_never_fits(found.memory, found.temp, state.limits, state.sample):
                error = str(NeverFits(f"A look into the input has shown: {above}"))
                return msgspec.structs.replace(
                    _end(report, "failed", error=error, retryable=False), error_type=NeverFits.__name__
                )
            ending = _end(report, "interrupted", error=_shortfall(task, found))
            return msgspec.structs.replace(ending, outgrown=True)


def _shortfall(task: TaskState, found: Estimated) -> str:
    return (
        f"a look into the input showed that it needs {found.memory:,} bytes of memory and {found.temp:,} of temp "
        f"space; {task.memory_needed:,} and {task.temp_needed:,} were reserved"
    )


def _end(report: AttemptEnded, outcome: AttemptOutcome, *, error: str = "", retryable: bool = True) -> EndAttempt:
    return EndAttempt(
        task_id=report.task_id,
        attempt=report.attempt,
        outcome=outcome,
        result=report.result,
        message=report.message,
        error=error or report.error,
        error_type=report.error_type,
        retryable=retryable,
        memory_used=report.memory_used,
        cpu_used=report.cpu_used,
        exit_code=report.exit_code,
    )


FORGOTTEN = "AttemptForgotten"
"""The error type of an attempt that no executor holds."""


def ask_for_held(turn: Turn) -> None:
    """Ask the executor what it holds, if there is anything to compare."""
    state = turn.state
    look = state.reconciliation
    if not state.running and not look.held and not look.strange:
        return
    look.number += 1
    look.asked = frozenset((entry.task_id, entry.attempt) for entry in state.running.values())
    turn.order(TellHeld(look.number))


def reconcile(turn: Turn, report: AttemptsHeld) -> None:
    """Compare. An attempt that nobody holds is ended as lost, one that nobody wants is stopped."""
    state = turn.state
    look = state.reconciliation
    if report.number != look.number:
        return
    held = frozenset(report.attempts)
    known = frozenset((entry.task_id, entry.attempt) for entry in state.running.values())
    missing, strange = (look.asked & known) - held, held - known
    lost, unwanted = missing & look.missing, strange & look.strange
    # A number further: the same answer once more would be one to an older question.
    state.reconciliation = Reconciliation(look.number + 1, held=bool(held), missing=missing - lost, strange=strange)
    for key in sorted(lost):
        _end_as_lost(turn, key)
    for task_id, attempt in sorted(unwanted):
        turn.order(Stop(task_id, attempt))


def _end_as_lost(turn: Turn, key: AttemptId) -> None:
    task_id, attempt = key
    turn.order(Stop(task_id, attempt))  # should it be there all the same
    error = f"The executor did not hold attempt {attempt} any more: no process of it was left, and no end was reported"
    handle_report(turn, AttemptEnded(task_id, attempt, "lost", error=error, error_type=FORGOTTEN))
