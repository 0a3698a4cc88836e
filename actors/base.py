"""What all actors share: a quick inbox, a ping, and surviving a bad message.

Pykka's own rules are harsher than they look: an exception while handling a `tell` ends the actor for good and drops
its inbox; `SystemExit` in one actor stops them all; one in `on_start` is only logged. So nothing may leave `receive`,
and whoever starts an actor pings it before trusting it.
"""

from queue import SimpleQueue
from typing import Any

import msgspec
import pykka
import structlog

log = structlog.get_logger("tasktrail")


class Ping(msgspec.Struct, frozen=True):
    """Are you there? Answered with `PONG` once everything told before is handled."""


PING = Ping()
PONG = "pong"


class Actor(pykka.ThreadingActor):
    """Handles one message at a time in a thread of its own. Subclasses write `receive`, never `on_receive`."""

    use_daemon_thread = True  # the supervisor stops actors in order; a forgotten one must not keep the process alive

    @staticmethod
    def _create_actor_inbox() -> Any:
        # Pykka's default is a queue.Queue: two condition variables in Python, and most of what a message costs.
        return SimpleQueue()

    def on_receive(self, message: Any) -> Any:
        """Handle a message; what goes wrong is logged and handed to `on_fault`, and the actor lives on."""
        if isinstance(message, Ping):
            self.settle()
            return PONG
        try:
            return self.receive(message)
        except BaseException as error:
            log.exception("a message could not be handled", actor=type(self).__name__, message=type(message).__name__)
            self.on_fault(message, error)
            return None

    def receive(self, message: Any) -> Any:
        """Handle one message."""
        raise NotImplementedError

    def settle(self) -> None:
        """Called before a ping is answered: finish what was put off."""

    def on_fault(self, message: Any, error: BaseException) -> None:
        """Called after a message could not be handled: put the actor's own state right again."""
