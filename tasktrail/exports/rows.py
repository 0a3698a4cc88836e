"""The rows of an export: records, tasks or attempts, read one by one, all as of one position."""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeAlias

from msgspec.structs import replace

from ..api.pages import from_pages
from ..api.protocol import Reading
from ..api.reader import Questions, attempts_until
from ..events import Recorded, Task
from ..projections import BeyondTheLog, TaskFilters, ViewsFailed
from ..projections.attempts import Attempt
from ..projections.queries.as_of import FoldedPast, fold_to, parse_point, position_at, refuse_future
from ..projections.queries.filters import MAX_LIMIT
from ..projections.queries.past import Past
from ..projections.queries.reader import Every

What: TypeAlias = Literal["log", "tasks", "attempts"]
_NEVER = datetime.max.replace(tzinfo=UTC)


class Export(NamedTuple):
    """Rows that are read when they are asked for."""

    position: int
    """The position as of which the rows are."""
    goal: int
    """The progress at the end."""
    rows: Iterator[tuple[int, Any]]
    """The progress, with a `Recorded`, `Task` or `Attempt`; with None if there is progress but no row."""


@contextmanager
def opened(reading: Reading, what: What, filters: TaskFilters, *, folded: bool = False) -> Iterator[Export]:
    """Give the rows of an export, in the order of positions or of tasks.

    Args:
        reading: answers the questions. A client that is bound to a user sees only that user's tasks and records.
        what: the kind of rows.
        filters: which tasks, as of when. For the log, the records of these tasks; without filters, all records.
        folded: for files, fold the log instead of trusting the views, which anybody may have edited.

    Raises:
        BeyondTheLog: the position is not reached yet.
        UnknownType: a type that the filters name does not exist.
    """
    if what == "log" and filters == TaskFilters(as_of=filters.as_of):
        position = _position(reading, filters.as_of)
        yield Export(position, position, _records(reading, position, None))
        return
    with _every_task(reading, filters, folded=folded) as every:
        if what == "log":
            chosen = _Chosen(every.tasks)
            yield Export(every.position, every.position, _records(reading, every.position, chosen))
        else:
            rows = _attempts(reading, every) if what == "attempts" else enumerate(every.tasks, 1)
            yield Export(every.position, every.total, rows)


@contextmanager
def _every_task(reading: Reading, filters: TaskFilters, *, folded: bool) -> Iterator[Every]:
    if isinstance(reading, Questions):
        with _from_files(reading, filters, folded=folded) as every:
            yield every
        return
    position = _position(reading, filters.as_of)  # so that all pages are as of the same position
    wanted = replace(filters, as_of=position, sort="id", limit=MAX_LIMIT)
    first, total = reading.list_tasks(wanted)
    yield Every(position, total, from_pages(reading, wanted, first, total))


@contextmanager
def _from_files(reading: Questions, filters: TaskFilters, *, folded: bool) -> Iterator[Every]:
    """Give the tasks one by one, from one transaction of the views. Two exports as of the same position are equal."""
    source = reading.source
    reading.check_types(filters)
    if folded and filters.as_of == "":
        filters = replace(filters, as_of=source.log().head().position)
    if filters.as_of == "":
        with source.views_apart() as views, views.every(filters) as every:
            yield every
        return
    point = parse_point(filters.as_of)
    refuse_future(point, source.clock.now())
    position = point if isinstance(point, int) else position_at(source.log(), point)
    with ExitStack() as stack:
        past: Past | FoldedPast | None = None
        if not folded:
            with suppress(ViewsFailed):
                past = Past(stack.enter_context(source.views_apart()), source.log(), position)
        if past is None:  # folded into a temporary file, because there may be very many tasks
            past = stack.enter_context(fold_to(source.log(), position, scratch=""))
        yield stack.enter_context(past.every(filters))


def _position(reading: Reading, moment: str | int) -> int:
    """Return the last position as of a position or time; for a time, the last one that the reader may see."""
    head = reading.stats().position
    if moment == "":
        return head
    point = parse_point(moment)
    if isinstance(point, datetime):
        refuse_future(point, datetime.now(UTC))
        return bisect_right(range(1, head + 1), point, key=lambda position: _time_from(reading, position))
    if point > head:
        raise BeyondTheLog(f"Position {point} is not written yet: the log ends at {head}", field="as_of")
    return point


def _time_from(reading: Reading, position: int) -> datetime:
    """Return when the first record from a position on was made."""
    with closing(reading.log(position - 1, 1)) as records:  # type: ignore[type-var]  # all of them are generators
        return next((record.recorded_at for record in records), _NEVER)


class _Chosen:
    """A set of task ids that may be a million: a byte holds eight."""

    def __init__(self, tasks: Iterator[Task]) -> None:
        self._bits = bytearray()
        for task in tasks:
            self._bits.extend(bytes(max(0, task.id // 8 + 1 - len(self._bits))))
            self._bits[task.id // 8] |= 1 << task.id % 8

    def __contains__(self, task_id: int) -> bool:
        return task_id // 8 < len(self._bits) and bool(self._bits[task_id // 8] & 1 << task_id % 8)


def _records(reading: Reading, position: int, chosen: _Chosen | None) -> Iterator[tuple[int, Recorded | None]]:
    """Yield the records up to a position; for chosen tasks, their own and the service's records about them."""
    with closing(reading.log()) as records:  # type: ignore[type-var]  # all of them are generators
        for record in records:
            if record.position > position:
                return
            wanted = chosen is None or task_about(record) in chosen
            yield record.position, record if wanted else None


def task_about(record: Recorded) -> int:
    """Return the task that a record is about; 0: none."""
    return record.task_id or int(getattr(record.event, "task_id", 0))


def _attempts(reading: Reading, every: Every) -> Iterator[tuple[int, Attempt | None]]:
    for number, task in enumerate(every.tasks, 1):
        yield number, None
        if not task.attempt:
            continue
        if isinstance(reading, Questions):
            for attempt in attempts_until(reading, task.id, task.version):
                yield number, attempt
        else:
            for attempt in reading.attempts(task.id, as_of=every.position):
                yield number, attempt
