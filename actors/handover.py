"""What passes between Scheduler and executor: orders one way, reports the other.

Orders are given in the Scheduler's own thread: one between the two would have to wake for each task. The Scheduler must
not wait for a disk, though. So where an attempt is handed the results of other tasks, which have to be read, the order
goes to the WorkerPool's thread, and so does all that comes behind it until that is done: the executor relies on the
order of what it is told.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock

from ..events.reports import AttemptEnded, Order, Report, Run
from ..handlers.publish import remove_part
from ..handlers.urls import is_url
from .base import Orders, logger
from .dependency_results import DependencyResults
from .executor import Executor


class Handover:
    """Passes orders and reports on.

    An attempt that was killed may have left its output half-written under the hidden name. It is removed before the
    end is reported, when no process of the attempt can write there any more. The name is the task's: once the next
    attempt was ordered it may be that one's, and the end of an earlier one, however late, removes nothing.

    Args:
        executor: carries out the orders.
        results: reads what attempts are handed; belongs to the WorkerPool's thread.
        report: gets reports, in the executor's thread.
        outputs: output of each attempt that an earlier service has started and that may live.
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
        """How often orders went to the WorkerPool's thread; counted by the Scheduler's."""
        self._done = 0
        """How often they were carried out there; counted there."""
        self._outputs = {task_id: (attempt, output) for (task_id, attempt), output in (outputs or {}).items()}
        """Task → the attempt that was ordered last, and its output, if it has one."""
        self._lock = Lock()
        """Guards them."""

    def open(self, defer: Callable[[Orders], None]) -> None:
        """Start the executor. `defer` has `carry_out` called in the WorkerPool's thread, which this is."""
        self._defer = defer
        self.executor.open(self.pass_on)

    def order(self, orders: Orders) -> None:
        """Have orders carried out, behind all earlier ones. From the Scheduler's thread."""
        if self._deferred == self._done and not any(isinstance(one, Run) and one.depends_on for one in orders.orders):
            self._give(orders.orders)
        else:
            self._deferred += 1
            self._defer(orders)

    def carry_out(self, orders: Orders) -> None:
        """Carry out what was deferred. From the WorkerPool's thread."""
        try:
            self._give(orders.orders if self._results is None else self._results.given_to(orders.orders))
        finally:
            self._done += 1

    def _give(self, orders: list[Order]) -> None:
        """An executor that breaks at one order gets the others one by one: repeating one changes nothing."""
        for order in orders:
            if isinstance(order, Run) and order.output_file:
                with self._lock:
                    self._outputs[order.task_id] = (order.attempt, order.output_file)
        try:
            self.executor.do(orders)
        except Exception:  # noqa: BLE001 - foreign code behind the seam
            logger.exception("orders could not be given", orders=len(orders))
            for order in orders:
                with suppress(Exception):  # what it has lost is found when the Scheduler compares
                    self.executor.do([order])

    def pass_on(self, reports: list[Report]) -> None:
        """Pass reports on. From the executor's thread that reports. May wait for a disk."""
        for report in reports:
            if isinstance(report, AttemptEnded):
                with self._lock:  # the next attempt may be ordered just now
                    attempt, output = self._outputs.get(report.task_id, (0, ""))
                    if attempt != report.attempt:
                        continue
                    del self._outputs[report.task_id]
                if report.outcome != "completed":
                    _discard(output, report.task_id)
        self._report(reports)

    def close(self) -> None:
        """Let go of what is read. From the WorkerPool's thread."""
        if self._results is not None:
            self._results.close()


def _discard(output: str, task_id: int) -> None:
    if is_url(output):
        return  # what has not appeared there, its own process calls off
    try:
        remove_part(Path(output), task_id)
    except (OSError, ValueError) as error:
        logger.warning("a part file could not be removed", task_id=task_id, output=output, error=str(error))
