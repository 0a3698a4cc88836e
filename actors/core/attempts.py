"""What the executor says about attempts, and the comparison of running attempts with what it holds.

Reports of an attempt that is not the current one are refused.

Every known way to lose an attempt is closed where it occurs; the comparison is for the unknown ones. A question goes to
the executor behind the orders that were given before, and the answer comes behind the reports of what has ended. So an
attempt that is missing in an answer is really missing. Nothing is done before two answers in a row agree, because other
executors may be less exact.
"""

from contextlib import suppress
from datetime import timedelta

from msgspec.structs import replace

from ...events import TasktrailError
from ...events.context import DecisionContext
from ...events.decide import decide
from ...events.errors import StaleAttempt
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
from . import commands
from .dependencies import ended
from .resources import why_it_never_fits
from .state import AttemptId, Reconciliation, Running
from .turn import BY_SCHEDULER, Origin, Turn

RECORD_PROGRESS_EVERY = timedelta(seconds=0.45)
"""Progress nearer to the last recorded one is dropped: two a second, with room for jitter. Workers thin it first."""
_DONE = 100.0
FORGOTTEN = "AttemptForgotten"
"""The error type of an attempt that the executor does not hold although it should."""


def handle_report(turn: Turn, report: Report) -> None:
    """Record what a report means and answer it. A report that is stale or breaks the rules changes nothing."""
    match report:
        case AttemptEnded():
            _ended(turn, report)
        case CapacityChanged():
            turn.state.slots = report.slots
        case WorkerGone():
            turn.record(0, WorkerExited(pid=report.pid, exit_code=report.exit_code, why=report.why), BY_SCHEDULER)
        case AttemptsHeld():
            reconcile(turn, report)
        case _:
            with suppress(TasktrailError):
                _said(turn, report)


def _said(
    turn: Turn, report: AttemptProgressed | AttemptBeat | AttemptCheckpointed | AttemptProbed | PublishWanted
) -> None:
    """The running attempt says something. Raises a `TasktrailError` for what the rules refuse, a stale report first."""
    events = decide(turn.state.tasks.get(report.task_id), report, turn.decision_context())
    running = turn.state.running[report.task_id]
    match report:
        case AttemptProbed():
            running.estimate = report.estimate
            return
        case AttemptProgressed():
            if report.progress != running.percent:
                running.percent, running.moved_at = report.progress, turn.now
            if not _too_soon(turn, running, report.progress):
                turn.record_all(report.task_id, events, _origin(running))
                running.reported_at = turn.now
        case AttemptCheckpointed():
            running.moved_at = turn.now
            turn.record_all(report.task_id, events, _origin(running))
            turn.order(Saved(report.task_id, report.attempt))
        case PublishWanted():
            _grant(turn, running)
    running.heard_at = turn.now


def _origin(running: Running) -> Origin:
    return Origin(actor="worker", causation_id=f"event:{running.started_position}")


def _too_soon(turn: Turn, running: Running, progress: float) -> bool:
    if running.reported_at is None:
        return False
    is_the_last = progress >= _DONE > turn.state.tasks[running.task_id].progress
    since = turn.now - running.reported_at  # negative when the clock was set back
    return not is_the_last and timedelta(0) <= since < RECORD_PROGRESS_EVERY


def _grant(turn: Turn, running: Running) -> None:
    """The grant is the last moment at which a cancel can win; a later one waits for the end of publishing."""
    if running.granted_at is None:
        running.granted_at = turn.now
        turn.watch_attempt(running)
    turn.order(Grant(running.task_id, running.attempt))


def _ended(turn: Turn, report: AttemptEnded) -> None:
    state = turn.state
    running = state.running.get(report.task_id)
    if running is None or running.attempt != report.attempt:
        return  # it holds no slot
    state.release(running)
    with suppress(StaleAttempt):  # its end was recorded when it was cancelled or aborted; until now it held its slot
        events = decide(state.tasks[report.task_id], report, _context_of_end(turn, report, running))
        turn.record_all(report.task_id, events, _origin(running))
        if state.tasks[report.task_id].finished:
            ended(turn, report.task_id)
    task = state.tasks[report.task_id]
    if task.waiting:
        turn.place(task)
    commands.handle_deferred(turn, running.deferred)


def _context_of_end(turn: Turn, report: AttemptEnded, running: Running) -> DecisionContext:
    state, found = turn.state, running.estimate
    never_fits = ""
    if report.outcome == "outgrown" and found is not None:
        never_fits = why_it_never_fits(found.memory, found.temp, state.limits, state.sample)
    return replace(
        turn.decision_context(),
        draining=state.draining,
        probed=found,
        never_fits=never_fits,
        temp_peak=running.temp_peak,
    )


def ask_for_held(turn: Turn) -> None:
    """Ask the executor what it holds, if there is anything to compare."""
    state = turn.state
    last = state.reconciliation
    if not state.running and not last.held and not last.strange:
        return
    last.number += 1
    last.asked = frozenset((entry.task_id, entry.attempt) for entry in state.running.values())
    turn.order(TellHeld(last.number))


def reconcile(turn: Turn, report: AttemptsHeld) -> None:
    """Compare. End as lost what the executor does not hold; stop what it holds and should not."""
    state = turn.state
    last = state.reconciliation
    if report.number != last.number:
        return
    held = frozenset(report.attempts)
    known = frozenset((entry.task_id, entry.attempt) for entry in state.running.values())
    missing, strange = (last.asked & known) - held, held - known
    lost, unwanted = missing & last.missing, strange & last.strange
    # With the next number, the same answer would count as one to an older question if it came again.
    state.reconciliation = Reconciliation(last.number + 1, held=bool(held), missing=missing - lost, strange=strange)
    for key in sorted(lost):
        _end_as_lost(turn, key)
    for task_id, attempt in sorted(unwanted):
        turn.order(Stop(task_id, attempt))


def _end_as_lost(turn: Turn, key: AttemptId) -> None:
    task_id, attempt = key
    turn.order(Stop(task_id, attempt))  # should it be there all the same
    error = f"The executor did not hold attempt {attempt} any more: no process of it was left, and no end was reported"
    handle_report(turn, AttemptEnded(task_id, attempt, "lost", error=error, error_type=FORGOTTEN))
