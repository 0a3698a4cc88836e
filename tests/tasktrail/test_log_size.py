"""A scrape of the metrics does not wait for a database that is away."""

import threading
import time
from pathlib import Path

import pytest

from tasktrail.events.errors import LogUnreachable
from tasktrail.telemetry import log_size
from tasktrail.telemetry.log_size import LogSize


class Slow:
    """A log that answers for its size only when it may."""

    def __init__(self) -> None:
        self.may, self.asked = threading.Event(), 0

    def size(self) -> int:
        self.asked += 1
        assert self.may.wait(30)
        return 4711

    def close(self) -> None: ...


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    found = Slow()
    monkeypatch.setattr(log_size, "read_log", lambda _place: found)
    monkeypatch.setattr(log_size, "_WITHIN", 0.05)
    return found


def test_a_size_that_does_not_come_at_once_is_left_out_and_asked_for_once(slow: Slow, tmp_path: Path) -> None:
    size = LogSize(tmp_path)
    assert (size.bytes(), size.bytes(), slow.asked) == (None, None, 1)
    slow.may.set()
    until = time.monotonic() + 30
    while size.bytes() != 4711:
        assert time.monotonic() < until
    size.close()


def test_a_database_that_is_away_has_no_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def away(_place: Path) -> None:
        raise LogUnreachable("nobody answers")

    monkeypatch.setattr(log_size, "read_log", away)
    assert LogSize(tmp_path).bytes() is None


def test_an_error_that_nobody_thought_of_is_not_the_end_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = list[Path]()

    def broken(place: Path) -> None:
        asked.append(place)
        raise ValueError

    monkeypatch.setattr(log_size, "read_log", broken)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    size = LogSize(tmp_path)
    assert (size.bytes(), size.bytes(), len(asked)) == (None, None, 2)
    size.close()
    assert (size.bytes(), len(asked)) == (None, 2)
