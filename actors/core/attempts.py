"""Handles the executor's reports about attempts, and compares the running attempts with those that it holds.

Reports of an attempt that is not the current one are refused.

Every known way to lose an attempt is closed where it occurs; the comparison is for the unknown ones. A question reaches
the executor after all earlier orders, and the answer comes after the reports of all ends before it. So an attempt that
is missing in an answer is really missing. Still, two answers in a row must agree before anything is done, because other
executors may be less exact.
"""

from contextlib import suppress
from datetime import timedelta

from msgspec.structs import replace

from ...events import Completed, TasktrailError
from ...events.context import DecisionContext
from ...events.decide import decide
from ...events.errors import StaleAttempt
from ...events.reports import (
    AllFound,
    AttemptBeat,
    AttemptCheckpointed,
    AttemptEnded,
    AttemptFound,
    AttemptProbed,
    AttemptProgressed,
    AttemptsHeld,
    CapacityChanged,
    Grant,
    NodesSeen,
    PublishWanted,
    Report,
    Saved,
    Settled,
    Stop,
    TellHeld,
    WorkerGone,
)
from ...events.system_events import WorkerExited
from . import commands
from .dependencies import ended
from .node_changes import nodes_seen
from .nodes import AttemptId
from .resources import ceiling_of, memory_after_a_kill, why_it_never_fits
from .state import Reconciliation, Running, SchedulerState
from .unit_of_work import BY_SCHEDULER, Origin, UnitOfWork

RECORD_PROGRESS_EVERY = timedelta(seconds=0.45)
"""Progress sooner after the last recorded one is dropped: two a second, with room for jitter. Workers thin it first."""
_DONE = 100.0
FORGOTTEN = "AttemptForgotten"
"""The error type of an attempt that the executor does not hold although it should."""


def handle_report(work: UnitOfWork, report: Report) -> None:
    """Record what a report means and answer it. A report that is stale or breaks the rules changes nothing."""
    match report:
        case AttemptEnded():
            _handle_ended(work, report)
        case CapacityChanged():
            work.state.workers_changed(report.slots, report.offers, report.nodes)
        case NodesSeen():
            nodes_seen(work, report.nodes)
        case WorkerGone():
            work.record(0, WorkerExited(pid=report.pid, exit_code=report.exit_code, why=report.why), BY_SCHEDULER)
        case AttemptsHeld():
            reconcile(work, report)
        case AttemptFound():
            _handle_found(work, report)
        case AllFound():
            _handle_all_found(work)
        case _:
            with suppress(TasktrailError):
                _handle_attempt_report(work, report)


def _handle_attempt_report(
    work: UnitOfWork, report: AttemptProgressed | AttemptBeat | AttemptCheckpointed | AttemptProbed | PublishWanted
) -> None:
    """Handle a report of a running attempt. Raises a `TasktrailError` if it is stale, or else breaks the rules."""
    running = work.state.running.get(report.task_id)
    if running is None or running.attempt != report.attempt:
        return  # it holds no slot
    if not isinstance(report, AttemptProbed):
        running.heard_at = work.now  # even a refused report shows that the worker is alive
    events = decide(work.state.tasks.get(report.task_id), report, work.decision_context())
    match report:
        case AttemptProbed():
            work.state.expect(running, report.estimate)
            return
        case AttemptProgressed():
            if (report.progress, report.moved) != (running.percent, running.moved):
                running.percent, running.moved, running.moved_at = report.progress, report.moved, work.now
            if not _too_soon(work, running, report.progress):
                work.record_all(report.task_id, events, _origin(running))
                running.reported_at = work.now
        case AttemptCheckpointed():
            running.moved_at = work.now
            if not _is_recorded(work, running, report):
                work.record_all(report.task_id, events, _origin(running))
            work.order(Saved(report.task_id, report.attempt))
        case PublishWanted():
            _grant(work, running)


def _origin(running: Running) -> Origin:
    return Origin(actor="worker", causation_id=f"event:{running.started_position}")


def _too_soon(work: UnitOfWork, running: Running, progress: float) -> bool:
    if running.reported_at is None:
        return False
    is_the_last = progress >= _DONE > work.state.tasks[running.task_id].progress
    since = work.now - running.reported_at  # negative when the clock was set back
    return not is_the_last and timedelta(0) <= since < RECORD_PROGRESS_EVERY


def _is_recorded(work: UnitOfWork, running: Running, report: AttemptCheckpointed) -> bool:
    """Whether the last service recorded the checkpoint, and ended before it could answer.

    Only the first report to this service may be such a repetition.
    """
    may_repeat, running.outlived = running.outlived, False
    return may_repeat and work.state.tasks[report.task_id].checkpoint == report.checkpoint


def _grant(work: UnitOfWork, running: Running) -> None:
    """Grant the attempt to publish. Until then a cancel wins; a later one waits for the end of publishing."""
    if running.granted_at is None:
        running.granted_at = work.now
        work.watch_attempt(running)
    work.order(Grant(running.task_id, running.attempt))


def _handle_found(work: UnitOfWork, report: AttemptFound) -> None:
    """Take over a living attempt of an earlier service, or stop it if it should not run."""
    running = work.state.running.get(report.task_id)
    if running is None or running.attempt != report.attempt:
        work.order(Stop(report.task_id, report.attempt))
        return
    if not running.sought:
        return
    running.sought = False
    running.heard_at = running.moved_at = work.now  # no service has watched it meanwhile, so silence counts from now
    if (report.offer, report.node) != (running.offer, running.node):
        work.state.move(running, report.offer, report.node)
        work.state.count_nodes_anew()
    if report.publishing:
        running.granted_at = work.now
    elif work.state.draining:
        work.stop(running)
    work.watch_attempt(running)
    if not report.publishing:
        deferred, running.deferred = running.deferred, []
        commands.handle_deferred(work, deferred)


def _handle_all_found(work: UnitOfWork) -> None:
    """End the attempts of the last service that were not found: they are dead."""
    error = "the service was gone while the attempt ran, and the attempt ended with it"
    for entry in [entry for entry in work.state.running.values() if entry.sought]:
        _handle_ended(work, AttemptEnded(entry.task_id, entry.attempt, "interrupted", error=error))


def _handle_ended(work: UnitOfWork, report: AttemptEnded) -> None:
    state = work.state
    running = state.running.get(report.task_id)
    if running is None or running.attempt != report.attempt:
        _settle(work, report)
        return  # it holds no slot
    context = _context_of_end(work, report, running)  # a node that is gone is forgotten with its last attempt
    state.release(running)
    try:
        events = decide(state.tasks[report.task_id], report, context)
    except StaleAttempt:  # its end was recorded when it was cancelled or aborted; until now it held its slot
        _settle(work, report)
    else:
        _settle(work, report, completed=any(isinstance(event, Completed) for event in events))
        work.record_all(report.task_id, events, _origin(running))
        if state.tasks[report.task_id].finished:
            ended(work, report.task_id)
    task = state.tasks[report.task_id]
    if task.waiting:
        work.place(task)
    commands.handle_deferred(work, running.deferred)


def _settle(work: UnitOfWork, report: AttemptEnded, *, completed: bool = False) -> None:
    if work.state.outlived:
        work.order(Settled(report.task_id, report.attempt, completed))


def _context_of_end(work: UnitOfWork, report: AttemptEnded, running: Running) -> DecisionContext:
    state, probed = work.state, running.estimate
    never_fits = ""
    if report.outcome == "outgrown" and probed is not None:
        never_fits = why_it_never_fits(probed.memory, probed.temp, state.limits, state.sample)
    return replace(
        work.decision_context(),
        draining=state.draining or running.sought,  # the last service had stopped it, and could not record that
        probed=probed,
        never_fits=never_fits,
        memory_next=0 if _has_another_cause(report) else _memory_next(state, report, running),
        has_probe=state.tasks[report.task_id].spec.type in state.probing,
        temp_peak=running.temp_peak,
    )


def _has_another_cause(report: AttemptEnded) -> bool:
    """Whether it is certain that no lack of memory led to the end. A person may have killed the worker, for example."""
    return report.exit_code is None or report.memory_ran_out is False


def _memory_next(state: SchedulerState, report: AttemptEnded, running: Running) -> int:
    if state.memory_next is not None:
        return state.memory_next
    if not state.nodes.many:
        ceiling = ceiling_of(state.limits, state.sample, state.reserved).memory
        return memory_after_a_kill(report.memory_used, state.sample.memory_total, ceiling)
    node = state.nodes.by_name.get(running.node)
    if node is None or node.sampled_at is None:
        return 0
    left = min(node.surely_left(), state.limits.max_memory)
    return memory_after_a_kill(report.memory_used, node.sample.memory_total, left)


def ask_for_held(work: UnitOfWork) -> None:
    """Ask the executor which attempts it holds, if there is anything to compare."""
    state = work.state
    last = state.reconciliation
    if not state.running and not last.held and not last.strange:
        return
    last.number += 1
    last.asked = frozenset((entry.task_id, entry.attempt) for entry in state.running.values() if not entry.sought)
    work.order(TellHeld(last.number))


def reconcile(work: UnitOfWork, report: AttemptsHeld) -> None:
    """Compare, and act if two answers in a row agree.

    An attempt that the executor should hold but does not ends as lost. One that it should not hold is stopped.
    """
    state = work.state
    last = state.reconciliation
    if report.number != last.number:
        return
    held = frozenset(report.attempts)
    running = frozenset((entry.task_id, entry.attempt) for entry in state.running.values())
    missing, strange = (last.asked & running) - held, held - running
    lost, unwanted = missing & last.missing, strange & last.strange
    # The number is raised so that a repetition of this answer counts as one to an older question.
    state.reconciliation = Reconciliation(last.number + 1, held=bool(held), missing=missing - lost, strange=strange)
    for key in sorted(lost):
        _end_as_lost(work, key)
    for task_id, attempt in sorted(unwanted):
        work.order(Stop(task_id, attempt))


def _end_as_lost(work: UnitOfWork, key: AttemptId) -> None:
    task_id, attempt = key
    work.order(Stop(task_id, attempt))  # in case it is there all the same
    error = f"The executor no longer held attempt {attempt}: it left no process and reported no end"
    handle_report(work, AttemptEnded(task_id, attempt, "lost", error=error, error_type=FORGOTTEN))
