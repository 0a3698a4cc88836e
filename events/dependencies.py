"""What the end of one task means for those that depend on it."""

from .recorded import Event
from .state import TaskState
from .system_events import Adjusted
from .task_events import Cancelled, Created, DependencyPolicy, Failed

DEPENDENCY_FAILED = "DependencyFailed"
"""The error type, and the rule, of a task that failed because another did."""


def policy_for(spec: Created, dependency: int) -> DependencyPolicy:
    """What a task wants when `dependency`, one of its own, ends otherwise than completed."""
    policies = spec.on_dependency_failure
    return policies if isinstance(policies, str) else policies[spec.depends_on.index(dependency)]


def is_met(task: TaskState, dependency: TaskState) -> bool:
    """Whether `dependency` stands in the way of `task` no longer. Once a life has had a start, none does."""
    return task.life_started_at is not None or dependency.status == "completed" or dependency.id in task.ignored


def ends_with(task: TaskState, dependency: TaskState) -> bool:
    """Whether `dependency` has ended in a way that ends `task` at once when it gets another life."""
    broken = dependency.status in ("failed", "cancelled")
    return broken and policy_for(task.spec, dependency.id) in ("cancel", "fail")


def how_it_ended(dependency: TaskState) -> str:
    """The end of a dependency in words: the reason of what it leads to."""
    return f"task {dependency.id} {'was cancelled' if dependency.status == 'cancelled' else 'has failed'}"


def after_dependency(task: TaskState, dependency: TaskState) -> tuple[Event, ...]:
    """What a waiting task's edge wants now that `dependency` is over; nothing when it is met or to be waited for."""
    if not task.waiting or not dependency.finished or is_met(task, dependency):
        return ()
    match policy_for(task.spec, dependency.id):
        case "wait":
            return ()
        case "ignore":
            return (Adjusted(task_id=task.id, ignored_dependency=dependency.id),)
        case "cancel":
            return (Cancelled(),)
        case "fail":
            error = f"{DEPENDENCY_FAILED}: {how_it_ended(dependency)}"
            return (
                Failed(
                    outcome="not_started", error=error, error_type=DEPENDENCY_FAILED, rule=DEPENDENCY_FAILED, final=True
                ),
            )
