"""The messages between actors, except those of the Scheduler's step (`core/messages`)."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from ..events import Accepted, Recorded, TaskState, TasktrailError
from ..events.reports import Order

_Reply: TypeAlias = Callable[[Accepted | TasktrailError], None]


class Ping(msgspec.Struct, frozen=True):
    """Asks whether the actor is alive. It answers `PONG` once it has handled all earlier messages."""


PING = Ping()
PONG = "pong"


class Ticket(msgspec.Struct, frozen=True):
    """Travels with a command as its token: it says where the answer goes, and makes a repetition harmless.

    `reply` is called in the Scheduler's thread, after the commit. It must be quick, must not raise, and must accept a
    second call.
    """

    reply: _Reply
    command_id: str
    digest: bytes
    """Of the command as it was sent, with 2 for each 2.0, times in UTC and without fields that have their default;
    recorded with the answer. For a batch, that of the request."""
    fresh: bool = False
    """Whether the command id is new, so that there is no earlier answer to look for."""
    refusal: TasktrailError | None = None
    """The answer unless the command is a repetition: the refusal of its examination."""
    earlier: tuple[bytes, ...] = ()
    """Other digests that are compared as well, since older logs have recorded them: of the command with its numbers and
    times as they were written, and as it would be recorded now, with its preset resolved."""
    of_batch: bool = False
    """Whether the command creates the tasks of a batch. A repetition may have found other files, so the ids of the
    first one do not belong to its names: it is answered without ids."""


class Repetition(msgspec.Struct, frozen=True):
    """Asks the Scheduler, which owns the log, for the answer that a command id got; None if it is new.

    Raises `CommandIdReused` if the answer belongs to another command. `only_user`: the caller's, if it is bound to one.
    """

    command_id: str
    digest: bytes
    only_user: int | None = None


class Committed(msgspec.Struct, frozen=True):
    """These records are durable. A consumer that missed some reads them from the log."""

    records: list[Recorded]
    tasks: dict[int, TaskState]
    """The tasks of the records, in their state after the last record."""
    queued_at: dict[int, datetime]
    """Task that has started → the time since which it had waited only for free resources."""
    seconds: float
    """How long writing the records took."""


class Wake(msgspec.Struct, frozen=True):
    """Tells a consumer that its feed has records."""


WAKE = Wake()


class Orders(msgspec.Struct, frozen=True):
    """Orders for the executor, in the order in which they are to be carried out."""

    orders: list[Order]


class CatchUp(msgspec.Struct, frozen=True):
    """For the Projector: a thread waits for `position`."""

    position: int


class Checked(msgspec.Struct, frozen=True):
    """For the Projector: the views were checked. `damage` describes their damage; empty if they are sound."""

    damage: str


class Damaged(msgspec.Struct, frozen=True):
    """For the Projector: a query has found this damage in the views of this generation."""

    damage: str
    generation: int


class PutInPlace(msgspec.Struct, frozen=True):
    """For the Projector: replace the live views by the views that were built beside them.

    It answers with the position of the new views, or with the error that prevented the replacement.
    """

    beside: Path | None = None
    """The place of the new views; None for the usual one. If given, no data of the old views may stay in any file."""


class DestroyKeys(msgspec.Struct, frozen=True):
    """For the Scheduler, which owns the log: destroy these keys of users. It answers when that is done."""

    keys: tuple[str, ...]


class DeleteArchived(msgspec.Struct, frozen=True):
    """For the Scheduler, which owns the log: delete up to `limit` archived rows. It answers how many are left."""

    limit: int


class DeleteSnapshots(msgspec.Struct, frozen=True):
    """For the Snapshotter: delete all snapshots, even an unfinished one. It answers when that is done."""


class StateQuery(msgspec.Struct, frozen=True):
    """Asks the actor to run `function` on its state, in its own thread, and to answer with the result."""

    function: Callable[[Any], Any]
