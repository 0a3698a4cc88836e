"""The results of the tasks that a task has waited for: read from the log when its attempt begins, and handed over.

The Scheduler's memory does not hold what is completed, and a replay of its decisions has no use for it.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from msgspec.structs import replace

from ..events import Completed, Recorded, TasktrailError
from ..events.reports import Order, Run

_MOST = 1024 * 1024
"""Bytes of results that one attempt may be given. One result has at most 64 KiB."""


class LastRecords(Protocol):
    """What is asked of the log."""

    def last_of(self, task_id: int) -> Recorded | None:
        """The latest event of a task."""

    def close(self) -> None:
        """Nothing more will be asked."""


class DependencyResults:
    """Gives attempts what they depend on. Belongs to one thread, as the reader does that it opens when it is needed."""

    def __init__(self, open_log: Callable[[], LastRecords]) -> None:
        self._open_log = open_log
        self._log: LastRecords | None = None

    def given_to(self, orders: Sequence[Order]) -> list[Order]:
        """The orders, runs with their results. What several of them wait for is read once."""
        known: dict[int, Recorded | None] = {}
        return [self._run_with(order, known) if isinstance(order, Run) else order for order in orders]

    def _run_with(self, run: Run, known: dict[int, Recorded | None]) -> Run:
        """Where the results are too many or cannot be read, the order says so: the handler may not care.

        A dependency that has ended otherwise and is ignored has no result, and is left out.
        """
        results, size = {}, 0
        try:
            for task_id in run.depends_on:
                if task_id not in known:
                    self._log = self._log or self._open_log()
                    known[task_id] = self._log.last_of(task_id)
                last = known[task_id]
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
        """Close the reader; it is opened again when it is needed."""
        if self._log is not None:
            self._log.close()
            self._log = None
