"""What time brings: limits on waiting and on attempts that are reached, tasks that are due, runs of schedules.

Elapsed time is counted over jumps of the wall clock; see docs/explanation/scheduling.md.
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
from ...events.system_events import ClockJumped
from ...events.task_events import output_of
from ...events.timeouts import End, limits_waiting
from .dependencies import ended, enter
from .schedules import FIRE_TIME, Schedule, due_runs
from .state import PUBLISH_PATIENCE, Running, beat_in
from .turn import BY_SCHEDULER, Origin, Turn


def tick(turn: Turn) -> None:
    """Act on the timers whose time has come."""
    for timer in turn.state.due_timers(turn.now):
        task = turn.state.tasks.get(timer.task_id)
        if task is None or not turn.state.is_ours(timer.task_id):
            continue
        if timer.attempt:
            _look_at_attempt(turn, task, timer.attempt)
        elif task.waiting:
            _look_at_waiting(turn, task)


def clock_jumped(turn: Turn, jump: ClockJumped) -> None:
    """The wall clock was set: timers for elapsed time are wrong now, and what goes by the clock may be due."""
    state = turn.state
    turn.record(0, jump, BY_SCHEDULER)
    for entry in state.running.values():
        entry.set_clock(jump.shows - jump.shown)
        turn.watch_attempt(entry)
    for task in state.tasks.values():
        if task.waiting and task.not_before is not None and task.not_before > turn.now:
            turn.place(task)  # perhaps its time had come and is ahead again, or a clock far ahead had set it
        elif task.waiting and limits_waiting(task.spec):
            turn.watch_waiting(task)
    tick(turn)


def _look_at_waiting(turn: Turn, task: TaskState) -> None:
    end = _first(turn, turn.state.waiting_ends(task))
    if end is None:
        turn.place(task)
        return
    command = GiveUp(task_id=task.id, error=end.error, error_type=end.error_type, rule=end.name)
    turn.record_all(task.id, decide(task, command, turn.decision_context()), Origin(actor="scheduler", reason=end.name))
    ended(turn, task.id)


def _look_at_attempt(turn: Turn, task: TaskState, attempt: int) -> None:
    running = turn.state.running.get(task.id)
    if running is None or running.attempt != attempt or running.stopping or task.status != "running":
        return
    if running.granted_at is not None:
        end = _hung_publishing(turn, running, running.granted_at + PUBLISH_PATIENCE)
    else:
        _hear_out(turn.now, task, running)
        end = _first(turn, turn.state.attempt_ends(running))
        if end is None:
            turn.watch_attempt(running)
        elif running.doubted != end and (limit := _of_silence(task, end)):
            running.doubted = end
            turn.state.set_timer(turn.now + timedelta(seconds=_hear_first(limit)), task.id, attempt)
            return
    if end is not None:
        _end(turn, task, running, end)


def _hear_out(now: datetime, task: TaskState, running: Running) -> None:
    """When this look comes a beat too late, our own process was stopped or starved: count the silence from now.

    What the worker has said meanwhile is read after this timer.
    """
    spec, signs = task.spec, running.signs()
    if _was_away(now, signs.heard_at, spec.heartbeat_timeout):
        running.heard_at = now
    if _was_away(now, signs.moved_at, spec.no_progress_timeout):
        running.moved_at = now


def _of_silence(task: TaskState, end: End) -> float | None:
    """The limit in seconds, if it is one on silence or on missing progress."""
    spec = task.spec
    return {"heartbeat_timeout": spec.heartbeat_timeout, "no_progress_timeout": spec.no_progress_timeout}.get(end.name)


def _hear_first(limit: float) -> float:
    """Seconds until a silent attempt is looked at again, because what it said may be read after the first look.

    They are less than a beat, or the second look would come too late itself.
    """
    return min(1.0, beat_in(limit) / 2)


def _was_away(now: datetime, last_sign: datetime, limit: float | None) -> bool:
    return limit is not None and now - last_sign >= timedelta(seconds=limit + beat_in(limit))


def _hung_publishing(turn: Turn, running: Running, at: datetime) -> End | None:
    """Once an attempt has the grant its work is done, and only publishing itself is limited."""
    seconds = PUBLISH_PATIENCE.total_seconds()
    error = f"timeout: attempt {running.attempt} published for longer than {seconds:.0f} s"
    return End(at, "timeout", error, "AttemptTimeout") if at <= turn.now else None


def _end(turn: Turn, task: TaskState, running: Running, end: End) -> None:
    command = AbortAttempt(
        task_id=task.id,
        outcome="timed_out",
        error=end.error,
        error_type=end.error_type,
        retryable=not end.final,
    )
    events = decide(task, command, turn.decision_context())
    cause = f"event:{running.started_position}"
    turn.record_all(task.id, events, Origin(actor="scheduler", reason=end.name, causation_id=cause))
    turn.stop(running)
    if turn.state.tasks[task.id].finished:
        ended(turn, task.id)
    else:
        turn.place(turn.state.tasks[task.id])


def _first(turn: Turn, ends: Iterator[End]) -> End | None:
    """The limit that was reached first, if one was."""
    return min((end for end in ends if end.at <= turn.now), default=None)


def fire(turn: Turn) -> None:
    """Create the tasks of schedules whose time has come.

    The time is recorded in `Created`, so the fold of the log knows which runs were made, and none is made twice.
    """
    next_runs = turn.state.next_runs
    while (schedule := next_runs.take_due(turn.now)) is not None:
        name = schedule.spec.schedule
        for at in due_runs(schedule, turn.now):
            _create(turn, schedule, at)
        next_runs.done(name, turn.now)


def _create(turn: Turn, schedule: Schedule, at: datetime) -> None:
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
    task_id = turn.state.durable.last_task_id + 1
    taken = _taken(turn, event)
    turn.record(task_id, event, origin)
    if taken is None:
        enter(turn, task_id, origin)
    else:  # nobody is there to be refused: the history of the task says that its run was made and why it failed
        command = GiveUp(task_id=task_id, error=taken.message, error_type=type(taken).__name__, rule=taken.code)
        turn.record_all(task_id, decide(turn.state.tasks[task_id], command, turn.decision_context()), origin)


def _taken(turn: Turn, event: Created) -> OutputTaken | None:
    try:
        if not event.overwrite:
            check_output(output_of(event), turn.state.outputs.first)
    except OutputTaken as error:
        return error
    return None
