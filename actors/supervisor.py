"""Starts actors, finds out whether they live, starts dead ones anew, and stops all in order with deadlines."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pykka

from ..events.clock import Clock
from ..events.errors import NotReady
from .base import PING, PONG, Actor, log

_RESTARTS = 3
_RESTART_WINDOW = 60.0


class Child:
    """One actor under supervision, addressed by name: a restart changes what stands behind it."""

    def __init__(self, name: str, start: Callable[[], pykka.ActorRef[Actor]], *, restart: bool) -> None:
        self.name = name
        self.start = start
        self.restart = restart
        self.ref: pykka.ActorRef[Actor] | None = None
        self.deaths: deque[float] = deque(maxlen=_RESTARTS + 1)

    def tell(self, message: Any) -> None:
        """Pass a message on. To a dead actor it is dropped: what counts is in the log."""
        try:
            if self.ref is not None:
                self.ref.tell(message)
        except pykka.ActorDeadError:
            log.warning("a message was dropped", actor=self.name, message=type(message).__name__)

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


class Supervisor:
    """Start in order, stop in reverse. `on_fatal` is called once when something died that cannot be started anew."""

    def __init__(self, clock: Clock, on_fatal: Callable[[BaseException], None], *, patience: float = 30.0) -> None:
        self._clock = clock
        self._on_fatal = on_fatal
        self._patience = patience
        self._children: list[Child] = []
        self._stopping = threading.Event()
        self._watch: threading.Thread | None = None

    def start(self, child: Child, *, within: float) -> None:
        """Start an actor and wait until it answers a ping: only then has `on_start` gone well."""
        self._children.append(child)
        child.ref = child.start()
        if child.ask(PING, within) != PONG:
            raise NotReady(f"{child.name} answered a ping with something else")

    def watch(self, every: float) -> None:
        """Look after the children from a thread of its own, every so many seconds."""
        self._watch = threading.Thread(target=self._run, args=(every,), name="supervisor", daemon=True)
        self._watch.start()

    def _run(self, every: float) -> None:
        while not self._stopping.wait(every):
            for child in list(self._children):
                if not self._stopping.is_set():
                    self.examine(child)

    def examine(self, child: Child) -> None:
        """Ping one child; start it anew when it is dead, give up when it hangs or dies too often."""
        alive = child.ref is not None and child.ref.is_alive()
        try:
            if alive:
                child.ask(PING, self._patience)
                return
        except NotReady as error:
            if child.ref is not None and child.ref.is_alive():
                self._give_up(child, error)
                return
        self._start_anew(child)

    def _start_anew(self, child: Child) -> None:
        child.deaths.append(self._clock.monotonic())
        often = len(child.deaths) > _RESTARTS and child.deaths[-1] - child.deaths[0] < _RESTART_WINDOW
        if not child.restart or often:
            self._give_up(child, NotReady(f"{child.name} has died"))
            return
        log.warning("an actor has died and is started anew", actor=child.name)
        child.ref = child.start()

    def _give_up(self, child: Child, error: BaseException) -> None:
        if not self._stopping.is_set():
            log.error("the service cannot go on", actor=child.name, error=str(error))
            self._on_fatal(error)

    def stop(self, within: float) -> list[str]:
        """Stop all, the last started first, each within its share of `within`; the names of those that did not."""
        self._stopping.set()
        if self._watch is not None:
            self._watch.join(timeout=within)
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
