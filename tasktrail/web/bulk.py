"""One command for each of many tasks, sent in the background: its progress, and what was refused and why.

A bulk change has an id, from which the ids of its commands are made. So sending the same form again, even after a
restart of the service, changes nothing twice. The result of a bulk change is kept only in memory; the log has the
changes.
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
"""Bulk changes whose results are kept."""
MOST_TASKS = 100_000
"""The most tasks of one bulk change."""
_AT_ONCE = 500
_NAMED = 20
"""The most tasks that are listed for each reason of a refusal."""

logger = get_logger("tasktrail.web")


class RefusedTasks:
    """Tasks that were refused for the same reason."""

    def __init__(self, error: TasktrailError) -> None:
        self.title = error.title
        self.advice = advice(error)
        self.example = error.message
        self.number = 0
        self.ids: list[int] = []
        """The ids of the first ones."""

    def add(self, task_id: int) -> None:
        """Add a task."""
        self.number += 1
        if len(self.ids) < _NAMED:
            self.ids.append(task_id)


class BulkChange:
    """A bulk change and its progress."""

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
        """Why it ended early."""
        self.work: Future[None] | None = None
        """The future that does the work, kept here so that it is not garbage-collected."""

    @property
    def reasons(self) -> list[RefusedTasks]:
        """The refused tasks, by reason. A copy, as more may come meanwhile."""
        return list(self.refused.values())

    @property
    def refused_number(self) -> int:
        """How many tasks were refused."""
        return sum(group.number for group in self.reasons)

    @property
    def percent(self) -> float:
        """Its progress in percent."""
        return 100.0 if self.over else 100 * (self.done + self.refused_number) / max(1, self.total or 1)


class BulkChanges:
    """All bulk changes whose results are kept. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[tuple[str, str], BulkChange] = OrderedDict()

    def begin(self, owner: str, bulk: BulkChange) -> bool:
        """Remember a bulk change; false if this owner has sent it before."""
        with self._lock:
            if (owner, bulk.id) in self._kept:
                return False
            self._kept[owner, bulk.id] = bulk
            for key in list(islice(self._kept, max(0, len(self._kept) - _KEPT))):
                if self._kept[key].over:
                    del self._kept[key]
            return True

    def discard(self, owner: str, bulk: BulkChange) -> None:
        """Forget a bulk change that was not begun after all."""
        with self._lock:
            self._kept.pop((owner, bulk.id), None)

    def get(self, owner: str, bulk_id: str) -> BulkChange | None:
        """Return the bulk change that this owner has sent."""
        with self._lock:
            return self._kept.get((owner, bulk_id))


def send_all(
    send: Callable[[Sequence[Command]], list[Accepted | TasktrailError]],
    bulk: BulkChange,
    find: Callable[[], Sequence[int]],
    command: Callable[[int], Command],
) -> None:
    """Send each task its command, some hundreds at a time, and note the results."""
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
