"""One command for each of many tasks, sent in the background: how far it is, and what was refused and why.

A bulk change has an id, and each command one that is made from it, so that sending the same form again, also after a
restart of the service, changes nothing twice. What came of a bulk change is kept in memory only; the log has what it
did.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING

from ..actors.logger import get_logger
from ..events import Accepted, Command, TasktrailError
from .formats import advice

if TYPE_CHECKING:
    from asyncio import Future

_KEPT = 100
"""Bulk changes whose result is remembered."""
MOST_TASKS = 100_000
"""Tasks of one bulk change."""
_AT_ONCE = 500
_NAMED = 20
"""Tasks that are named for each reason of a refusal."""

logger = get_logger("tasktrail.web")


class RefusedTasks:
    """Tasks that were refused for the same reason."""

    def __init__(self, error: TasktrailError) -> None:
        self.title = error.title
        self.advice = advice(error)
        self.example = error.message
        self.number = 0
        self.ids: list[int] = []
        """The first of them."""

    def add(self, task_id: int) -> None:
        """One more."""
        self.number += 1
        if len(self.ids) < _NAMED:
            self.ids.append(task_id)


class BulkChange:
    """What was asked for, and how far it is."""

    def __init__(self, bulk_id: str, title: str, back: str) -> None:
        self.id = bulk_id
        self.title = title
        """In words: retry 12 tasks."""
        self.back = back
        """The address of the list that it came from."""
        self.total: int | None = None
        """None while the tasks are looked up."""
        self.done = 0
        self.refused: dict[str, RefusedTasks] = {}
        self.over = False
        self.trouble = ""
        """Why it ended before its end."""
        self.work: Future[None] | None = None
        """What carries it out; nobody else holds it."""

    @property
    def refused_number(self) -> int:
        """How many were refused."""
        return sum(group.number for group in self.refused.values())

    @property
    def percent(self) -> float:
        """How far it is."""
        return 100.0 if self.over else 100 * (self.done + self.refused_number) / max(1, self.total or 1)


class BulkChanges:
    """All bulk changes that are remembered. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[tuple[str, str], BulkChange] = OrderedDict()

    def begin(self, owner: str, bulk: BulkChange) -> bool:
        """Remember it; false when somebody of that name has sent it before."""
        with self._lock:
            if (owner, bulk.id) in self._kept:
                return False
            self._kept[owner, bulk.id] = bulk
            for key in list(islice(self._kept, max(0, len(self._kept) - _KEPT))):
                if self._kept[key].over:
                    del self._kept[key]
            return True

    def take_back(self, owner: str, bulk: BulkChange) -> None:
        """It was not begun after all."""
        with self._lock:
            self._kept.pop((owner, bulk.id), None)

    def get(self, owner: str, bulk_id: str) -> BulkChange | None:
        """The bulk change that somebody of that name has sent."""
        with self._lock:
            return self._kept.get((owner, bulk_id))


def send_all(
    send: Callable[[Sequence[Command]], list[Accepted | TasktrailError]],
    bulk: BulkChange,
    find: Callable[[], Sequence[int]],
    command: Callable[[int], Command],
) -> None:
    """Send each task its command, some hundreds at a time, and write down what comes of it."""
    try:
        ids = find()
        bulk.total = len(ids)
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            for task_id, answer in zip(some, send([command(one) for one in some]), strict=True):
                if isinstance(answer, TasktrailError):
                    bulk.refused.setdefault(answer.code, RefusedTasks(answer)).add(task_id)
                else:
                    bulk.done += 1
    except TasktrailError as error:
        bulk.trouble = error.message
    except Exception:
        bulk.trouble = "The service met a fault of its own"
        logger.exception("a bulk change failed", bulk=bulk.id)
    finally:
        bulk.over = True
