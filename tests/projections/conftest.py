"""Logs with a history, for tests of code that reads them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from histories import BEGIN, Journal, random_history

from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.projections import TaskViews


@pytest.fixture(autouse=True)
def _views_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Newer Pythons complain about unclosed connections; tests need not think of it."""
    made: list[TaskViews] = []
    begin = TaskViews.__init__

    def remember(views: TaskViews, *args: Any, **kwargs: Any) -> None:
        begin(views, *args, **kwargs)
        made.append(views)

    monkeypatch.setattr(TaskViews, "__init__", remember)
    yield
    for views in made:
        views.close()


@pytest.fixture
def journal() -> Journal:
    """An empty log in memory."""
    return Journal(MemoryEventLog())


@pytest.fixture
def history() -> Journal:
    """A log in memory with a rich history."""
    journal = Journal(MemoryEventLog())
    random_history(journal, 900, seed=7)
    return journal


@pytest.fixture
def filed(tmp_path: Path) -> Iterator[Journal]:
    """A small log on disk, at `tmp_path / "log.db"`."""
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    random_history(journal, 60, seed=11)
    yield journal
    log.close()
