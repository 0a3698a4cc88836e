"""The answer to `why`: every reason that holds a task now, and what is ahead of it."""

from datetime import datetime

import msgspec

from ...events import StartTask, Status, TaskState
from ...events.priority import terms
from ...events.task_events import PriorityTerms
from .admission import Obstacle, WaitReason, is_too_big
from .oversized import at_best
from .rehearsal import who_goes_first
from .state import SchedulerState
from .waiting import live_obstacles, own_timers, recorded_obstacles

SHOWN = 10
"""So many of the tasks ahead are named."""
NOT_LIVE = (
    "No service runs. What is said comes from the log; slots, limits in use, handlers, the machine's samples and the "
    "order among what could start are known to a running service only."
)

STANDS_ASIDE = (
    "It would not fit even once everything that runs here has ended, so no room is kept for it and others go ahead: it "
    "starts when others on the machine give back what they hold."
)
NEVER_FITS = (
    "It would not fit if nothing else ran either: it starts once a limit is raised or the machine has more, not before."
)


class Ahead(msgspec.Struct, frozen=True):
    """A waiting task that comes before the one in question."""

    task_id: int
    type: str
    effective_priority: float
    terms: PriorityTerms


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why a task is not running. With all the reasons gone it starts; with any one of them left it waits."""

    task_id: int
    status: Status
    waiting: bool
    """False: it runs or has ended, and there is nothing to explain."""
    reasons: tuple[Obstacle, ...] = ()
    effective_priority: float = 0.0
    terms: PriorityTerms = PriorityTerms()
    place: int | None = None
    """Its place in the order of those that wait for room only; none while it waits for something else."""
    ahead: tuple[Ahead, ...] = ()
    """The first of those before it."""
    position: int = 0
    """The log was folded up to here."""
    live: bool = True
    """Whether a running service answers, which knows the machine."""
    remark: str = ""


def explain(state: SchedulerState, task_id: int, now: datetime, *, live: bool = True) -> Why | None:
    """Why the task waits; none when memory does not hold it: then it has ended, or never was."""
    task = state.tasks.get(task_id)
    if task is None:
        return None
    if not task.waiting:
        return Why(task_id=task_id, status=task.status, waiting=False, position=state.position, live=live)
    parts = terms(task, now)
    found = [*own_timers(state, task, now), *recorded_obstacles(state, task)]
    if live:
        found += [*live_obstacles(state, task), *_order(state, task)]
    place, ahead = _ahead(state, task, now) if task_id in state.queue else (None, ())
    return Why(
        task_id=task_id,
        status=task.status,
        waiting=True,
        reasons=tuple(found),
        effective_priority=round(parts.total, 3),
        terms=parts,
        place=place,
        ahead=ahead,
        position=state.position,
        live=live,
        remark=_remark(state, task) if live else NOT_LIVE,
    )


def _remark(state: SchedulerState, task: TaskState) -> str:
    if is_too_big(task, state.limits, state.sample):
        return NEVER_FITS
    return "" if at_best(state.limits, state.sample, state.reserved).bears(task) else STANDS_ASIDE


def _order(state: SchedulerState, task: TaskState) -> tuple[Obstacle, ...]:
    first = who_goes_first(state, task)
    if not first:
        return ()
    ids = ", ".join(map(str, first[:SHOWN]))
    return (
        Obstacle(
            WaitReason.HIGHER_PRIORITY,
            f"task {ids} would start first, or has resources kept for it",
            "their start or their end, or a start by hand, which goes ahead of the queue",
            {"first": len(first)},
            tasks=first,
            commands=(StartTask(task_id=task.id),),
        ),
    )


def _ahead(state: SchedulerState, task: TaskState, now: datetime) -> tuple[int, tuple[Ahead, ...]]:
    """The place in the queue, from 1, and the first of those before it."""
    fair = state.limits.fair_share
    place = state.queue.ahead_of(task, fair=fair) + 1
    shown = []
    for task_id in state.queue.first(min(SHOWN, place - 1), fair=fair):
        parts = terms(state.tasks[task_id], now)
        shown.append(Ahead(task_id, state.tasks[task_id].spec.type, round(parts.total, 3), parts))
    return place, tuple(shown)
