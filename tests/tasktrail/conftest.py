"""A whole service in this process, with the task types of tests/support; and a log without one."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from histories import BEGIN, Journal, random_history

from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config
from tasktrail.events.log.sqlite import SqliteEventLog

SUPPORT = str(Path(__file__).parent.parent / "support")


@pytest.fixture
def open_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TaskService]]:
    """Open a service on `tmp_path/data`; all are closed at the end."""
    monkeypatch.setenv("PYTHONPATH", SUPPORT)
    monkeypatch.setattr(sys, "path", [*sys.path, SUPPORT])
    with ExitStack() as stack:

        def make(**settings: Any) -> TaskService:
            config = Config(**{"workers": 2, "handlers": ("sample_handlers", "crash_handlers"), **settings})
            return stack.enter_context(TaskService.open(tmp_path / "data", config=config))

        yield make


@pytest.fixture
def service(open_service: Callable[..., TaskService]) -> TaskService:
    """A service with two workers."""
    return open_service()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A log in the folder `data` that tests can add to, without a service."""
    (tmp_path / "data").mkdir()
    with closing(SqliteEventLog(tmp_path / "data" / "log.db", now=BEGIN)) as log:
        journal = Journal(log)
        random_history(journal, 90, seed=5)
        yield journal
