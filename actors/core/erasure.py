"""Decides whether a user may be erased: only if all the user's work is finished, as work needs the personal data."""

from collections.abc import Iterator
from typing import NamedTuple

from ...events import TaskState
from ...events.commands import EraseUser
from ...events.context import Belongings
from ...events.counted import counted, plural
from ...events.errors import LOST_KEYS, KeptInPlain, KeysUnreadable, NothingToChange, UserHasWork
from ...events.system_events import UserErased
from ...events.task_events import ERASED, is_erased
from .state import SchedulerState

_NAMED = 10


def erased_user(state: SchedulerState, command: EraseUser, belongings: Belongings) -> UserErased:
    """The event for an erasure. Raises `UserHasWork`, `KeptInPlain`, `NothingToChange`."""
    if unfinished := list(_unfinished(state, command.user_id, frozenset(belongings.tasks))):
        raise UserHasWork(f"User {command.user_id} still has {_first_names(unfinished)}", field="user_id")
    if belongings.plain and not command.partly:
        raise KeptInPlain(
            f"{counted(belongings.plain, 'task')} of user {command.user_id} "
            f"{plural(belongings.plain, 'was', 'were')} recorded in plain text, which no key erases",
            field="partly",
        )
    if not belongings.keys:
        raise NothingToChange(
            f"Nothing of user {command.user_id} is encrypted, or it has been erased before",
            field="user_id",
            remedy=f"`tasktrail list --user {command.user_id}` shows what is readable: `tasktrail forget` drops it.",
        )
    return UserErased(keys=belongings.keys, tasks=belongings.tasks, plain=belongings.plain)


def _first_names(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if names[_NAMED:] else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _unfinished(state: SchedulerState, user_id: int, theirs: frozenset[int]) -> Iterator[str]:
    """Yield what still needs the user's data, in words."""
    for task in state.tasks.values():
        if task.spec.user_id == user_id and (not task.finished or task.id in state.running):
            yield f"task {task.id}"
        elif not task.finished and not theirs.isdisjoint(task.spec.depends_on):
            yield f"results that task {task.id} needs"
    for name, schedule in state.durable.schedules.by_name.items():
        if schedule.spec.task.user_id == user_id:
            yield f"schedule {name}"
    for name, source in state.durable.sources.by_name.items():
        if source.task.get("user_id", 0) == user_id:
            yield f"source {name}"


class Unreadable(NamedTuple):
    """Work to do that cannot be read, because the keys of its users are missing."""

    tasks: list[int]
    """Open tasks. They would fail although they could have run."""
    schedules: list[str]
    """They would make other tasks than were asked for, and without an owner."""
    sources: list[str]
    """The same."""


def unreadable(state: SchedulerState) -> Unreadable:
    """Find all work to do that cannot be read."""
    by_name, sources = state.durable.schedules.by_name, state.durable.sources.by_name
    return Unreadable(
        [task.id for task in state.tasks.special() if not task.finished and is_erased(task.spec)],
        [name for name, schedule in by_name.items() if is_erased(schedule.spec.task)],
        [name for name, source in sources.items() if source.to == ERASED],
    )


def refuse_unreadable(state: SchedulerState) -> None:
    """Raises `KeysUnreadable` if there is work to do that cannot be read."""
    keyless = unreadable(state)
    lost = [f"task {number}" for number in keyless.tasks]
    lost += [f"schedule {name}" for name in keyless.schedules]
    lost += [f"source {name}" for name in keyless.sources]
    if lost:
        raise KeysUnreadable(
            f"Keys are missing for work that is still to be done: {_first_names(lost)}", remedy=LOST_KEYS
        )


def is_erased_task(state: SchedulerState, task: TaskState) -> bool:
    """Whether its data is erased, or will be soon."""
    return is_erased(task.spec) or any(task.id in erasure.tasks for erasure in state.durable.erasures.values())
