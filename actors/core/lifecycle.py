"""Handles the service's start, with recovery after a crash, and its stop, and changes of the machine and the limits."""

from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from ...events import TaskState
from ...events.commands import AbortAttempt, CancelTask
from ...events.decide import decide
from ...events.errors import NotReady
from ...events.state import RECOVERING, RESUMING
from ...events.system_events import (
    RatesConfigured,
    RetentionConfigured,
    ScheduleRemoved,
    ServiceStarted,
    ServiceStopped,
    SourceRemoved,
)
from ...handlers.errors import TempQuotaReached
from .commands import cancel_tasks
from .dependencies import ended
from .erasure import Unreadable, unreadable
from .limits import Limits
from .messages import Boot, Sampled
from .node_changes import note_nodes
from .resources import NOTHING_USED, temp_quota
from .state import Running, SchedulerState
from .timeouts import tick
from .unit_of_work import BY_SCHEDULER, Origin, UnitOfWork


def boot(work: UnitOfWork, message: Boot) -> None:
    """Record that the service has started, close the attempts that the last one left open, queue the waiting tasks."""
    event = ServiceStarted(
        version=message.version,
        epoch=message.epoch,
        pid=message.pid,
        host=message.host,
        accepted_loss=message.accepted_loss,
        rebuilt_indexes=message.rebuilt_indexes,
        schema=message.schema,
        forms=message.forms,
    )
    lost = unreadable(work.state) if message.gives_up_unreadable else Unreadable([], [], [])
    accepted = Origin(actor=message.actor, reason=message.reason)
    has_accepted = message.accepted_loss or message.gives_up_unreadable
    work.record(0, event, accepted if has_accepted else BY_SCHEDULER)
    if (jump := work.state.durable.jumps.jump_while_stopped(work.state.durable.last_at, work.now)) is not None:
        work.record(0, jump, BY_SCHEDULER)
    configured(work)
    if message.retention is not None:
        configured_now = RetentionConfigured(rules=message.retention, archive_after=message.archive_after)
        if configured_now != work.state.durable.retention:
            work.record(0, configured_now, BY_SCHEDULER)
    if message.started is None:  # attempts run here
        note_nodes(work, ())
    recover(work, _outliving_attempts(work.state, message.started or {}))
    _give_up(work, lost, accepted)


def _give_up(work: UnitOfWork, lost: Unreadable, origin: Origin) -> None:
    for task_id in lost.tasks:
        if not work.state.tasks[task_id].finished:  # the end of another task may have ended it
            cancel_tasks(work, CancelTask(task_id=task_id), origin)
    for schedule in lost.schedules:
        work.record(0, ScheduleRemoved(schedule=schedule), origin)
    for source in lost.sources:
        work.record(0, SourceRemoved(source=source), origin)


def _outliving_attempts(state: SchedulerState, started: Mapping[int, int]) -> dict[int, Running]:
    """The attempts of the last service that may be alive. Each goes on until the executor reports that it is not."""
    running = {}
    for task_id, position in started.items():
        task = state.tasks[task_id]
        since = state.durable.jumps.moved(task.started_at or task.updated_at)
        running[task_id] = Running(
            task_id,
            task.attempt,
            position,
            task,
            since,
            node=task.node,
            short=state.is_short(task),
            percent=task.progress,
            sought=True,
            outlived=True,
        )
    return running


def configured(work: UnitOfWork) -> None:
    """Record the configured rates if they differ from the recorded ones, by which the fold counts starts."""
    if work.state.configured.rates != work.state.durable.configured_rates:
        work.record(0, RatesConfigured(rates=work.state.configured.rates), BY_SCHEDULER)


def recover(work: UnitOfWork, running: Mapping[int, Running]) -> None:
    """Go on from newly folded tasks. `running` are the attempts that really hold a slot of the executor.

    An attempt that is open in the log but unknown to the executor ends as interrupted. An attempt that is over in the
    log but held by the executor is stopped: the order to stop may have been lost with the answer to the commit.
    """
    state = work.state
    state.look_at_rates()
    state.look_at_windows()
    for entry in running.values():
        state.hold(entry)
        entry.used = NOTHING_USED
        task = state.tasks[entry.task_id]
        if task.status != "running" or task.attempt != entry.attempt:
            work.stop(entry)
    for task in state.tasks.special():
        held = running.get(task.id)
        if task.status == "running" and (held is None or held.attempt != task.attempt):
            _interrupt(work, task, "the service was gone while the attempt ran")
    _place_all(work)
    # A task whose limit was reached meanwhile must not be started first.
    tick(work)
    # Running attempts are watched after that: their reports since the last commit come next, perhaps of their end.
    for entry in running.values():
        work.watch_attempt(entry)


def _place_all(work: UnitOfWork) -> None:
    """Queue the waiting tasks, and forget the finished ones."""
    work.place_all(_waiting(work.state))
    work.state.forget_finished(set(work.state.tasks.over))


def _waiting(state: SchedulerState) -> Iterator[TaskState]:
    """The waiting tasks, one by one: there may be a million."""
    for task in state.tasks.open():  # for speed, no function is called that would do nothing
        if task.spec.output_file:
            state.outputs.claim(task)
        if task.spec.parent_task_id is not None:
            state.link(task)
        if task.status == "running":
            continue
        if task.spec.depends_on:
            state.block(task)
        yield task


def _interrupt(work: UnitOfWork, task: TaskState, error: str) -> None:
    resumes = task.resume_from is not None
    command = AbortAttempt(task_id=task.id, outcome="interrupted", error=error)
    origin = Origin(actor="recovery", reason=RESUMING if resumes else RECOVERING)
    work.record_all(task.id, decide(task, command, work.decision_context()), origin)


def work_on(work: UnitOfWork, task_id: int) -> None:
    """Work on this task from now on."""
    if work.state.own is not None:
        work.state.own.add(task_id)
    task = work.state.tasks.get(task_id)
    if task is not None and task.waiting:
        work.place(task)


def sampled(work: UnitOfWork, message: Sampled) -> None:
    """Take a sample of the machine or of the nodes."""
    for task_id, used in (message.temp_used or {}).items():
        _watch_temp(work, task_id, used)
    work.state.look_at(message.sample, message.nodes, message.memory_used, message.temp_used, work.now)


def _watch_temp(work: UnitOfWork, task_id: int, used: int) -> None:
    """Note how much temp space a running attempt uses, and end it if that exceeds its quota."""
    running, task = work.state.running.get(task_id), work.state.tasks.get(task_id)
    if running is None or task is None:
        return
    running.temp_peak = max(running.temp_peak, used)
    quota = temp_quota(running.reserved_for, work.state.limits)
    if not quota or 0 <= used <= quota or running.stopping or running.publishing or task.status != "running":
        return
    took = f"{used:,} bytes of temp space" if used >= 0 else "temp space that cannot be counted"
    error = TempQuotaReached(f"Attempt {task.attempt} took {took}, its quota is {quota:,}")
    command = AbortAttempt(
        task_id=task.id,
        outcome="failed",
        error=str(error),
        error_type=TempQuotaReached.__name__,
        retryable=False,
    )
    context = replace(work.decision_context(), probed=running.estimate, temp_peak=running.temp_peak)
    events = decide(task, command, context)
    work.record_all(task.id, events, Origin(actor="scheduler", causation_id=f"event:{running.started_position}"))
    work.stop(running)
    ended(work, task.id)


def limits_changed(work: UnitOfWork, limits: Limits) -> None:
    """Set the configured limits; the operators' changes stay on top of them."""
    work.state.configure(limits)
    configured(work)
    work.look_again()


def drain_service(work: UnitOfWork) -> None:
    """Start nothing more and ask the running attempts to stop. They end as interrupted and resume at the next start."""
    work.state.draining = True
    for running in work.state.running.values():
        if not running.publishing:
            work.stop(running)


def close(work: UnitOfWork) -> None:
    """Record the running attempts as interrupted, and the stop. The executor kills the attempts next."""
    state = work.state
    state.draining = True
    for running in list(state.running.values()):
        task = state.tasks[running.task_id]
        if task.status == "running" and task.attempt == running.attempt:
            _interrupt(work, task, "the service was stopped while the attempt ran")
        for submit in running.deferred:
            work.answer(submit.token, NotReady("The service has stopped"))
        state.release(running)
    work.record(0, ServiceStopped(), BY_SCHEDULER)
    state.closed = True
