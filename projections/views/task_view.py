"""A batch of records folded, task by task, with the same rules the Scheduler lives by. No file, no clock."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, cast

from ...events import Created, Recorded, TaskState
from ...events.errors import LogCorrupt
from ...events.state import create, evolve, overlay
from ...events.system_events import Adjusted
from ...events.task_events import is_terminal
from .tally import Tally

if TYPE_CHECKING:
    from ...events import TaskEvent


def touched(records: Iterable[Recorded]) -> tuple[set[int], set[int]]:
    """The tasks that records speak of, and those among them that they create."""
    tasks: set[int] = set()
    created: set[int] = set()
    for record in records:
        if record.task_id:
            tasks.add(record.task_id)
            if isinstance(record.event, Created):
                created.add(record.task_id)
        elif isinstance(record.event, Adjusted):
            tasks.add(record.event.task_id)
    return tasks, created


def fold_batch(records: Iterable[Recorded], before: Mapping[int, TaskState], tally: Tally) -> dict[int, TaskState]:
    """The states after the records, of the tasks they touch. `LogCorrupt` when they speak of a task unknown."""
    states: dict[int, TaskState] = {}
    for record in records:
        event = record.event
        if isinstance(event, Adjusted):
            states[event.task_id] = overlay(_known(event.task_id, states, before, record), event, record.recorded_at)
        elif not record.task_id:
            continue
        elif isinstance(event, Created):
            states[record.task_id] = create(record.task_id, event, record.recorded_at)
        else:
            state = _known(record.task_id, states, before, record)
            state = evolve(state, cast("TaskEvent", event), record.recorded_at)
            states[record.task_id] = state
            if is_terminal(event):
                tally.ended(state, record.recorded_at)
    return states


def _known(task_id: int, states: Mapping[int, TaskState], before: Mapping[int, TaskState], at: Recorded) -> TaskState:
    state = states.get(task_id) or before.get(task_id)
    if state is None:
        raise LogCorrupt(f"Position {at.position} speaks of task {task_id}, which was never created")
    return state
