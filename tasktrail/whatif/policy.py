"""The policy of a replay: the recorded one, or the recorded one with changes."""

from typing import Annotated

import msgspec
from msgspec.structs import replace

from ..actors.core.limits import Limits, laid_over, merged
from ..actors.core.messages import Message, Submit
from ..actors.core.state import SchedulerState
from ..events import CreateTask
from ..events.commands import Count, Name, Number, SetLimits, UserKey
from ..events.system_events import LimitsChanged

MAX_ROWS = 10_000


class PolicyChange(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="command", tag="whatif"
):
    """Changes of the recorded policy. A field that is left out stays as recorded, so an empty change changes nothing.

    The limits mean what they mean in `SetLimits`, and hold from the first record to the last: where the log has a
    change of the same limit, the one asked for stays.
    """

    max_concurrent: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    workers: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    max_memory: Count | None = None
    max_temp_size: Count | None = None
    max_per_type: Count | None = None
    max_per_user: Count | None = None
    max_per_label: Count | None = None
    types: dict[Name, Number] = {}
    users: dict[UserKey, Number] = {}
    labels: dict[Name, Number] = {}
    fair_share: bool | None = None
    user_bonus: bool = True
    """False if the user's level is to raise no priority."""
    backfill_bound: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    """How many tasks may start past one that does not fit."""
    rows: Annotated[int, msgspec.Meta(ge=0, le=MAX_ROWS)] = 10
    """How many tasks are listed, those whose start moves most first."""

    @property
    def changes_nothing(self) -> bool:
        """Whether this is the recorded policy."""
        return replace(self, rows=0) == PolicyChange(rows=0)

    @property
    def limits(self) -> LimitsChanged:
        """The changed limits."""
        names = set(LimitsChanged.__struct_fields__) & set(self.__struct_fields__)
        return LimitsChanged(**{name: getattr(self, name) for name in names})


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Everything besides the log that decides: the configuration, and the changes of it."""

    configured: Limits
    workers: int
    change: PolicyChange = PolicyChange()

    @property
    def limits(self) -> Limits:
        """The limits at the beginning of the replay."""
        return laid_over(self.configured, self.change.limits)

    @property
    def slots(self) -> int:
        """How many attempts the workers can run at once."""
        return self.change.workers or self.workers

    def set_up(self, state: SchedulerState) -> None:
        """Give a state, new or folded, this policy."""
        if self.change.limits != LimitsChanged():
            state.durable.limit_changes.apply(self.change.limits, state.position)
        state.configure(self.configured)
        state.backfill_bound = self.change.backfill_bound
        if not self.change.user_bonus:
            for task_id, task in state.tasks.items():
                state.tasks[task_id] = replace(task, spec=replace(task.spec, user_level=0))

    def apply_to(self, message: Message) -> Message:
        """The recorded message as it would have been under this policy."""
        if not isinstance(message, Submit):
            return message
        match message.command:
            case CreateTask() as command if not self.change.user_bonus:
                return replace(message, command=replace(command, user_level=0))
            case SetLimits() as command if self.change.limits != LimitsChanged():
                return replace(message, command=_with_limits(command, self.change.limits))
            case _:
                return message


def _with_limits(command: SetLimits, asked: LimitsChanged) -> SetLimits:
    shared = set(LimitsChanged.__struct_fields__) & set(SetLimits.__struct_fields__)
    recorded = LimitsChanged(**{name: getattr(command, name) for name in shared})
    both = merged(recorded, asked)
    return replace(command, **{name: getattr(both, name) for name in shared})
