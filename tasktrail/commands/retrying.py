"""Another life for every task that passes a filter. Each is a command of its own: a refusal stops no other."""

from typing import Any

import msgspec
from msgspec.structs import replace

from ..events import RetryTask, TasktrailError
from ..projections import TaskFilters
from .many import Asked, ids_that_pass, send_each, told

RETRYABLE = ("failed", "cancelled")


class RetriedTasks(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a retry of many."""

    retried: tuple[int, ...]
    """Ids of the tasks that have another life."""
    refused: dict[int, TasktrailError]
    """Task → why it has none."""
    position: int = 0
    """Of the last event that this led to; 0 for none."""


def retry_all(tasks: Asked, filters: TaskFilters, like: RetryTask) -> RetriedTasks:
    """Retry the failed tasks that pass the filters in the order of ids, so that what others wait for comes first.

    `status` may ask for cancelled ones. Each is retried as `like` says, whatever task that names; with a `command_id`
    each gets an id made from it: repeating is harmless. Raises `InvalidValue` for filters that mean nothing here.
    """
    ids = ids_that_pass(tasks, filters, allowed=RETRYABLE, usual=("failed",))

    def retry(task_id: int) -> RetryTask:
        return replace(like, task_id=task_id, command_id=f"{like.command_id}:{task_id}" if like.command_id else "")

    answers = send_each(tasks, ids, retry)
    return RetriedTasks(retried=answers.done, refused=answers.refused, position=answers.position)


def as_json(result: RetriedTasks) -> dict[str, Any]:
    """The result as HTTP answers and `--json` prints it: a count, the ids, and a problem for each refusal."""
    return told(result.retried, result.refused, result.position, name="retried")
