"""Ctrl-C in a function that SQLite calls, where Python drops exceptions: it is not taken for damage."""

import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from histories import BEGIN, Journal

from tasktrail.events import Created
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections import TaskQueries, TaskViews, ViewsDamaged, catch_up
from tasktrail.projections.verification import verify
from tasktrail.projections.views import checksums
from tasktrail.projections.views.ctrl_c import heeding_ctrl_c
from tasktrail.projections.views.rebuild import rebuild_views


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """Restore the usual Ctrl-C, which programs in the background of a script ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN)) as log:
        journal = Journal(log)
        journal.record(1, Created(type="quick", label="l"))
        journal.record(2, Created(type="quick", label="l", parent_task_id=1, depends_on=(1,)))
        yield journal


@pytest.fixture
def views(tmp_path: Path, journal: Journal) -> Path:
    with closing(TaskViews(tmp_path / "views.db")) as live:
        catch_up(journal.log, live)
    return tmp_path / "views.db"


@pytest.fixture
def pressed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Let Ctrl-C come in the middle of the next statement that makes a checksum of such values in SQLite."""
    own = checksums.row_sum

    def press(of: Any) -> None:
        def summed(*values: Any) -> int:
            if of(values):
                signal.raise_signal(signal.SIGINT)
            return own(*values)

        monkeypatch.setattr(checksums, "row_sum", summed)

    return press


def a_dependant(values: tuple[object, ...]) -> bool:
    return values == (1, 2)


def a_state(values: tuple[object, ...]) -> bool:
    return len(values) == len(checksums.STATE) and values[1] == "pending"


def test_ctrl_c_ends_a_rebuild(journal: Journal, views: Path, pressed: Callable[[Any], None]) -> None:
    pressed(a_dependant)
    with pytest.raises(KeyboardInterrupt):
        rebuild_views(journal.log, views)


def test_ctrl_c_ends_a_check(tmp_path: Path, views: Path, pressed: Callable[[Any], None]) -> None:
    pressed(a_dependant)
    with closing(SqliteLogReader(tmp_path / "log.db")) as log, pytest.raises(KeyboardInterrupt):
        verify(log, views)


@pytest.mark.parametrize("ask", [lambda asked: asked.children(1), lambda asked: asked.stats_of(0, BEGIN)])
def test_ctrl_c_ends_a_question(
    views: Path, pressed: Callable[[Any], None], ask: Callable[[TaskQueries], object]
) -> None:
    pressed(a_state)
    with closing(TaskQueries.open(views)) as asked, pytest.raises(KeyboardInterrupt):
        ask(asked)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_ctrl_c_damage_is_damage(views: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "row_sum", lambda *_: 1 / 0)
    with closing(TaskQueries.open(views)) as asked, pytest.raises(ViewsDamaged):
        asked.children(1)


def test_who_handles_ctrl_c_in_a_way_of_his_own_is_left_to_it(views: Path, pressed: Callable[[Any], None]) -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        pressed(a_state)
        with closing(TaskQueries.open(views)) as asked:
            assert asked.children(1) is not None
    finally:
        signal.signal(signal.SIGINT, before)
    assert came


def test_another_error_after_ctrl_c_was_dropped_is_ctrl_c() -> None:
    def heeded() -> None:
        with heeding_ctrl_c():
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise sqlite3.OperationalError from None

    with pytest.raises(KeyboardInterrupt):
        heeded()
