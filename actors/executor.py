"""The seam between the Scheduler and whatever runs attempts: processes of this machine, or of others."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import msgspec

from ..events.reports import AttemptEnded, Order, Report, Run
from ..handlers.process.channel import Unencodable

Reporter: TypeAlias = Callable[[list[Report]], None]


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What this executor can promise here; `doctor` shows it."""

    hard_kill_tree: str
    """The mechanism that ends a whole process tree, in words."""
    kills_escaped: bool
    """Whether it also ends processes that left for a session of their own or were daemonised."""
    finds_orphans: bool
    """Whether descendants are still found when the keeping process itself was killed."""


class Executor(Protocol):
    """Runs attempts and reports what becomes of them.

    Rules that the contract suite checks for every implementation: each `Run` is answered by exactly one
    `AttemptEnded`, and nothing about an attempt follows it. No end is reported while a process of the attempt is left.
    A repeated order changes nothing; an order for an attempt that is unknown or over is ignored. Executors never
    retry, and never start anything without an order. A `Run` that cannot be handed over ends as rejected, by name.
    `TellHeld` is answered by one `AttemptsHeld`, after the ends that were reported before it.

    One whose attempts outlive the service tells, after `open`, what it finds of the attempts of earlier services:
    `AttemptFound` for each that runs, its end for each that ran, and `AllFound` once no other one can be alive. Until
    then it starts nothing, so that no task has two. It keeps an end, for the next service, until it is `Settled`.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What can be promised on this machine."""

    @property
    def trouble(self) -> str:
        """Why fewer attempts can run than should, in words; empty where nothing is known of."""

    def open(self, report: Reporter) -> None:
        """Begin. `report` is called from the executor's own thread with all that came at once; it may call `do`."""

    def capacity(self) -> int:
        """Attempts that can run at once now. `CapacityChanged` follows each change, and says it once after `open`."""

    def memory(self) -> dict[tuple[int, int], int]:
        """Task and number of each attempt that runs → the bytes that its processes have in memory; from any thread.

        Only those of which that is known are in it.
        """

    def do(self, orders: Sequence[Order]) -> None:
        """Carry out orders, from any thread; never blocks long.

        A `Run` beyond the capacity waits for the next free worker, a short one perhaps in a worker.
        """

    def close(self, timeout: float) -> None:
        """Kill everything, wait up to `timeout` seconds for it to be gone. Open attempts end as stopped."""


def unbegun(run: Run) -> AttemptEnded:
    """The end of an attempt that was stopped before its handler was called."""
    return AttemptEnded(run.task_id, run.attempt, "stopped", message="it had not begun")


def unencodable(run: Run, error: Unencodable) -> AttemptEnded:
    """The end of an attempt whose order cannot be sent. It is final: another attempt could not be sent either."""
    told = f"The attempt cannot be handed to a worker: {error}. Create the task again with other options."
    return AttemptEnded(run.task_id, run.attempt, "rejected", error=told, error_type=Unencodable.__name__)


def stopped_instead(ended: AttemptEnded) -> AttemptEnded:
    """The end of an attempt that was to stop: what broke then, broke because of that wish."""
    return msgspec.structs.replace(ended, outcome="stopped") if ended.outcome in ("failed", "lost") else ended
