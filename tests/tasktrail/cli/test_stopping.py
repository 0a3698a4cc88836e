"""How a service is stopped from the main thread: what ends the wait for it."""

import os
import threading
from typing import Any

import pytest

from tasktrail.cli import serve


class Stopping:
    """A server whose stop lasts until it has been looked at often enough, and the signals by which it is looked at."""

    def __init__(self, looks: int) -> None:
        self._left = looks
        self._over = threading.Event()
        self.said: list[str] = []

    def stop(self) -> None:
        self._over.wait(60)

    def close(self) -> None:
        pass

    def next(self, _timeout: float) -> None:
        """No signal has come. As with the real ones, that may be known at once, since something has woken it."""
        self._left -= 1
        if self._left == 0:
            self._over.set()

    def say(self, _level: str, text: str, *_: str) -> None:
        self.said.append(text)


def test_who_is_woken_often_waits_no_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time that something has failed for good wakes the main thread, also while all stops."""

    def give_up(code: int) -> None:
        raise AssertionError(f"it has ended with {code}")

    monkeypatch.setattr(os, "_exit", give_up)
    stopping: Any = Stopping(looks=1000)
    serve._stop(stopping, stopping, stopping, stopping)
    assert stopping.said == ["stopping"]
