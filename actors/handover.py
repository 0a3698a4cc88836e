"""Passes orders from the Scheduler to the executor, and reports back.

Orders are given in the Scheduler's own thread: a thread between the two would have to wake for each task. But the
Scheduler must not wait for a disk. If an attempt gets the results of other tasks, they have to be read. So its order
goes to the WorkerPool's thread, and so do all later orders until it is done, because the executor relies on the
sequence of its orders.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock

from ..events.reports import AttemptEnded, Order, Report, Run
from ..handlers.publish import remove_part
from ..handlers.urls import is_url
from .dependency_results import DependencyResults
from .executor import Executor
from .logger import get_logger
from .messages import Orders

logger = get_logger()


class Handover:
    """Passes orders and reports on.

    An attempt that was killed may have left its output half-written under the hidden name. This part file is removed
    before the end is reported, when no process of the attempt can write there any more. All attempts of a task use the
    same name. So once the next attempt was ordered, the late end of an earlier one removes nothing.

    Args:
        executor: carries out the orders.
        results: reads the results that attempts get; belongs to the WorkerPool's thread.
        report: gets reports, in the executor's thread.
        outputs: task and attempt → output, for the attempts of an earlier service that may still run.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        results: DependencyResults | None,
        report: Callable[[list[Report]], None],
        outputs: dict[tuple[int, int], str] | None = None,
    ) -> None:
        self.executor = executor
        self._results = results
        self._report = report
        self._defer: Callable[[Orders], None] = self.carry_out
        self._deferred = 0
        """How often orders went to the WorkerPool's thread; only the Scheduler's thread counts it."""
        self._done = 0
        """How often they were carried out there; only the WorkerPool's thread counts it."""
        self._outputs = {task_id: (attempt, output) for (task_id, attempt), output in (outputs or {}).items()}
        """Task → the last ordered attempt that has an output, and this output."""
        self._lock = Lock()
        """Guards `_outputs`."""

    def open(self, defer: Callable[[Orders], None]) -> None:
        """Start the executor. `defer` makes the WorkerPool's thread call `carry_out`. Called in that thread."""
        self._defer = defer
        self.executor.open(self.pass_on)

    def order(self, orders: Orders) -> None:
        """Have orders carried out, after all earlier ones. Called in the Scheduler's thread."""
        if self._deferred == self._done and not any(isinstance(one, Run) and one.depends_on for one in orders.orders):
            self._give(orders.orders)
        else:
            self._deferred += 1
            self._defer(orders)

    def carry_out(self, orders: Orders) -> None:
        """Carry out deferred orders. Called in the WorkerPool's thread."""
        try:
            self._give(orders.orders if self._results is None else self._results.add_results(orders.orders))
        finally:
            self._done += 1

    def _give(self, orders: list[Order]) -> None:
        """Give orders to the executor. If it fails, give all again one by one: a repeated order is harmless."""
        for order in orders:
            if isinstance(order, Run) and order.output_file:
                with self._lock:
                    self._outputs[order.task_id] = (order.attempt, order.output_file)
        try:
            self.executor.do(orders)
        except Exception:
            logger.exception("orders could not be given", orders=len(orders))
            for order in orders:
                with suppress(Exception):  # reconciliation finds lost orders
                    self.executor.do([order])

    def pass_on(self, reports: list[Report]) -> None:
        """Pass reports on. Called in the executor's thread that reports; may wait for a disk."""
        for report in reports:
            if isinstance(report, AttemptEnded):
                with self._lock:  # the next attempt may be ordered at the same time
                    attempt, output = self._outputs.get(report.task_id, (0, ""))
                    if attempt != report.attempt:
                        continue
                    del self._outputs[report.task_id]
                if report.outcome != "completed":
                    _discard(output, report.task_id)
        self._report(reports)

    def close(self) -> None:
        """Close the reader of the results. Called in the WorkerPool's thread."""
        if self._results is not None:
            self._results.close()


def _discard(output: str, task_id: int) -> None:
    if is_url(output):
        return  # the mover cancels an unfinished upload
    try:
        remove_part(Path(output), task_id)
    except (OSError, ValueError) as error:
        logger.warning("a part file could not be removed", task_id=task_id, output=output, error=str(error))
