"""Fill free slots: the best ready task first, smaller ones past those that do not fit, but not for ever."""

from pathlib import PurePath
from typing import TypeAlias

from ...events import Started, TaskState
from ...events.commands import GiveUp
from ...events.decide import decide
from ...events.priority import terms
from ...handlers.process.frames import Run
from .admission import fits, stands_against_all
from .dependencies import ended
from .oversized import at_best
from .running import Running, beat_every
from .state import SchedulerState
from .turn import SCHEDULER, Origin, Turn

BACKFILL_BOUND = 32
"""So many tasks may start past one that does not fit; then resources are kept for it."""
BACKFILL_DEPTH = 64
"""So far down the queue a fitting task is looked for."""
_ONE_BY_ONE = 64
"""So many tasks are put into the queue one at a time; more of them all at once."""

UNSTARTABLE = "CannotStart"
"""The error type of a task that cannot even be ordered to run."""

Sight: TypeAlias = tuple[object, ...]


def dispatch(turn: Turn) -> None:
    """Start whatever can start now. While nothing changes after a look that found nobody, no other is taken."""
    state = turn.state
    if state.seen_in_vain == _sight(state):
        return
    _take_back(turn)
    while state.free_slots > 0 and len(state.queue) and not state.draining and state.pauses.everything is None:
        task = _next_fitting(state)
        if task is None:
            break
        _start_or_give_up(turn, task)
    state.seen_in_vain = _sight(state)


def _sight(state: SchedulerState) -> Sight:
    """All that decides who starts next, beside what only a start changes."""
    reserved = state.reserved
    return (
        state.queue.changes,
        state.free_slots,
        state.draining,
        state.pauses.everything,
        state.limits,
        state.sample,
        reserved.memory,
        reserved.temp,
        reserved.unseen_memory,
        reserved.unseen_temp,
        reserved.gone_memory,
        reserved.gone_temp,
    )


def _take_back(turn: Turn) -> None:
    """Queue those that stood aside and may fit now: all, or the best of them could come behind the others."""
    state = turn.state
    best = at_best(state.limits, state.sample, state.reserved)
    back = [state.tasks[task_id] for task_id in state.too_big.borne(best)]
    if len(back) > _ONE_BY_ONE:
        turn.place_all(back)
    else:
        for task in back:
            turn.place(task)


def _next_fitting(state: SchedulerState) -> TaskState | None:
    best = at_best(state.limits, state.sample, state.reserved)
    aside: list[TaskState] = []
    chosen = None
    while len(aside) < BACKFILL_DEPTH:
        task_id = state.queue.pop()
        if task_id is None:
            break
        task = state.tasks[task_id]
        if fits(task, state.limits, state.sample, state.reserved):
            chosen = task
            break
        if not best.bears(task):
            state.too_big.park(task, best)
            state.overtaken.pop(task_id, None)
            continue
        aside.append(task)
        if stands_against_all(state.sample, state.limits) or _has_been_overtaken_enough(state, task_id):
            break
    for task in aside:
        state.queue.push(task)
        if chosen is not None:
            state.overtaken[task.id] = state.overtaken.get(task.id, 0) + 1
    return chosen


def _has_been_overtaken_enough(state: SchedulerState, task_id: int) -> bool:
    """Keeping resources helps only while something runs that will give some back, or has just done so."""
    room_comes = bool(state.running) or state.reserved.more_to_come
    return room_comes and state.overtaken.get(task_id, 0) >= bound_of(state)


def bound_of(state: SchedulerState) -> int:
    """How many may start past a task that does not fit."""
    return BACKFILL_BOUND if state.backfill_bound is None else state.backfill_bound


def _start_or_give_up(turn: Turn, task: TaskState) -> None:
    """One task that cannot be started must not keep the others from it: it ends, and its end says why."""
    try:
        prepared = _prepare(turn, task)
    except Exception as error:  # noqa: BLE001 - whatever an odd task from an old log leads to
        told = f"The task cannot be started: {type(error).__name__}: {error}"
        command = GiveUp(task_id=task.id, error=told, error_type=UNSTARTABLE, rule="cannot start")
        turn.record_all(task.id, decide(task, command, turn.decision_facts()), SCHEDULER)
        ended(turn, task.id)
    else:
        _start(turn, task, *prepared, SCHEDULER)


def start(turn: Turn, task: TaskState, origin: Origin = SCHEDULER) -> int:
    """Give a task a slot and its resources, record `Started`, and order the run; the position of `Started`."""
    return _start(turn, task, *_prepare(turn, task), origin)


def _prepare(turn: Turn, task: TaskState) -> tuple[Started, Run]:
    """What is recorded and ordered when the task starts. Changes nothing, so that a fault in it leaves nothing half."""
    state, spec, checkpoint = turn.state, task.spec, task.resume_from
    parts = terms(task, turn.now)
    event = Started(effective_priority=round(parts.total, 3), terms=parts, resumed=checkpoint is not None)
    run = Run(
        task.id,
        task.attempt + 1,
        spec.type,
        spec.input_file,
        spec.output_file,
        spec.options,
        checkpoint,
        str(PurePath(state.work_root) / str(task.id)),
        spec.overwrite,
        state.grace[spec.type],
        task.memory_needed,
        task.temp_needed,
        task.seconds_needed,
        task.estimate is not None,
        beat_every(spec),
        spec.estimated_time,
    )
    return event, run


def _start(turn: Turn, task: TaskState, event: Started, run: Run, origin: Origin) -> int:
    state = turn.state
    state.queue.remove(task.id)
    state.overtaken.pop(task.id, None)
    position = turn.record(task.id, event, origin)
    task = state.tasks[task.id]
    running = Running(task.id, task.attempt, position, task, turn.now)
    state.hold(running)
    turn.watch_attempt(running)
    turn.order(run)
    return position
