"""Tasks that would not fit even once everything that runs here has ended: they stand aside, and no room is kept."""

from collections.abc import Iterator
from heapq import heapify, heappush
from typing import NamedTuple, TypeAlias

from ...events import TaskState
from ...events.priority import queue_key
from .admission import Limits, Reserved, Sample

_SLACK = 64


class Best(NamedTuple):
    """Bytes that a task could have once everything that runs has ended."""

    memory: int
    temp: int

    def bears(self, task: TaskState) -> bool:
        """Whether that would do."""
        return task.memory_needed <= self.memory and task.temp_needed <= self.temp


def at_best(limits: Limits, sample: Sample, reserved: Reserved) -> Best:
    """What others on the machine leave. What runs may take less than was promised to it; then this is too much."""
    memory = sample.memory_available + reserved.memory - reserved.unseen_memory + reserved.gone_memory
    temp = sample.temp_free + reserved.temp - reserved.unseen_temp + reserved.gone_temp
    return Best(min(limits.max_memory, sample.memory_total, memory), min(limits.max_temp_size, temp))


Entry: TypeAlias = tuple[int, float, int]
"""Bytes, and the place in the queue: key and id."""


class Oversized:
    """By what they need too much of, memory or temp space; the least need first."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._memory: list[Entry] = []
        self._temp: list[Entry] = []

    def park(self, task: TaskState, best: Best) -> None:
        """Keep the task, which `best` does not bear."""
        of_memory = task.memory_needed > best.memory
        entry = (task.memory_needed if of_memory else task.temp_needed, *queue_key(task))
        self._entries[task.id] = entry
        heap = self._memory if of_memory else self._temp
        heappush(heap, entry)
        if len(heap) > 2 * len(self._entries) + _SLACK:
            heap[:] = [one for one in heap if self._counts(one)]
            heapify(heap)

    def discard(self, task_id: int) -> None:
        """Forget the task, if it is here."""
        self._entries.pop(task_id, None)

    def borne(self, best: Best) -> Iterator[int]:
        """Tasks whose need, as far as they stand here for it, `best` bears. Those that it does not cost nothing."""
        for heap, most in ((self._memory, best.memory), (self._temp, best.temp)):
            ahead = [0]
            while ahead:
                place = ahead.pop()
                if place < len(heap) and heap[place][0] <= most:
                    ahead += [2 * place + 1, 2 * place + 2]
                    if self._counts(heap[place]):
                        yield heap[place][2]

    def _counts(self, entry: Entry) -> bool:
        return self._entries.get(entry[2]) is entry

    def __iter__(self) -> Iterator[int]:
        return iter(self._entries)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._entries

    def __len__(self) -> int:
        return len(self._entries)
