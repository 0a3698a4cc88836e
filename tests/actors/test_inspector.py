"""A long log is checked after the start, by a separate process."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from histories import BEGIN, Journal, random_history

from tasktrail.actors.inspector import Inspector
from tasktrail.actors.side_process import SideProcess
from tasktrail.events.errors import LogCorrupt
from tasktrail.events.log.sqlite import SqliteEventLog

WITHIN = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    random_history(Journal(log), 60, seed=3)
    log.close()
    return tmp_path / "log.db"


class Told:
    """Waits for the Inspector's report."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.said = Event()

    def damage(self, error: BaseException) -> None:
        self.errors.append(error)
        self.said.set()


@contextmanager
def inspecting(path: Path, told: Told, *, wanted: bool = True) -> Iterator[Any]:
    ref = Inspector.start(log_path=path, on_damage=told.damage, wanted=lambda: wanted)
    try:
        yield ref
    finally:
        ref.stop(timeout=WITHIN)


def test_a_broken_chain_is_told_with_its_position(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        [[trigger]] = conn.execute("SELECT sql FROM sqlite_schema WHERE name = 'events_are_not_changed'")
        conn.execute("DROP TRIGGER events_are_not_changed")
        conn.execute("UPDATE events SET reason = 'another' WHERE position = 10")
        conn.execute(trigger)
    told = Told()
    with inspecting(path, told):
        assert told.said.wait(WITHIN)
    [error] = told.errors
    assert isinstance(error, LogCorrupt)
    assert "position 10: the record or one before it was changed" in error.message


def test_a_sound_log_and_one_that_cannot_be_looked_at_stop_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Event()
    end = Inspector._end

    def noted(self: Inspector, message: Any) -> None:
        end(self, message)
        ended.set()

    monkeypatch.setattr(Inspector, "_end", noted)
    for one in (path, path.with_name("nothing.db")):
        ended.clear()
        told = Told()
        with inspecting(one, told):
            assert ended.wait(WITHIN)
        assert told.errors == []


def test_one_that_is_not_wanted_starts_no_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SideProcess, "start", lambda self, *_: pytest.fail(f"{self} has started a process"))
    told = Told()
    with inspecting(path, told, wanted=False):
        pass
    assert told.errors == []


def test_one_that_stops_ends_its_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    start = SideProcess.start
    begun = Event()

    def noted(self: SideProcess, *arguments: str) -> None:
        start(self, *arguments)
        started.append(self.process)
        begun.set()

    monkeypatch.setattr(SideProcess, "start", noted)
    with inspecting(path, Told()):
        assert begun.wait(WITHIN)
    assert started[0].wait(WITHIN) is not None
