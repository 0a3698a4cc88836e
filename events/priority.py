"""The seed's dynamic priority, exact: base + user bonus + wait bonus − duration penalty. Higher runs first."""

from datetime import datetime

from .state import TaskState
from .task_events import PriorityTerms

USER_LEVEL_BONUS = 10
LONG_TASK_PENALTY = 20
LONG_TASK_SECONDS = 3600.0


def terms(state: TaskState, now: datetime) -> PriorityTerms:
    """The parts of the effective priority at `now`, as in the seed's `CalculatePriority`.

    Unlike there, the wait is not cut to whole minutes, which would make the order jitter.
    """
    waited = (now - state.waiting_since).total_seconds() / 60
    return PriorityTerms(
        base=state.priority,
        user=state.spec.user_level * USER_LEVEL_BONUS,
        wait=round(max(0.0, waited), 3),
        duration=-LONG_TASK_PENALTY if state.spec.estimated_time > LONG_TASK_SECONDS else 0,
    )


def static_priority(state: TaskState) -> int:
    """The part that time does not change."""
    penalty = LONG_TASK_PENALTY if state.spec.estimated_time > LONG_TASK_SECONDS else 0
    return state.priority + state.spec.user_level * USER_LEVEL_BONUS - penalty


def queue_key(state: TaskState) -> tuple[float, int]:
    """The order of the queue: smaller runs first.

    Every waiting task gains a point a minute, so the difference between two of them never changes. The order is that
    of `waiting_since − static priority in minutes`. Equal keys run in order of creation.
    """
    return (state.waiting_since.timestamp() - 60.0 * static_priority(state), state.id)
