"""What both kinds of snapshots share: reading the log beside one, and the mark of the code."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from itertools import islice
from typing import Any, TypeVar

import msgspec

from ...events import Recorded, TaskState
from ...events.errors import LogCorrupt
from ...events.log.event_log import ReadableLog
from ...events.state import fold
from ...projections.views.schema import FOLD
from ..core.snapshot import Load

T = TypeVar("T")

FORMAT = 1
"""To be raised when a snapshot is written otherwise, but for the fields of its Structs, which are looked at."""
CHUNK = 5000
"""Tasks in one line of the file."""


def code_of(*shapes: Any) -> str:
    """Changes with the fields of the Structs, with the meaning of the events (`FOLD`), and with the file's form."""
    schema = msgspec.json.schema_components(shapes)
    return sha256(msgspec.json.encode([FORMAT, FOLD, schema], order="deterministic")).hexdigest()[:16]


def loader(log: ReadableLog) -> Load:
    """Reads a task from the log, as it was at a position."""

    def load(task_id: int, position: int) -> TaskState:
        records = [record for record in log.read_task(task_id, adjusted=True) if record.position <= position]
        task = fold(task_id, ((record.event, record.recorded_at) for record in records))  # type: ignore[misc]  # a task's records hold task events
        if task is None:
            raise LogCorrupt(f"Task {task_id} should exist at position {position}, but the log has no record of it")
        return task

    return load


def between(log: ReadableLog, after: int, last: int) -> Iterator[Recorded]:
    """The records after one position, up to another one."""
    return log.read(after=after, limit=max(0, last - after))


def chunks(items: Iterable[T]) -> Iterator[Sequence[T]]:
    """As many at a time as go into one line."""
    rest = iter(items)
    while chunk := tuple(islice(rest, CHUNK)):
        yield chunk


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for cyclic garbage meanwhile: among a million new objects there is none, and each search visits all."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
