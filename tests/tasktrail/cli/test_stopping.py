"""How a service is stopped from the main thread: the conditions that end the wait."""

import os
import signal
import threading
import time
from typing import Any

import pytest

from tasktrail.cli import serve


class Stopping:
    """A server that stops after it was looked at often enough, and the signals that make the thread look."""

    def __init__(self, looks: int, signal: int | None = None, every: float = 0) -> None:
        self._left, self._signal, self._every = looks, signal, every
        self._over = threading.Event()
        self.said: list[str] = []

    def stop(self) -> None:
        self._over.wait(60)

    def close(self) -> None:
        pass

    def next(self, _timeout: float) -> int | None:
        """Report what has come. As with real signals, that it was none may be known at once, since a wake-up came."""
        time.sleep(self._every)
        self._left -= 1
        if self._left == 0:
            self._over.set()
        return self._signal

    def end(self) -> None:
        """Let the thread go that stops in order."""
        self._over.set()

    def say(self, _level: str, text: str, *_: str) -> None:
        self.said.append(text)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where the process would end at once."""

    def give_up(code: int) -> None:
        raise AssertionError(f"it has ended with {code}")

    monkeypatch.setattr(os, "_exit", give_up)


@pytest.mark.usefixtures("ended")
def test_who_is_woken_often_waits_no_shorter() -> None:
    """Each final failure wakes the main thread, also while the service is stopping."""
    stopping: Any = Stopping(looks=1000)
    serve._stop(stopping, stopping, stopping, stopping)
    assert stopping.said == ["stopping"]


@pytest.mark.usefixtures("ended")
def test_a_terminal_that_is_closed_meanwhile_does_not_hurry_it() -> None:
    """Whoever ends a session sends both, SIGTERM and SIGHUP: what ran was left to the recovery."""
    stopping: Any = Stopping(looks=10, signal=signal.SIGHUP)
    serve._stop(stopping, stopping, stopping, stopping)
    assert stopping.said == ["stopping"]


@pytest.mark.usefixtures("ended")
def test_a_signal_that_comes_twice_at_the_same_moment_does_not_hurry_it() -> None:
    """`timeout 1h tasktrail serve` passes a SIGTERM on twice, and sometimes what ran was left to the recovery."""
    stopping: Any = Stopping(looks=3, signal=signal.SIGTERM)
    serve._stop(stopping, stopping, stopping, stopping)
    assert stopping.said == ["stopping"]


@pytest.mark.usefixtures("ended")
def test_a_second_ctrl_c_ends_it_at_once() -> None:
    stopping: Any = Stopping(looks=10, signal=signal.SIGINT, every=0.11)
    with pytest.raises(AssertionError, match="it has ended with 130"):
        serve._stop(stopping, stopping, stopping, stopping)
    stopping.end()
