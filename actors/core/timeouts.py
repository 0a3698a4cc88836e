"""Acts on the passing of time: reached limits of waiting tasks and attempts, due tasks, and runs of schedules.

Jumps of the wall clock do not change elapsed time; see docs/explanation/scheduling.md.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from msgspec.structs import replace

from ...events import Created, TaskState
from ...events.commands import AbortAttempt, GiveUp
from ...events.creation import check_output
from ...events.decide import decide
from ...events.errors import OutputTaken
from ...events.recorded import timestamp
from ...events.system_events import ClockJumped, Deduplicated
from ...events.task_events import output_of, unique_key_of
from ...events.timeouts import End, limits_waiting
from .dependencies import ended, enter
from .owners import hide_foreign_task
from .schedules import FIRE_TIME, Schedule, due_runs
from .state import Running, beat_in, publish_patience
from .unit_of_work import BY_SCHEDULER, Origin, UnitOfWork


def tick(work: UnitOfWork) -> None:
    """Act on the timers whose time has come."""
    for timer in work.state.due_timers(work.now):
        task = work.state.tasks.get(timer.task_id)
        if task is None or not work.state.is_own(timer.task_id):
            continue
        if timer.attempt:
            _look_at_attempt(work, task, timer.attempt)
        elif task.waiting:
            _look_at_waiting(work, task)


def clock_jumped(work: UnitOfWork, jump: ClockJumped) -> None:
    """Handle a jump of the wall clock: timers for elapsed time are wrong now, and times by the clock may be due."""
    state = work.state
    work.record(0, jump, BY_SCHEDULER)
    state.nodes.set_clock(jump.shows - jump.shown)
    for entry in state.running.values():
        entry.set_clock(jump.shows - jump.shown)
        work.watch_attempt(entry)
    work.look_again()
    for task in state.tasks.values():
        if task.waiting and task.not_before is not None and task.not_before > work.now:
            work.place(task)  # perhaps its time had come and is ahead again, or a clock far ahead had set it
        elif task.waiting and limits_waiting(task.spec):
            work.watch_waiting(task)
    tick(work)


def _look_at_waiting(work: UnitOfWork, task: TaskState) -> None:
    end = _first(work, work.state.waiting_ends(task))
    if end is None:
        work.place(task)
        return
    command = GiveUp(task_id=task.id, error=end.error, error_type=end.error_type, rule=end.name)
    work.record_all(task.id, decide(task, command, work.decision_context()), Origin(actor="scheduler", reason=end.name))
    ended(work, task.id)


def _look_at_attempt(work: UnitOfWork, task: TaskState, attempt: int) -> None:
    running = work.state.running.get(task.id)
    if running is None or running.attempt != attempt or running.stopping or task.status != "running":
        return
    if running.sought:
        return  # it is watched once it is found
    if running.granted_at is not None:
        end = _hung_publishing(work, running, running.granted_at, publish_patience(task.spec.output_file))
    else:
        _excuse_own_delay(work.now, task, running)
        end = _first(work, work.state.attempt_ends(running))
        if end is None:
            work.watch_attempt(running)
        elif running.doubted != end and (limit := _silence_limit(task, end)):
            running.doubted = end
            work.state.set_timer(work.now + timedelta(seconds=_recheck_delay(limit)), task.id, attempt)
            return
    if end is not None:
        _end(work, task, running, end)


def _excuse_own_delay(now: datetime, task: TaskState, running: Running) -> None:
    """If this check comes a beat too late, our own process was stopped or starved: count the silence from now.

    The worker's reports since then are read after this timer.
    """
    spec, signs = task.spec, running.signs()
    if _is_checked_too_late(now, signs.heard_at, spec.heartbeat_timeout):
        running.heard_at = now
    if _is_checked_too_late(now, signs.moved_at, spec.no_progress_timeout):
        running.moved_at = now


def _silence_limit(task: TaskState, end: End) -> float | None:
    """The limit in seconds, if it is on silence or on missing progress."""
    spec = task.spec
    return {"heartbeat_timeout": spec.heartbeat_timeout, "no_progress_timeout": spec.no_progress_timeout}.get(end.name)


def _recheck_delay(limit: float) -> float:
    """Seconds until a silent attempt is checked again, as its reports may be read only after the first check.

    They are less than a beat; otherwise the second check would itself come too late.
    """
    return min(1.0, beat_in(limit) / 2)


def _is_checked_too_late(now: datetime, last_sign: datetime, limit: float | None) -> bool:
    return limit is not None and now - last_sign >= timedelta(seconds=limit + beat_in(limit))


def _hung_publishing(work: UnitOfWork, running: Running, granted: datetime, patience: timedelta) -> End | None:
    """The end of an attempt that publishes for too long. After the grant its work is done and has no other limit."""
    error = f"timeout: attempt {running.attempt} published for longer than {patience.total_seconds():.0f} s"
    end = End(granted + patience, "timeout", error, "AttemptTimeout")
    return end if end.at <= work.now else None


def _end(work: UnitOfWork, task: TaskState, running: Running, end: End) -> None:
    command = AbortAttempt(
        task_id=task.id,
        outcome="timed_out",
        error=end.error,
        error_type=end.error_type,
        retryable=not end.final,
    )
    events = decide(task, command, work.decision_context())
    cause = f"event:{running.started_position}"
    work.record_all(task.id, events, Origin(actor="scheduler", reason=end.name, causation_id=cause))
    work.stop(running)
    if work.state.tasks[task.id].finished:
        ended(work, task.id)
    else:
        work.place(work.state.tasks[task.id])


def _first(work: UnitOfWork, ends: Iterator[End]) -> End | None:
    """The limit that was reached first, if any was."""
    return min((end for end in ends if end.at <= work.now), default=None)


def fire(work: UnitOfWork) -> None:
    """Create the tasks of schedules whose time has come.

    The time is recorded in `Created`, so the fold of the log knows which runs were made, and none is made twice.
    """
    next_runs = work.state.next_runs
    while (schedule := next_runs.take_due(work.now)) is not None:
        name = schedule.spec.schedule
        for at in due_runs(schedule, work.now):
            _create(work, schedule, at)
        next_runs.done(name, work.now)


def _create(work: UnitOfWork, schedule: Schedule, at: datetime) -> None:
    spec = schedule.spec
    compact = at.strftime("%Y%m%dT%H%M%SZ")
    event = replace(
        spec.task,
        schedule=spec.schedule,
        fire_time=at,
        output_file=spec.task.output_file.replace(FIRE_TIME, compact),
        output_real=spec.task.output_real.replace(FIRE_TIME, compact),
    )
    origin = Origin(
        actor=f"schedule:{spec.schedule}",
        reason=f"the run of {timestamp(at)}",
        command_id=f"schedule:{spec.schedule}:{compact}",
        causation_id=f"event:{schedule.position}",
    )
    held_by = work.state.durable.open_keys.get(unique_key_of(event))
    if held_by is not None:
        work.record(0, Deduplicated(task_id=held_by, schedule=spec.schedule, fire_time=at), origin)
        return
    task_id = work.state.durable.last_task_id + 1
    taken = _output_conflict(work, event)
    work.record(task_id, event, origin)
    if taken is None:
        enter(work, task_id, origin)
    else:  # there is no sender to refuse: the task's history says that its run was made and why it failed
        command = GiveUp(task_id=task_id, error=taken.message, error_type=type(taken).__name__, rule=taken.code)
        work.record_all(task_id, decide(work.state.tasks[task_id], command, work.decision_context()), origin)


def _output_conflict(work: UnitOfWork, event: Created) -> OutputTaken | None:
    try:
        if not event.overwrite:
            check_output(output_of(event), work.state.outputs.first)
    except OutputTaken as error:
        return hide_foreign_task(work.state, error, event.user_id or None)
    return None
