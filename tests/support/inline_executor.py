"""A recorder of reports, for tests of anything that uses an executor."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from tasktrail.actors.inline_executor import InlineExecutor
from tasktrail.events.reports import (
    AttemptCheckpointed,
    AttemptEnded,
    CapacityChanged,
    Grant,
    Order,
    PublishWanted,
    Report,
    Saved,
    Settled,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasktrail.actors.executor import Executor


_LOOK_EVERY = 0.05


class Reports:
    """Collects what an executor reports, and answers it: every checkpoint is saved and every output granted.

    Each end counts as recorded.

    Args:
        executor: is opened with this as its reporter.
        answer: False to leave the answers to the test.
        settle: False to have no end recorded.
    """

    def __init__(self, executor: Executor, *, answer: bool = True, settle: bool = True) -> None:
        self._executor = executor
        self._answer = answer
        self._settle = settle
        self._changed = threading.Condition()
        self.all: list[Report] = []
        executor.open(self._take)

    def until(self, wanted: Callable[[Report], bool], timeout: float = 20.0) -> Report:
        """Wait for the first wanted report, past or coming.

        The predicate may also check a state that no report shows, once there is any report. Raises TimeoutError with
        the reports that came instead.
        """
        with self._changed:
            until = time.monotonic() + timeout
            while not self._changed.wait_for(lambda: any(map(wanted, self.all)), _LOOK_EVERY):
                if time.monotonic() < until:
                    continue
                raise TimeoutError(f"not reported in {timeout} s; there were: {self.all}")
            return next(filter(wanted, self.all))

    def end(self, task_id: int, attempt: int = 1, timeout: float = 20.0) -> AttemptEnded:
        """The end of the attempt."""
        ended = self.until(lambda report: _is_end(report, task_id, attempt), timeout)
        assert isinstance(ended, AttemptEnded)
        return ended

    def capacity(self, slots: int) -> None:
        """Wait until that many attempts can run at once."""
        self.until(lambda report: isinstance(report, CapacityChanged) and report.slots == slots)

    def capacities(self, *wanted: CapacityChanged) -> None:
        """Wait until these were the last capacities, in this order: a single one may have been only transient."""

        def are_last(_: Report) -> bool:
            found = [report for report in self.all if isinstance(report, CapacityChanged)]
            return tuple(found[-len(wanted) :]) == wanted

        self.until(are_last)

    def of(self, task_id: int) -> list[Report]:
        """Everything that was reported about the task."""
        return [report for report in self.all if getattr(report, "task_id", None) == task_id]

    def _take(self, reports: list[Report]) -> None:
        with self._changed:
            self.all.extend(reports)
            self._changed.notify_all()
        if self._answer:
            self._executor.do([answer for report in reports for answer in _answers(report)])
        if self._settle and (ends := [report for report in reports if isinstance(report, AttemptEnded)]):
            self._executor.do([Settled(report.task_id, report.attempt) for report in ends])


def _answers(report: Report) -> list[Order]:
    match report:
        case AttemptCheckpointed():
            return [Saved(report.task_id, report.attempt)]
        case PublishWanted():
            return [Grant(report.task_id, report.attempt)]
    return []


def _is_end(report: Report, task_id: int, attempt: int) -> bool:
    return isinstance(report, AttemptEnded) and (report.task_id, report.attempt) == (task_id, attempt)


__all__ = ["InlineExecutor", "Reports"]
