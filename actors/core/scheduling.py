"""Recurring schedules: what adding and removing one records, and the tasks that are created when their time comes."""

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from ...events import Created
from ...events.commands import GiveUp
from ...events.creation import check_output
from ...events.decide import decide
from ...events.errors import InvalidValue, OutputTaken
from ...events.operator_commands import AddSchedule, RemoveSchedule
from ...events.recorded import timestamp
from ...events.system_events import ScheduleAdded, ScheduleRemoved
from ...events.task_events import output_of
from ..errors import ScheduleExists, UnknownSchedule
from .dependencies import enter
from .fire_times import check, latest
from .messages import Intake
from .schedules import Schedule
from .turn import Origin, Turn

ON_TIME = timedelta(seconds=60)
"""A run that comes later than this is one that was missed."""
FIRE_TIME = "{fire_time}"
_ALONE = ("depends_on", "parent_task_id", "scheduled_for", "deadline")


def added(turn: Turn, command: AddSchedule, intake: Intake) -> ScheduleAdded:
    """What is recorded of a new schedule."""
    if command.schedule in turn.state.schedules.by_name:
        raise ScheduleExists(f"There is a schedule {command.schedule} already", field="schedule")
    for field in _ALONE:
        if getattr(command.task, field):
            raise InvalidValue(f"The task of a schedule cannot have {field}", field=f"task.{field}")
    if command.task.output_file and FIRE_TIME not in command.task.output_file and not command.task.overwrite:
        raise InvalidValue(
            "Every run but the first would find its output there already",
            field="task.output_file",
            remedy=f"Put {FIRE_TIME} into the name of the output, or set `overwrite` (CLI: --overwrite).",
        )
    (task,) = decide(None, command.task, turn.decision_facts(intake))
    assert isinstance(task, Created)
    event = ScheduleAdded(
        schedule=command.schedule,
        task=task,
        cron=command.cron.strip(),
        every=command.every,
        timezone=command.timezone,
        starting_at=(command.starting_at or turn.now).astimezone(UTC),
        missed=command.missed,
        max_missed=command.max_missed,
        added_at=turn.now if turn.stands_still else None,
    )
    check(event)
    return event


def removed(turn: Turn, command: RemoveSchedule) -> ScheduleRemoved:
    """What is recorded of the end of a schedule."""
    if command.schedule not in turn.state.schedules.by_name:
        raise UnknownSchedule(f"There is no schedule {command.schedule}", field="schedule")
    return ScheduleRemoved(schedule=command.schedule)


def fire(turn: Turn) -> None:
    """Create the tasks whose time has come.

    The time stands in `Created`, so whoever folds the log knows which runs were made: none is made twice.
    """
    schedules = turn.state.schedules
    while (schedule := schedules.take_due(turn.now)) is not None:
        name = schedule.spec.schedule
        for at in due_runs(schedule, turn.now):
            _create(turn, schedule, at)
        schedules.done(name, turn.now)


def due_runs(schedule: Schedule, now: datetime) -> list[datetime]:
    """The runs to make now: those in time, and of the missed ones as many as the schedule's policy says."""
    spec = schedule.spec
    match spec.missed:
        case "skip":
            return latest(spec, max(schedule.done_until, now - ON_TIME), now, spec.max_missed)
        case "once":
            return latest(spec, schedule.done_until, now, 1)
        case _:
            return latest(spec, schedule.done_until, now, spec.max_missed)


def _create(turn: Turn, schedule: Schedule, at: datetime) -> None:
    spec = schedule.spec
    compact = at.strftime("%Y%m%dT%H%M%SZ")
    event = replace(
        spec.task,
        schedule=spec.schedule,
        fire_time=at,
        output_file=spec.task.output_file.replace(FIRE_TIME, compact),
        output_real=spec.task.output_real.replace(FIRE_TIME, compact),
    )
    origin = Origin(
        actor=f"schedule:{spec.schedule}",
        reason=f"the run of {timestamp(at)}",
        command_id=f"schedule:{spec.schedule}:{compact}",
        causation_id=f"event:{schedule.position}",
    )
    task_id = turn.state.last_task_id + 1
    taken = _taken(turn, event)
    turn.record(task_id, event, origin)
    if taken is None:
        enter(turn, task_id, origin)
    else:  # a schedule can be refused nothing: that its run was made, and why it came to nothing, is in its history
        command = GiveUp(task_id=task_id, error=taken.message, error_type=type(taken).__name__, rule=taken.code)
        turn.record_all(task_id, decide(turn.state.tasks[task_id], command, turn.decision_facts()), origin)


def _taken(turn: Turn, event: Created) -> OutputTaken | None:
    try:
        if not event.overwrite:
            check_output(output_of(event), turn.state.outputs.first)
    except OutputTaken as error:
        return error
    return None
