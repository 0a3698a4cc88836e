"""What operators can wish of the service as a whole. Each is recorded on the system stream, with actor and reason.

Like the commands on tasks they may be refused, and then nothing is recorded.
"""

from datetime import datetime
from typing import Annotated, TypeAlias

import msgspec

from .commands import BaseCommand, Count, CreateTask, TaskCommand, Text
from .system_events import MissedRuns

MAX_MISSED = 100
"""Missed runs of a schedule that may be made up for at once."""

Number: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
UserKey: TypeAlias = Annotated[
    str, msgspec.Meta(pattern="^(0|[1-9][0-9]{0,15})$", description='a user\'s number, such as "7"')
]
"""A user's number, as a key of a JSON object is written."""
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

ScheduleName: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(?!\.\.?$)[^/]+$",
        min_length=1,
        max_length=200,
        description="a name without `/`, and not `.` or `..`",
    ),
]
"""A new schedule's name, as it can stand in an address. One that a log has already may be otherwise."""


class _OnService(BaseCommand, frozen=True, kw_only=True, omit_defaults=True):
    command_id: Annotated[str, msgspec.Meta(max_length=200)] = ""
    actor: Text = ""
    reason: Text = ""
    correlation_id: Text = ""


class SetLimits(_OnService, frozen=True, kw_only=True, tag="set_limits"):
    """Change what may run at once. What is left out stays.

    A number for one type, user or label goes before the general one.
    `reset` first forgets all earlier changes, so that the configuration holds again.
    """

    reset: bool = False
    max_concurrent: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    max_memory: Count | None = None
    """Bytes; 0: no limit. So are those below."""
    max_cpu: Annotated[float, msgspec.Meta(ge=1, le=100)] | None = None
    max_temp_size: Count | None = None
    max_per_type: Count | None = None
    max_per_user: Count | None = None
    max_per_label: Count | None = None
    types: dict[Name, Number | None] = msgspec.field(default_factory=dict)
    """Type → how many may run; null takes the number away."""
    users: dict[UserKey, Number | None] = msgspec.field(default_factory=dict)
    labels: dict[Name, Number | None] = msgspec.field(default_factory=dict)
    fair_share: bool | None = None


class PauseQueue(_OnService, frozen=True, kw_only=True, tag="pause_queue"):
    """Start nothing more: of all, or of a type, or of a user. What runs goes on."""

    type: Name | None = None
    user_id: Count | None = None


class ResumeQueue(_OnService, frozen=True, kw_only=True, tag="resume_queue"):
    """Undo a pause of the same scope; without a scope also a drain."""

    type: Name | None = None
    user_id: Count | None = None


class DrainQueue(_OnService, frozen=True, kw_only=True, tag="drain_queue"):
    """Pause everything, and record when the last attempt has ended."""


class AddSchedule(_OnService, frozen=True, kw_only=True, tag="add_schedule"):
    """Create a task again and again: at the times of a cron expression, or every so many seconds."""

    schedule: ScheduleName
    """Its name; a schedule that exists must be removed first."""
    task: CreateTask
    """What is created. `{fire_time}` in its output file becomes the time, as `20260801T220000Z`."""
    cron: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Five fields as in Debian's cron, or six with seconds first."""
    every: Annotated[float, msgspec.Meta(ge=1, le=10 * 365 * 86400)] | None = None
    """Seconds between runs, by elapsed time, counted from `starting_at`."""
    timezone: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] = "UTC"
    """IANA name of the zone that the cron expression is read in."""
    starting_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    """No run before; by default the moment it is added."""
    missed: MissedRuns = "once"
    """What to do about runs whose time passed while no service ran: `skip`, `once` (the latest), `all`."""
    max_missed: Annotated[int, msgspec.Meta(ge=1, le=MAX_MISSED)] = 10
    """With `all`: at most so many, the latest ones."""


class RemoveSchedule(_OnService, frozen=True, kw_only=True, tag="remove_schedule"):
    """End a schedule. Tasks that it has created stay."""

    schedule: Name


OperatorCommand: TypeAlias = SetLimits | PauseQueue | ResumeQueue | DrainQueue | AddSchedule | RemoveSchedule

Command: TypeAlias = TaskCommand | OperatorCommand
"""Everything that can be sent."""
