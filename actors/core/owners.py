"""Checks whose tasks a command is about: for a sender bound to one user, other users' tasks do not exist."""

from ...events import Command, CreateGraph, CreateTask, EnableEndpoint, OperatorCommand
from ...events.errors import OutputTaken, UnknownDependency, UnknownTask
from .state import SchedulerState


def is_of(state: SchedulerState, task_id: int, user_id: int | None) -> bool:
    """Whether the task exists and belongs to the user; None stands for any user. The task has to be in memory."""
    task = state.tasks.get(task_id)
    return task is not None and (user_id is None or task.spec.user_id == user_id)


def refuse_foreign_tasks(state: SchedulerState, command: Command, user_id: int | None) -> None:
    """Raise the error for a missing task if the command is about another user's task. With None, allow all tasks."""
    if user_id is None or isinstance(command, OperatorCommand):
        return
    match command:
        case CreateTask():
            for other in (*command.depends_on, *filter(None, (command.parent_task_id,))):
                if not is_of(state, other, user_id):
                    field = "depends_on" if other in command.depends_on else "parent_task_id"
                    raise UnknownDependency(f"Task {other} does not exist", field=field)
        case CreateGraph():
            for place, task in enumerate(command.tasks):
                for named in (*task.depends_on, task.parent):
                    if isinstance(named, int) and not is_of(state, named, user_id):
                        field = "depends_on" if named in task.depends_on else "parent"
                        raise UnknownDependency(
                            f"Task {task.name}: task {named} does not exist", field=f"tasks[{place}].{field}"
                        )
        case EnableEndpoint():
            return
        case _:
            if not is_of(state, command.task_id, user_id):
                raise UnknownTask(f"Task {command.task_id} does not exist", field="task_id")


def hide_foreign_task(state: SchedulerState, error: OutputTaken, user_id: int | None) -> OutputTaken:
    """The error for a reader who may know only the tasks of one user: it names no task of others."""
    if error.holder and not is_of(state, error.holder, user_id):
        error.message = error.message.replace(f"Task {error.holder} ", "Another task ")
        error.advice = OutputTaken.remedy
    return error
