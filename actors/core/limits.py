"""What operators allow: the limits that hold now, and the pauses. Both are folds of the log.

A limit or a pause may be about one type, one user or one label. The queue asks whether it keeps a task from starting.
"""

from collections import Counter
from datetime import datetime
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from ...events import Fact, TaskState
from ...events.system_events import LimitsChanged, QueueDrained, QueuePaused, QueueResumed

UNLIMITED = 2**63 - 1


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator allows. Bytes; CPU in percent of the whole machine."""

    max_concurrent: int = 1
    max_memory: int = UNLIMITED
    max_cpu: float = 100.0
    max_temp_size: int = UNLIMITED
    temp_low: int = 0
    """With less free temp space than this nothing starts, …"""
    temp_high: int = 0
    """… until there is so much again."""
    max_task_temp: int = 0
    """Bytes of temp space one task may use at most; 0: by its estimate alone."""
    max_crashes: int = 3
    max_per_type: int = 0
    """Attempts of one type, user or label at once; 0: any number. A number of its own goes before it."""
    max_per_user: int = 0
    max_per_label: int = 0
    types: dict[str, int] = {}
    users: dict[str, int] = {}
    labels: dict[str, int] = {}
    fair_share: bool = False
    """Whether users take turns, whatever the priorities."""


_BYTES = frozenset({"max_memory", "max_temp_size"})
_PLAIN = (
    "max_concurrent",
    "max_memory",
    "max_cpu",
    "max_temp_size",
    "max_per_type",
    "max_per_user",
    "max_per_label",
    "fair_share",
)
_TABLES = ("types", "users", "labels")


class LimitBook:
    """What is configured, what was changed and where that is recorded, and what follows from both."""

    def __init__(self, configured: Limits) -> None:
        self.configured = configured
        self.changes = LimitsChanged()
        """All changes since the last reset, laid over each other."""
        self.now = configured
        self.positions: dict[tuple[str, str], int] = {}
        """(limit, name in its table or nothing) → where it was set last."""

    def configure(self, configured: Limits) -> None:
        """Another configuration; the changes stay on top of it."""
        self.configured = configured
        self.now = laid_over(configured, self.changes)

    def restore(self, changes: LimitsChanged, positions: dict[tuple[str, str], int]) -> None:
        """The changes as they were folded before."""
        self.changes, self.positions = changes, positions
        self.now = laid_over(self.configured, changes)

    def apply(self, event: LimitsChanged, position: int) -> None:
        """Fold one change."""
        if event.reset:
            self.positions = {}
        self.changes = self.changed_by(event)
        for name in _PLAIN:
            if getattr(event, name) is not None:
                self.positions[name, ""] = position
        for table in _TABLES:
            self.positions.update({(table, name): position for name in getattr(event, table)})
        self.now = laid_over(self.configured, self.changes)

    def changed_by(self, event: LimitsChanged) -> LimitsChanged:
        """What the changes come to with one more."""
        return merged(LimitsChanged() if event.reset else self.changes, event)

    def recorded(self, name: str, key: str = "") -> tuple[int, ...]:
        """Where a limit was set last; empty when it is configured."""
        position = self.positions.get((name, key))
        return () if position is None else (position,)


def merged(old: LimitsChanged, new: LimitsChanged) -> LimitsChanged:
    """Two changes as one; the newer wins."""
    plain = {name: getattr(new, name) for name in _PLAIN if getattr(new, name) is not None}
    tables = {name: {**getattr(old, name), **getattr(new, name)} for name in _TABLES}
    return replace(old, **plain, **tables)


def laid_over(configured: Limits, changes: LimitsChanged) -> Limits:
    """The limits that follow from the configuration and the changes."""
    plain = {name: getattr(changes, name) for name in _PLAIN if getattr(changes, name) is not None}
    for name in _BYTES & plain.keys():
        plain[name] = plain[name] or UNLIMITED
    return replace(
        configured,
        **plain,
        types=_table(configured.types, changes.types),
        users=_table(configured.users, changes.users),
        labels=_table(configured.labels, changes.labels),
    )


def _table(configured: dict[str, int], changes: dict[str, int | None]) -> dict[str, int]:
    both = {**configured, **changes}
    return {name: number for name, number in both.items() if number is not None}


Scope = tuple[str, str | int]
EVERYTHING: Scope = ("all", "")


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A pause that holds now: who wanted it, why, and where it is recorded."""

    type: str | None = None
    user_id: int | None = None
    drain: bool = False
    drained: bool = False
    """Nothing has run since the drain was asked for."""
    since: datetime
    actor: str
    reason: str
    position: int


class Pauses:
    """The pauses that hold now, by scope."""

    def __init__(self) -> None:
        self.held: dict[Scope, Pause] = {}

    def apply(self, fact: Fact, position: int) -> None:
        """Fold one record."""
        event = fact.event
        if isinstance(event, QueuePaused):
            self.held[scope_of(event)] = Pause(
                type=event.type,
                user_id=event.user_id,
                drain=event.drain,
                since=fact.recorded_at,
                actor=fact.actor,
                reason=fact.reason,
                position=position,
            )
        elif isinstance(event, QueueResumed):
            self.held.pop(scope_of(event), None)
        elif isinstance(event, QueueDrained) and self.everything is not None:
            self.held[EVERYTHING] = msgspec.structs.replace(self.everything, drained=True)

    @property
    def everything(self) -> Pause | None:
        """The pause of the whole queue, if it is paused."""
        return self.held.get(EVERYTHING)

    def of(self, kind: str, name: str | int) -> Pause | None:
        """The pause of a type or of a user."""
        return self.held.get((kind, name))

    def all(self) -> tuple[Pause, ...]:
        """All that hold, oldest first."""
        return tuple(sorted(self.held.values(), key=lambda pause: pause.position))


def scope_of(event: QueuePaused | QueueResumed | Pause) -> Scope:
    """What a pause is about, or its end."""
    if event.type is not None:
        return ("type", event.type)
    return EVERYTHING if event.user_id is None else ("user", event.user_id)


class LimitKind(StrEnum):
    """What a limit of its own may be about."""

    TYPE = "type"
    USER = "user"
    LABEL = "label"


LimitKey = tuple[LimitKind, str | int]
LimitKeys = tuple[LimitKey, ...]


def limit_keys_of(task: TaskState) -> LimitKeys:
    """What the limits that a task comes under are about. A task without a label has no label limit."""
    spec = task.spec
    keys: LimitKeys = ((LimitKind.TYPE, spec.type), (LimitKind.USER, spec.user_id))
    return (*keys, (LimitKind.LABEL, spec.label)) if spec.label else keys


class RunningCounts(msgspec.Struct):
    """How many attempts hold a slot, of each type, user and label."""

    counts: Counter[LimitKey] = msgspec.field(default_factory=Counter)

    def take(self, task: TaskState) -> None:
        """One more."""
        self.counts.update(limit_keys_of(task))

    def give_back(self, task: TaskState) -> None:
        """One less; what has none left is forgotten."""
        for key in limit_keys_of(task):
            self.counts[key] -= 1
            if not self.counts[key]:
                del self.counts[key]


def limit_of(key: LimitKey, limits: Limits) -> int:
    """How many may run at once; 0 means any number. A limit by name goes before the general one."""
    kind, name = key
    match kind:
        case LimitKind.TYPE:
            return limits.types.get(str(name), limits.max_per_type)
        case LimitKind.USER:
            return limits.users.get(str(name), limits.max_per_user)
        case LimitKind.LABEL:
            return limits.labels.get(str(name), limits.max_per_label)


def is_full(key: LimitKey, limits: Limits, running_counts: RunningCounts) -> bool:
    """Whether the limit is reached."""
    limit = limit_of(key, limits)
    return bool(limit) and running_counts.counts[key] >= limit


def is_closed(key: LimitKey, limits: Limits, running_counts: RunningCounts, pauses: Pauses) -> bool:
    """Whether nothing of this type, user or label may start now: its limit is reached, or it is paused."""
    return is_full(key, limits, running_counts) or pauses.of(*key) is not None
