"""The inbox of an actor that may wait a moment for its next message."""

from collections import deque
from queue import Empty, SimpleQueue
from typing import Any


class Inbox:
    """What an actor has to handle. Anybody puts messages in; only the actor's thread takes them out."""

    def __init__(self) -> None:
        self._messages: SimpleQueue[Any] = SimpleQueue()
        self._seen: deque[Any] = deque()
        """A message that came while the actor waited, and that it has not taken yet."""
        self.put = self._messages.put

    def get(self) -> Any:
        """Take the next message; wait for it."""
        return self._seen.popleft() if self._seen else self._messages.get()

    def empty(self) -> bool:
        """Whether none is there now."""
        return not self._seen and self._messages.empty()

    def fills_within(self, seconds: float) -> bool:
        """Wait for a message, and leave it there; whether one has come in time."""
        if self.empty():
            try:
                self._seen.append(self._messages.get(timeout=seconds))
            except Empty:
                return False
        return True
