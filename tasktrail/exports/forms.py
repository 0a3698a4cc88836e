"""The forms of an export that write one line for each row: JSON Lines, CSV, CloudEvents."""

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from ..events import Recorded
from ..events.recorded import timestamp
from .columns import EXPORT_COLUMNS, row_values
from .rows import What, task_about

FormName: TypeAlias = Literal["jsonl", "csv", "cloudevents", "parquet"]

_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
_SPECIAL = re.compile(r'[",\r\n]')
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class FileForm(NamedTuple):
    """A way to write rows."""

    head: bytes
    """The bytes before the first row."""
    line: Callable[[Any], bytes]
    """Makes a line from a row."""


def form_of(name: FormName, what: What, source: str, *, as_written: bool = False) -> FileForm:
    """Return the form of that name. It has to be one that writes lines.

    Args:
        name: the form.
        what: the kind of rows.
        source: which log they are of.
        as_written: leave texts in CSV as they are, even if a spreadsheet takes them for formulas.
    """
    match name:
        case "jsonl":
            return FileForm(b"", _json_line)
        case "cloudevents":
            return FileForm(b"", partial(_event_line, source))
        case "csv":
            head = _csv_line(column.name for column in EXPORT_COLUMNS[what])
            return FileForm(head, _line_of_values if as_written else _safe_line)
        case "parquet":
            raise ValueError("its rows are no lines")


def _json_line(row: Any) -> bytes:
    """Write a row as the object that the HTTP routes answer."""
    return msgspec.json.encode(row.flat() if isinstance(row, Recorded) else row) + b"\n"


def _event_line(source: str, row: Recorded) -> bytes:
    return msgspec.json.encode(_cloud_event(row, source)) + b"\n"


def _cloud_event(record: Recorded, source: str) -> dict[str, Any]:
    """Return the record as a CloudEvent 1.0, in the JSON format, structured mode.

    Args:
        record: `data` holds it in its usual flat form.
        source: which log it is of. Source and id together are unique.
    """
    task_id = task_about(record)
    return {
        "specversion": "1.0",
        "id": str(record.position),
        "source": source,
        "type": f"tasktrail.{record.name}",
        **({"subject": f"tasks/{task_id}"} if task_id else {}),
        "time": timestamp(record.recorded_at),
        "datacontenttype": "application/json",
        "sequence": f"{record.position:016}",  # an extension of the specification: it sorts as text
        "data": record.flat(),
    }


def _line_of_values(row: Any) -> bytes:
    return _csv_line(map(_text_of, row_values(row)))


def _safe_line(row: Any) -> bytes:
    """Write a row by OWASP's advice: a formula gets an apostrophe in front, and each text stands in quotes."""
    return (",".join(map(_safe_cell, row_values(row))) + "\n").encode()


def _safe_cell(value: Any) -> str:
    text = _text_of(value)
    if not isinstance(value, str):
        return text
    return _quoted(f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text)


def _csv_line(cells: Iterable[str]) -> bytes:
    """Write a line by RFC 4180, except that it ends with a newline alone."""
    return (",".join(_quoted(cell) if _SPECIAL.search(cell) else cell for cell in cells) + "\n").encode()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


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
