"""The questions of one user, answered as if the tasks of all others did not exist.

Others still show in numbers that the user's tasks depend on: a place in the queue, how much memory is left, how many
attempts hold the slots. `OneUser` has only the methods that the routes call. So a new question cannot be answered with
everybody's tasks by an oversight.
"""

from msgspec.structs import replace

from ..actors.core.board import LimitsBoard, QueueBoard, ScheduleBoard, limits_for, queue_of_user
from ..actors.core.explanation import Why, for_user
from ..events import Recorded, Task, TasktrailError
from ..events.errors import NOT_THERE, UnknownTask
from ..events.values import check_whole
from ..handlers.attempt_output import Output
from ..handlers.registry import unknown_type
from ..projections import Batch, NoticeStatus, Stats, TaskFilters
from ..projections.attempts import Attempt
from ..projections.queries.as_of import Point
from ..projections.queries.filters import MAX_LIMIT, ids_of, values_of
from .protocol import BATCHES_SHOWN, QUEUE_SHOWN, TypeInfo
from .reader import batch_named, task_seen_by
from .served import Served


def narrowed(filters: TaskFilters, user_id: int | None) -> TaskFilters | None:
    """Restrict the filters to one user's tasks (None: everybody's). Returns None if no task can pass."""
    if user_id is None:
        return filters
    wanted = ids_of(filters.user_id)
    return replace(filters, user_id=user_id) if not wanted or user_id in wanted else None


NOBODY = -1
"""The user who has no tasks."""


class OneUser:
    """The questions of one user. Raises `UnknownTask` for the tasks of others."""

    def __init__(self, service: Served, user_id: int) -> None:
        self._service = service
        self._user_id = user_id

    def _check(self, task_id: int) -> None:
        if not self._service.is_of(task_id, self._user_id):
            raise UnknownTask(f"Task {task_id} does not exist", field="task_id")

    def get_task(self, task_id: int, *, as_of: Point | None = None) -> Task:
        """One task, now or as of an earlier time, with those of its children that are the user's too."""
        self._check(task_id)
        return task_seen_by(self._service.source, self._user_id, task_id, as_of)

    def is_open(self, task_id: int) -> bool:
        """Whether the log says that the task's life is not over; see `Served.is_open`."""
        self._check(task_id)
        return self._service.is_open(task_id)

    def get_task_progress(self, task_id: int) -> tuple[float, str]:
        """The task's progress in percent, and its message."""
        self._check(task_id)
        return self._service.get_task_progress(task_id)

    def narrowed(self, filters: TaskFilters) -> TaskFilters | None:
        """Restrict the filters to the user's own tasks. Returns None if no task can pass."""
        return narrowed(filters, self._user_id)

    def check_types(self, filters: TaskFilters) -> None:
        """Raise `UnknownType` for a type that neither a handler nor a task of the user has."""
        registry = self._service.source.registry
        for name in values_of(filters.type):
            own = TaskFilters(user_id=self._user_id, type=(name,), limit=1)
            if name not in registry and not self._service.listed(own)[1]:
                known = [task_type.name for task_type in registry]
                raise unknown_type(name, known, registry.errors, registry.presets, status=NOT_THERE)

    def list_tasks(self, filters: TaskFilters) -> tuple[list[Task], int]:
        """One page of the user's tasks, and the number of all that match."""
        self.check_types(filters)
        own = self.narrowed(filters)
        return self._service.listed(own) if own else ([], 0)

    def ids_of(self, filters: TaskFilters) -> list[int]:
        """The ids of the user's tasks that pass the filters."""
        self.check_types(filters)
        own = self.narrowed(filters)
        return self._service.listed_ids(own) if own else []

    def output(
        self, task_id: int, attempt: int | None = None, *, after: int = 0, last: int | None = None, most: int
    ) -> Output:
        """The output that an attempt printed."""
        self._check(task_id)
        return self._service.output(task_id, attempt, after=after, last=last, most=most)

    def attempts(self, task_id: int, *, as_of: Point | None = None) -> list[Attempt]:
        """All attempts of a task."""
        self._check(task_id)
        return self._service.attempts(task_id, as_of=as_of)

    def notices(self, task_id: int) -> list[NoticeStatus]:
        """The state of the task's notices."""
        self._check(task_id)
        return self._service.notices(task_id)

    def notes(self, task_id: int) -> list[Recorded]:
        """The service's own records about the task."""
        self._check(task_id)
        return self._service.notes(task_id)

    def version_at(self, task_id: int, position: int) -> int:
        """The last version of a task up to a position; 0 if it did not exist then."""
        return self._service.version_at(task_id, position) if self._service.is_of(task_id, self._user_id) else 0

    def why(self, task_id: int, *, as_of: Point | None = None) -> Why:
        """Why a task waits. Other users' tasks appear only as a number."""
        self._check(task_id)
        why = self._service.why(task_id, as_of=as_of)
        return for_user(why, lambda other: self._service.is_of(other, self._user_id))

    def queue(self, limit: int = QUEUE_SHOWN, *, as_of: Point | None = None) -> QueueBoard:
        """The user's own tasks in the queue, with their places among each other, and those that run."""
        live = as_of is None and self._service.source.live
        return self._service.source.state_as_of(
            as_of, lambda state, now: queue_of_user(state, now, self._user_id, limit, live=live)
        )

    def limits(self, *, as_of: Point | None = None) -> LimitsBoard:
        """The limits and pauses, without those of other users."""
        return limits_for(self._service.limits(as_of=as_of), self._user_id)

    def schedules(self, *, as_of: Point | None = None) -> list[ScheduleBoard]:
        """The schedules that make tasks of the user."""
        return [one for one in self._service.schedules(as_of=as_of) if one.spec.task.user_id == self._user_id]

    def batches(self, limit: int = BATCHES_SHOWN) -> list[Batch]:
        """The newest batches with tasks of the user, counting only these."""
        most = check_whole(limit, "limit", 1, MAX_LIMIT)
        return list(self._service.source.ask(lambda views: views.batches(most, self._user_id)))

    def batch(self, name: str) -> Batch:
        """One batch, counting only the user's tasks. Raises `UnknownBatch`."""
        return batch_named(name, self._service.source.ask(lambda views: views.batch(name, self._user_id)))

    def stats(self) -> Stats:
        """Statistics over the user's tasks."""
        return self._service.source.ask(lambda views: views.stats_of(self._user_id, self._service.source.clock.now()))

    def status_since(self, task_id: int) -> int:
        """The position of the event that gave a task its present status."""
        self._check(task_id)
        return self._service.status_since(task_id)

    def handler_errors(self) -> list[TasktrailError]:
        """The errors of handlers that could not be loaded."""
        return self._service.handler_errors()

    def types(self) -> list[TypeInfo]:
        """The task types."""
        return self._service.types()
