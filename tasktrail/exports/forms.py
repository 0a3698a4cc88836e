"""The forms of an export whose rows are lines: JSON Lines, CSV, CloudEvents."""

import csv
import io
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from ..events import Recorded
from ..events.recorded import timestamp
from .cloud_events import cloud_event
from .columns import COLUMNS, values_of
from .rows import What

FormName: TypeAlias = Literal["jsonl", "csv", "cloudevents", "parquet"]


class Form(NamedTuple):
    """How rows are written."""

    head: bytes
    """What stands before all of them."""
    line: Callable[[Any], bytes]
    """Makes a line of a row."""


def form_of(name: FormName, what: What, source: str) -> Form:
    """The form of that name, which is one of lines. `source`: which log the rows are of."""
    match name:
        case "jsonl":
            return Form(b"", _json_line)
        case "cloudevents":
            return Form(b"", partial(_event_line, source))
        case "csv":
            return Form(_csv_line(column.name for column in COLUMNS[what]), _line_of_values)
        case "parquet":
            raise ValueError("its rows are no lines")


def _json_line(row: Any) -> bytes:
    """An object, as the routes answer it."""
    return msgspec.json.encode(row.flat() if isinstance(row, Recorded) else row) + b"\n"


def _event_line(source: str, row: Recorded) -> bytes:
    return msgspec.json.encode(cloud_event(row, source)) + b"\n"


def _line_of_values(row: Any) -> bytes:
    return _csv_line(map(_text_of, values_of(row)))


def _csv_line(cells: Iterable[str]) -> bytes:
    """As RFC 4180 has it, but for its end, which is a newline alone."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode()


def _text_of(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime():
            return timestamp(value)
        case _:
            return str(value)
