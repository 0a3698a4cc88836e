"""The methods of operators: pauses, limits, adjustments, schedules. Whoever can `send` a command gets them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from ..events import Accepted, AdjustTask, Command
from ..events.errors import InvalidValue
from ..events.operator_commands import AddSchedule, DrainQueue, PauseQueue, RemoveSchedule, ResumeQueue, SetLimits
from ..events.values import check_plain
from .refusal import refusal

C = TypeVar("C", bound=msgspec.Struct)


class Operating(ABC):
    """Each command is durable when the method returns, and recorded with `actor` and `reason`."""

    @abstractmethod
    def send(self, command: Command) -> Accepted:
        """Any command. Raises the `TasktrailError` of a refusal."""

    def pause(self, *, type: str | None = None, user_id: int | None = None, **who: Any) -> Accepted:  # noqa: A002 - the field's name
        """Start nothing more: of all, of a type, or of a user. What runs goes on. `who`: actor, reason, command_id."""
        return self._operate(PauseQueue, {"type": type, "user_id": user_id}, who)

    def resume(self, *, type: str | None = None, user_id: int | None = None, **who: Any) -> Accepted:  # noqa: A002 - the field's name
        """Undo a pause of the same scope; without a scope also a drain."""
        return self._operate(ResumeQueue, {"type": type, "user_id": user_id}, who)

    def drain(self, **who: Any) -> Accepted:
        """Start nothing more, and record when the last attempt has ended."""
        return self._operate(DrainQueue, {}, who)

    def adjust_task(
        self,
        task_id: int,
        *,
        priority: int | None = None,
        scheduled_for: datetime | None = None,
        held: bool | None = None,
        **who: Any,
    ) -> Accepted:
        """Change a waiting task's priority or time, or hold or release it."""
        change = {"task_id": task_id, "priority": priority, "scheduled_for": scheduled_for, "held": held}
        return self._operate(AdjustTask, change, who)

    def set_limits(self, *, users: Mapping[int, int | None] | None = None, **limits: Any) -> Accepted:
        """Change what may run at once; the fields are those of `SetLimits`."""
        keyed = {str(user): number for user, number in (users or {}).items()}
        return self._operate(SetLimits, {"users": keyed, **limits}, {})

    def add_schedule(self, schedule: str, task: Mapping[str, Any], **when: Any) -> Accepted:
        """Create a task again and again. `task` holds fields of `CreateTask`, `when` those of `AddSchedule`."""
        return self._operate(AddSchedule, {"schedule": schedule, "task": dict(task), **when}, {})

    def remove_schedule(self, schedule: str, **who: Any) -> Accepted:
        """End a schedule; tasks that it has created stay."""
        return self._operate(RemoveSchedule, {"schedule": schedule}, who)

    def _operate(self, kind: type[Any], fields: dict[str, Any], who: dict[str, Any]) -> Accepted:
        given = {name: value for name, value in {"actor": "python", **fields, **who}.items() if value is not None}
        command: Command = command_from_fields(kind, given)
        return self.send(command)


def command_from_fields(kind: type[C], fields: dict[str, Any]) -> C:
    """A command of `kind` from plain values, checked. Raises `InvalidValue` or `Malformed`, naming the field."""
    try:
        return msgspec.convert({"command": kind.__struct_config__.tag, **fields}, kind)
    except UnicodeEncodeError as error:
        raise _unwritable(fields) from error
    except (msgspec.ValidationError, RecursionError) as error:
        raise refusal(error, fields, kind) from error


def _unwritable(fields: Mapping[str, Any]) -> InvalidValue:
    """Which text holds half a character: the converter does not say."""
    for name, value in fields.items():
        try:
            check_plain(value if isinstance(value, str | dict | list | tuple) else None, name)
        except InvalidValue as error:
            return error
    return InvalidValue("A text holds what UTF-8 cannot write")
