"""A command id may have 200 characters at every way in, also where one request leads to a command for each of many."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.inspect import type_info

from tasktrail import Client, TaskFilters
from tasktrail.api.service import TaskService
from tasktrail.batches.request import NewBatch
from tasktrail.cli.app import run
from tasktrail.events.commands import Command
from tasktrail.events.errors import InvalidValue

Wish = Callable[..., dict[str, Any]]
LONGEST = 200


@pytest.fixture(params=["service", "client"])
def tasks(request: pytest.FixtureRequest) -> TaskService | Client:
    found: TaskService | Client = request.getfixturevalue(request.param)
    return found


def fresh(document: int, length: int) -> str:
    """Return a command id of that length."""
    return str(document).ljust(length, "x")


def assert_refused(refused: Callable[[], object]) -> None:
    with pytest.raises(InvalidValue, match="at most 200 characters") as caught:
        refused()
    assert caught.value.field == "command_id"


def cancelled(tasks: TaskService | Client, wish: Wish, document: int) -> tuple[int, TaskFilters]:
    task_id = tasks.create_task(**wish(document_id=document))
    tasks.cancel_task(task_id)
    return task_id, TaskFilters(status="cancelled", document_id=document)


@pytest.mark.parametrize("kind", [*Command.__args__, NewBatch], ids=lambda kind: kind.__name__)
def test_every_command_has_the_same_bound(kind: Any) -> None:
    struct: Any = type_info(kind)
    (bound,) = (field.type.max_length for field in struct.fields if field.name == "command_id")
    assert bound == LONGEST


def test_a_program_may_give_the_longest_id(tasks: TaskService | Client, wish: Wish, document: int) -> None:
    created = tasks.create_task(**wish(), command_id=fresh(document, LONGEST))
    assert tasks.create_task(**wish(), command_id=fresh(document, LONGEST)) == created
    assert_refused(lambda: tasks.create_task(**wish(), command_id=fresh(document, LONGEST + 1)))


def test_a_program_may_give_the_longest_id_to_a_batch(
    tasks: TaskService | Client, picture: Path, document: int, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"task": {"held": True}, "type": "image_thumbnail"}
    made = tasks.create_batch([picture], f"{tmp_path}/", command_id=fresh(document, LONGEST), **fields)
    assert len(made.created) == 1
    assert_refused(
        lambda: tasks.create_batch([picture], f"{tmp_path}/", command_id=fresh(document, LONGEST + 1), **fields)
    )


def test_a_program_may_give_the_longest_id_to_a_retry_of_many(
    tasks: TaskService | Client, wish: Wish, document: int
) -> None:
    """Python made longer ids of it, and refused each task for an id that nobody had given."""
    task_id, filters = cancelled(tasks, wish, document)
    command_id = fresh(document, LONGEST)
    assert tasks.retry_tasks(filters, command_id=command_id, delay=60).retried == (task_id,)
    tasks.cancel_task(task_id)
    again = tasks.retry_tasks(filters, command_id=command_id, delay=60)
    assert (again.retried, tasks.get_task(task_id).status) == ((task_id,), "cancelled")
    assert_refused(lambda: tasks.retry_tasks(filters, command_id=fresh(document, LONGEST + 1)))


def test_the_longest_id_over_http(web: httpx.Client, wish: Wish, document: int, picture: Path, tmp_path: Path) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/v1/tasks": wish(),
        "/v1/commands": {"command": "create_task", **wish()},
        "/v1/batches": {"inputs": [str(picture)], "to": f"{tmp_path}/", "type": "image_thumbnail", "held": True},
        "/v1/tasks/retry": {"status": "cancelled", "document_id": document},
    }
    for number, (path, body) in enumerate(bodies.items()):
        accepted = web.post(path, json={**body, "command_id": fresh(document, LONGEST - 1) + str(number)})
        assert accepted.status_code == 202, accepted.text
        refused = web.post(path, json={**body, "command_id": fresh(document, LONGEST + 1)})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_value")
        assert refused.json()["field"] == "command_id"
        assert "at most 200 characters" in refused.json()["detail"]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "line", ["submit {0} {1} {2}/out.jpg --held", "batch {1} --to {2}/ --type {0} --held --detach"]
)
def test_the_longest_id_on_the_command_line(
    data: Path, picture: Path, tmp_path: Path, document: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(data), *line.format("image_thumbnail", picture, tmp_path).split(), "--command-id"]
    assert run([*words, fresh(document, LONGEST)]) == 0
    assert run([*words, fresh(document, LONGEST + 1)]) != 0
    assert "at most 200 characters" in capsys.readouterr().err
