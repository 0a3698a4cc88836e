"""What the running service asks of the Scheduler's state, in the Scheduler's own thread."""

from .actors.core.state import SchedulerState


def count_unfinished(state: SchedulerState) -> int:
    """How many tasks are not finished."""
    return sum(not task.finished for task in state.tasks.values())


def open_tasks(state: SchedulerState) -> set[int]:
    """Tasks that are not finished, or of which a process may still be there."""
    return {task_id for task_id, task in state.tasks.items() if not task.finished} | set(state.running)


def last_task_id(state: SchedulerState) -> int:
    """The task that was created last."""
    return state.last_task_id


def outputs_of_running(state: SchedulerState) -> dict[int, str]:
    """Running task → where its output will be."""
    return {task_id: running.reserved_for.spec.output_file for task_id, running in state.running.items()}


def count_running(state: SchedulerState) -> int:
    """How many attempts hold a slot."""
    return len(state.running)
