"""The class of all actors.

Pykka's own rules are harsh. An exception while handling a `tell` ends the actor for good and drops its inbox.
`SystemExit` in one actor stops all actors. An exception in `on_start` is only logged. So no exception may leave
`handle`, and the supervisor pings an actor before it trusts it.
"""

import logging
import sys
import threading
import traceback
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import pykka

from ..events import TasktrailError
from .logger import log_error
from .messages import PONG, Ping


def _is_unexpected(record: logging.LogRecord) -> bool:
    """False for our own errors in a start: pykka would log their traceback, and the caller reports them anyway."""
    return not (record.exc_info and isinstance(record.exc_info[1], TasktrailError))


logging.getLogger("pykka").addFilter(_is_unexpected)


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
