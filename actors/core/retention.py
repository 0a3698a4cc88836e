"""Records what leaves the log: finished tasks that are forgotten, and ranges that are archived.

Both were chosen before, from the views and the log. This module decides whether the choice still holds.
"""

from datetime import timedelta

from msgspec.structs import replace

from ...events import Accepted, TaskState, TasktrailError
from ...events.errors import ChangedMeanwhile
from ...events.ranges import NumberRange, overlaps, spans_of
from ...events.system_events import ScheduleReached, SegmentArchived, TasksForgotten
from .messages import Archive, Forget
from .state import SchedulerState
from .unit_of_work import Origin, UnitOfWork


def forget_tasks(work: UnitOfWork, message: Forget) -> None:
    """Record that tasks are forgotten, or answer with the reason why not and change nothing."""
    try:
        for task_id, task in message.tasks.items():
            _check(work, message, work.state.tasks[task_id], task.version)
        _check_not_needed(work.state, message)
        if message.archives is not None:
            _check_archives(work.state, message.archives, message.event)
    except TasktrailError as error:
        work.answer(message.token, error)
        return
    reached = {
        name: ScheduleReached(done_until=schedule.done_until, runs=schedule.runs)
        for name, schedule in work.state.durable.schedules.by_name.items()
        if schedule.runs
    }
    event = replace(message.event, schedules=reached)
    origin = Origin(actor=message.actor, reason=message.reason, causation_id=_cause(message))
    position = work.record(0, event, origin)
    for archive in message.archives or ():
        work.record(0, archive, replace(origin, causation_id=f"event:{position}"))
    work.answer(message.token, Accepted(0, position, ""))


def archive_range(work: UnitOfWork, message: Archive) -> None:
    """Record that a range is archived, or answer with the reason why not: records of unfinished tasks stay."""
    for task_id in work.state.tasks.open_ids():
        if task_id <= message.event.newest_task:
            work.answer(
                message.token,
                ChangedMeanwhile(
                    f"Task {task_id} is not finished, and may have records at "
                    f"{message.event.first} to {message.event.last}, which were to be archived"
                ),
            )
            return
    if message.event.first != max((one.last for one in work.state.durable.archives.values()), default=0) + 1:
        changed = ChangedMeanwhile(f"The records from {message.event.first} on have been archived meanwhile")
        work.answer(message.token, changed)
        return
    origin = Origin(actor=message.actor, reason=message.reason, causation_id=_cause(message))
    work.answer(message.token, Accepted(0, work.record(0, message.event, origin), ""))


def _cause(message: Forget | Archive) -> str:
    return f"event:{message.configured_at}" if message.configured_at else ""


def _check(work: UnitOfWork, message: Forget, task: TaskState, version: int) -> None:
    event: TasksForgotten = message.event
    rule, ended = event.rule, task.completed_at
    fits = (
        task.finished
        and task.version == version
        and task.id not in work.state.running
        and rule.older_than is not None
        and ended is not None
        and (not rule.older_than or ended + timedelta(seconds=rule.older_than) <= work.now)
        and rule.status in (None, task.status)
        and rule.type in (None, task.spec.type)
        and rule.user_id in (None, task.spec.user_id)
    )
    if not fits:
        raise ChangedMeanwhile(f"Task {task.id} has changed since it was chosen to be forgotten")


def _check_not_needed(state: SchedulerState, message: Forget) -> None:
    for task in state.tasks.special():
        if task.finished:
            continue
        for other in (*task.spec.depends_on, task.spec.parent_task_id):
            if other in message.tasks:
                raise ChangedMeanwhile(f"Task {other} was to be forgotten, and task {task.id} now refers to it")


def _check_archives(state: SchedulerState, archives: tuple[SegmentArchived, ...], event: TasksForgotten) -> None:
    """Check that each archive with a dropped record has a replacement, and is the one that was read for it."""
    replacements = {one.first: one for one in archives}
    spans = spans_of(event.positions)
    for first, archive in state.durable.archives.items():
        replacement = replacements.pop(first, None)
        if (replacement is None and overlaps(NumberRange(first, archive.last), spans)) or (
            replacement is not None and replacement.replaces != archive.sha256
        ):
            raise ChangedMeanwhile(
                f"The archive from {first} on has changed since its tasks were chosen to be forgotten"
            )
    if replacements:
        raise ChangedMeanwhile(f"There is no archive from {min(replacements)} on")
