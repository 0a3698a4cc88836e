"""The stored form of a task in views.db: its row, its search words, and positions of the service's notes on it."""

import sqlite3
from collections.abc import Iterable
from datetime import datetime
from itertools import compress, product
from operator import ne
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import astuple, fields

from ...events import Created, Recorded, TaskState
from ...events.log.inserting import insert_rows
from ...events.priority import queue_key
from ...events.state import create
from ...events.system_events import (
    Adjusted,
    Deduplicated,
    DeliveryAttempted,
    DeliveryPostponed,
    RedeliveryRequested,
    UserErased,
)
from ..errors import ViewsDamaged
from .checksums import row_sum, sound
from .words import spaced

# The fields of TaskState that change over a task's life; the rest, its `spec`, is written once.
_Changing = msgspec.defstruct(
    "_Changing",
    [
        (field.name, field.type, field.default if field.default_factory is msgspec.NODEFAULT else {})
        for field in fields(TaskState)[2:]
    ],
    omit_defaults=True,
    gc=False,
)
_ENCODER = msgspec.json.Encoder(order="deterministic")
_SPEC = msgspec.json.Decoder(Created)
_CHANGING: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Changing)


class _Beginning(msgspec.Struct, gc=False):
    """The field of the changing part that stays the same over a task's life."""

    created_at: datetime


_BEGINNING = msgspec.json.Decoder(_Beginning)

Row: TypeAlias = tuple[Any, ...]

COLUMNS = (
    "id",
    "status",
    "type",
    "user_id",
    "document_id",
    "parent_task_id",
    "label",
    "batch",
    "priority",
    "queue_key",
    "updated_at",
    "changed",
    "spec",
    "state",
    "spec_sum",
    "state_sum",
)

INTO_TASKS = f"INSERT INTO tasks ({', '.join(COLUMNS)})"
# One row for each statement: with several rows FTS5 writes a piece of its index for each statement.
_INTO_SEARCH = "INSERT INTO search (rowid, type, input_file, output_file, error) VALUES (?, ?, ?, ?, ?)"
_OUT_OF_SEARCH = """
INSERT INTO search (search, rowid, type, input_file, output_file, error) VALUES ('delete', ?, ?, ?, ?, ?)
"""
# SQLite rewrites the index of every column that a statement names, so each statement names only changed columns.
_PLACE = ("status = ?, ", "priority = ?, ", "queue_key = ?, ")
_TOUCHED = "updated_at = ?, changed = ?, state = ?, state_sum = ? WHERE id = ?"
_UPDATES = {
    moved: f"UPDATE tasks SET {''.join(compress(_PLACE, moved))}{_TOUCHED}"  # noqa: S608 - our own names
    for moved in product((False, True), repeat=len(_PLACE))
}


def encode_state(state: TaskState) -> str:
    """The changing part of a state as JSON, without defaults."""
    return _ENCODER.encode(_Changing(*astuple(state)[2:])).decode()


def decode_state(task_id: int, spec: str | bytes, state: str | bytes) -> TaskState:
    """The state in a row. Raises `msgspec.DecodeError` if it is damaged."""
    return TaskState(task_id, _SPEC.decode(spec), *astuple(_CHANGING.decode(state)))


def state_of(row: Row) -> TaskState:
    """The state in a whole row. Raises `ViewsDamaged` if the row was altered."""
    return decode_state(*_parts_of(row))


def beginning_of(row: Row) -> TaskState:
    """The first state of the task of a whole row. Raises like `state_of`."""
    number, spec, state = _parts_of(row)
    return create(number, _SPEC.decode(spec), _BEGINNING.decode(state).created_at)


def state_with(row: Row, state: str | bytes) -> TaskState:
    """The task of a whole row with another state, such as an earlier one. Raises like `state_of`."""
    number, spec, _state = _parts_of(row)
    return decode_state(number, spec, state)


def _parts_of(row: Row) -> tuple[int, str, str]:
    number, status, *owners, priority, key, updated, changed, spec, state, spec_sum, state_sum = row
    if (
        row_sum(number, *owners, spec) != spec_sum
        or row_sum(number, status, priority, key, updated, changed, state) != state_sum
    ):
        raise ViewsDamaged(f"Task {number} has changed in the views since it was written there")
    return number, spec, state


def rank(state: TaskState) -> float | None:
    """The place of a waiting task in the queue, smaller runs first; None for any other task."""
    return float(queue_key(state)[0]) if state.waiting else None


def changed_of(row: Row) -> int:
    """The position of the task's last event, from a whole row."""
    return int(row[COLUMNS.index("changed")])


Standing: TypeAlias = tuple[float | None, float, int]
"""A task's place in the queue, its time of update, and the position of its last event."""


def standing(state: TaskState, changed: int) -> Standing:
    """The standing of a state."""
    return rank(state), state.updated_at.timestamp(), changed


def _changing(state: TaskState, at: Standing) -> Row:
    """The values that the second checksum covers."""
    return (state.id, state.status, state.priority, *at, encode_state(state))


def to_insert(state: TaskState, at: Standing) -> Row:
    """The row for `INTO_TASKS`. A missing parent is stored as 0, as the seed does for user and document."""
    spec = state.spec
    text = _ENCODER.encode(spec).decode()
    owners = (spec.type, spec.user_id, spec.document_id, spec.parent_task_id or 0, spec.label, spec.batch)
    changing = _changing(state, at)
    _id, status, priority, key, updated_at, changed, encoded = changing
    return (
        state.id,
        status,
        *owners,
        priority,
        key,
        updated_at,
        changed,
        text,
        encoded,
        row_sum(state.id, *owners, text),
        row_sum(*changing),
    )


def to_update(before: TaskState, state: TaskState, at: Standing) -> tuple[str, Row]:
    """The statement that updates a row to a state, and its parameters."""
    changing = _changing(state, at)
    place = changing[1:4]
    moved = tuple(map(ne, place, (before.status, before.priority, rank(before))))
    return _UPDATES[moved], (*compress(place, moved), *changing[4:], row_sum(*changing), state.id)


# --- full text over type, paths and error ---

TaskText: TypeAlias = tuple[str, str, str, str]


def text_of(state: TaskState) -> TaskText:
    """The words by which a task is found. Its message is left out, because it changes with every progress."""
    spec = state.spec
    texts = (spec.type, spec.input_file, spec.output_file, state.error or state.last_error)
    if all(map(str.isascii, texts)):
        return texts
    kind, source, output, error = map(spaced, texts)
    return kind, source, output, error


def add_texts(conn: sqlite3.Connection, states: Iterable[TaskState]) -> None:
    """Index tasks by the words of their states."""
    conn.executemany(_INTO_SEARCH, ((state.id, *text_of(state)) for state in states))


def remove_texts(conn: sqlite3.Connection, states: Iterable[TaskState]) -> None:
    """Remove these words of tasks from the index, which keeps no texts and so has to be given them."""
    conn.executemany(_OUT_OF_SEARCH, ((state.id, *text_of(state)) for state in states))


# --- positions of the service's records about a task, under task id 0; the log has no index for them ---

SPEAK_OF_A_TASK = Adjusted | Deduplicated | DeliveryAttempted | DeliveryPostponed | RedeliveryRequested


def write_notes(conn: sqlite3.Connection, records: Iterable[Recorded]) -> None:
    """Fold a batch in."""
    rows: list[tuple[int, int, None]] = []
    for record in records:
        event = record.event
        if record.task_id:
            continue
        if isinstance(event, SPEAK_OF_A_TASK):
            rows.append((event.task_id, record.position, None))
        elif isinstance(event, UserErased):
            rows += [(task_id, record.position, None) for task_id in event.tasks]
    insert_rows(conn, "INSERT INTO notes", rows)


def read_notes(conn: sqlite3.Connection, task_id: int) -> list[int]:
    """The positions of the service's records about a task, in order."""
    rows = sound(conn.execute("SELECT * FROM notes WHERE task_id = ? ORDER BY position", (task_id,)))
    return [position for _task_id, position in rows]
