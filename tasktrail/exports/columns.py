"""The columns of rows, for forms with columns: their names, kinds and values."""

from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias, get_args, get_origin

import msgspec
from msgspec.structs import fields

from ..events import Recorded, Task
from ..projections.attempts import Attempt
from .rows import What

ColumnKind: TypeAlias = Literal["whole", "number", "truth", "time", "text", "json"]


class ExportColumn(NamedTuple):
    """One column. The kind `json` is text that holds a JSON value, for lists and objects."""

    name: str
    kind: ColumnKind


_PLAIN: dict[Any, ColumnKind] = {bool: "truth", int: "whole", float: "number", str: "text", datetime: "time"}
_ENVELOPE: tuple[tuple[str, ColumnKind], ...] = (
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


def _kind(annotation: Any) -> ColumnKind:
    if get_origin(annotation) is Literal:
        return "text"
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    inside = [_kind(one) for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) in (tuple, dict, list) or not inside:
        return "json"
    return inside[0] if len(set(inside)) == 1 else "text" if "text" in inside else "json"


def _columns_of(struct: type[msgspec.Struct]) -> tuple[ExportColumn, ...]:
    return tuple(ExportColumn(field.encode_name, _kind(field.type)) for field in fields(struct))


EXPORT_COLUMNS: dict[What, tuple[ExportColumn, ...]] = {
    "log": tuple(ExportColumn(*column) for column in _ENVELOPE),
    "tasks": _columns_of(Task),
    "attempts": _columns_of(Attempt),
}


def row_values(row: Recorded | Task | Attempt) -> list[Any]:
    """Return the values of a row, in the order of its columns; lists and objects as JSON."""
    if isinstance(row, Recorded):
        flat = row.flat()
        return [_cell(flat[name], kind) for name, kind in EXPORT_COLUMNS["log"]]
    what: What = "tasks" if isinstance(row, Task) else "attempts"
    return [_cell(getattr(row, name), kind) for name, kind in EXPORT_COLUMNS[what]]


def _cell(value: Any, kind: ColumnKind) -> Any:
    inside = kind == "json" or (kind == "text" and not isinstance(value, str))
    return msgspec.json.encode(value).decode() if inside and value is not None else value
