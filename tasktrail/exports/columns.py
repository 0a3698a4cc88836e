"""The columns of rows, for forms that have some: their names, their kinds, and the values in them."""

from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias, get_args, get_origin

import msgspec
from msgspec.structs import fields

from ..events import Recorded, Task
from ..projections.attempts import Attempt
from .rows import What

Kind: TypeAlias = Literal["whole", "number", "truth", "time", "text", "json"]


class Column(NamedTuple):
    """One column. `json` is text that holds a JSON value, for what has an inside."""

    name: str
    kind: Kind


_PLAIN: dict[Any, Kind] = {bool: "truth", int: "whole", float: "number", str: "text", datetime: "time"}
_ENVELOPE: tuple[tuple[str, Kind], ...] = (
    ("position", "whole"),
    ("task_id", "whole"),
    ("version", "whole"),
    ("event", "text"),
    ("recorded_at", "time"),
    ("actor", "text"),
    ("reason", "text"),
    ("command_id", "text"),
    ("correlation_id", "text"),
    ("causation_id", "text"),
    ("attempt", "whole"),
    ("life", "whole"),
    ("hash", "text"),
    ("data", "json"),
)


def _kind(annotation: Any) -> Kind:
    if get_origin(annotation) is Literal:
        return "text"
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    inside = [_kind(one) for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) in (tuple, dict, list) or not inside:
        return "json"
    return inside[0] if len(set(inside)) == 1 else "text" if "text" in inside else "json"


def _columns_of(struct: type[msgspec.Struct]) -> tuple[Column, ...]:
    return tuple(Column(field.encode_name, _kind(field.type)) for field in fields(struct))


COLUMNS: dict[What, tuple[Column, ...]] = {
    "log": tuple(Column(*column) for column in _ENVELOPE),
    "tasks": _columns_of(Task),
    "attempts": _columns_of(Attempt),
}


def values_of(row: Recorded | Task | Attempt) -> list[Any]:
    """The values of a row, in the order of its columns; what has an inside as JSON."""
    if isinstance(row, Recorded):
        flat = row.flat()
        return [_cell(flat[name], kind) for name, kind in COLUMNS["log"]]
    what: What = "tasks" if isinstance(row, Task) else "attempts"
    return [_cell(getattr(row, name), kind) for name, kind in COLUMNS[what]]


def _cell(value: Any, kind: Kind) -> Any:
    inside = kind == "json" or (kind == "text" and not isinstance(value, str))
    return msgspec.json.encode(value).decode() if inside and value is not None else value
