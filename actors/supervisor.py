"""The supervisor: starts actors, watches whether they are alive, restarts dead ones, and stops all in order.

The watch never waits for an actor. It sends a ping, and looks later whether the answer is there. So it notices in time
that an actor hangs, and goes on watching the others. It rarely pings an idle actor, because each answer wakes a thread.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pykka

from ..events.clock import Clock
from ..events.errors import NotReady
from .actor import Activity, Actor, activities
from .logger import get_logger, log_error
from .messages import PING, PONG

logger = get_logger()

PING_EVERY = 2.0
"""Seconds between an answer and the next ping."""
PING_IDLE_EVERY = 30.0
"""The same for an actor that has handled all its messages. It has nothing to hang in."""
SILENT_AFTER = 5.0
"""An actor that was pinged and handles no message for these seconds counts as unwell."""
_RESTARTS = 3
_RESTART_WINDOW = 60.0
"""An actor that has died more than `_RESTARTS` times in these seconds is restarted only after `_REST` seconds."""
_REST = 10.0


class Child:
    """One actor under supervision. It keeps its name when its actor is restarted."""

    def __init__(self, name: str, start: Callable[[], pykka.ActorRef[Actor]], *, restart: bool) -> None:
        self.name = name
        self.start = start
        self.restart = restart
        self.ref: pykka.ActorRef[Actor] | None = None
        self.deaths: deque[float] = deque(maxlen=_RESTARTS + 1)
        self.asked: Any = None
        """The pending answer to a ping."""
        self.since = 0.0
        """When that ping was sent; without a pending ping, when the last one was answered."""
        self.seen = 0
        """How many steps it had begun at the last look."""
        self.unwell = ""
        """Why it counts as unwell; empty if it does not."""

    def tell(self, message: Any) -> None:
        """Pass a message on. A message to a dead actor is dropped: everything that matters is in the log."""
        try:
            if self.ref is not None:
                self.ref.tell(message)
        except pykka.ActorDeadError:
            logger.warning("a message was dropped", actor=self.name, message=type(message).__name__)

    def ask(self, message: Any, timeout: float) -> Any:
        """Ask, never longer than `timeout` seconds. Raises `NotReady`."""
        try:
            if self.ref is None:
                raise NotReady(f"{self.name} has not started")
            return self.ref.ask(message, timeout=timeout)
        except pykka.Timeout as error:
            raise NotReady(f"{self.name} did not answer within {timeout:g} s") from error
        except pykka.ActorDeadError as error:
            raise NotReady(f"{self.name} is not running") from error

    @property
    def activity(self) -> Activity:
        """Its current activity."""
        assert self.ref is not None
        return activities[self.ref.actor_urn]

    def has_progressed(self) -> bool:
        """Whether it has begun another message, or made progress within one, since the last call."""
        before, self.seen = self.seen, self.activity.number
        return self.seen != before

    def is_idle(self) -> bool:
        """Whether it has handled all its messages."""
        doing = self.activity
        return doing.done == doing.number and self.ref is not None and self.ref.actor_inbox.empty()


class Supervisor:
    """Starts actors in order and stops them in reverse.

    An actor whose child says `restart` is a consumer: the log has everything that it works on. If it dies it is
    restarted, however often; if it hangs the supervisor waits. If any other actor dies, or does not answer for
    `patience` seconds, `on_fatal` is called.
    """

    def __init__(self, clock: Clock, on_fatal: Callable[[BaseException], None], *, patience: float = 30.0) -> None:
        self._clock = clock
        self._on_fatal = on_fatal
        self._patience = patience
        self._children: list[Child] = []
        self._stopping = False
        self._end = threading.Lock()
        """Released when the watch is to end. Waiting for an `Event` would cost as much as a whole look."""
        self._end.acquire()
        self._watch: threading.Thread | None = None

    @property
    def unwell(self) -> dict[str, str]:
        """Unwell actor → the reason."""
        return {child.name: child.unwell for child in self._children if child.unwell}

    def start(self, child: Child, *, within: float) -> None:
        """Start an actor and wait until it answers a ping. Only then is it certain that `on_start` succeeded."""
        self._children.append(child)
        child.ref = child.start()
        if child.ask(PING, within) != PONG:
            raise NotReady(f"{child.name} answered a ping with something else")

    def watch(self, every: float, look: Callable[[], None] = lambda: None) -> None:
        """Examine the children and call `look`, every `every` seconds, from a thread of its own."""
        self._watch = threading.Thread(target=self._run, args=(every, look), name="supervisor", daemon=True)
        self._watch.start()

    def _run(self, every: float, look: Callable[[], None]) -> None:
        while not self._end.acquire(timeout=every):
            self._try(look)
            for child in self._children:
                self._try(self.examine, child)

    def _try(self, check: Callable[..., None], *args: Child) -> None:
        try:
            if not self._stopping:
                check(*args)
        except Exception as error:  # noqa: BLE001 - the watch goes on after any error
            log_error("the supervisor's look has failed", error)

    def examine(self, child: Child) -> None:
        """Check whether one child is alive and has answered, without waiting for it."""
        now = self._clock.monotonic()
        if child.ref is None or not child.ref.is_alive():
            self._start_anew(child, now)
            return
        if child.asked is not None:
            self._check_answer(child, now)
            return
        if now - child.since >= (PING_IDLE_EVERY if child.is_idle() and not child.unwell else PING_EVERY):
            child.has_progressed()
            child.asked, child.since = child.ref.ask(PING, block=False), now

    def _check_answer(self, child: Child, now: float) -> None:
        try:
            child.asked.get(timeout=0)
        except pykka.Timeout:
            if child.has_progressed():
                child.since, child.unwell = now, ""
            silent = now - child.since
            if silent >= min(SILENT_AFTER, self._patience):
                if not child.unwell:
                    at, where = child.activity.message, child.activity.where()
                    logger.error("an actor hangs", actor=child.name, at=at, where=where)  # noqa: TRY400 - its calls say more
                child.unwell = f"{child.name} has done nothing for {silent:.0f} s"
            if silent >= self._patience and not child.restart:
                self._give_up(child, NotReady(f"{child.name} did not answer within {self._patience:g} s"))
            return
        except Exception as error:  # noqa: BLE001 - it answered with an error, or died just now
            log_error("an actor could not answer a ping", error, actor=child.name)
        child.asked, child.since, child.unwell = None, now, ""

    def _start_anew(self, child: Child, now: float) -> None:
        if not child.restart:
            self._give_up(child, NotReady(f"{child.name} has died"))
            return
        if len(child.deaths) > _RESTARTS and now - child.deaths[0] < _RESTART_WINDOW and now < child.deaths[-1] + _REST:
            child.unwell = f"{child.name} has died {len(child.deaths)} times, and rests before it is started once more"
            return
        child.deaths.append(now)
        child.asked, child.since = None, now
        logger.warning("an actor has died and is started anew", actor=child.name)
        child.ref = child.start()

    def _give_up(self, child: Child, error: BaseException) -> None:
        if not self._stopping:
            logger.error("the service cannot go on", actor=child.name, error=str(error))
            self._on_fatal(error)

    def stop(self, within: float) -> list[str]:
        """Stop all within `within` seconds, the last started first. Returns the names of those that did not stop."""
        self._stopping = True
        if self._watch is not None:
            self._end.release()
            self._watch.join(timeout=within)
            self._watch = None
        deadline = self._clock.monotonic() + within
        hung = []
        for child in reversed(self._children):
            left = max(0.1, deadline - self._clock.monotonic())
            try:
                if child.ref is not None:
                    child.ref.stop(timeout=left)
            except pykka.Timeout:
                hung.append(child.name)
            except pykka.ActorDeadError:
                pass
        return hung
