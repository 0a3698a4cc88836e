"""The page of the Python interface agrees with the docstrings, and editors can complete its calls."""

import inspect
from typing import Never

import msgspec
import pytest
from python_page import PAGE, annotation, doc, page, shared

import tasktrail
from tasktrail import AsyncClient, Client, CreateTask, TaskService
from tasktrail.api.commands import Commands
from tasktrail.api.reader import Questions
from tasktrail.events.commands import AddSchedule, SetLimits

FOR_HTTP = {
    *("check_types", "is_of", "owner_of", "listed", "events_after", "version_at", "status_since", "past", "at_once"),
    *("changes_of", "provenance_by", "seals_folder", "ids_of", "listed_ids"),
}
"""Questions that only the HTTP server asks, of the service in its own process."""


def test_the_page_is_what_the_docstrings_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make python-page`"


def test_everything_that_is_exported_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in tasktrail.__all__ if not name.startswith("_") and f"`{name}`" not in text] == []
    assert {"TaskService", "Client", "AsyncClient", "CreateTask", "Config"} <= set(tasktrail.__all__)
    assert all(getattr(tasktrail, name).__doc__ for name in tasktrail.__all__ if not name.startswith("_"))


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_service_and_clients_have_the_same_methods_with_the_same_parameters(client: type) -> None:
    assert len(shared()) > 30
    assert len(set(shared())) == len(shared())
    for name in shared():
        ours, theirs = (inspect.signature(getattr(kind, name)) for kind in (TaskService, client))
        assert list(ours.parameters.values()) == list(theirs.parameters.values()), name
    questions = {
        name for name, part in vars(Questions).items() if inspect.isfunction(part) and not name.startswith("_")
    }
    assert questions - set(shared()) == {*FOR_HTTP, "whatif", "handler_errors"}


def test_create_task_names_each_field_of_the_command_with_its_default() -> None:
    parameters = inspect.signature(TaskService.create_task).parameters
    fields = {field.name: field for field in msgspec.structs.fields(CreateTask)}
    assert set(parameters) - {"self", "unknown"} == set(fields)
    for name in fields.keys() - {"type", "actor", "options"}:
        field = fields[name]
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        assert parameters[name].default == default, name


def test_types_are_told_by_their_last_names_on_every_python() -> None:
    assert annotation(inspect.signature(TaskService.get_task).parameters["as_of"].annotation) == "int | datetime | None"
    assert annotation(dict[str, list[int]] | None) == "dict[str, list[int]] | None"


def test_arguments_of_a_docstring_become_a_list() -> None:
    def told() -> None:
        """Do it.

        Args:
            one: the first,
                and more.
        """

    assert doc(told) == "Do it.\n\nArgs:\n\n- `one`: the first,\n  and more."


def test_no_command_takes_just_anything() -> None:
    """An editor cannot complete what a signature does not name."""
    loose = [
        name
        for name in vars(Commands)
        if not name.startswith("_")
        for one in inspect.signature(getattr(TaskService, name)).parameters.values()
        if one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL) and one.annotation is not Never
    ]
    assert loose == []


@pytest.mark.parametrize(("method", "command"), [("set_limits", SetLimits), ("add_schedule", AddSchedule)])
def test_a_method_of_operators_names_each_field_of_its_command(method: str, command: type[msgspec.Struct]) -> None:
    fields = {field.name for field in msgspec.structs.fields(command)} - {"correlation_id"}
    assert set(inspect.signature(getattr(TaskService, method)).parameters) - {"self"} == fields
