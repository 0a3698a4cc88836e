"""The WorkerPool: owns the executor, and makes the Scheduler compare its slots with the executor's attempts."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pykka

from ..events.errors import NotReady
from .actor import Actor
from .core.messages import Reconcile
from .handover import Handover
from .messages import Orders

RECONCILE_EVERY = 2.0
"""Seconds between two comparisons of the attempts that should run with those that do. Two in a row decide."""


class WorkerPool(Actor):
    """Starts and ends the executor, and carries out orders that need a read from disk first."""

    def __init__(
        self,
        *,
        handover: Handover,
        compare: Callable[[Reconcile], None],
        close_within: float,
        reconcile_every: float = RECONCILE_EVERY,
    ) -> None:
        super().__init__()
        self._handover = handover
        self._executor = handover.executor
        self._compare = compare
        self._close_within = close_within
        self._reconcile_every = reconcile_every
        self._closed = threading.Event()
        self._beat = threading.Thread(target=self._keep_beat, name="reconcile-beat", daemon=True)

    def on_start(self) -> None:
        """Start the workers. A report gives the Scheduler the capacity."""
        self._handover.open(self.actor_ref.tell)
        self._beat.start()

    def on_stop(self) -> None:
        """Kill the attempts that still run, and wait until they are gone."""
        self._closed.set()
        self._executor.close(self._close_within)
        self._handover.close()

    def receive(self, message: Any) -> None:
        """Carry out orders."""
        if isinstance(message, Orders):
            self._handover.carry_out(message)

    def _keep_beat(self) -> None:
        """Ask for a comparison at each beat, by the monotonic clock: a wall clock may be set back."""
        while not self._closed.wait(self._reconcile_every):
            with suppress(pykka.ActorDeadError, NotReady):  # the Scheduler has just stopped
                self._compare(Reconcile())
