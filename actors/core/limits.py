"""The limits and the pauses that hold now. Operators' changes and pauses are folds of the log.

A limit may be about a type, a user or a label, a pause about a type or a user. The queue asks whether they keep a task
from starting.
"""

from collections import Counter
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from ...events import Fact, TaskState
from ...events.system_events import LimitsChanged, QueueDrained, QueuePaused, QueueResumed

_Name = TypeVar("_Name", str, int)
_Value = TypeVar("_Value", str, int)

UNLIMITED = 2**63 - 1
EACH = "*"
"""Stands for every name without an entry of its own."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that operators set. Bytes; CPU in percent of the whole machine."""

    max_concurrent: int = 1
    max_memory: int = UNLIMITED
    max_cpu: float = 100.0
    max_temp_size: int = UNLIMITED
    temp_low: int = 0
    """Nothing starts once less temp space than this is free."""
    temp_high: int = 0
    """After that, starts go on once this much is free again."""
    max_task_temp: int = 0
    """The most bytes of temp space that one task may use; 0 if only its estimate decides."""
    max_crashes: int = 3
    max_per_type: int = 0
    """Attempts of one type, user or label at once; 0 for any number. A limit by name takes precedence."""
    max_per_user: int = 0
    max_per_label: int = 0
    types: dict[str, int] = {}
    users: dict[str, int] = {}
    labels: dict[str, int] = {}
    rates: dict[str, str] = {}
    """`type:NAME`, `user:NAME` or `label:NAME`, with `*` for each → starts in a time, such as `10/m`."""
    windows: dict[str, tuple[str, ...]] = {}
    """Type, or `*` for each without an entry of its own → when its tasks may start, such as `22-06`."""
    windows_timezone: str = "UTC"
    fair_share: bool = False
    """Whether users take turns, whatever the priorities of their tasks."""


BYTE_LIMITS = frozenset({"max_memory", "max_temp_size", "max_task_temp", "temp_low", "temp_high"})
"""The limits that are bytes."""
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
_TABLES = ("types", "users", "labels", "rates")


class LimitChanges(msgspec.Struct):
    """The operators' changes to the configured limits, and the positions of their records."""

    merged: LimitsChanged = LimitsChanged()
    """All changes since the last reset, laid over each other."""
    positions: dict[str, dict[str, int]] = {}
    """Limit → the type, user or label that it is about, or "" → position at which it was set last."""

    def apply(self, event: LimitsChanged, position: int) -> None:
        """Fold one change."""
        if event.reset:
            self.positions = {}
        self.merged = self.with_another(event)
        for name in _PLAIN:
            if getattr(event, name) is not None:
                self.positions.setdefault(name, {})[""] = position
        for table in _TABLES:
            for name in getattr(event, table):
                self.positions.setdefault(table, {})[name] = position

    def with_another(self, event: LimitsChanged) -> LimitsChanged:
        """The merged changes after one more."""
        return merged(LimitsChanged() if event.reset else self.merged, event)

    def set_at(self, name: str, key: str = "") -> tuple[int, ...]:
        """The position at which a limit was set last; empty if it comes from the configuration."""
        position = self.positions.get(name, {}).get(key)
        return () if position is None else (position,)


def merged(old: LimitsChanged, new: LimitsChanged) -> LimitsChanged:
    """Two changes as one. If both set a limit, the newer counts."""
    plain = {name: getattr(new, name) for name in _PLAIN if getattr(new, name) is not None}
    tables = {name: {**getattr(old, name), **getattr(new, name)} for name in _TABLES}
    return replace(old, **plain, **tables)


def effective_limits(configured: Limits, changes: LimitsChanged) -> Limits:
    """The limits that follow from the configuration and the changes."""
    plain = {name: getattr(changes, name) for name in _PLAIN if getattr(changes, name) is not None}
    for name in BYTE_LIMITS & plain.keys():
        plain[name] = plain[name] or UNLIMITED
    return replace(
        configured,
        **plain,
        types=_table(configured.types, changes.types),
        users=_table(configured.users, changes.users),
        labels=_table(configured.labels, changes.labels),
        rates=rates_over(configured.rates, changes),
    )


def _table(configured: dict[str, _Value], changes: dict[str, _Value | None]) -> dict[str, _Value]:
    both = {**configured, **changes}
    return {name: value for name, value in both.items() if value is not None}


def rates_over(configured: dict[str, str], changes: LimitsChanged) -> dict[str, str]:
    """The rates that follow from the configuration and the changes."""
    return _table(configured, changes.rates)


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A pause that holds now: who ordered it, why, and the position of its record."""

    type: str | None = None
    user_id: int | None = None
    drain: bool = False
    drained: bool = False
    """Whether all attempts that ran when the drain was ordered have ended."""
    since: datetime
    actor: str
    reason: str
    position: int


class Pauses(msgspec.Struct):
    """The pauses that hold now."""

    everything: Pause | None = None
    types: dict[str, Pause] = {}
    users: dict[int, Pause] = {}

    def apply(self, fact: Fact, position: int) -> None:
        """Fold one record."""
        event = fact.event
        if isinstance(event, QueuePaused):
            pause = Pause(
                type=event.type,
                user_id=event.user_id,
                drain=event.drain,
                since=fact.recorded_at,
                actor=fact.actor,
                reason=fact.reason,
                position=position,
            )
            self._put(event, pause)
        elif isinstance(event, QueueResumed):
            self._put(event, None)
        elif isinstance(event, QueueDrained) and self.everything is not None:
            self.everything = replace(self.everything, drained=True)

    def _put(self, event: QueuePaused | QueueResumed, pause: Pause | None) -> None:
        if event.type is not None:
            self.types = _with(self.types, event.type, pause)
        elif event.user_id is not None:
            self.users = _with(self.users, event.user_id, pause)
        else:
            self.everything = pause

    def about(self, event: QueuePaused | QueueResumed) -> Pause | None:
        """The pause of the type, the user or the queue that the event is about."""
        if event.type is not None:
            return self.types.get(event.type)
        return self.everything if event.user_id is None else self.users.get(event.user_id)

    def of(self, key: "LimitKey") -> Pause | None:
        """The pause of a type or of a user. Labels have none."""
        kind, name = key
        if kind is LimitKind.TYPE:
            return self.types.get(name)  # type: ignore[arg-type]  # a type's name
        return self.users.get(name) if kind is LimitKind.USER else None  # type: ignore[arg-type]  # a user's id

    def all(self) -> tuple[Pause, ...]:
        """All pauses that hold, oldest first."""
        held = [*self.types.values(), *self.users.values()]
        held += [] if self.everything is None else [self.everything]
        return tuple(sorted(held, key=lambda pause: pause.position))


def _with(pauses: dict[_Name, Pause], name: _Name, pause: Pause | None) -> dict[_Name, Pause]:
    others = {one: held for one, held in pauses.items() if one != name}
    return others if pause is None else {**others, name: pause}


class LimitKind(StrEnum):
    """The kinds of things that may keep tasks from starting together."""

    TYPE = "type"
    USER = "user"
    LABEL = "label"
    WORKER = "worker"
    """A label that workers offer. No number is set for it: a worker is free or not."""
    NODE = "node"
    """What a task requires of a node. No number is set for it either."""


LIMIT_TABLES = {LimitKind.TYPE: "types", LimitKind.USER: "users", LimitKind.LABEL: "labels"}
"""The fields of `Limits` with the limits by name."""

LimitKey = tuple[LimitKind, str | int]
LimitKeys = tuple[LimitKey, ...]


def limit_keys_of(task: TaskState) -> LimitKeys:
    """The keys of the limits that a task comes under. A task without a label has no label limit."""
    spec = task.spec
    keys: LimitKeys = ((LimitKind.TYPE, spec.type), (LimitKind.USER, spec.user_id))
    return (*keys, (LimitKind.LABEL, spec.label)) if spec.label else keys


def queue_keys_of(task: TaskState) -> LimitKeys:
    """The same, and what the task needs of a worker and of a node. Tasks with the same keys share a bucket."""
    keys, spec = limit_keys_of(task), task.spec
    if spec.worker_label:
        keys = (*keys, (LimitKind.WORKER, spec.worker_label))
    return (*keys, (LimitKind.NODE, requirement(spec.requires))) if spec.requires else keys


def requirement(requires: dict[str, str]) -> str:
    """What a task requires of a node, as one text. Commas stand only between two labels."""
    return ",".join(f"{key}={value}" for key, value in sorted(requires.items()))


class RunningCounts(msgspec.Struct):
    """How many attempts hold a slot, of each type, user and label."""

    counts: Counter[LimitKey] = msgspec.field(default_factory=Counter)

    def take(self, task: TaskState) -> None:
        """Count one more attempt of the task."""
        self.counts.update(limit_keys_of(task))

    def give_back(self, task: TaskState) -> None:
        """Count one attempt less. A key without any left is dropped."""
        for key in limit_keys_of(task):
            self.counts[key] -= 1
            if not self.counts[key]:
                del self.counts[key]


def limit_of(key: LimitKey, limits: Limits) -> int:
    """How many may run at once; 0 means any number. A limit by name takes precedence over the general one."""
    kind, name = key
    match kind:
        case LimitKind.TYPE:
            return limits.types.get(str(name), limits.max_per_type)
        case LimitKind.USER:
            return limits.users.get(str(name), limits.max_per_user)
        case LimitKind.LABEL:
            return limits.labels.get(str(name), limits.max_per_label)
        case LimitKind.WORKER | LimitKind.NODE:
            return 0


def is_full(key: LimitKey, limits: Limits, running_counts: RunningCounts) -> bool:
    """Whether the limit is reached."""
    limit = limit_of(key, limits)
    return bool(limit) and running_counts.counts[key] >= limit


def is_closed(key: LimitKey, limits: Limits, running_counts: RunningCounts, pauses: Pauses) -> bool:
    """Whether nothing of this type, user or label may start now: its limit is reached, or it is paused."""
    return is_full(key, limits, running_counts) or pauses.of(key) is not None
