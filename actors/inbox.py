"""The inbox of an actor that may wait a short time for its next message."""

from collections import deque
from queue import Empty, SimpleQueue
from typing import Any


class Inbox:
    """The messages that an actor has to handle. Any thread puts them in; only the actor's thread takes them out."""

    def __init__(self) -> None:
        self._messages: SimpleQueue[Any] = SimpleQueue()
        self._seen: deque[Any] = deque()
        """A message that came during `fills_within` and was not taken yet."""
        self.put = self._messages.put

    def get(self) -> Any:
        """Wait for the next message and take it."""
        return self._seen.popleft() if self._seen else self._messages.get()

    def empty(self) -> bool:
        """Whether no message is there now."""
        return not self._seen and self._messages.empty()

    def fills_within(self, seconds: float) -> bool:
        """Wait for a message, and leave it in the inbox. Returns whether one came in time."""
        if self.empty():
            try:
                self._seen.append(self._messages.get(timeout=seconds))
            except Empty:
                return False
        return True
