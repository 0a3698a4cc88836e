"""The defaults of a task type for fields that the command for a new task leaves out."""

from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from ..events import Command, CreateGraph, CreateTask
from ..events.commands import AddSchedule, TaskFields
from ..handlers.registry import Registry

F = TypeVar("F", bound=TaskFields)

FIELD_DEFAULTS: dict[str, Any] = {
    field.name: field.default_factory() if callable(field.default_factory) else field.default
    for field in msgspec.structs.fields(TaskFields)
    if not field.required
}
"""The usual value of each field that may be left out. Those of `options` and `requires` are made by a factory."""


def with_type_defaults(command: Command, registry: Registry) -> Command:
    """Put the type's defaults into the fields that have their usual value.

    In a Struct a field that was left out looks like one that was given its usual value, so both get the default.
    """
    match command:
        case CreateTask():
            return filled(command, registry)
        case AddSchedule():
            return replace(command, task=filled(command.task, registry))
        case CreateGraph():
            return replace(command, tasks=tuple(filled(task, registry) for task in command.tasks))
    return command


RECEIVERS = ("notify_email", "notify_webhook", "callback_url", "notify_on", "notify_targets")
"""Fields that say who is told of a task, and of what."""


def names_receivers(task: TaskFields) -> bool:
    """Whether the task says who is told of it, or of what."""
    return any(getattr(task, field) for field in RECEIVERS)


def filled(task: F, registry: Registry) -> F:
    """Put the type's defaults into the fields of a new task that have their usual value."""
    defaults = registry.get(task.type).defaults
    if not defaults:
        return task
    return replace(
        task, **{name: value for name, value in defaults.items() if getattr(task, name) == FIELD_DEFAULTS[name]}
    )
