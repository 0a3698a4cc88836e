"""Who may start beside whom: limits and pauses of a type, a user, a label. A gate is open or shut; the queue asks."""

from collections import Counter
from enum import StrEnum

import msgspec

from ...events import TaskState
from .admission import Limits, WaitReason
from .pauses import Pauses


class GateKind(StrEnum):
    """What a gate looks at."""

    TYPE = "type"
    USER = "user"
    LABEL = "label"


Gate = tuple[GateKind, str | int]
Gates = tuple[Gate, ...]

LIMIT_REASONS = {
    GateKind.TYPE: WaitReason.TYPE_LIMIT,
    GateKind.USER: WaitReason.USER_LIMIT,
    GateKind.LABEL: WaitReason.LABEL_LIMIT,
}


def gates_of(task: TaskState) -> Gates:
    """The gates that a task goes through. A task without a label is in no group."""
    spec = task.spec
    gates: Gates = ((GateKind.TYPE, spec.type), (GateKind.USER, spec.user_id))
    return (*gates, (GateKind.LABEL, spec.label)) if spec.label else gates


class Tally(msgspec.Struct):
    """How many attempts hold a slot, behind each gate."""

    counts: Counter[Gate] = msgspec.field(default_factory=Counter)

    def take(self, task: TaskState) -> None:
        """One more."""
        self.counts.update(gates_of(task))

    def give_back(self, task: TaskState) -> None:
        """One less; a gate that nobody is behind is forgotten."""
        for gate in gates_of(task):
            self.counts[gate] -= 1
            if not self.counts[gate]:
                del self.counts[gate]


def limit_of(gate: Gate, limits: Limits) -> int:
    """How many may run behind the gate; 0: any number. One's own number goes before the general one."""
    kind, name = gate
    match kind:
        case GateKind.TYPE:
            return limits.types.get(str(name), limits.max_per_type)
        case GateKind.USER:
            return limits.users.get(str(name), limits.max_per_user)
        case GateKind.LABEL:
            return limits.labels.get(str(name), limits.max_per_label)


def is_full(gate: Gate, limits: Limits, tally: Tally) -> bool:
    """Whether the limit is reached."""
    limit = limit_of(gate, limits)
    return bool(limit) and tally.counts[gate] >= limit


def is_shut(gate: Gate, limits: Limits, tally: Tally, pauses: Pauses) -> bool:
    """Whether nothing behind the gate may start now: its limit is reached, or it is paused."""
    return is_full(gate, limits, tally) or pauses.of(*gate) is not None
