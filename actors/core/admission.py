"""May this task start now? Checks and reserves are one step of the Scheduler, so two tasks never pass the same check.

The seed's ResourceMonitor: `CanExecute` is `obstacles(…) == ()`, `AllocateResources` and `ReleaseResources` are
`Reserved.take` and `Reserved.give_back`. Not enough resources is a wait, never an error of the task.
"""

from enum import StrEnum
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from ...events import AdjustTask, RetryTask, StartTask, TaskState
from ...events.operator_commands import ResumeQueue, SetLimits

UNLIMITED = 2**63 - 1
QUOTA_FLOOR = 1024**3
QUOTA_FACTOR = 3
"""A task's temp quota is so many times its estimate, and no less than the floor: guesses are only guesses."""


class WaitReason(StrEnum):
    """Why a task is not running."""

    DEPENDENCY = "Dependency"
    DEPENDENCY_FAILED = "DependencyFailed"
    NOT_BEFORE = "NotBefore"
    RETRY_DELAY = "RetryDelay"
    CONCURRENCY_LIMIT = "ConcurrencyLimit"
    TYPE_LIMIT = "TypeLimit"
    USER_LIMIT = "UserLimit"
    LABEL_LIMIT = "LabelLimit"
    PAUSED = "Paused"
    MEMORY = "Memory"
    CPU = "Cpu"
    TEMP_SPACE = "TempSpace"
    HIGHER_PRIORITY = "HigherPriority"
    HELD = "Held"
    STOPPING = "Stopping"
    NO_HANDLER = "NoHandler"
    SHUTTING_DOWN = "ShuttingDown"


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


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine said last. Bytes; CPU in percent of the whole machine."""

    cpu_percent: float = 0.0
    memory_available: int = UNLIMITED
    temp_free: int = UNLIMITED
    memory_total: int = UNLIMITED
    temp_total: int = UNLIMITED
    """Of the disk, others' files included."""
    disk_low: bool = False
    """Temp space fell below the low mark and has not reached the high one since. Found by the Scheduler."""

    def after(self, before: "Sample", limits: Limits) -> "Sample":
        """This sample, with the mark of the one before: between low and high nothing changes."""
        mark = max(limits.temp_low, limits.temp_high) if before.disk_low else limits.temp_low
        return replace(self, disk_low=self.temp_free < mark)


class Reserved(msgspec.Struct):
    """What running tasks have been promised, and how the last sample differs: it has not seen starts and ends since."""

    memory: int = 0
    temp: int = 0
    unseen_memory: int = 0
    unseen_temp: int = 0
    gone_memory: int = 0
    gone_temp: int = 0
    """Of tasks that have ended: the sample shows it as used."""

    def take(self, task: TaskState) -> None:
        """Promise a task what it is expected to need."""
        self.memory += task.memory_needed
        self.temp += task.temp_needed
        self.unseen_memory += task.memory_needed
        self.unseen_temp += task.temp_needed

    def give_back(self, task: TaskState, *, seen: bool = False) -> None:
        """The task needs nothing more. `seen`: a sample was taken since it started."""
        self.memory -= task.memory_needed
        self.temp -= task.temp_needed
        if seen:
            self.gone_memory += task.memory_needed
            self.gone_temp += task.temp_needed
        else:
            self.unseen_memory -= task.memory_needed
            self.unseen_temp -= task.temp_needed

    def sampled(self) -> None:
        """What runs is part of the newest sample, and nothing else of ours is."""
        self.unseen_memory = self.unseen_temp = self.gone_memory = self.gone_temp = 0

    @property
    def more_to_come(self) -> bool:
        """Whether the next sample will show that something was given back."""
        return self.gone_memory > 0 or self.gone_temp > 0


Lifting: TypeAlias = AdjustTask | ResumeQueue | RetryTask | SetLimits | StartTask


class Obstacle(msgspec.Struct, frozen=True):
    """One reason why a task waits, with the numbers behind it."""

    reason: WaitReason
    detail: str
    """In words."""
    lifts: str = ""
    """What would take it away, in words."""
    numbers: dict[str, float] = {}
    evidence: tuple[int, ...] = ()
    """Positions of the log that it rests on; none where it rests on the machine or the configuration."""
    tasks: tuple[int, ...] = ()
    """Other tasks that it is about."""
    commands: tuple[Lifting, ...] = ()
    """What can be sent as it is to take it away; none where only time or the machine can."""


def obstacles(task: TaskState, limits: Limits, sample: Sample, reserved: Reserved) -> tuple[Obstacle, ...]:
    """What the machine's resources say against starting the task now; empty when nothing does."""
    found = []
    memory, temp = task.memory_needed, task.temp_needed
    if reserved.memory + memory > limits.max_memory:
        found.append(_over(WaitReason.MEMORY, reserved.memory + memory, memory, limits.max_memory, "max_memory"))
    if reserved.unseen_memory + memory > sample.memory_available:
        left = sample.memory_available - reserved.unseen_memory
        found.append(_lack(WaitReason.MEMORY, memory, left, "the machine"))
    if sample.cpu_percent > limits.max_cpu:
        found.append(_busy(sample.cpu_percent, limits.max_cpu))
    if reserved.temp + temp > limits.max_temp_size:
        found.append(_over(WaitReason.TEMP_SPACE, reserved.temp + temp, temp, limits.max_temp_size, "max_temp_size"))
    if reserved.unseen_temp + temp > sample.temp_free:
        found.append(_lack(WaitReason.TEMP_SPACE, temp, sample.temp_free - reserved.unseen_temp, "the disk"))
    if sample.disk_low:
        found.append(_disk_low(sample.temp_free, max(limits.temp_low, limits.temp_high)))
    return tuple(found)


def fits(task: TaskState, limits: Limits, sample: Sample, reserved: Reserved) -> bool:
    """Whether there are no `obstacles`, found without a word: it is asked of many tasks at each step."""
    memory, temp = task.memory_needed, task.temp_needed
    return (
        reserved.memory + memory <= limits.max_memory
        and reserved.unseen_memory + memory <= sample.memory_available
        and reserved.temp + temp <= limits.max_temp_size
        and reserved.unseen_temp + temp <= sample.temp_free
        and not stands_against_all(sample, limits)
    )


def stands_against_all(sample: Sample, limits: Limits) -> bool:
    """Whether the machine bears no further task, whatever it needs."""
    return sample.cpu_percent > limits.max_cpu or sample.disk_low


def temp_quota(task: TaskState, limits: Limits) -> int:
    """Bytes of temp space at which a running task is stopped; 0: none, for nothing is known of it."""
    by_estimate = max(QUOTA_FLOOR, QUOTA_FACTOR * task.temp_needed) if task.temp_needed else 0
    return min(filter(None, (by_estimate, limits.max_task_temp)), default=0)


def is_too_big(task: TaskState, limits: Limits, sample: Sample) -> bool:
    """Whether the task could not start even on a machine that does nothing else."""
    return bool(above_all(task.memory_needed, task.temp_needed, limits, sample))


def above_all(memory: int, temp: int, limits: Limits, sample: Sample) -> str:
    """In words, which of these bytes are more than there could ever be; empty when none are."""
    ceilings = (
        ("memory", memory, limits.max_memory, "max_memory is"),
        ("memory", memory, sample.memory_total, "the machine has"),
        ("temp space", temp, limits.max_temp_size, "max_temp_size is"),
        ("temp space", temp, sample.temp_total, "the disk has"),
    )
    over = (
        f"it needs {needed:,} bytes of {what}, and {whose} {most:,}"
        for what, needed, most, whose in ceilings
        if needed > most
    )
    return next(over, "")


def _over(reason: WaitReason, together: int, needed: int, limit: int, name: str) -> Obstacle:
    """With the task, `together` bytes would be promised, and the limit `name` is lower."""
    lack = _lack(reason, needed, limit - together + needed, name)
    higher: dict[str, Any] = {name: together}
    return replace(lack, commands=(SetLimits(**higher),))


def _lack(reason: WaitReason, needed: int, left: int, owner: str) -> Obstacle:
    missing = needed - left  # more than the need, when more is promised than there is by now
    left = max(0, left)
    return Obstacle(
        reason,
        f"needs {needed:,} bytes, {left:,} are left of {owner}",
        f"{missing:,} bytes more of {owner}",
        {"needed": needed, "left": left, "missing": missing},
    )


def _busy(used: float, limit: float) -> Obstacle:
    return Obstacle(
        WaitReason.CPU,
        f"{used:.0f} % is used, max_cpu is {limit:.0f} %",
        f"a sample of at most {limit:g} %, or a higher max_cpu",
        {"used": used, "limit": limit},
        commands=(SetLimits(max_cpu=100.0),),
    )


def _disk_low(free: int, high: int) -> Obstacle:
    return Obstacle(
        WaitReason.TEMP_SPACE,
        f"temp space has run low: {free:,} bytes are free, and nothing starts until there are {high:,}",
        f"{max(0, high - free):,} bytes more of free temp space",
        {"free": free, "until": high},
    )
