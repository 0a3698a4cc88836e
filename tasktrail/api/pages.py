"""The tasks of a list that comes in pages."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ..events import Task

if TYPE_CHECKING:
    from ..projections import TaskFilters
    from .protocol import Reading


def from_pages(reading: "Reading", wanted: "TaskFilters", page: Sequence[Task], total: int) -> Iterator[Task]:
    """Yield the tasks of a list in the order of ids: those of its first page, then of each later page when needed.

    No task is missed if others are forgotten meanwhile. A forgotten task is gone from the past, too, and those after it
    move up, by at most the number of forgotten tasks.
    """
    place = last = 0
    while page:
        yield from (task for task in page if task.id > last)
        place, last = place + len(page), max(last, page[-1].id)
        if place >= total:
            return
        page, left = reading.list_tasks(replace(wanted, offset=place))
        while left < total:
            place, total = earlier_place(place, total, left), left
            page, left = reading.list_tasks(replace(wanted, offset=place))
        total = left


def earlier_place(place: int, total: int, left: int) -> int:
    """Where the page at `place` begins now at the earliest: others were forgotten, and `left` of `total` are there."""
    return max(0, place - (total - left))
