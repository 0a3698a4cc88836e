"""The Scheduler's memory as data, and back: what a fold of the log has led to at a position.

Only what `SchedulerState.apply` folds is taken down. What is about the very moment (slots, timers, the queue) is made
anew at every start, from the same tasks.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from ...events import Recorded, TaskState
from ...events.estimates import Experience
from ...events.system_events import ClockJumped, LimitsChanged
from .limits import Pause, scope_of
from .schedules import Schedule
from .state import SchedulerState

Load: TypeAlias = Callable[[int, int], TaskState]
"""(task id, position) → the task as the log up to that position has it."""


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but the tasks."""

    position: int
    last_task_id: int
    system_version: int
    last_at: datetime | None
    limit_changes: LimitsChanged
    limit_positions: list[tuple[str, str, int]]
    pauses: tuple[Pause, ...]
    schedules: list[Schedule]
    jumps: list[ClockJumped]
    last_starts: list[tuple[int, int]]
    adjusted_at: list[tuple[int, int]]
    experience: dict[str, tuple[list[float], list[float], list[float]]]
    """Task type → shares of memory, temp space and time."""
    disabled: list[str]


def book_of(state: SchedulerState) -> Book:
    """What is to be kept beside `tasks_of`."""
    return Book(
        position=state.position,
        last_task_id=state.last_task_id,
        system_version=state.system_version,
        last_at=state.last_at,
        limit_changes=state.limit_book.changes,
        limit_positions=[(*where, position) for where, position in sorted(state.limit_book.positions.items())],
        pauses=state.pauses.all(),
        schedules=[replace(schedule, next_at=None) for _, schedule in sorted(state.schedules.by_name.items())],
        jumps=state.jumps.kept,
        last_starts=list(state.fair_share.last_starts.items()),
        adjusted_at=sorted(state.adjusted_at.items()),
        experience={
            name: (list(one.memory), list(one.temp), list(one.time)) for name, one in sorted(state.experience.items())
        },
        disabled=sorted(state.disabled),
    )


def tasks_of(state: SchedulerState, load: Load) -> list[TaskState]:
    """The open tasks, and the finished ones that they need, in the order of their ids."""
    needed = complete(state, load)
    kept = [task for task in state.tasks.values() if not task.finished]
    return sorted(kept + needed, key=lambda task: task.id)


def restore(state: SchedulerState, book: Book, tasks: Iterable[TaskState]) -> None:
    """Bring a new state to where the snapshot was taken."""
    state.position = book.position
    state.last_task_id = book.last_task_id
    state.system_version = book.system_version
    state.last_at = book.last_at
    state.limit_book.restore(
        book.limit_changes, {(name, key): position for name, key, position in book.limit_positions}
    )
    state.pauses.held = {scope_of(pause): pause for pause in book.pauses}
    state.schedules.restore(book.schedules)
    state.jumps.kept = book.jumps
    state.fair_share.last_starts = dict(book.last_starts)
    state.adjusted_at = dict(book.adjusted_at)
    state.experience = {name: Experience(*ratios) for name, ratios in book.experience.items()}
    state.disabled = set(book.disabled)
    state.tasks = {task.id: task for task in tasks}


def follow(state: SchedulerState, records: Iterable[Recorded], load: Load) -> None:
    """Fold what was recorded since. A finished task that goes on comes back from the log."""
    tasks = state.tasks
    for record in records:
        if record.version > 1 and record.task_id not in tasks and record.task_id:
            tasks[record.task_id] = load(record.task_id, record.position - 1)
        state.apply(record)


def complete(state: SchedulerState, load: Load, also: Iterable[int] = ()) -> list[TaskState]:
    """See to it that memory holds the finished tasks that open ones depend on or are below, and those in `also`.

    Returns those that open tasks need.
    """
    tasks, needed = state.tasks, dict[int, TaskState]()
    climbed: set[int] = set()

    def need(task_id: int) -> TaskState:
        task = tasks.get(task_id) or needed.get(task_id) or load(task_id, state.position)
        if task.finished:
            needed[task_id] = task
        return task

    for task in tasks.values():
        spec = task.spec
        parent = spec.parent_task_id
        if (parent is None and not spec.depends_on) or task.finished:
            continue
        for other in spec.depends_on:
            need(other)
        while parent is not None and parent not in climbed:
            above = need(parent)
            if not above.finished:
                break  # it has a turn of its own
            climbed.add(parent)
            parent = above.spec.parent_task_id
    tasks.update(needed)
    for task_id in also:
        if task_id not in tasks:
            tasks[task_id] = load(task_id, state.position)
    return list(needed.values())
