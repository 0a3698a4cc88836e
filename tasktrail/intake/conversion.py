"""Makes commands from plain values, and checks the values of commands that a program has built."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import asdict

from ..events.errors import InvalidValue
from ..events.values import check_plain, in_words
from .refusals import KINDS, refusal

C = TypeVar("C", bound=msgspec.Struct)
_NESTED = frozenset({"task", "tasks", "checkpoint"})
"""Fields of commands that hold Structs. Only these are searched for Structs, because every command passes here."""


def new_command_id() -> str:
    """A fresh id in hex: 48 bits of milliseconds, then 80 random bits (the layout of UUID version 7)."""
    return (time.time_ns() // 1_000_000).to_bytes(6, "big").hex() + os.urandom(10).hex()


def check_commands(commands: object) -> None:
    """Raise `InvalidValue` unless this is a sequence of commands. Called before any of them is sent."""
    if isinstance(commands, KINDS):
        name = type(commands).__name__
        raise InvalidValue(
            f"commands have to be a list of commands, not one {name}",
            field="commands",
            remedy=f"Put it into a list, `send_many([{name}(...)])`, or send it alone with `send`.",
        )
    if isinstance(commands, str | bytes) or not isinstance(commands, Sequence):
        raise InvalidValue(f"commands have to be a list of commands, not {in_words(commands)}", field="commands")
    for one in commands:
        if isinstance(one, list | tuple):
            raise InvalidValue(
                f"A command is one Struct such as CreateTask or CancelTask, not a {type(one).__name__} of them",
                field="command",
                remedy="Send several with `send_many`.",
            )
        if not isinstance(one, KINDS):
            raise InvalidValue(
                f"A command has to be a Struct such as CreateTask or CancelTask, not {in_words(one)}",
                field="command",
                remedy="Import it from tasktrail.events, or use a method such as `cancel_task`.",
            )


def command_from_fields(kind: type[C], fields: dict[str, Any]) -> C:
    """Make a checked command of `kind` from plain values. Raises `InvalidValue` or `Malformed`, naming the field.

    A Struct among the values is taken apart, because the converter does not check the values inside a Struct.
    """
    for name in _NESTED.intersection(fields):
        fields = {**fields, name: _taken_apart(fields[name])}
    try:
        return msgspec.convert({"command": kind.__struct_config__.tag, **fields}, kind)
    except UnicodeEncodeError as error:
        raise _unwritable(fields) from error
    except (msgspec.ValidationError, RecursionError) as error:
        raise refusal(error, fields, kind) from error


def _unwritable(fields: Mapping[str, Any]) -> InvalidValue:
    """Find the text that UTF-8 cannot write, because the converter does not name it."""
    for name, value in fields.items():
        try:
            check_plain(value if isinstance(value, str | dict | list | tuple) else None, name)
        except InvalidValue as error:
            return error
    return InvalidValue("A text holds what UTF-8 cannot write")


def validated(command: C) -> C:
    """Return the command, or the request for a batch, with every value checked.

    Raises `InvalidValue` naming the field.
    """
    return command_from_fields(type(command), asdict(command))


def _taken_apart(value: Any) -> Any:
    """Turn a Struct, also one within a list, into its fields; return anything else as it is."""
    if isinstance(value, msgspec.Struct):
        return {name: _taken_apart(one) for name, one in asdict(value).items()}
    if isinstance(value, list | tuple) and any(isinstance(one, msgspec.Struct) for one in value):
        return [_taken_apart(one) for one in value]
    return value
