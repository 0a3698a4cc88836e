"""Another life for every task that passes a filter. Each is a command of its own: a refusal stops no other."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from ..events import Accepted, Command, RetryTask, Task, TasktrailError
from ..events.errors import InvalidValue
from ..problem import problem
from ..projections import TaskFilters
from ..projections.queries.filters import MAX_LIMIT, values_of

RETRYABLE = ("failed", "cancelled")
_AT_ONCE = 500


class RetriedTasks(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a retry of many."""

    retried: tuple[int, ...]
    """Ids of the tasks that have another life."""
    refused: dict[int, TasktrailError]
    """Task → why it has none."""
    position: int = 0
    """Of the last event that this led to; 0 for none."""


class Asked(Protocol):
    """What a retry of many needs of a service or a client."""

    def list_tasks(self, filters: TaskFilters | None = None) -> tuple[list[Task], int]:
        """One page, and how many there are in all."""

    def send_many(self, commands: Sequence[Command]) -> list[Accepted | TasktrailError]:
        """An answer each, in order."""


def retry_all(
    tasks: Asked, filters: TaskFilters, *, force: bool, reason: str, actor: str, command_id: str
) -> RetriedTasks:
    """Retry the failed tasks that pass the filters in the order of ids, so that what others wait for comes first.

    `status` may ask for cancelled ones. With a `command_id` each task gets an id made from it: repeating is harmless.
    Raises `InvalidValue` for filters that mean nothing here.
    """
    retried: list[int] = []
    refused: dict[int, TasktrailError] = {}
    last = 0
    ids = list(_ids(tasks, _checked(filters)))  # all of them first: each retry takes a task out of the list
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        commands = [
            RetryTask(
                task_id=task_id,
                force=force,
                reason=reason,
                actor=actor,
                command_id=f"{command_id}:{task_id}" if command_id else "",
            )
            for task_id in some
        ]
        for task_id, answer in zip(some, tasks.send_many(commands), strict=True):
            if isinstance(answer, TasktrailError):
                refused[task_id] = answer
            else:
                retried.append(task_id)
                last = max(last, answer.position)
    return RetriedTasks(retried=tuple(retried), refused=refused, position=last)


def as_json(result: RetriedTasks) -> dict[str, Any]:
    """The result as HTTP answers and `--json` prints it: a count, the ids, and a problem for each refusal."""
    return {
        "count": len(result.retried),
        "retried": list(result.retried),
        "refused": [problem(error, task_id=task_id) for task_id, error in result.refused.items()],
        "position": result.position,
    }


def _checked(filters: TaskFilters) -> TaskFilters:
    wanted = values_of(filters.status) or ("failed",)
    for status in wanted:
        if status not in RETRYABLE:
            raise InvalidValue(f"A task that is {status} cannot be retried: {' or '.join(RETRYABLE)}", field="status")
    if filters.as_of != "":
        raise InvalidValue("The past cannot be retried", field="as_of")
    return replace(filters, status=wanted, sort="id", limit=MAX_LIMIT, offset=0)


def _ids(tasks: Asked, filters: TaskFilters) -> Iterator[int]:
    while True:
        page, _total = tasks.list_tasks(filters)
        yield from (task.id for task in page)
        if len(page) < MAX_LIMIT:
            return
        filters = replace(filters, offset=filters.offset + MAX_LIMIT)
