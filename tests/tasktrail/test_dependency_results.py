"""A task's result is given to the tasks that wait for it: by id, and by its name in a graph."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasktrail import TaskContext, TaskService, task
from tasktrail.actors import dependency_results
from tasktrail.actors.dependency_results import DependencyResults
from tasktrail.config.settings import Config
from tasktrail.events import Created
from tasktrail.events.errors import LogLocked
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.reports import Run
from tasktrail.functions.task_function import NamedTask
from tasktrail.testing import context_for, inline_service, run_handler

WITHIN = 30.0


@task
def size_of(text: str) -> int:
    """Return the length of a text."""
    return len(text)


@task
def describe(text: str) -> dict[str, str]:
    """Describe a text."""
    return {"text": text}


@task
def fail() -> None:
    """Fail for good."""
    raise ValueError("no")


@task
def total(context: TaskContext[Any]) -> int:
    """Add up what the dependencies returned."""
    return sum(context.dependencies.values())


@task
def told(context: TaskContext[Any]) -> dict[str, Any]:
    """Return what it was given."""
    return {
        "by_id": {str(task_id): value for task_id, value in context.dependencies.items()},
        "by_name": dict(context.dependencies_by_name),
        "attempt": context.attempt,
    }


@task(max_retries=1, retry_delay=0.0, retry_on=(LookupError,))
def second_time(context: TaskContext[Any]) -> Any:
    """Return on the second attempt."""
    if context.attempt == 1:
        raise LookupError
    return list(context.dependencies.values())


@pytest.fixture
def service(tmp_path: Path) -> Iterator[TaskService]:
    with inline_service(tmp_path / "data", size_of, describe, fail, total, told, second_time) as tasks:
        yield tasks


def test_a_task_that_waits_for_others_gets_what_they_returned(service: TaskService) -> None:
    parts = [size_of.using(service).submit(text) for text in ("a", "bb", "ccc")]
    assert total.using(service).with_fields(depends_on=parts).submit().result(WITHIN) == 6
    again = second_time.using(service).with_fields(depends_on=parts[:2]).submit()
    assert again.result(WITHIN) == [1, 2]


def test_the_tasks_of_a_graph_are_known_by_their_names_too(service: TaskService) -> None:
    before = size_of.using(service).submit("four")
    graph: list[dict[str, Any]] = [
        {"name": "end", "type": "told", "depends_on": ["size", "words", before.id]},
        {"name": "size", "type": "size_of", "options": {"text": "abc"}},
        {"name": "words", "type": "describe", "options": {"text": "abc"}},
    ]
    ids = service.create_graph(graph)

    given = told.using(service).handle(ids["end"]).result(WITHIN)

    assert given["by_name"] == {"size": 3, "words": {"text": "abc"}}
    assert given["by_id"] == {str(ids["size"]): 3, str(ids["words"]): {"text": "abc"}, str(before.id): 4}
    created = service.events(ids["end"])[0].event
    assert isinstance(created, Created)
    assert created.dependency_names == {"size": ids["size"], "words": ids["words"]}


def test_a_dependency_that_has_failed_and_is_ignored_has_no_result(service: TaskService) -> None:
    lost, kept = fail.using(service).with_fields(max_retries=0).submit(), size_of.using(service).submit("ab")
    end = told.using(service).with_fields(depends_on=[lost, kept], on_dependency_failure="ignore").submit()
    assert end.result(WITHIN)["by_id"] == {str(kept.id): 2}
    assert told.using(service).submit().result(WITHIN)["by_id"] == {}


def test_what_is_too_much_is_told_to_those_who_ask(service: TaskService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependency_results, "_MOST", 20)
    parts = [describe.using(service).submit("a text") for _ in range(3)]
    asks = total.using(service).with_fields(depends_on=parts).submit()
    does_not = size_of.using(service).with_fields(depends_on=parts).submit("abc")

    assert does_not.result(WITHIN) == 3
    task = asks.wait(WITHIN)
    assert (task.status, task.error_type) == ("failed", "ResultsMissing")
    assert "more than 20 bytes" in task.error


def test_a_log_that_cannot_be_read_is_told_and_read_the_next_time(service: TaskService) -> None:
    done = size_of.using(service).submit("abc")
    done.result(WITHIN)
    faults = [LogLocked("somebody has it")]

    def opened() -> SqliteLogReader:
        if faults:
            raise faults.pop()
        return SqliteLogReader(service.paths.log)

    results = DependencyResults(opened)
    order = Run(2, 1, "told", "", "", {}, None, "", depends_on=(done.id,))

    def given(run: Run) -> Run:
        (told,) = results.add_results([run])
        assert isinstance(told, Run)
        return told

    assert "somebody has it" in given(order).no_results
    assert given(order).results == {done.id: {"value": 3}}
    assert given(Run(3, 1, "told", "", "", {}, None, "")).results == {}
    results.close()


def test_results_travel_to_worker_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(Path(__file__).parents[1] / "support")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", folder)
    config = Config(workers=1, handlers=("dependency_programs",))
    with TaskService.open(tmp_path / "data", config=config) as service:
        parts = [NamedTask("measure").using(service).submit(text=text) for text in ("a", "bb")]
        end = NamedTask("add_up").using(service).with_fields(depends_on=parts).submit()
        assert end.result(WITHIN) == 3


def test_an_author_tests_such_a_function_without_a_service(tmp_path: Path) -> None:
    context = context_for(total, tmp_path, dependencies={3: 4, 5: 6})
    assert run_handler(total, context).result == {"value": 10}  # type: ignore[union-attr]  # it has finished
    assert total(context) == 10
