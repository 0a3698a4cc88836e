"""The WorkerPool: passes the Scheduler's orders to the executor and the executor's reports to the Scheduler."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..handlers.process.frames import AttemptEnded, Report, Run
from ..handlers.publish import remove_part
from .base import Actor, log
from .executor import Executor
from .messages import Orders


class WorkerPool(Actor):
    """Owns the executor. Reports go straight from the executor's thread to the Scheduler's inbox.

    An attempt that was killed may have left its output half-written under the hidden name. It is removed before the
    end is told, when no process of the attempt can write there any more.
    """

    def __init__(self, *, executor: Executor, report: Callable[[list[Report]], None], close_within: float) -> None:
        super().__init__()
        self._executor = executor
        self._report = report
        self._close_within = close_within
        self._outputs: dict[tuple[int, int], str] = {}
        """Output of each attempt that is running and has one."""

    def on_start(self) -> None:
        """Start the workers; the Scheduler learns the capacity by a report."""
        self._executor.open(self._pass_on)

    def on_stop(self) -> None:
        """Kill what still runs and wait until it is gone."""
        self._executor.close(self._close_within)

    def receive(self, message: Any) -> None:
        """Carry out orders."""
        if isinstance(message, Orders):
            for order in message.orders:
                if isinstance(order, Run) and order.output_file:
                    self._outputs[order.task_id, order.attempt] = order.output_file
            self._executor.do(message.orders)

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
        except OSError as error:
            log.warning("a part file could not be removed", task_id=task_id, output=output, error=str(error))
