"""Which tasks a start overtakes, for checks of the bound of docs/explanation/scheduling.md.

An eligible task is overtaken at most `dispatch.BACKFILL_BOUND` times while something runs; starts by hand do not count.
"""

from collections.abc import Iterator

from tasktrail.actors.core.limits import is_closed, limit_keys_of
from tasktrail.actors.core.routing import pick
from tasktrail.actors.core.state import SchedulerState
from tasktrail.events import TaskState
from tasktrail.events.priority import queue_key


def is_eligible(state: SchedulerState, task: TaskState) -> bool:
    """Return whether the task waits only for room: it is in the queue, and no limit and no pause holds it."""
    if task.id not in state.queue or state.durable.pauses.everything is not None:
        return False
    if task.spec.worker_label and pick(state.workers.free(), task.spec.worker_label) is None:
        return False
    return not any(
        key in state.shut
        or state.windows.closes(key)
        or is_closed(key, state.limits, state.running_counts, state.durable.pauses)
        for key in limit_keys_of(task)
    )


def overtaken_by(state: SchedulerState, started: TaskState) -> Iterator[int]:
    """Return the eligible tasks that came before `started` in the order; with fair share, those of the same user."""
    key = queue_key(started)
    for task_id in state.queue:
        task = state.tasks[task_id]
        alike = not state.limits.fair_share or task.spec.user_id == started.spec.user_id
        if alike and queue_key(task) < key and is_eligible(state, task):
            yield task_id
