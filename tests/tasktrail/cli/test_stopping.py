"""How a service is stopped from the main thread: the conditions that end the wait."""

import os
import threading
from typing import Any

import pytest

from tasktrail.cli import serve


class Stopping:
    """A server that stops after it was looked at often enough, and the signals that make the thread look."""

    def __init__(self, looks: int) -> None:
        self._left = looks
        self._over = threading.Event()
        self.said: list[str] = []

    def stop(self) -> None:
        self._over.wait(60)

    def close(self) -> None:
        pass

    def next(self, _timeout: float) -> None:
        """Report that no signal has come. As with real signals, that may be known at once, since a wake-up came."""
        self._left -= 1
        if self._left == 0:
            self._over.set()

    def say(self, _level: str, text: str, *_: str) -> None:
        self.said.append(text)


def test_who_is_woken_often_waits_no_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each final failure wakes the main thread, also while the service is stopping."""

    def give_up(code: int) -> None:
        raise AssertionError(f"it has ended with {code}")

    monkeypatch.setattr(os, "_exit", give_up)
    stopping: Any = Stopping(looks=1000)
    serve._stop(stopping, stopping, stopping, stopping)
    assert stopping.said == ["stopping"]
