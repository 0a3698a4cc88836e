"""Checks whether the machine's resources suffice for a task, and reserves them, both in one step of the Scheduler.

This is the seed's ResourceMonitor: `CanExecute` is `fits`, `AllocateResources` and `ReleaseResources` are
`Reserved.take` and `Reserved.give_back`. Too few resources are a reason to wait, never an error of the task. A task
that would not fit even if none of our attempts ran is set aside, and no resources are kept for it.
"""

from collections.abc import Hashable, Iterable, Iterator
from heapq import heapify, heappush
from typing import Literal, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from ...events import TaskState
from ...events.priority import queue_key
from .limits import UNLIMITED, Limits

QUOTA_FLOOR = 1024**3
QUOTA_FACTOR = 3
"""A task's temp quota is this many times its estimate, and no less than the floor: an estimate may be wrong."""


class MachineSample(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine has free. Bytes; CPU in percent of the whole machine."""

    cpu_percent: float = 0.0
    memory_available: int = UNLIMITED
    temp_free: int = UNLIMITED
    memory_total: int = UNLIMITED
    temp_total: int = UNLIMITED
    """The size of the disk, including what other files take."""
    disk_low: bool = False
    """Temp space fell below the low mark and has not reached the high one since. The Scheduler sets it."""

    def after(self, before: "MachineSample", limits: Limits) -> "MachineSample":
        """This sample with `disk_low` set: between the low and the high mark it stays as it was before."""
        mark = max(limits.temp_low, limits.temp_high) if before.disk_low else limits.temp_low
        return replace(self, disk_low=self.temp_free < mark)


class Used(NamedTuple):
    """How many of the bytes reserved for an attempt the last sample shows as used."""

    memory: int = 0
    temp: int = 0
    beyond: int = 0
    """Bytes of memory that it has besides. What several processes share is measured several times."""
    unmeasured: int = 0
    """Bytes of memory that the sample may show as used as well: it is newer than the last measurement on its node."""


NOTHING_USED = Used()
"""By an attempt that has started since the last sample."""


def used_of(task: TaskState, memory: int | None = None, temp: int | None = None) -> Used:
    """What an attempt of the task uses of its reservation, by these bytes. None, or a negative `temp`: all of it."""
    all_memory, all_temp = task.memory_needed, task.temp_needed
    if memory is None:
        memory = all_memory
    return Used(
        min(memory, all_memory),
        all_temp if temp is None or temp < 0 else min(temp, all_temp),
        max(0, memory - all_memory),
    )


class Reserved(msgspec.Struct):
    """What is reserved for running tasks, and how much of it the last sample does not show as used."""

    memory: int = 0
    temp: int = 0
    unused_memory: int = 0
    unused_temp: int = 0
    """Reserved, and still among what the last sample found free."""
    beyond: int = 0
    """Bytes of memory that running attempts have beyond what was reserved for them, by the last sample."""
    unmeasured: int = 0
    """Bytes of memory that the last sample may show as used by them, besides those that were measured."""
    gone_memory: int = 0
    gone_temp: int = 0
    """Freed by tasks that have ended, while the last sample still shows it as used."""

    def take(self, task: TaskState) -> None:
        """Reserve the resources that a task is expected to need."""
        self._add(task, NOTHING_USED, 1)

    def give_back(self, task: TaskState, used: Used) -> None:
        """Free what was reserved for a task that has ended. `used`: of that, by the last sample."""
        self._add(task, used, -1)
        self.gone_memory += used.memory + used.beyond + used.unmeasured
        self.gone_temp += used.temp

    def change(self, before: TaskState, now: TaskState, used: Used) -> Used:
        """Reserve for a running attempt what it needs now, and return what it uses of that. `used`: of it before."""
        used_now = used_of(now, used.memory + used.beyond, used.temp)
        used_now = used_now._replace(unmeasured=min(used.unmeasured, now.memory_needed))
        self._add(before, used, -1)
        self._add(now, used_now, 1)
        return used_now

    def show(self, used: Used) -> None:
        """Take account of the use of a running attempt by the last sample."""
        self.unused_memory -= used.memory
        self.unused_temp -= used.temp
        self.beyond += used.beyond
        self.unmeasured += used.unmeasured

    def sampled(self, running: Iterable[Used]) -> None:
        """Take account of a new sample, which shows what the running attempts use, and nothing of those that ended."""
        self.unused_memory, self.unused_temp = self.memory, self.temp
        self.gone_memory = self.gone_temp = self.beyond = self.unmeasured = 0
        for used in running:
            self.show(used)

    def _add(self, task: TaskState, used: Used, times: Literal[1, -1]) -> None:
        memory, temp = task.memory_needed, task.temp_needed
        self.memory += times * memory
        self.temp += times * temp
        self.unused_memory += times * (memory - used.memory)
        self.unused_temp += times * (temp - used.temp)
        self.beyond += times * used.beyond
        self.unmeasured += times * used.unmeasured

    @property
    def more_to_come(self) -> bool:
        """Whether the next sample will show that something was freed."""
        return self.gone_memory > 0 or self.gone_temp > 0


class Shortage(NamedTuple):
    """One check that a task does not pass."""

    resource: Literal["memory", "cpu", "temp", "disk_low"]
    limit: str
    """The field of `Limits` that is reached; "" if the machine itself has too little."""
    needed: int
    """Bytes; 0 for CPU, as any task would be too much."""
    left: int


def shortages(task: TaskState, limits: Limits, sample: MachineSample, reserved: Reserved) -> Iterator[Shortage]:
    """Yield what is lacking to start the task now. They are found one by one: often the first is enough."""
    memory, temp = task.memory_needed, task.temp_needed
    if reserved.memory + memory > limits.max_memory:
        yield Shortage("memory", "max_memory", memory, limits.max_memory - reserved.memory)
    if reserved.unused_memory + memory > sample.memory_available:
        yield Shortage("memory", "", memory, sample.memory_available - reserved.unused_memory)
    if sample.cpu_percent > limits.max_cpu:
        yield Shortage("cpu", "max_cpu", 0, 0)
    if reserved.temp + temp > limits.max_temp_size:
        yield Shortage("temp", "max_temp_size", temp, limits.max_temp_size - reserved.temp)
    if reserved.unused_temp + temp > sample.temp_free:
        yield Shortage("temp", "", temp, sample.temp_free - reserved.unused_temp)
    if sample.disk_low:
        yield Shortage("disk_low", "", max(limits.temp_low, limits.temp_high), sample.temp_free)


def fits(task: TaskState, limits: Limits, sample: MachineSample, reserved: Reserved) -> bool:
    """Whether the resources suffice for starting the task now."""
    return next(shortages(task, limits, sample, reserved), None) is None


def machine_is_busy(sample: MachineSample, limits: Limits) -> bool:
    """Whether no further task may start, whatever it needs."""
    return sample.cpu_percent > limits.max_cpu or sample.disk_low


def temp_quota(task: TaskState, limits: Limits) -> int:
    """Bytes of temp space at which a running task is stopped; 0 if neither its estimate nor a limit sets a quota."""
    by_estimate = max(QUOTA_FLOOR, QUOTA_FACTOR * task.temp_needed) if task.temp_needed else 0
    return min(filter(None, (by_estimate, limits.max_task_temp)), default=0)


def never_fits(task: TaskState, limits: Limits, sample: MachineSample) -> bool:
    """Whether the task could not even start on a machine that does nothing else."""
    return bool(why_it_never_fits(task.memory_needed, task.temp_needed, limits, sample))


def why_it_never_fits(memory: int, temp: int, limits: Limits, sample: MachineSample) -> str:
    """In words, the first of these needs that is more than there could ever be; empty if none is."""
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


_SLACK = 64


class Ceiling(NamedTuple):
    """Bytes that a task could have once everything that runs has ended."""

    memory: int
    temp: int

    def suffices_for(self, task: TaskState) -> bool:
        """Whether the task would fit."""
        return task.memory_needed <= self.memory and task.temp_needed <= self.temp


def ceiling_of(limits: Limits, sample: MachineSample, reserved: Reserved) -> Ceiling:
    """What other programs on the machine leave us, as far as the use of running attempts is known."""
    in_use = reserved.memory - reserved.unused_memory + reserved.beyond + reserved.unmeasured
    memory = sample.memory_available + in_use + reserved.gone_memory
    temp = sample.temp_free + reserved.temp - reserved.unused_temp + reserved.gone_temp
    return Ceiling(min(limits.max_memory, sample.memory_total, memory), min(limits.max_temp_size, temp))


_SURELY_FREE = 0.75
"""The part of a ceiling that will come free: idle workers keep some memory, and other programs may grow."""


def memory_after_a_kill(used: int, total: int, ceiling: int) -> int:
    """Bytes to reserve for the next attempt, after one was killed because it had `used` and memory ran out.

    It would have taken more, nobody knows how much. With half of the machine, no two such tasks start together. It has
    to come free, or the task would wait for ever.

    Args:
        used: bytes.
        total: bytes of memory of the machine.
        ceiling: bytes that the task could have once all our attempts have ended.
    """
    return min(2 * used, total // 2, int(_SURELY_FREE * ceiling))


_Parked: TypeAlias = tuple[int, float, int]
"""Bytes, and the place in the queue: key and id."""


def lowest(one: Ceiling, other: Ceiling) -> Ceiling:
    """What both allow."""
    return Ceiling(min(one.memory, other.memory), min(one.temp, other.temp))


def most_of(ceilings: Iterable[Ceiling]) -> Ceiling:
    """The most of each resource that any of them allows; -1 if there are none."""
    listed = list(ceilings)
    return Ceiling(max((one.memory for one in listed), default=-1), max((one.temp for one in listed), default=-1))


class SetAside:
    """Tasks that need more memory or temp space than there would be if none of our attempts ran; the least need first.

    With several nodes, tasks with the same need (see `nodes.Need`) stand together.
    """

    def __init__(self) -> None:
        self._entries: dict[int, _Parked] = {}
        self._heaps: dict[Hashable, tuple[list[_Parked], list[_Parked]]] = {}
        """Need → the tasks set aside for memory, and those set aside for temp space."""
        self._parked = 0
        self.for_temp: set[int] = set()
        """The tasks set aside for temp space; all others are for memory."""
        self.looked_at: object = None
        """The values that decided which of them fit, at the last look."""

    def park(self, task: TaskState, best: Ceiling, need: Hashable = None) -> None:
        """Keep a task that does not fit under `best`."""
        of_memory = task.memory_needed > best.memory
        entry = (task.memory_needed if of_memory else task.temp_needed, *queue_key(task))
        self._entries[task.id] = entry
        if not of_memory:
            self.for_temp.add(task.id)
        for_memory, for_temp = self._heaps.setdefault(need, ([], []))
        heappush(for_memory if of_memory else for_temp, entry)
        self._parked += 1
        if self._parked > 2 * len(self._entries) + _SLACK:
            self._tidy()

    def _tidy(self) -> None:
        """Drop the entries of tasks that have left."""
        self._parked = 0
        for need, heaps in list(self._heaps.items()):
            for heap in heaps:
                heap[:] = [one for one in heap if self._counts(one)]
                heapify(heap)
                self._parked += len(heap)
            if not any(heaps):
                del self._heaps[need]

    def discard(self, task_id: int) -> None:
        """Forget the task, if it is in here."""
        self._entries.pop(task_id, None)
        self.for_temp.discard(task_id)

    def needs(self) -> list[Hashable]:
        """The needs of the tasks."""
        return list(self._heaps)

    def with_need(self, need: Hashable) -> Iterator[int]:
        """The tasks that need this."""
        return (one[2] for heap in self._heaps[need] for one in heap if self._counts(one))

    def fitting(self, best: Ceiling, need: Hashable = None) -> Iterator[int]:
        """Yield the tasks that may fit under `best`, by the resource for which they were set aside; no others."""
        for_memory, for_temp = self._heaps.get(need, ([], []))
        for heap, most in ((for_memory, best.memory), (for_temp, best.temp)):
            ahead = [0]
            while ahead:
                place = ahead.pop()
                if place < len(heap) and heap[place][0] <= most:
                    ahead += [2 * place + 1, 2 * place + 2]
                    if self._counts(heap[place]):
                        yield heap[place][2]

    def _counts(self, entry: _Parked) -> bool:
        return self._entries.get(entry[2]) is entry

    def __iter__(self) -> Iterator[int]:
        return iter(self._entries)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._entries

    def __len__(self) -> int:
        return len(self._entries)
