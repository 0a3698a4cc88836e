"""Stop a task, and if wanted all below it, in one go."""

from collections.abc import Iterator

from msgspec.structs import replace

from ...events import CancelTask
from ...events.decide import decide
from .dependencies import ended
from .running import Running
from .state import SchedulerState
from .turn import Origin, Turn


def held_up_by(state: SchedulerState, command: CancelTask) -> Running | None:
    """An attempt that may publish at any moment: whoever wants to cancel it has to wait until that is over."""
    for task_id in (command.task_id, *_open_below(state, command)):
        running = state.running.get(task_id)
        if running is not None and running.publishing:
            return running
    return None


def cancel(turn: Turn, command: CancelTask, origin: Origin) -> int:
    """Record it, stop what runs, and tell who depends on it; the position of the last event.

    A parent that is over does not keep its children from being cancelled.
    """
    state = turn.state
    below = list(_open_below(state, command))
    task = state.tasks.get(command.task_id)
    if not below or (task is not None and not task.finished):
        events = decide(task, command, turn.decision_facts())
        position = turn.record_all(command.task_id, events, origin)
        _over(turn, command.task_id, origin)
        origin = replace(origin, causation_id=f"event:{position}")
    for task_id in below:
        if not state.tasks[task_id].finished:  # the end of another may have ended it already
            turn.record_all(task_id, decide(state.tasks[task_id], command, turn.decision_facts()), origin)
            _over(turn, task_id, origin)
    return state.position


def _over(turn: Turn, task_id: int, origin: Origin) -> None:
    running = turn.state.running.get(task_id)
    if running is not None:
        turn.stop(running)
    ended(turn, task_id, origin)


def _open_below(state: SchedulerState, command: CancelTask) -> Iterator[int]:
    if command.children:
        for task_id in state.families.below(command.task_id):
            if task_id in state.tasks and not state.tasks[task_id].finished:
                yield task_id
