"""A position that only grows, and threads that wait for it."""

import threading


class Watermark:
    """How far something has come in the log. Cheap to raise when nobody waits."""

    def __init__(self) -> None:
        self.position = 0
        self._waiting = 0
        self._risen = threading.Condition()

    def rise(self, position: int) -> None:
        """Everything up to `position` is done now."""
        self.position = max(self.position, position)
        if self._waiting:
            with self._risen:
                self._risen.notify_all()

    def wait(self, position: int, timeout: float | None) -> bool:
        """Wait until `position` is reached; whether it was in time."""
        if self.position >= position:
            return True
        with self._risen:
            self._waiting += 1
            try:
                return self._risen.wait_for(lambda: self.position >= position, timeout)
            finally:
                self._waiting -= 1
