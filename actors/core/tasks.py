"""The tasks that the Scheduler holds. Of a million that wait few are looked at, so the others are kept as bytes.

A task whose turn comes, or that somebody asks about, is decoded, and stays as it is for a while. In bytes a task takes
a fifth of the memory, and the search for cyclic garbage passes it over.
"""

from collections import deque
from collections.abc import Iterable, Iterator, MutableMapping
from datetime import datetime
from itertools import filterfalse

import msgspec

from ...events import TaskState
from ...events.state import FINISHED, evolve
from ...events.task_events import TaskEvent, is_erased

FRESH = 4096
"""About so many tasks are held decoded."""

encode_task = msgspec.json.Encoder(order="deterministic").encode
"""A task as bytes, here and in a snapshot. JSON, as in the log: msgpack would lose the offsets of times."""
_decode = msgspec.json.Decoder(TaskState).decode


class Tasks(MutableMapping[int, TaskState]):
    """Task id → its state, in the order in which they came. What iterates does not keep what it decodes."""

    def __init__(self, tasks: Iterable[TaskState] = ()) -> None:
        self._held: dict[int, TaskState | bytes] = {}
        self._fresh: deque[int] = deque()
        """The tasks that were decoded, the longest ago first. Some are gone, or encoded by now."""
        self.over: set[int] = set()
        """Those that are finished."""
        self._running: set[int] = set()
        self._tied: set[int] = set()
        """Those that refer to other tasks, or cannot be read any more."""
        for task in tasks:
            self.put(task)

    def __getitem__(self, task_id: int) -> TaskState:
        held = self._held[task_id]
        return self._decoded(task_id, held) if type(held) is bytes else held  # type: ignore[return-value]  # no bytes

    def get(self, task_id: int, default: TaskState | None = None) -> TaskState | None:  # type: ignore[override]  # of one type
        """The task, if it is there."""
        held = self._held.get(task_id, default)
        return self._decoded(task_id, held) if type(held) is bytes else held  # type: ignore[return-value]  # no bytes

    def _decoded(self, task_id: int, held: bytes) -> TaskState:
        task = self._held[task_id] = _decode(held)
        self._refresh(task_id)
        return task

    def __setitem__(self, task_id: int, task: TaskState) -> None:
        assert task_id == task.id
        self.put(task)

    def put(self, task: TaskState) -> None:
        """Hold a task, new or in the place of what it was before. What it refers to never changes."""
        before = self._held.get(task.id)
        if before is not None:
            self._replace(before, task)
            return
        task_id, status = task.id, task.status
        self._held[task_id] = task
        self._note(task)
        self._refresh(task_id)
        if status == "running":
            self._running.add(task_id)
        elif status in FINISHED:
            self.over.add(task_id)

    def evolve(self, task_id: int, event: TaskEvent, at: datetime) -> TaskState:
        """Hold a task as it is after an event, and return it."""
        before = self[task_id]
        task = evolve(before, event, at)
        self._replace(before, task)
        return task

    def _replace(self, before: TaskState | bytes, task: TaskState) -> None:
        task_id, status = task.id, task.status
        self._held[task_id] = task
        if type(before) is not TaskState:
            before = _decode(before)  # type: ignore[arg-type]  # bytes
            self._refresh(task_id)
        if before.status == status:
            return
        if before.status == "running":
            self._running.discard(task_id)
        elif before.status in FINISHED:
            self.over.discard(task_id)
            self._refresh(task_id)  # it goes on
        if status == "running":
            self._running.add(task_id)
        elif status in FINISHED:
            self.over.add(task_id)

    def _note(self, task: TaskState) -> None:
        spec = task.spec
        if spec.parent_task_id is not None or spec.depends_on or is_erased(spec):
            self._tied.add(task.id)

    def _refresh(self, task_id: int) -> None:
        self._fresh.append(task_id)
        if len(self._fresh) > FRESH:
            oldest = self._fresh.popleft()
            task = self._held.get(oldest)
            if type(task) is TaskState and oldest not in self.over:  # what is over will be gone in a moment
                self._held[oldest] = encode_task(task)

    def hold(self, encoded: Iterable[msgspec.Raw]) -> None:
        """Take in tasks that `encode_task` has encoded; they are not there yet. Raises `msgspec.DecodeError`."""
        for one in encoded:
            data = bytes(one)
            task = _decode(data)  # one by one: a thousand decoded tasks would not stay in the processor's cache
            self._held[task.id] = data
            self._note(task)
            if task.status == "running":
                self._running.add(task.id)
            elif task.status in FINISHED:
                self.over.add(task.id)

    def encoded(self, task_id: int) -> bytes:
        """A task as bytes."""
        held = self._held[task_id]
        return held if type(held) is bytes else encode_task(held)

    def __delitem__(self, task_id: int) -> None:
        del self._held[task_id]
        self.over.discard(task_id)
        self._running.discard(task_id)
        self._tied.discard(task_id)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._held

    def __iter__(self) -> Iterator[int]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def values(self) -> Iterator[TaskState]:  # type: ignore[override]  # each is looked at once
        """All tasks."""
        return map(_as_task, self._held.values())

    def items(self) -> Iterator[tuple[int, TaskState]]:  # type: ignore[override]  # each is looked at once
        """All tasks with their ids."""
        return zip(self._held, self.values(), strict=True)

    def open_ids(self) -> list[int]:
        """Those that are not finished, lowest id first."""
        return sorted(filterfalse(self.over.__contains__, self._held) if self.over else self._held)

    def open(self) -> Iterator[TaskState]:
        """The tasks that are not finished, lowest id first."""
        held = self._held
        return (_as_task(held[task_id]) for task_id in self.open_ids())

    def special(self) -> Iterator[TaskState]:
        """Those that run, refer to others, or cannot be read any more, lowest id first: a start asks for no others."""
        held = self._held
        return (_as_task(held[task_id]) for task_id in sorted(self._running | self._tied))


def _as_task(held: TaskState | bytes) -> TaskState:
    return held if type(held) is TaskState else _decode(held)  # type: ignore[arg-type]  # bytes
