"""The interface between the Scheduler and the executors, which run attempts on this machine or on others."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import msgspec

from ..events.reports import AttemptEnded, Order, Report, Run
from ..handlers.process.channel import Unencodable
from .logger import get_logger

logger = get_logger(__name__)
Reporter: TypeAlias = Callable[[list[Report]], None]


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """The guarantees that this executor gives on this machine; `doctor` shows them."""

    hard_kill_tree: str
    """The mechanism that ends a whole process tree, in words."""
    kills_escaped: bool
    """Whether it also ends processes that started a session of their own or became daemons."""
    finds_orphans: bool
    """Whether it still finds descendants after the process that keeps them was killed."""
    measures_memory: bool = False
    """Whether `memory` is what attempts use now. An attempt that it leaves out has no process yet."""


class Executor(Protocol):
    """Runs attempts and reports their progress and their ends.

    The contract suite checks these rules for every implementation. Each `Run` is answered by exactly one
    `AttemptEnded`, and nothing about an attempt follows it. No end is reported while a process of the attempt is left.
    A repeated order changes nothing. An order for an attempt that is unknown or over is ignored. Executors never
    retry, and never start anything without an order. A `Run` that cannot be handed over ends as rejected.
    `TellHeld` is answered by one `AttemptsHeld`, after the ends that were reported before it.

    If attempts outlive the service, the executor reports after `open` which attempts of earlier services it finds:
    `AttemptFound` for each that still runs, and the end of each that is over. `AllFound` follows once no other attempt
    can be alive. Until then the executor starts nothing, so that no task has two attempts. It keeps an end, for the
    next service, until it is `Settled`.
    """

    @property
    def capabilities(self) -> Capabilities:
        """The guarantees on this machine."""

    @property
    def trouble(self) -> str:
        """The reason, in words, why fewer attempts can run than configured; empty if no reason is known."""

    def open(self, report: Reporter) -> None:
        """Begin. `report` is called in the executor's own thread with reports that came at once; it may call `do`."""

    def capacity(self) -> int:
        """How many attempts can run at once now. `CapacityChanged` reports it after `open` and after each change."""

    def memory(self) -> dict[tuple[int, int], int]:
        """Task and number of each running attempt → the memory of its processes in bytes; from any thread.

        Attempts whose memory is unknown are left out.
        """

    def do(self, orders: Sequence[Order]) -> None:
        """Carry out orders, from any thread; never blocks long.

        A `Run` beyond the capacity waits for the next free worker. A short one may wait inside a busy worker.
        """

    def close(self, timeout: float) -> None:
        """Kill everything, and wait up to `timeout` seconds until it is gone. Open attempts end as stopped."""


class PendingOrders:
    """Orders that an executor still has to carry out, in sequence. Any thread may add some.

    Args:
        lock: the executor's.
        post: has the executor's own thread call something.
        carry_out: carries one order out, with the lock held.
        finish: called after some were carried out, with the lock held.
    """

    def __init__(
        self,
        lock: threading.RLock,
        post: Callable[[Callable[[], None]], None],
        carry_out: Callable[[Order], None],
        finish: Callable[[], None] = lambda: None,
    ) -> None:
        self._lock = lock
        self._post = post
        self._carry_out = carry_out
        self._finish = finish
        self._orders: deque[Order] = deque()

    def add(self, orders: Sequence[Order]) -> None:
        """Carry them out, after all earlier ones. If another thread has the lock, the executor's own thread does it."""
        self._orders.extend(orders)
        if self._lock.acquire(blocking=False):
            try:
                self.work_off()
            finally:
                self._lock.release()
        else:
            self._post(self.work_off)

    def work_off(self) -> None:
        """Carry out all that are there."""
        with self._lock:
            while self._orders:
                order = self._orders.popleft()
                try:
                    self._carry_out(order)
                except Exception:  # an order that fails must not affect the others; `TellHeld` finds what it has lost
                    logger.exception("order_failed", order=type(order).__name__)
            self._finish()


def unbegun(run: Run) -> AttemptEnded:
    """The end of an attempt that was stopped before its handler was called."""
    return AttemptEnded(run.task_id, run.attempt, "stopped", message="it had not begun")


def unencodable(run: Run, error: Unencodable) -> AttemptEnded:
    """The end of an attempt whose order cannot be sent. It is final: a retry could not be sent either."""
    text = f"The attempt cannot be handed to a worker: {error}. Create the task again with other options."
    return AttemptEnded(run.task_id, run.attempt, "rejected", error=text, error_type=Unencodable.__name__)


def stopped_instead(ended: AttemptEnded) -> AttemptEnded:
    """The end of an attempt that was asked to stop. A failure or a loss after that counts as stopped."""
    return msgspec.structs.replace(ended, outcome="stopped") if ended.outcome in ("failed", "lost") else ended
