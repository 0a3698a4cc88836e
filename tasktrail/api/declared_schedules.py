"""Schedules that task types declare in code. When a service starts, it makes its schedules agree with the code.

It changes only schedules that came from code: their actor names the declaration, such as `code:app:clean_up`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..actors.logger import get_logger
from ..events import Command, CreateTask, TasktrailError
from ..events.commands import AddSchedule, RemoveSchedule
from ..events.errors import NothingToChange
from ..handlers.registry import Registry

if TYPE_CHECKING:
    from ..actors.core.board import ScheduleBoard
    from .service import TaskService

logger = get_logger()

_CODE = "code:"


def apply_declared_schedules(service: "TaskService", registry: Registry) -> None:
    """Add new schedules, change those that have changed, remove those no longer declared. Failures are logged."""
    try:
        commands = list(_changes(service.schedules(), registry))
        answers = service.send_many(commands) if commands else []
    except TasktrailError as error:
        logger.error("the schedules that the code declares could not be looked at", error=str(error))  # noqa: TRY400 - the error says enough
        return
    for command, answer in zip(commands, answers, strict=True):
        if isinstance(answer, TasktrailError) and not isinstance(answer, NothingToChange):
            name = command.schedule if isinstance(command, AddSchedule | RemoveSchedule) else ""
            logger.error("a schedule that the code declares could not be set", schedule=name, error=str(answer))


def _changes(there: "list[ScheduleBoard]", registry: Registry) -> Iterator[Command]:
    actors = {board.schedule: board.actor for board in there}
    homes = registry.homes()
    declared = {task_type.name: task_type.periodic for task_type in registry if task_type.periodic is not None}
    for name, periodic in declared.items():
        actor = actors.get(name, _CODE)
        if not actor.startswith(_CODE):
            logger.warning("a schedule that the code declares is left out: one made by hand has its name",
                           schedule=name, made_by=actor, declared_in=homes[name])  # fmt: skip
            continue
        yield AddSchedule(
            schedule=name,
            task=CreateTask(type=name),
            cron=periodic.cron,
            every=periodic.every,
            timezone=periodic.timezone,
            missed=periodic.missed,
            replace=True,
            actor=f"{_CODE}{homes[name]}",
            reason="as the code declares it",
        )
    broken = {home.partition(":")[0] for home in registry.failed}
    for name, actor in actors.items():
        if actor.startswith(_CODE) and name not in declared and actor.split(":")[1] not in broken:
            yield RemoveSchedule(schedule=name, actor=actor, reason="the code declares it no longer")
