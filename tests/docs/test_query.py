"""The files of docs/query/ for Datasette fit the present views, and their questions have answers."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # Datasette's own reader of it
from histories import Journal, random_history

from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.projections import TaskViews

TEXT = (Path(__file__).parents[2] / "docs/query/metadata.yml").read_text()
METADATA: dict[str, Any] = yaml.safe_load(TEXT)
VIEWS: dict[str, Any] = METADATA["databases"]["views"]


@pytest.fixture
def views() -> TaskViews:
    journal = Journal(MemoryEventLog())
    random_history(journal, 1_500, seed=3)
    views = TaskViews(":memory:")
    views.apply(journal.records)
    return views


def test_every_view_is_described_and_every_table_hidden(views: TaskViews) -> None:
    found = views.connection.execute("SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view')").fetchall()
    told = {name: "table" if "hidden" in what else "view" for name, what in VIEWS["tables"].items()}
    assert told == {name: kind for name, kind in found if not name.startswith("search_")}
    views.close()


def test_no_table_is_named_twice() -> None:
    """PyYAML takes the last of two; stricter readers refuse the file."""
    named = re.findall(r"^      (\w+):", TEXT, flags=re.MULTILINE)
    assert len(named) == len(set(named))


def test_the_columns_that_it_names_are_there(views: TaskViews) -> None:
    for name, what in VIEWS["tables"].items():
        if "hidden" in what:
            continue
        columns = [column[0] for column in views.connection.execute(f"SELECT * FROM {name}").description]
        assert {*what.get("columns", ()), *what.get("facets", ())} <= set(columns)
    views.close()


@pytest.mark.parametrize("name", VIEWS["queries"])
def test_its_questions_have_answers(views: TaskViews, name: str) -> None:
    assert views.connection.execute(VIEWS["queries"][name]["sql"]).fetchall()
    views.close()
