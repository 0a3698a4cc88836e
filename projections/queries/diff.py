"""The changes of tasks between two points of the log."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import takewhile

import msgspec

from ...events import Created, Task
from ...events.errors import CONTRADICTION, InvalidValue
from ...events.log.event_log import ReadableLog
from ...events.log.stubs import forgotten
from ...events.recorded import Stub
from ...events.system_events import Adjusted
from ...events.task import view
from ...events.values import check_whole
from ..views.fold import Tally, fold_batch
from .as_of import Point, parse_point, position_of, time_of
from .filters import MAX_LIMIT

_MAX_OFFSET = 2**53


class TaskChange(msgspec.Struct, frozen=True, kw_only=True):
    """One task with records between the two points."""

    task_id: int
    before: Task | None
    """None: it was not created yet."""
    after: Task
    records: int
    """The number of its records between the two points."""


class TaskChanges(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the tasks with records between two points of the log."""

    changes: list[TaskChange]
    total: int
    """The number of all such tasks."""
    from_position: int
    """The last record that `before` takes into account."""
    to_position: int
    """The last record that `after` takes into account."""


def changes(log: ReadableLog, begin: str | Point, end: str | Point | None = None) -> Iterator[TaskChange]:
    """All tasks with records after `begin`, up to and including `end`, in the order of ids.

    Args:
        log: the log.
        begin: a position or a time.
        end: the same; None: the end of the log.

    Raises:
        InvalidValue: one of them is neither, or the end lies before the beginning.
        BeyondTheLog: a position is not reached yet.
    """
    span = _Span(log, begin, end)
    touched = span.touched(lambda _task_id, _created: True)
    for task_id in sorted(touched):
        yield span.change(task_id, touched[task_id])


def changes_page(
    log: ReadableLog,
    begin: str | Point,
    end: str | Point | None,
    limit: int,
    offset: int,
    shows: Callable[[int, Created | None], bool],
) -> TaskChanges:
    """One page of the same, and the number of all.

    `shows`: says once for each task whether to include it, from its id, and its first record if that is at hand.
    """
    check_whole(limit, "limit", 1, MAX_LIMIT)
    check_whole(offset, "offset", 0, _MAX_OFFSET)
    span = _Span(log, begin, end)
    touched = span.touched(shows)
    return TaskChanges(
        changes=[span.change(task_id, touched[task_id]) for task_id in sorted(touched)[offset : offset + limit]],
        total=len(touched),
        from_position=span.first,
        to_position=span.last,
    )


class _Span:
    """The records between two points."""

    def __init__(self, log: ReadableLog, begin: str | Point, end: str | Point | None) -> None:
        self._log = log
        begin = parse_point(begin, "from")
        end = None if end is None else parse_point(end, "to")
        self.first = position_of(log, begin, "from")
        self.last = log.head().position if end is None else position_of(log, end, "to")
        if self.last < self.first:
            raise InvalidValue(
                f"The end, position {self.last}, lies before the beginning, position {self.first}",
                field="to",
                status=CONTRADICTION,
                remedy="Name an earlier beginning, or a later end.",
            )
        self._moments = self._moment(begin, self.first), self._moment(end, self.last)

    def _moment(self, point: Point | None, position: int) -> datetime:
        """The time that counts as "now" in the answer, as in any other answer about that point."""
        return point if isinstance(point, datetime) else time_of(self._log, position)

    def touched(self, shows: Callable[[int, Created | None], bool]) -> Counter[int]:
        """Task → the number of its records."""
        counts: Counter[int] = Counter()
        passed: set[int] = set()
        for record in self._log.read_to_fold(self.first, self.last - self.first):
            event = record.event
            task_id = event.task_id if isinstance(event, Adjusted) else record.task_id
            if not task_id or type(event) is Stub or task_id in passed:
                continue
            if task_id not in counts and not shows(task_id, event if isinstance(event, Created) else None):
                passed.add(task_id)
                continue
            counts[task_id] += 1
        return counts

    def change(self, task_id: int, records: int) -> TaskChange:
        """The change of one of these tasks. Its records are read once. Raises `TaskForgotten`."""
        own = self._log.read_task(task_id, adjusted=True)
        until = len(list(takewhile(lambda record: record.position <= self.first, own)))
        before = fold_batch(own[:until], {}, Tally())
        rest = takewhile(lambda record: record.position <= self.last, own[until:])
        after = fold_batch(rest, before, Tally())
        if task_id not in after and (gone := forgotten(self._log, task_id)) is not None:
            raise gone  # after it was counted
        return TaskChange(
            task_id=task_id,
            before=view(before[task_id], self._moments[0]) if before else None,
            after=view(after[task_id], self._moments[1]),
            records=records,
        )
