"""The tasks in the Scheduler's memory. Few of a million waiting tasks are needed at a time; the others stay encoded.

A task is decoded when its turn comes or a question is about it, and stays decoded for a while. As bytes it takes a
tenth of the memory, and the garbage collector skips it.
"""

from collections import deque
from collections.abc import Iterable, Iterator, MutableMapping
from datetime import datetime
from itertools import filterfalse, starmap

import msgspec

from ...events import Created, TaskState
from ...events.state import FINISHED, create, evolve
from ...events.task_events import TaskEvent, is_erased

FRESH = 4096
"""About how many tasks are held decoded."""


class AsCreated(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A task that was only created so far, like most waiting tasks: its state follows from these fields."""

    id: int
    created_at: datetime
    spec: Created


_encode_into = msgspec.json.Encoder(order="deterministic").encode_into
"""JSON, as in the log: msgpack would lose the offsets of times."""
_decode_state = msgspec.json.Decoder(TaskState).decode
_decode_as_created = msgspec.json.Decoder(AsCreated).decode
_ARRAY = ord("[")


def encode_task(task: TaskState) -> bytes:
    """A task as bytes, here and in a snapshot: an array if nothing has happened to it, otherwise an object."""
    as_created = task.scheduled_for is None and task == create(task.id, task.spec, task.created_at)
    encoded = bytearray()
    _encode_into(AsCreated(task.id, task.created_at, task.spec) if as_created else task, encoded)
    return bytes(encoded)  # an encoder's own result takes up to a third more memory than it needs


def decode_task(data: bytes, task_id: int | None = None) -> TaskState:
    """Decode a task. With `task_id` its id is that very object, so that all holders of the id share one object."""
    if data[0] != _ARRAY:
        return _decode_state(data)
    created = _decode_as_created(data)
    return create(created.id if task_id is None else task_id, created.spec, created.created_at)


class Tasks(MutableMapping[int, TaskState]):
    """Task id → its state, in the order in which they came. Iterating does not keep the decoded tasks."""

    def __init__(self, tasks: Iterable[TaskState] = ()) -> None:
        self._held: dict[int, TaskState | bytes] = {}
        self._fresh: deque[int] = deque()
        """The decoded tasks, the one decoded longest ago first. Some may be gone or encoded by now."""
        self.over: set[int] = set()
        """The finished tasks."""
        self._running: set[int] = set()
        self._tied: set[int] = set()
        """The tasks that refer to other tasks, or cannot be read any more."""
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
        task = decode_task(held, task_id)
        self._held[task.id] = task
        self._refresh(task.id)
        return task

    def __setitem__(self, task_id: int, task: TaskState) -> None:
        assert task_id == task.id
        self.put(task)

    def put(self, task: TaskState) -> None:
        """Hold a new or changed task. Its references to other tasks never change."""
        before = self._held.get(task.id)
        if before is not None:
            self._replace(before, task)
            return
        self._held[task.id] = task
        self._note(task)
        self._refresh(task.id)

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
            before = decode_task(before)  # type: ignore[arg-type]  # bytes
            self._refresh(task_id)
        if before.status == status:
            return
        if before.status == "running":
            self._running.discard(task_id)
        elif before.status in FINISHED:
            self.over.discard(task_id)
            self._refresh(task_id)  # it goes on
        self._note_status(task)

    def _note(self, task: TaskState) -> None:
        """Note the references and the status of a new task."""
        spec = task.spec
        if spec.parent_task_id is not None or spec.depends_on or is_erased(spec):
            self._tied.add(task.id)
        self._note_status(task)

    def _note_status(self, task: TaskState) -> None:
        if task.status == "running":
            self._running.add(task.id)
        elif task.status in FINISHED:
            self.over.add(task.id)

    def _refresh(self, task_id: int) -> None:
        self._fresh.append(task_id)
        if len(self._fresh) > FRESH:
            oldest = self._fresh.popleft()
            task = self._held.get(oldest)
            if type(task) is TaskState and oldest not in self.over:  # finished tasks will soon be dropped
                self._held[oldest] = encode_task(task)

    def hold(self, encoded: Iterable[msgspec.Raw]) -> None:
        """Take in new tasks that `encode_task` has encoded. Raises `msgspec.DecodeError`."""
        for one in encoded:
            data = bytes(one)
            task = decode_task(data)  # one by one: a thousand decoded tasks would not stay in the processor's cache
            self._held[task.id] = data
            self._note(task)

    def encoded(self, task_id: int) -> bytes:
        """A task as bytes."""
        held = self._held[task_id]
        return encode_task(held) if type(held) is TaskState else held  # type: ignore[return-value]  # bytes

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
        return starmap(_as_task, self._held.items())

    def items(self) -> Iterator[tuple[int, TaskState]]:  # type: ignore[override]  # each is looked at once
        """All tasks with their ids."""
        return zip(self._held, self.values(), strict=True)

    def open_ids(self) -> list[int]:
        """The ids of the unfinished tasks, lowest first."""
        return sorted(filterfalse(self.over.__contains__, self._held) if self.over else self._held)

    def open(self) -> Iterator[TaskState]:
        """The tasks that are not finished, lowest id first."""
        held = self._held
        return (_as_task(task_id, held[task_id]) for task_id in self.open_ids())

    def special(self) -> Iterator[TaskState]:
        """The tasks that run, refer to others, or cannot be read any more, lowest id first: a start needs no others."""
        held = self._held
        return (_as_task(task_id, held[task_id]) for task_id in sorted(self._running | self._tied))


def _as_task(task_id: int, held: TaskState | bytes) -> TaskState:
    return held if type(held) is TaskState else decode_task(held, task_id)  # type: ignore[arg-type]  # bytes
