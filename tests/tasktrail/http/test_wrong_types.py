"""The service and the client refuse senseless values alike, with the field, and nothing is harmed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasktrail import Client, TaskService
from tasktrail.api.protocol import Tasks
from tasktrail.events import CreateTask
from tasktrail.events.errors import InvalidValue, Malformed, NotReady, UnknownTask

ABOUT_A_TASK: dict[str, Callable[[Tasks, Any], object]] = {
    "get_task": lambda tasks, one: tasks.get_task(one),
    "as_of": lambda tasks, one: tasks.get_task(one, as_of=1),
    "get_task_progress": lambda tasks, one: tasks.get_task_progress(one),
    "load_checkpoint": lambda tasks, one: tasks.load_checkpoint(one),
    "notices": lambda tasks, one: tasks.notices(one),
    "events": lambda tasks, one: tasks.events(one),
    "notes": lambda tasks, one: tasks.notes(one),
    "output": lambda tasks, one: tasks.output(one),
    "attempts": lambda tasks, one: tasks.attempts(one),
    "provenance": lambda tasks, one: tasks.provenance(one),
    "why": lambda tasks, one: tasks.why(one),
    "wait": lambda tasks, one: tasks.wait(one, timeout=0),
}
WRONG: dict[str, tuple[str, Callable[[Tasks, int], object]]] = {
    "filters": ("filters", lambda tasks, _: tasks.list_tasks("failed")),  # type: ignore[arg-type]  # that is the point
    "retried filters": ("filters", lambda tasks, _: tasks.retry_tasks("failed")),  # type: ignore[arg-type]  # the same
    "a command": ("command", lambda tasks, _: tasks.send("cancel")),  # type: ignore[arg-type]  # the same
    "one of many": ("command", lambda tasks, _: tasks.send_many([CreateTask(type="x"), 5])),  # type: ignore[list-item]  # the same
    "no list": ("commands", lambda tasks, _: tasks.send_many(5)),  # type: ignore[arg-type]  # the same
    "attempt": ("attempt", lambda tasks, one: tasks.output(one, "1")),  # type: ignore[arg-type]  # the same
    "last": ("last", lambda tasks, one: tasks.output(one, last="1")),  # type: ignore[arg-type]  # the same
    "output after": ("after", lambda tasks, one: tasks.output(one, after=1.5)),  # type: ignore[arg-type]  # the same
    "diff": ("limit", lambda tasks, _: tasks.diff(0, limit="5")),  # type: ignore[arg-type]  # the same
    "diff offset": ("offset", lambda tasks, _: tasks.diff(0, offset=0.5)),  # type: ignore[arg-type]  # the same
    "queue": ("limit", lambda tasks, _: tasks.queue("5")),  # type: ignore[arg-type]  # the same
    "log after": ("after", lambda tasks, _: tasks.log("5")),  # type: ignore[arg-type]  # the same
    "log limit": ("limit", lambda tasks, _: tasks.log(0, "5")),  # type: ignore[arg-type]  # the same
    "follow": ("after", lambda tasks, _: tasks.follow(None)),  # type: ignore[arg-type]  # the same
    "patience": ("timeout", lambda tasks, one: tasks.wait(one, "1")),  # type: ignore[arg-type]  # the same
    "no number": ("timeout", lambda tasks, one: tasks.wait(one, float("nan"))),
}


@pytest.fixture(params=["service", "client"])
def tasks(request: pytest.FixtureRequest, service: TaskService, client: Client) -> Tasks:
    """The following tests must hold for both."""
    return service if request.param == "service" else client


@pytest.fixture
def some(service: TaskService, wish: Callable[..., dict[str, Any]]) -> int:
    """Create a task in the middle of three."""
    first, *_ = [service.create_task(**wish()) for _ in range(3)]
    return first + 1


@pytest.mark.parametrize("question", ABOUT_A_TASK)
def test_a_task_is_named_by_a_whole_number(tasks: Tasks, service: TaskService, some: int, question: str) -> None:
    built = service.source.generation()
    for wrong in (some - 0.5, float(some), str(some), "x", None, True, [some], b"1", object()):
        with pytest.raises(InvalidValue, match="has to be the number of a task") as caught:
            ABOUT_A_TASK[question](tasks, wrong)
        assert (caught.value.field, "create_task" in caught.value.advice) == ("task_id", True)
    for unknown in (0, -1, 2**62, 2**70):
        with pytest.raises(UnknownTask):
            ABOUT_A_TASK[question](tasks, unknown)
    assert service.source.generation() == built, "nothing that is asked makes views look damaged"


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_type_is_refused_by_its_name(tasks: Tasks, some: int, wrong: str) -> None:
    field, ask = WRONG[wrong]
    before = tasks.list_tasks()[1]
    with pytest.raises(InvalidValue) as caught:
        ask(tasks, some)
    assert caught.value.field == field
    assert tasks.list_tasks()[1] == before


def test_a_client_that_is_closed_says_so(service: TaskService, data: Path, server: object, some: int) -> None:  # noqa: ARG001 - they have to be there
    client = Client.connect(data)
    client.close()
    asked: list[Callable[[], object]] = [
        lambda: client.get_task(some),
        lambda: client.wait(some),
        lambda: client.cancel_task(some),
        lambda: next(client.log()),
    ]
    for ask in asked:
        with pytest.raises(NotReady, match="The client is closed"):
            ask()
    client.close()


def test_a_misspelt_field_is_told_with_the_nearest_and_where_python_shows_them(tasks: Tasks) -> None:
    with pytest.raises(Malformed, match="no field `prioritty`; did you mean `priority`") as caught:
        tasks.create_task(type="noop", prioritty=1)  # type: ignore[arg-type]  # misspelt
    assert (caught.value.field, "help(TaskService.create_task)" in caught.value.advice) == ("prioritty", True)
    with pytest.raises(Malformed, match="did you mean `priority`") as caught:
        tasks.create_graph([{"name": "a", "type": "noop", "prioritty": 1}])
    assert caught.value.field.endswith("prioritty")
