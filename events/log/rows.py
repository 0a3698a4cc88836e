"""Facts ↔ rows of the table `events`: the order of columns that the hash chain covers."""

from datetime import datetime
from typing import TypeAlias

from ..codec import decode, encode
from ..errors import LogCorrupt
from ..recorded import Fact, Recorded, timestamp
from ..task_events import is_terminal

COLUMNS = (
    "position",
    "task_id",
    "version",
    "event",
    "recorded_at",
    "actor",
    "reason",
    "command_id",
    "correlation_id",
    "causation_id",
    "attempt",
    "life",
    "terminal",
    "data",
)

_COUNTED = {"position", "task_id", "version", "attempt", "life", "terminal"}


def _length(column: str) -> str:
    return f"length({column if column in _COUNTED else f'CAST({column} AS BLOB)'})"


COVERED = f"printf('{'%d:%s' * len(COLUMNS)}', {', '.join(f'{_length(column)}, {column}' for column in COLUMNS)})"
"""In SQL, what the chain covers of a record, up to a NUL in a text. It saves most of the work of `chain.link`."""

Row: TypeAlias = tuple[int, int, int, str, str, str, str, str, str, str, int, int, int, str]


def to_row(fact: Fact, position: int) -> Row:
    """The stored values of a fact at a position, hash excluded."""
    tag, data = encode(fact.event)
    return (
        position,
        fact.task_id,
        fact.version,
        tag,
        timestamp(fact.recorded_at),
        fact.actor,
        fact.reason,
        fact.command_id,
        fact.correlation_id,
        fact.causation_id,
        fact.attempt,
        fact.life,
        1 if is_terminal(fact.event) else 0,
        data,
    )


def from_row(row: Row, digest: bytes) -> Recorded:
    """The record a row holds."""
    position = row[0]
    try:
        recorded_at = datetime.fromisoformat(row[4])
    except ValueError as error:
        raise LogCorrupt(f"Position {position} has no readable time: {row[4]!r}") from error
    return Recorded(
        row[1], row[2], decode(row[3], row[13], position), recorded_at, *row[5:10], row[10], row[11], position, digest
    )
