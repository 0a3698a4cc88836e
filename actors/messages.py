"""Messages between actors, beside those of the core."""

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from ..events import Accepted, Recorded, TasktrailError
from ..handlers.process.frames import Order

Reply: TypeAlias = Callable[[Accepted | TasktrailError], None]


class Ticket(msgspec.Struct, frozen=True):
    """Travels with a command as its token: where the answer goes, and what makes a repetition harmless.

    `reply` is called in the Scheduler's thread, after the commit: it must be quick, must not raise, and must let a
    second call pass.
    """

    reply: Reply
    command_id: str
    digest: bytes
    fresh: bool = False
    """The command id was made for this very command: there is no earlier answer to look for."""


class Committed(msgspec.Struct, frozen=True):
    """These records are durable. A consumer that missed some pulls them from the log."""

    records: list[Recorded]


class Wake(msgspec.Struct, frozen=True):
    """There is something in the feed."""


WAKE = Wake()


class Orders(msgspec.Struct, frozen=True):
    """For the WorkerPool, in order."""

    orders: list[Order]


class Catch(msgspec.Struct, frozen=True):
    """For the Projector: somebody waits for `position`."""

    position: int


class Checked(msgspec.Struct, frozen=True):
    """For the Projector: the views were looked through, and this is wrong with them; empty: nothing."""

    damage: str


class Damaged(msgspec.Struct, frozen=True):
    """For the Projector: somebody who asked the views has found this."""

    damage: str


class Query(msgspec.Struct, frozen=True):
    """Run `function` on the actor's state in its own thread and answer with the result; sent with `ask`."""

    function: Callable[[Any], Any]
