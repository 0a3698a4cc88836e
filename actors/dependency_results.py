"""The results of the tasks that a task has waited for: read from the log when its attempt begins, and handed over.

The Scheduler's memory does not hold what is completed, and a replay of its decisions has no use for it.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec.structs import replace

from ..events import Completed, Recorded, TasktrailError
from ..events.reports import Run

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

    def given_to(self, run: Run) -> Run:
        """The order with the results. Where they are too many or cannot be read, it says so: the handler may not care.

        A dependency that has ended otherwise and is ignored has no result, and is left out.
        """
        if not run.depends_on:
            return run
        results, size = {}, 0
        try:
            self._log = self._log or self._open_log()
            for task_id in run.depends_on:
                last = self._log.last_of(task_id)
                if last is None or not isinstance(last.event, Completed):
                    continue
                results[task_id] = last.event.result
                size += len(msgspec.json.encode(last.event.result))
                if size > _MOST:
                    return replace(run, no_results=f"they take more than {_MOST:,} bytes")
        except (TasktrailError, OSError) as error:
            self.close()
            return replace(run, no_results=f"the log could not be read: {error}")
        return replace(run, results=results)

    def close(self) -> None:
        """Close the reader; it is opened again when it is needed."""
        if self._log is not None:
            self._log.close()
            self._log = None
