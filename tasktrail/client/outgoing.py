"""Commands on their way out: an id each, JSON that loses nothing, arrays of a handy size."""

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

import msgspec
from msgspec.structs import replace

from ..commands.ids import new_command_id
from ..events import Command, TasktrailError
from ..events.errors import InvalidValue

MAX_NUMBER = 1000
"""Commands in one request."""
MAX_BYTES = 8 * 1024 * 1024
_MAX_DEPTH = 100
"""Far beyond what a service takes, and before Python's own limit."""


def with_id(command: Command) -> Command:
    """The command under an id, so that it can be repeated."""
    return command if command.command_id else replace(command, command_id=new_command_id())


def chunks(commands: Sequence[Command]) -> Iterator[tuple[list[str], bytes, TasktrailError | None]]:
    """Arrays of a handy size, with their ids; a command that cannot be written stands alone, with the reason."""
    ids: list[str] = []
    bodies: list[bytes] = []
    size = 0
    for command in commands:
        try:
            body, wrong = encode_command(command), None
        except TasktrailError as error:
            body, wrong = b"", error
        if ids and (wrong or len(ids) == MAX_NUMBER or size + len(body) > MAX_BYTES):
            yield ids, b"[" + b",".join(bodies) + b"]", None
            ids, bodies, size = [], [], 0
        if wrong is not None:
            yield [], b"", wrong
            continue
        ids.append(command.command_id)
        bodies.append(body)
        size += len(body)
    if ids:
        yield ids, b"[" + b",".join(bodies) + b"]", None


def encode_command(command: Command) -> bytes:
    """The command's JSON. Raises `InvalidValue` for what JSON would lose: infinite numbers, keys that are no text."""
    for field in command.__struct_fields__:
        _refuse_lossy(getattr(command, field), field)
    try:
        return msgspec.json.encode(command)
    except (TypeError, ValueError, UnicodeError, RecursionError) as error:
        raise InvalidValue(f"The command cannot be written as JSON: {error}") from error


def _refuse_lossy(value: Any, field: str, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise InvalidValue(f"{field} is nested too deeply", field=field)
    match value:
        case float() if not isfinite(value):
            raise InvalidValue(f"{field} holds {value}, which is no number that JSON knows", field=field)
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise InvalidValue(f"{field} has a key that is not text: {key!r}", field=field)
                _refuse_lossy(item, field, depth + 1)
        case list() | tuple():
            for item in value:
                _refuse_lossy(item, field, depth + 1)
        case msgspec.Struct():
            for name in value.__struct_fields__:
                _refuse_lossy(getattr(value, name), field, depth + 1)
        case _:
            pass
