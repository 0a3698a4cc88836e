"""The WorkerPool: owns the executor, and has the Scheduler compare its slots with what the executor holds."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pykka

from ..events.errors import NotReady
from .base import Actor, Orders
from .core.messages import Reconcile
from .handover import Handover

RECONCILE_EVERY = 2.0
"""Seconds between two comparisons of what the Scheduler believes to run with what does. Two in a row decide."""


class WorkerPool(Actor):
    """Starts and ends the executor, and carries out the orders for which something has to be read first."""

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
        """Start the workers; the Scheduler learns the capacity by a report."""
        self._handover.open(self.actor_ref.tell)
        self._beat.start()

    def on_stop(self) -> None:
        """Kill what still runs and wait until it is gone."""
        self._closed.set()
        self._executor.close(self._close_within)
        self._handover.close()

    def receive(self, message: Any) -> None:
        """Carry out orders."""
        if isinstance(message, Orders):
            self._handover.carry_out(message)

    def _keep_beat(self) -> None:
        """Monotonic: a wall clock may be set back."""
        while not self._closed.wait(self._reconcile_every):
            with suppress(pykka.ActorDeadError, NotReady):  # stopped just now
                self._compare(Reconcile())
