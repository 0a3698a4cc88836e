"""What became of the tasks between two points of the log."""

from collections import Counter
from collections.abc import Iterator

import msgspec

from ...events import Task
from ...events.errors import InvalidValue, UnknownTask
from ...events.log.event_log import ReadableLog
from ...events.recorded import Stub
from ...events.system_events import Adjusted
from .as_of import Point, position_of, task_as_of


class TaskChange(msgspec.Struct, frozen=True, kw_only=True):
    """One task that something was recorded of."""

    task_id: int
    before: Task | None
    """None: it was not created yet."""
    after: Task
    records: int
    """How many there are of it between the two points."""


def changes(log: ReadableLog, begin: str | Point, end: str | Point | None = None) -> Iterator[TaskChange]:
    """All tasks of which anything was recorded behind `begin`, up to and at `end`, by their ids.

    Args:
        log: the log.
        begin: a position or a time.
        end: the same; None: the end of the log.

    Raises:
        InvalidValue: one of them is neither, or the end lies before the beginning.
        BeyondTheLog: a position is not reached yet.
    """
    first = position_of(log, begin, "from")
    last = log.head().position if end is None else position_of(log, end, "to")
    if last < first:
        raise InvalidValue(f"The end, position {last}, lies before the beginning, position {first}", field="to")
    touched: Counter[int] = Counter()
    for record in log.read(first, last - first):
        if type(record.event) is Stub:
            continue
        touched[record.event.task_id if isinstance(record.event, Adjusted) else record.task_id] += 1
    touched.pop(0, None)
    for task_id in sorted(touched):
        yield TaskChange(
            task_id=task_id,
            before=_task_or_none(log, task_id, first),
            after=task_as_of(log, task_id, last),
            records=touched[task_id],
        )


def _task_or_none(log: ReadableLog, task_id: int, position: int) -> Task | None:
    try:
        return task_as_of(log, task_id, position)
    except UnknownTask:
        return None
