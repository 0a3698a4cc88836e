"""The methods of operators: pauses, limits, adjustments, schedules. Whoever can `send` a command gets them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from ..events import Accepted, AdjustTask, Command
from ..events.commands import AddSchedule, DrainQueue, PauseQueue, RemoveSchedule, ResumeQueue, SetLimits
from ..events.errors import InvalidValue
from ..events.system_events import MissedRuns
from ..events.values import check_plain
from .refusal import refusal

C = TypeVar("C", bound=msgspec.Struct)


class Operating(ABC):
    """Each command is durable when the method returns, and recorded with `actor` and `reason`."""

    @abstractmethod
    def send(self, command: Command) -> Accepted:
        """Any command. Raises the `TasktrailError` of a refusal."""

    def pause(
        self,
        *,
        type: str | None = None,  # noqa: A002 - the field's name
        user_id: int | None = None,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
    ) -> Accepted:
        """Start nothing more: of all, of a type, or of a user. What runs goes on."""
        return self._operate(PauseQueue, reason, actor, command_id, type=type, user_id=user_id)

    def resume(
        self,
        *,
        type: str | None = None,  # noqa: A002 - the field's name
        user_id: int | None = None,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
    ) -> Accepted:
        """Undo a pause of the same scope; without a scope also a drain."""
        return self._operate(ResumeQueue, reason, actor, command_id, type=type, user_id=user_id)

    def drain(self, *, reason: str = "", actor: str | None = None, command_id: str | None = None) -> Accepted:
        """Start nothing more, and record when the last attempt has ended."""
        return self._operate(DrainQueue, reason, actor, command_id)

    def adjust_task(
        self,
        task_id: int,
        *,
        priority: int | None = None,
        scheduled_for: datetime | None = None,
        held: bool | None = None,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
    ) -> Accepted:
        """Change a waiting task's priority or time, or hold or release it."""
        change = {"task_id": task_id, "priority": priority, "scheduled_for": scheduled_for, "held": held}
        return self._operate(AdjustTask, reason, actor, command_id, **change)

    def set_limits(
        self,
        *,
        reset: bool = False,
        max_concurrent: int | None = None,
        max_memory: int | None = None,
        max_cpu: float | None = None,
        max_temp_size: int | None = None,
        max_per_type: int | None = None,
        max_per_user: int | None = None,
        max_per_label: int | None = None,
        types: Mapping[str, int | None] | None = None,
        users: Mapping[int, int | None] | None = None,
        labels: Mapping[str, int | None] | None = None,
        fair_share: bool | None = None,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
    ) -> Accepted:
        """Change what may run at once; what is left out stays. The fields are those of `SetLimits`."""
        keyed = None if users is None else {str(user): number for user, number in users.items()}
        return self._operate(
            SetLimits,
            reason,
            actor,
            command_id,
            reset=reset,
            max_concurrent=max_concurrent,
            max_memory=max_memory,
            max_cpu=max_cpu,
            max_temp_size=max_temp_size,
            max_per_type=max_per_type,
            max_per_user=max_per_user,
            max_per_label=max_per_label,
            types=types,
            users=keyed,
            labels=labels,
            fair_share=fair_share,
        )

    def add_schedule(
        self,
        schedule: str,
        task: Mapping[str, Any],
        *,
        cron: str = "",
        every: float | None = None,
        timezone: str = "UTC",
        starting_at: datetime | None = None,
        missed: MissedRuns = "once",
        max_missed: int = 10,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
    ) -> Accepted:
        """Create a task again and again. `task` holds fields of `CreateTask`, the others are those of `AddSchedule`."""
        return self._operate(
            AddSchedule,
            reason,
            actor,
            command_id,
            schedule=schedule,
            task=dict(task),
            cron=cron,
            every=every,
            timezone=timezone,
            starting_at=starting_at,
            missed=missed,
            max_missed=max_missed,
        )

    def remove_schedule(
        self, schedule: str, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """End a schedule; tasks that it has created stay."""
        return self._operate(RemoveSchedule, reason, actor, command_id, schedule=schedule)

    def _operate(
        self, kind: type[Any], reason: str, actor: str | None, command_id: str | None, **fields: Any
    ) -> Accepted:
        who = {"reason": reason, "actor": actor or "python", "command_id": command_id or ""}
        given = {name: value for name, value in fields.items() if value is not None}
        command: Command = command_from_fields(kind, {**given, **who})
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
