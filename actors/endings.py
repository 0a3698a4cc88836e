"""Threads that wait for a task to end."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..events import Recorded
from ..events.task_events import is_terminal


class Endings:
    """Wakes whoever waits for a task when its terminal event is durable."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: defaultdict[int, list[threading.Event]] = defaultdict(list)

    def note(self, records: Sequence[Recorded]) -> None:
        """Look through what was committed. Called by the Scheduler; does nothing when nobody waits."""
        if not self._waiting:
            return
        for record in records:
            if record.task_id in self._waiting and is_terminal(record.event):
                with self._lock:
                    for event in self._waiting.get(record.task_id, ()):
                        event.set()

    @contextmanager
    def expecting(self, task_id: int) -> Iterator[threading.Event]:
        """An event that is set when the task ends. Register first, then look whether it has ended already."""
        event = threading.Event()
        with self._lock:
            self._waiting[task_id].append(event)
        try:
            yield event
        finally:
            with self._lock:
                self._waiting[task_id].remove(event)
                if not self._waiting[task_id]:
                    del self._waiting[task_id]
