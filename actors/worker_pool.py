"""The WorkerPool: passes the Scheduler's orders to the executor and the executor's reports to the Scheduler."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pykka

from ..events.errors import NotReady
from ..events.reports import AttemptEnded, Order, Report, Run
from ..handlers.publish import remove_part
from .base import Actor, Orders, logger
from .core.messages import Reconcile
from .dependency_results import DependencyResults
from .executor import Executor

RECONCILE_EVERY = 2.0
"""Seconds between two comparisons of what the Scheduler believes to run with what does. Two in a row decide."""


class WorkerPool(Actor):
    """Owns the executor. Reports go straight from the executor's thread to the Scheduler's inbox.

    An attempt that was killed may have left its output half-written under the hidden name. It is removed before the
    end is reported, when no process of the attempt can write there any more.
    """

    def __init__(
        self,
        *,
        executor: Executor,
        report: Callable[[list[Report] | Reconcile], None],
        close_within: float,
        results: DependencyResults | None = None,
        reconcile_every: float = RECONCILE_EVERY,
    ) -> None:
        super().__init__()
        self._executor = executor
        self._report = report
        self._close_within = close_within
        self._results = results
        self._outputs: dict[tuple[int, int], str] = {}
        """Output of each attempt that is running and has one."""
        self._reconcile_every = reconcile_every
        self._closed = threading.Event()
        self._beat = threading.Thread(target=self._keep_beat, name="reconcile-beat", daemon=True)

    def on_start(self) -> None:
        """Start the workers; the Scheduler learns the capacity by a report."""
        self._executor.open(self._pass_on)
        self._beat.start()

    def on_stop(self) -> None:
        """Kill what still runs and wait until it is gone."""
        self._closed.set()
        self._executor.close(self._close_within)
        if self._results is not None:
            self._results.close()

    def receive(self, message: Any) -> None:
        """Carry out orders."""
        if isinstance(message, Orders):
            for order in message.orders:
                if isinstance(order, Run) and order.output_file:
                    self._outputs[order.task_id, order.attempt] = order.output_file
            self._do([self._with_results(order) for order in message.orders])

    def _with_results(self, order: Order) -> Order:
        return self._results.given_to(order) if self._results is not None and isinstance(order, Run) else order

    def _do(self, orders: list[Order]) -> None:
        """An executor that breaks at one order gets the others one by one: repeating one changes nothing."""
        try:
            self._executor.do(orders)
        except Exception:  # noqa: BLE001 - foreign code behind the seam
            logger.exception("orders could not be given", orders=len(orders))
            for order in orders:
                with suppress(Exception):  # what it has lost is found when the Scheduler compares
                    self._executor.do([order])

    def _keep_beat(self) -> None:
        """Monotonic: a wall clock may be set back."""
        while not self._closed.wait(self._reconcile_every):
            with suppress(pykka.ActorDeadError, NotReady):  # stopped just now
                self._report(Reconcile())

    def _pass_on(self, reports: list[Report]) -> None:
        for report in reports:
            if isinstance(report, AttemptEnded):
                output = self._outputs.pop((report.task_id, report.attempt), None)
                if output and report.outcome != "completed":
                    self._discard(output, report.task_id)
        self._report(reports)

    def _discard(self, output: str, task_id: int) -> None:
        try:
            remove_part(Path(output), task_id)
        except (OSError, ValueError) as error:
            logger.warning("a part file could not be removed", task_id=task_id, output=output, error=str(error))
