"""A form of several groups of fields: its fields, the typed values, and what is wrong with them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from ..api.protocol import TypeInfo
from ..events import CreateTask, Task, TasktrailError
from .fields import Field, FormFields

PATHS = ("input_file", "output_file")
_FIRST = ("priority", "user_id", "label", "held", "overwrite")
"""Fields that many people set; the others are folded."""
ONCE = ("scheduled_for", "deadline", "depends_on", "on_dependency_failure", "parent_task_id")
"""Fields of a single task only: a schedule has its own times, and its tasks stand alone."""
_REASON = ("reason",)
_OWN = (*ONCE, "held", "estimated_time", "resumable")
"""Fields that are not copied to another task like this one: its times have passed, and estimates are made anew."""

Errors = dict[str, dict[str, str]]
"""Section → field → sentence."""


class SentForm(msgspec.Struct, frozen=True):
    """A form that was sent and not accepted: the typed values, and what is wrong with them."""

    typed: Mapping[str, str] | None = None
    errors: Errors = {}
    problem: TasktrailError | None = None
    """An error that is about no field."""

    @property
    def status(self) -> int:
        """The status of the answer that shows the form again."""
        return self.problem.status if self.problem else 400 if self.errors else 200


UNTRIED = SentForm()


class Form:
    """Groups of fields, by the name of their section."""

    def __init__(self, sections: Mapping[str, FormFields]) -> None:
        self._sections = sections

    def shown(self, tried: SentForm = UNTRIED) -> dict[str, list[Field]]:
        """The fields of each section."""
        return {name: fields.shown(tried.typed, tried.errors.get(name, {})) for name, fields in self._sections.items()}

    def read(self, typed: Mapping[str, str], now: datetime) -> tuple[dict[str, dict[str, Any]], Errors]:
        """Return the values of each section without defaults, and all errors."""
        values: dict[str, dict[str, Any]] = {}
        errors: Errors = {}
        for name, fields in self._sections.items():
            values[name], wrong = fields.read(typed, now)
            if wrong:
                errors[name] = wrong
        return values, errors

    def typed(self, values: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Return the texts that one would type to give these values, section by section."""
        return {
            name: text
            for section, fields in self._sections.items()
            for name, text in fields.typed(values.get(section, {})).items()
        }

    def refused(self, typed: Mapping[str, str], error: TasktrailError) -> SentForm:
        """Return the form with the refusal beside the field that it is about, if it is about one."""
        errors = {name: found for name, fields in self._sections.items() if (found := fields.error_of(error))}
        return SentForm(typed, errors, None if errors else error)


def wrong_fields(sections: Mapping[str, Sequence[Field]]) -> list[Field]:
    """Return the fields with an error, in the order of the form: links to them stand above it."""

    def wrong(fields: Sequence[Field]) -> list[Field]:
        return [found for field in fields for found in ([field] if field.error else []) + wrong(field.fields)]

    return [field for fields in sections.values() for field in wrong(fields)]


def task_sections(
    info: TypeInfo, options: type[msgspec.Struct], *, once: bool = True, bound: bool = False
) -> dict[str, FormFields]:
    """The sections of a form for a new task.

    Args:
        info: its type.
        options: the Struct of the type's options.
        once: whether the form is for a single task, not for those of a schedule.
        bound: whether the user is given, because the caller is bound to one.
    """
    hidden = (*PATHS, *_REASON, *(() if once else ONCE), *(("user_id",) if bound else ()))
    needed = (info.needs_input, info.needs_output)
    paths = [name for name, needs in zip(PATHS, needed, strict=True) if needs]
    more = [name for name in PATHS if name not in paths]
    more += [name for name in described_fields(CreateTask) if name not in (*hidden, *_FIRST)]
    task = "" if once else "task."  # where it is in the command
    return {
        "paths": FormFields(CreateTask, paths, required=paths, within=task),
        "options": FormFields(options, prefix="options.", within=f"{task}options."),
        "first": FormFields(CreateTask, [name for name in _FIRST if name not in hidden], within=task),
        "more": FormFields(CreateTask, more, within=task),
        "reason": FormFields(CreateTask, _REASON),
    }


def filled_fields(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fields of a task that the sections give, without its type."""
    plain = {field: value for name in ("paths", "first", "more") for field, value in values[name].items()}
    return plain | ({"options": values["options"]} if values["options"] else {})


def task_typed(task: Task, form: Form) -> dict[str, str]:
    """Return the texts that one would type to ask for a task like this one."""
    fields = msgspec.to_builtins(task)
    plain = {name: fields[name] for name in CreateTask.__struct_fields__ if name in fields and name not in _OWN}
    return form.typed({"paths": plain, "first": plain, "more": plain, "options": fields["options"]})


def described_fields(kind: type[msgspec.Struct]) -> list[str]:
    """Return the fields of a command that have a description."""
    return [
        field.name
        for field in msgspec.structs.fields(kind)
        if any(isinstance(note, msgspec.Meta) and note.extra for note in getattr(field.type, "__metadata__", ()))
    ]
