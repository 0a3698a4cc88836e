"""What all actors share: a quick inbox, a ping, and surviving a bad message.

Pykka's own rules are harsher than they look: an exception while handling a `tell` ends the actor for good and drops
its inbox; `SystemExit` in one actor stops them all; one in `on_start` is only logged. So nothing may leave `receive`,
and whoever starts an actor pings it before trusting it.
"""

import logging
import sys
import threading
import time
import traceback
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import msgspec
import pykka

from ..events.errors import TasktrailError
from .log import get_logger

log = get_logger()


def _is_news(record: logging.LogRecord) -> bool:
    """Pykka logs what an actor's start raises with its traceback; our own errors are told by whoever started it."""
    return not (record.exc_info and isinstance(record.exc_info[1], TasktrailError))


logging.getLogger("pykka").addFilter(_is_news)

COMPLAIN_EVERY = 60.0
"""Seconds until the same complaint is written once more. What happens again and again must not fill the disk."""
_complained: dict[tuple[str, ...], tuple[float, int]] = {}


def complain(event: str, error: BaseException, **about: str) -> None:
    """Log an error with its traceback, unless one like it was logged a moment ago; then it is only counted."""
    key, now = (event, type(error).__name__, *about.values()), time.monotonic()
    at, left_out = _complained.get(key, (now - COMPLAIN_EVERY, 0))
    if now - at < COMPLAIN_EVERY:
        _complained[key] = at, left_out + 1
        return
    _complained[key] = now, 0
    log.error(event, exc_info=error, **about, **({"like_it_before": left_out} if left_out else {}))


class Ping(msgspec.Struct, frozen=True):
    """Are you there? Answered with `PONG` once everything told before is handled."""


PING = Ping()
PONG = "pong"


class Doing(NamedTuple):
    """What an actor was last seen to begin. Whoever goes on to another message is busy, and does not hang."""

    number: int = 0
    """Steps that it has begun: messages, and parts of long work."""
    message: str = ""
    """The type of the latest message."""
    thread: int = 0

    def where(self) -> str:
        """The innermost calls of its thread at this moment, the deepest last."""
        frame = sys._current_frames().get(self.thread)  # noqa: SLF001 - what the sys module offers for this
        calls = traceback.extract_stack(frame)[-_CALLS:] if frame else []
        return " > ".join(f"{Path(call.filename).name}:{call.lineno} {call.name}" for call in calls)


_CALLS = 6
doing: dict[str, Doing] = {}
"""By the actor's URN."""


class Actor(pykka.ThreadingActor):
    """Handles one message at a time in a thread of its own. Subclasses write `receive`, never `on_receive`."""

    use_daemon_thread = True  # the supervisor stops actors in order; a forgotten one must not keep the process alive

    @staticmethod
    def _create_actor_inbox() -> Any:
        # Pykka's default is a queue.Queue: two condition variables in Python, and most of what a message costs.
        return SimpleQueue()

    def on_receive(self, message: Any) -> Any:
        """Handle a message; what goes wrong is logged and handed to `on_fault`, and the actor lives on."""
        number = doing[self.actor_urn].number if self.actor_urn in doing else 0
        doing[self.actor_urn] = Doing(number + 1, type(message).__name__, threading.get_ident())
        if isinstance(message, Ping):
            self.settle()
            return PONG
        try:
            return self.receive(message)
        except BaseException as error:  # noqa: BLE001 - whatever it was, the actor lives on
            name = type(self).__name__
            complain("a message could not be handled", error, actor=name, message=type(message).__name__)
            try:
                self.on_fault(message, error)
            except BaseException as another:  # noqa: BLE001
                complain("an actor could not put itself right", another, actor=name)
            return None

    def tell_progress(self, _reached: int, _goal: int) -> None:
        """Called in the middle of long work: whoever does this does not hang."""
        now = doing.get(self.actor_urn, Doing(thread=threading.get_ident()))
        doing[self.actor_urn] = now._replace(number=now.number + 1)

    def receive(self, message: Any) -> Any:
        """Handle one message."""
        raise NotImplementedError

    def settle(self) -> None:
        """Called before a ping is answered: finish what was put off."""

    def on_fault(self, message: Any, error: BaseException) -> None:
        """Called after a message could not be handled: put the actor's own state right again."""
