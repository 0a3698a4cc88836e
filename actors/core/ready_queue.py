"""The seed's TaskQueue: push, pop, peek, remove, len, in O(log n)."""

from heapq import heapify, heappop, heappush

from ...events import TaskState
from ...events.priority import queue_key


class ReadyQueue:
    """Tasks that may start as soon as there is room, best first. Removed entries are skipped when they surface."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._keys: dict[int, tuple[float, int]] = {}

    def push(self, task: TaskState) -> None:
        """Put a task in its place; a task that is there already moves to where it belongs now."""
        key = queue_key(task)
        if self._keys.get(task.id) != key:
            self._keys[task.id] = key
            heappush(self._heap, key)
            self._tidy()

    def pop(self) -> int | None:
        """Take the id of the task that runs next; none when the queue is empty."""
        task_id = self.peek()
        if task_id is not None:
            heappop(self._heap)
            del self._keys[task_id]
        return task_id

    def peek(self) -> int | None:
        """The id of the task that runs next, left where it is."""
        heap = self._heap
        while heap:
            key = heap[0]
            if self._keys.get(key[1]) == key:
                return key[1]
            heappop(heap)
        return None

    def remove(self, task_id: int) -> bool:
        """Take a task out; whether it was there."""
        found = self._keys.pop(task_id, None) is not None
        self._tidy()
        return found

    def _tidy(self) -> None:
        """Forget entries that are of no use before they outnumber the others."""
        if len(self._heap) > 2 * len(self._keys) + 64:
            self._heap = list(self._keys.values())
            heapify(self._heap)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._keys

    def __len__(self) -> int:
        return len(self._keys)
