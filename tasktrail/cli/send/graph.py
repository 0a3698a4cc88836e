"""`tasktrail submit --graph`: several tasks that belong together, from one file."""

from io import BufferedReader
from typing import TYPE_CHECKING, Any

import msgspec

from ..fields import absolute, me

if TYPE_CHECKING:
    from ...events import CreateGraph


def read_graph(source: BufferedReader, given: dict[str, Any]) -> "CreateGraph":
    """The command that a file holds: an array of tasks, or an object with `tasks`. Paths count from the current folder.

    Raises `Malformed`, `InvalidValue` or `TooLarge`.
    """
    from ...errors import TooLarge
    from ...events import CreateGraph
    from ...http.decode import MAX_COMMAND
    from ...intake.conversion import command_from_fields, new_command_id
    from ...intake.refusals import refusal

    data = source.read(MAX_COMMAND + 1)
    if len(data) > MAX_COMMAND:
        raise TooLarge(f"The graph is longer than {MAX_COMMAND:,} bytes")
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        told = refusal(error)
        told.message = f"{source.name} is no JSON that can be read: {told.message}"
        told.advice = "The file holds one array of tasks, or an object with `tasks`."
        raise told from error
    fields = {"tasks": body} if isinstance(body, list) else dict(body) if isinstance(body, dict) else {}
    fields.pop("command", None)
    for task in fields.get("tasks") or ():
        if isinstance(task, dict):
            task.update({name: absolute(task[name]) for name in _PATHS if isinstance(task.get(name), str)})
    fields.update({name: value for name, value in given.items() if value is not None})
    fields.setdefault("actor", me())
    fields.setdefault("command_id", new_command_id())
    command: CreateGraph = command_from_fields(CreateGraph, fields)
    return command


_PATHS = ("input_file", "output_file")
