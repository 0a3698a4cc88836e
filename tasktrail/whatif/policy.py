"""The policy of a replay: the recorded one, or the recorded one with changes."""

import msgspec
from msgspec.structs import replace

from ..actors.core.limits import Limits, effective_limits, merged
from ..actors.core.messages import Message, Submit
from ..actors.core.rates import Rates
from ..actors.core.routing import offers_of
from ..actors.core.state import SchedulerState
from ..events import CreateTask
from ..events.commands import SetLimits
from ..events.reports import CapacityChanged
from ..events.system_events import LimitsChanged
from .question import PolicyChange


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Everything besides the log on which decisions depend: the configuration, and the changes of it."""

    configured: Limits
    workers: int
    worker_labels: dict[str, int] = {}
    change: PolicyChange = PolicyChange()

    @property
    def limits(self) -> Limits:
        """The limits at the beginning of the replay."""
        return effective_limits(self.configured, self.change.limits)

    @property
    def slots(self) -> int:
        """How many attempts the workers can run at once."""
        return self.change.workers or self.workers

    def capacity(self, slots: int) -> CapacityChanged:
        """Return the workers' report when `slots` of them are ready."""
        return CapacityChanged(slots, offers_of(self.worker_labels | self.change.worker_labels, slots))

    def set_up(self, state: SchedulerState) -> None:
        """Give a state, new or folded, this policy."""
        state.durable.configured_rates = self.configured.rates
        if self.change.limits != LimitsChanged():
            state.durable.limit_changes.apply(self.change.limits, state.position)
        state.configure(self.configured)
        state.rates = Rates(state.limits.rates)
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
