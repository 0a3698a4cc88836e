"""What changed in tasks between two times, asked of a service elsewhere, page by page."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tasktrail.cli.session import Environment, Session
from tasktrail.events.errors import ChangedMeanwhile
from tasktrail.projections import TaskChange, TaskChanges
from tasktrail.projections.queries import filters

NO_TASK: Any = None
"""The tests here look at no task."""


class Pages:
    """Answers for a service, which forgets the first task after that many pages."""

    def __init__(self, number: int, forgets_after: int) -> None:
        self.number, self.forgets_after = number, forgets_after
        self.asked: list[tuple[Any, int]] = []

    def diff(self, _begin: Any, end: Any, *, limit: int, offset: int) -> TaskChanges:
        there = range(2 if len(self.asked) >= self.forgets_after else 1, self.number + 1)
        self.asked.append((end, offset))
        return TaskChanges(
            changes=[
                TaskChange(task_id=task_id, before=None, after=NO_TASK, records=1)
                for task_id in there[offset : offset + limit]
            ],
            total=len(there),
            from_position=0,
            to_position=9,
        )


def told(monkeypatch: pytest.MonkeyPatch, number: int, forgets_after: int = 100) -> tuple[Iterator[int], Pages]:
    """Return the tasks that the command prints, two on a page."""
    pages = Pages(number, forgets_after)

    @contextmanager
    def connected(_session: Session) -> Iterator[Any]:
        yield pages

    monkeypatch.setattr(filters, "MAX_LIMIT", 2)
    monkeypatch.setattr(Session, "tasks", connected)
    environment = Environment()
    session = Session(environment=environment, url="http://localhost:1")
    return (change.task_id for change in environment.changes(session, 0, None)), pages


def test_all_pages_are_asked_for_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each page the service reads all records in between."""
    for number, asked in ((0, [(None, 0)]), (2, [(None, 0)]), (5, [(None, 0), (9, 2), (9, 4)])):
        found, pages = told(monkeypatch, number)
        assert list(found) == list(range(1, number + 1))
        assert pages.asked == asked


@pytest.mark.parametrize("number", [3, 4, 5])
def test_no_task_is_left_out_unseen_where_one_is_forgotten_meanwhile(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    found, _pages = told(monkeypatch, number, forgets_after=1)
    with pytest.raises(ChangedMeanwhile, match="forgotten"):
        list(found)
