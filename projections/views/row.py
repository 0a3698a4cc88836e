"""A task's state ↔ its row in views.db."""

from typing import Any, TypeAlias

import msgspec
from msgspec.structs import astuple, fields

from ...events import Created, TaskState
from ...events.priority import queue_key

# What changes over a task's life, under the field names of TaskState; the rest, its `spec`, is written once.
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

Row: TypeAlias = tuple[Any, ...]

COLUMNS = (
    "id",
    "status",
    "type",
    "user_id",
    "document_id",
    "parent_task_id",
    "priority",
    "queue_key",
    "updated_at",
    "spec",
    "state",
)

INSERT = f"INSERT INTO tasks ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - our own names
# Two kinds of update, because SQLite rewrites the index of every column that a statement names.
MOVE = "UPDATE tasks SET status = ?, priority = ?, queue_key = ?, updated_at = ?, state = ? WHERE id = ?"
TOUCH = "UPDATE tasks SET updated_at = ?, state = ? WHERE id = ?"


def encode_state(state: TaskState) -> str:
    """The changing part as JSON, defaults left out."""
    return _ENCODER.encode(_Changing(*astuple(state)[2:])).decode()


def decode_state(task_id: int, spec: str | bytes, state: str | bytes) -> TaskState:
    """The state a row holds. Raises `msgspec.DecodeError` for a damaged one."""
    return TaskState(task_id, _SPEC.decode(spec), *astuple(_CHANGING.decode(state)))


def rank(state: TaskState) -> float | None:
    """Where a waiting task stands in the queue, smaller runs first; none for the others."""
    return queue_key(state)[0] if state.waiting else None


def same_place(one: TaskState, other: TaskState) -> bool:
    """Whether both states fill the columns alike, but for the time of the update."""
    return one.status == other.status and one.priority == other.priority and one.scheduled_for == other.scheduled_for


def to_insert(state: TaskState) -> Row:
    """The parameters of `INSERT`. No parent is stored as 0, as the seed does for user and document."""
    spec = state.spec
    return (
        state.id,
        state.status,
        spec.type,
        spec.user_id,
        spec.document_id,
        spec.parent_task_id or 0,
        state.priority,
        rank(state),
        state.updated_at.timestamp(),
        _ENCODER.encode(spec).decode(),
        encode_state(state),
    )


def to_move(state: TaskState) -> Row:
    """The parameters of `MOVE`."""
    return (
        state.status,
        state.priority,
        rank(state),
        state.updated_at.timestamp(),
        encode_state(state),
        state.id,
    )


def to_touch(state: TaskState) -> Row:
    """The parameters of `TOUCH`."""
    return (state.updated_at.timestamp(), encode_state(state), state.id)
