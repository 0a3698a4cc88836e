"""Gives an attempt the results of the tasks that its task depends on, read from the log when it begins.

The Scheduler's memory does not hold completed tasks, and a replay of its decisions does not need their results.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from msgspec.structs import replace

from ..events import Completed, Recorded, TasktrailError
from ..events.reports import Order, Run

_MOST = 1024 * 1024
"""Bytes of results that one attempt may get. One result has at most 64 KiB."""


class LastRecords(Protocol):
    """The part of the log that is needed here."""

    def last_of(self, task_id: int) -> Recorded | None:
        """The latest event of a task."""

    def close(self) -> None:
        """Close it: no more queries follow."""


class DependencyResults:
    """Adds the results of dependencies to orders. Belongs to one thread, like the reader that it opens when needed."""

    def __init__(self, open_log: Callable[[], LastRecords]) -> None:
        self._open_log = open_log
        self._log: LastRecords | None = None

    def add_results(self, orders: Sequence[Order]) -> list[Order]:
        """Return the orders, with results added to each `Run`. A dependency that several runs share is read once."""
        last_records: dict[int, Recorded | None] = {}
        return [self._run_with(order, last_records) if isinstance(order, Run) else order for order in orders]

    def _run_with(self, run: Run, last_records: dict[int, Recorded | None]) -> Run:
        """Add the results, or the reason why they are too large or cannot be read: the handler may not need them.

        A dependency that did not complete, but whose end is ignored, has no result and is left out.
        """
        results, size = {}, 0
        try:
            for task_id in run.depends_on:
                if task_id not in last_records:
                    self._log = self._log or self._open_log()
                    last_records[task_id] = self._log.last_of(task_id)
                last = last_records[task_id]
                if last is None or not isinstance(last.event, Completed):
                    continue
                results[task_id] = last.event.result
                size += len(msgspec.json.encode(last.event.result))
                if size > _MOST:
                    return replace(run, no_results=f"they take more than {_MOST:,} bytes")
        except (TasktrailError, OSError) as error:
            self.close()
            return replace(run, no_results=f"the log could not be read: {error}")
        return replace(run, results=results) if results else run

    def close(self) -> None:
        """Close the reader; it is opened again when needed."""
        if self._log is not None:
            self._log.close()
            self._log = None
