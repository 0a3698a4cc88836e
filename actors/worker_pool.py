"""The WorkerPool: passes the Scheduler's orders to the executor and the executor's reports to the Scheduler."""

from collections.abc import Callable
from typing import Any

from ..handlers.frames import Report
from .base import Actor
from .executor import Executor
from .messages import Orders


class WorkerPool(Actor):
    """Owns the executor. Reports go straight from the executor's thread to the Scheduler's inbox."""

    def __init__(self, *, executor: Executor, report: Callable[[list[Report]], None], close_within: float) -> None:
        super().__init__()
        self._executor = executor
        self._report = report
        self._close_within = close_within

    def on_start(self) -> None:
        """Start the workers; the Scheduler learns the capacity by a report."""
        self._executor.open(self._report)

    def on_stop(self) -> None:
        """Kill what still runs and wait until it is gone."""
        self._executor.close(self._close_within)

    def receive(self, message: Any) -> None:
        """Carry out orders."""
        if isinstance(message, Orders):
            self._executor.do(message.orders)
