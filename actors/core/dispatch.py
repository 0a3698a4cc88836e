"""Fill free slots: the best ready task first, smaller ones past those that do not fit, but not for ever."""

from pathlib import PurePath

from ...events import Started, TaskState
from ...events.priority import terms
from ...handlers.process.frames import Run
from .admission import is_too_big, obstacles, stands_against_all
from .running import Running, beat_every
from .state import SchedulerState
from .turn import SCHEDULER, Origin, Turn

BACKFILL_BOUND = 32
"""So many tasks may start past one that does not fit; then resources are kept for it."""
BACKFILL_DEPTH = 64
"""So far down the queue a fitting task is looked for."""


def dispatch(turn: Turn) -> None:
    """Start whatever can start now."""
    state = turn.state
    while state.free_slots > 0 and len(state.queue) and not state.draining and state.pauses.everything is None:
        task = _next_fitting(turn)
        if task is None:
            return
        start(turn, task)


def _next_fitting(turn: Turn) -> TaskState | None:
    state = turn.state
    aside: list[TaskState] = []
    chosen = None
    while len(aside) < BACKFILL_DEPTH:
        task_id = state.queue.pop()
        if task_id is None:
            break
        task = state.tasks[task_id]
        against = obstacles(task, state.limits, state.sample, state.reserved)
        if not against:
            chosen = task
            break
        if is_too_big(task, state.limits, state.sample):
            state.too_big.add(task_id)
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
    """Keeping resources helps only while something runs that will give some back."""
    bound = BACKFILL_BOUND if state.backfill_bound is None else state.backfill_bound
    return bool(state.running) and state.overtaken.get(task_id, 0) >= bound


def start(turn: Turn, task: TaskState, origin: Origin = SCHEDULER) -> int:
    """Give a task a slot and its resources, record `Started`, and order the run; the position of `Started`."""
    state = turn.state
    state.queue.remove(task.id)
    state.overtaken.pop(task.id, None)
    checkpoint = task.resume_from
    parts = terms(task, turn.now)
    event = Started(effective_priority=round(parts.total, 3), terms=parts, resumed=checkpoint is not None)
    position = turn.record(task.id, event, origin)
    task = state.tasks[task.id]
    running = Running(task.id, task.attempt, position, task, turn.now)
    state.hold(running)
    turn.watch_attempt(running)
    spec = task.spec
    turn.order(
        Run(
            task.id,
            task.attempt,
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
        )
    )
    return position
