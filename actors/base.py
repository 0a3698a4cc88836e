"""The base of all actors: their class, and the messages that they send each other.

Pykka's own rules are harsh. An exception while handling a `tell` ends the actor for good and drops its inbox.
`SystemExit` in one actor stops all actors. An exception in `on_start` is only logged. So no exception may leave
`handle`, and the supervisor pings an actor before it trusts it.
"""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

import msgspec
import pykka

from ..events import Accepted, Recorded, TaskState, TasktrailError
from ..events.reports import Order
from .logger import get_logger

logger = get_logger()


def _is_unexpected(record: logging.LogRecord) -> bool:
    """False for our own errors in a start: pykka would log their traceback, and the caller reports them anyway."""
    return not (record.exc_info and isinstance(record.exc_info[1], TasktrailError))


logging.getLogger("pykka").addFilter(_is_unexpected)

SAME_ERROR_EVERY = 60.0
"""Seconds until the same error is logged again. An error that happens again and again must not fill the disk."""
_logged: dict[tuple[str, ...], tuple[float, int]] = {}


def log_error(event: str, error: BaseException, **about: str) -> None:
    """Log an error with its traceback. If the same error was logged within `SAME_ERROR_EVERY`, only count it."""
    key, now = (event, type(error).__name__, *about.values()), time.monotonic()
    at, left_out = _logged.get(key, (now - SAME_ERROR_EVERY, 0))
    if now - at < SAME_ERROR_EVERY:
        _logged[key] = at, left_out + 1
        return
    _logged[key] = now, 0
    logger.error(event, exc_info=error, **about, **({"like_it_before": left_out} if left_out else {}))


class Ping(msgspec.Struct, frozen=True):
    """Asks whether the actor is alive. It answers `PONG` once it has handled all earlier messages."""


PING = Ping()
PONG = "pong"


class Activity(msgspec.Struct):
    """The current activity of an actor. An actor whose `number` grows is busy and does not hang."""

    number: int = 0
    """How many steps it has begun: messages, and parts of long work."""
    done: int = -1
    """The value of `number` when the last message was finished; -1 before, as it may hang before the first message."""
    message: str = ""
    """The type of the latest message."""
    thread: int = 0

    def where(self) -> str:
        """The innermost calls of its thread now, the deepest last."""
        frame = sys._current_frames().get(self.thread)  # noqa: SLF001 - what the sys module offers for this
        calls = traceback.extract_stack(frame)[-_CALLS:] if frame else []
        return " > ".join(f"{Path(call.filename).name}:{call.lineno} {call.name}" for call in calls)


_CALLS = 6
activities: dict[str, Activity] = {}
"""An actor's URN → its activity."""


class Actor(pykka.ThreadingActor):
    """Handles one message at a time in a thread of its own. Subclasses write `receive`.

    Pykka calls `on_receive`, which notes the message in `activities` and calls `handle`. That calls `receive` and lets
    no error out. The Scheduler overrides `handle`: an error in a question goes to the sender and is no fault.
    """

    def __init__(self) -> None:
        super().__init__()
        self._activity = activities[self.actor_urn] = Activity()

    use_daemon_thread = True  # the supervisor stops actors in order; a forgotten one must not keep the process alive

    @staticmethod
    def _create_actor_inbox() -> Any:
        # Pykka's default, queue.Queue, has two condition variables in Python: most of the cost of a message.
        return SimpleQueue()

    def on_receive(self, message: Any) -> Any:
        """Handle a message, and note its start and its end in `activities`."""
        doing = self._activity
        doing.number += 1
        doing.message, doing.thread = type(message).__name__, threading.get_ident()
        try:
            return self.handle(message)
        finally:
            doing.done = doing.number

    def handle(self, message: Any) -> Any:
        """Handle a message. An error is logged and handed to `on_fault`, and the actor lives on."""
        if isinstance(message, Ping):
            self.settle()
            return PONG
        try:
            return self.receive(message)
        except BaseException as error:  # noqa: BLE001 - the actor lives on after any error
            name = type(self).__name__
            log_error("a message could not be handled", error, actor=name, message=type(message).__name__)
            try:
                self.on_fault(message, error)
            except BaseException as another:  # noqa: BLE001
                log_error("an actor could not put itself right", another, actor=name)
            return None

    def tell_progress(self, _reached: int, _goal: int) -> None:
        """Show that the actor does not hang. Called in the middle of long work."""
        self._activity.number += 1

    def receive(self, message: Any) -> Any:
        """Handle one message."""
        raise NotImplementedError

    def settle(self) -> None:
        """Finish work that was put off. Called before a ping is answered."""

    def on_fault(self, message: Any, error: BaseException) -> None:
        """Repair the actor's own state. Called after a message could not be handled."""


# --- the messages between actors, except those of the core

_Reply: TypeAlias = Callable[[Accepted | TasktrailError], None]


class Ticket(msgspec.Struct, frozen=True):
    """Travels with a command as its token: it says where the answer goes, and makes a repetition harmless.

    `reply` is called in the Scheduler's thread, after the commit. It must be quick, must not raise, and must accept a
    second call.
    """

    reply: _Reply
    command_id: str
    digest: bytes
    fresh: bool = False
    """Whether the command id is new, so that there is no earlier answer to look for."""


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
    """For the Projector: a query has found this damage in the views."""

    damage: str


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
