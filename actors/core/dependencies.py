"""Handles dependencies between tasks: which task waits for which, and what the end of one does to the others.

Ends are passed on in a loop, not by recursion, so a chain of dependencies may have any length.
"""

from collections import deque
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from ...events import RetryTask, TaskState
from ...events.decide import after_dependency, end_in_words, ends_with, policy_for
from .state import SchedulerState
from .unit_of_work import BY_SCHEDULER, Origin, UnitOfWork


def enter(work: UnitOfWork, task_id: int, origin: Origin) -> None:
    """Enter a new or retried task: look at its dependencies, and put it where it belongs."""
    state = work.state
    state.link(state.tasks[task_id])
    for other in state.tasks[task_id].spec.depends_on:
        _record_consequences(work, task_id, state.tasks[other], origin, work.state.position)
        if state.tasks[task_id].finished:
            ended(work, task_id, origin)
            return
    state.block(state.tasks[task_id])
    work.place(state.tasks[task_id])


def ended(work: UnitOfWork, task_id: int, origin: Origin = BY_SCHEDULER) -> None:
    """Free the tasks that depend on a task, or end them, too. The task has ended with the last recorded event."""
    state = work.state
    over = deque([(task_id, state.position)])
    while over:
        task_id, position = over.popleft()
        task = state.tasks[task_id]
        work.unplace(task_id)
        state.unlink(task_id)
        if task.status == "completed":
            for freed in state.unblock(task_id):
                work.place(freed)
            continue
        for other in sorted(state.dependents.get(task_id, ())):
            _record_consequences(work, other, task, origin, position)
            dependent = state.tasks[other]
            if dependent.finished:
                over.append((other, state.position))
            elif task_id in dependent.ignored and state.free(other, task_id):
                work.place(dependent)


def _record_consequences(work: UnitOfWork, task_id: int, dependency: TaskState, origin: Origin, position: int) -> None:
    """Record what the end of the dependency means for the task; `position` is that of the cause's record."""
    for event in after_dependency(work.state.tasks[task_id], dependency):
        cause = replace(origin, actor="scheduler", reason=end_in_words(dependency), causation_id=f"event:{position}")
        work.record(task_id, event, cause)


def ending_dependencies(state: SchedulerState, task: TaskState) -> tuple[int, ...]:
    """The dependencies whose end would end the task, too."""
    return tuple(other for other in task.spec.depends_on if ends_with(task, state.tasks[other]))


def retries(ended: Iterable[int], read: Callable[[int], TaskState]) -> tuple[RetryTask, ...]:
    """Commands that retry tasks that ended without success, preceded by the dependencies that would end them again.

    Memory does not hold ended tasks, so `read` gets them from the log. The order of ids suffices: no task depends on
    one with a higher id.
    """
    tasks = {task_id: read(task_id) for task_id in ended}
    to_look_at = list(tasks.values())
    while to_look_at:
        task = to_look_at.pop()
        for other in task.spec.depends_on:
            if other not in tasks and policy_for(task.spec, other) in ("cancel", "fail"):
                dependency = read(other)
                if ends_with(task, dependency):
                    tasks[other] = dependency
                    to_look_at.append(dependency)
    return tuple(
        RetryTask(task_id=task_id, force=task.retry_count >= task.spec.max_retries)
        for task_id, task in sorted(tasks.items())
    )
