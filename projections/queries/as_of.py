"""Points in the past, and the fold of the log up to one, for queries that the views cannot answer."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

from ...events import Recorded, Task, TaskState
from ...events.errors import InvalidValue, UnknownTask
from ...events.log.event_log import ReadableLog
from ...events.log.stubs import forgotten
from ...events.recorded import to_the_second
from ...events.task import Children, view
from ...events.values import check_task_id, in_words
from ..errors import BeyondTheLog
from ..views.fold import Tally, fold_batch
from ..views.writer import TaskViews
from .batches import Batch
from .filters import TaskFilters
from .reader import Every, TaskQueries
from .stats import Stats
from .walk import Census, Place, Stretch

if TYPE_CHECKING:
    from .activity import Span

Point: TypeAlias = int | datetime
"""A position or an aware time. It stands for everything recorded up to and including it."""

_PAGE = 20_000
_CLOCKS_DIFFER = timedelta(minutes=1)


def parse_point(text: str | Point, field: str = "as_of") -> Point:
    """A position or an RFC 3339 time with an offset. Raises `InvalidValue`, which names `field`."""
    if isinstance(text, str):
        text = _parsed(text.strip(), field)
    if isinstance(text, int) and not isinstance(text, bool):
        if not 0 <= text < 2**63:
            raise InvalidValue(f"{in_words(text)} is no position of a log", field=field)
        return text
    if not isinstance(text, datetime):
        raise InvalidValue(f"{text!r} is neither a position nor a time", field=field)
    if text.utcoffset() is None:
        raise InvalidValue(f"{text.isoformat()} has no time zone; write Z or an offset such as +01:00", field=field)
    try:
        return text.astimezone(UTC)
    except OverflowError:
        raise InvalidValue(f"{text.isoformat()} is out of range", field=field) from None


def refuse_future(point: str | Point, now: datetime, field: str = "as_of") -> None:
    """Raise `BeyondTheLog` for a time in the future. A minute is allowed, as clocks of two machines may differ."""
    point = parse_point(point, field)
    if isinstance(point, datetime) and point > now + _CLOCKS_DIFFER:
        raise BeyondTheLog(
            f"{to_the_second(point)} is still to come",
            field=field,
            remedy="Name a time up to now, or a position of the log.",
        )


def _parsed(text: str, field: str) -> Point:
    try:
        return int(text) if text.isascii() and text.isdecimal() else datetime.fromisoformat(text)
    except ValueError:
        raise InvalidValue(
            f"{text[:40]!r} is neither a position nor a time such as 2026-01-31T12:00:00Z", field=field
        ) from None


class FoldedPast:
    """The tasks at a point, folded anew, with the same queries as for now. Close it, or use it in `with`."""

    def __init__(self, views: TaskViews, moment: datetime) -> None:
        self._views = views
        self._queries = TaskQueries(views.connection)
        self.moment = moment
        """The time that counts as "now" in the answers, for example for the wait bonus."""

    @property
    def position(self) -> int:
        """The last record that the answers include."""
        return self._views.position

    def get(self, task_id: int) -> Task:
        """One task as it was. Raises `UnknownTask`."""
        return self._queries.get(task_id, self.moment)

    def children(self, task_id: int, user_id: int | None = None) -> Children | None:
        """A summary of a task's children at that point, or of one user's among them; None if there were none."""
        return self._queries.children(task_id, user_id)

    def batch(self, name: str, user_id: int | None = None) -> Batch | None:
        """One batch; None if no task had its name. With a user, only that user's tasks count."""
        return self._queries.batch(name, user_id)

    def batches(self, most: int, user_id: int | None = None) -> tuple[Batch, ...]:
        """The newest batches at that point. With a user, only that user's tasks count."""
        return self._queries.batches(most, user_id)

    def progress(self, task_id: int) -> tuple[float, str]:
        """Percent done and the latest message. Raises `UnknownTask`."""
        return self._queries.progress(task_id)

    def activity(self, minutes: int, step: int) -> "list[Span]":
        """The activity of the last `minutes` minutes, at most a day, in spans of `step` minutes."""
        return self._queries.activity(self.moment, minutes, step)

    def list(self, filters: TaskFilters) -> tuple[list[Task], int]:
        """One page, and the number of all tasks that passed the filters."""
        return self._queries.list(filters, self.moment)

    def stretch(self, filters: TaskFilters, place: Place) -> tuple[Stretch, Census]:
        """The tasks after a place in a list, and how many passed in all."""
        return self._queries.stretch(filters, self.moment, place), self._queries.census(filters)

    def every(self, filters: TaskFilters) -> AbstractContextManager[Every]:
        """All tasks that passed, however many."""
        return self._queries.every(filters, self.moment)

    def stats(self) -> Stats:
        """The numbers over all tasks."""
        return self._queries.stats(self.moment)

    def stats_of(self, user_id: int) -> Stats:
        """The numbers over the tasks of one user."""
        return self._queries.stats_of(user_id, self.moment)

    def close(self) -> None:
        """Free the memory."""
        self._views.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def fold_to(log: ReadableLog, point: str | Point, scratch: str = ":memory:") -> FoldedPast:
    """Fold the log up to the point. Raises `InvalidValue`, or `BeyondTheLog` for a position not reached yet.

    `scratch`: SQLite's name of the database for the views; an empty name means a temporary file.
    """
    point = parse_point(point)
    moment = time_of(log, point)
    views = TaskViews(scratch, bulk=True)
    records = _records_up_to(log, point)
    try:
        while page := list(islice(records, _PAGE)):
            views.apply(page)
        views.finish()
    except BaseException:  # Ctrl-C too: a long fold holds much memory
        views.close()
        raise
    return FoldedPast(views, moment)


def task_as_of(log: ReadableLog, task_id: int, point: str | Point) -> Task:
    """One task at a point, from its own records alone. Raises `UnknownTask` if it was not created yet."""
    check_task_id(task_id)
    point = parse_point(point)
    moment = time_of(log, point)
    own = log.read_task(task_id, adjusted=True) if 0 < task_id < 2**63 else []
    states: dict[int, TaskState] = fold_batch(_cut_at(own, point), {}, Tally())
    if task_id not in states:
        raise forgotten(log, task_id) or not_created_yet(task_id, point)
    return view(states[task_id], moment)


def not_created_yet(task_id: int, point: Point) -> UnknownTask:
    """The error for a task that was created later. A time is repeated in UTC, whatever zone it was given in."""
    then = f"at {to_the_second(point)}" if isinstance(point, datetime) else "then"
    remedy = f"`tasktrail history {task_id}` shows when it was created, if it ever was."
    return UnknownTask(f"Task {task_id} did not exist {then}", field="task_id", remedy=remedy)


def time_of(log: ReadableLog, point: Point, field: str = "as_of") -> datetime:
    """The time at a point; position 0 has the first record's. Raises `BeyondTheLog`, which names `field`."""
    if isinstance(point, datetime):
        return point
    head = log.head().position
    if point > head:
        raise BeyondTheLog(f"Position {point} is not written yet: the log ends at {head}", field=field)
    latest = next(log.read(max(point, 1) - 1, 1), None)
    return latest.recorded_at if latest else datetime.min.replace(tzinfo=UTC)


def position_of(log: ReadableLog, point: str | Point, field: str = "as_of") -> int:
    """The last position at a point. Raises `InvalidValue`, or `BeyondTheLog` for a position not reached yet."""
    point = parse_point(point, field)
    time_of(log, point, field)
    return point if isinstance(point, int) else position_at(log, point)


def position_at(log: ReadableLog, at: datetime) -> int:
    """The last position recorded up to and including a time; 0 if there is none."""

    def recorded_at(position: int) -> datetime:
        return next(log.read(position - 1, 1)).recorded_at

    return bisect_right(range(1, log.head().position + 1), at, key=recorded_at)  # time never decreases along the log


def _records_up_to(log: ReadableLog, point: Point) -> Iterator[Recorded]:
    # Time never decreases along the log, so the first record beyond the point ends the walk.
    return log.read(0, point) if isinstance(point, int) else _cut_at(log.read(), point)


def _cut_at(records: Iterable[Recorded], point: Point) -> Iterator[Recorded]:
    for record in records:
        if record.recorded_at > point if isinstance(point, datetime) else record.position > point:
            return
        yield record
