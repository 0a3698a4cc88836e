"""One command for each of many tasks. Each gets an answer of its own: a refusal does not stop the others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from ..errors import problem
from ..events import Command, RetryTask, TasktrailError
from ..events.errors import InvalidValue
from ..projections import TaskFilters
from ..projections.queries.filters import MAX_LIMIT, values_of

if TYPE_CHECKING:
    from .commands import Commands

_AT_ONCE = 500


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the commands."""

    done: tuple[int, ...]
    """Ids of the tasks whose command was accepted."""
    refused: dict[int, TasktrailError]
    """Task → why its command was refused."""
    position: int = 0
    """The position of the last event that came of it; 0 if none did."""


def bulk_answer(
    done: Sequence[int], refused: Mapping[int, TasktrailError], position: int, *, name: str
) -> dict[str, Any]:
    """The answer of HTTP and of `--json`: a count, the ids under `name`, and a problem for each refusal."""
    problems = [problem(error, task_id=task_id) for task_id, error in refused.items()]
    return {"count": len(done), name: list(done), "refused": problems, "position": position}


def ids_that_pass(tasks: "Commands", filters: TaskFilters, allowed: Sequence[str], usual: Sequence[str]) -> list[int]:
    """The ids of all tasks that pass, in order, so that dependencies come first.

    They are looked up before the first command, because that may take tasks out of the list. `usual`: the statuses
    when the filters name none. Raises `InvalidValue` for filters that mean nothing here.
    """
    wanted = values_of(filters.status) or tuple(usual)
    for status in wanted:
        if status not in allowed:
            *others, last = allowed
            raise InvalidValue(
                f"A task that is {status} cannot be meant here, only {', '.join(others)} or {last}", field="status"
            )
    if filters.as_of != "":
        raise InvalidValue("The past cannot be changed", field="as_of")
    return list(_pages(tasks, replace(filters, status=wanted, sort="id", limit=MAX_LIMIT, offset=0)))


def _pages(tasks: "Commands", filters: TaskFilters) -> Iterator[int]:
    while True:
        page, _total = tasks.list_tasks(filters)
        yield from (task.id for task in page)
        if len(page) < MAX_LIMIT:
            return
        filters = replace(filters, offset=filters.offset + MAX_LIMIT)


def send_each(tasks: "Commands", ids: Sequence[int], command: Callable[[int], Command]) -> Answers:
    """Send each task its command, some hundreds at a time."""
    done: list[int] = []
    refused: dict[int, TasktrailError] = {}
    last = 0
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        for task_id, answer in zip(some, tasks.send_many([command(task_id) for task_id in some]), strict=True):
            if isinstance(answer, TasktrailError):
                refused[task_id] = answer
            else:
                done.append(task_id)
                last = max(last, answer.position)
    return Answers(done=tuple(done), refused=refused, position=last)


RETRYABLE = ("failed", "cancelled")


class RetriedTasks(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a retry of many."""

    retried: tuple[int, ...]
    """Ids of the tasks that have another life."""
    refused: dict[int, TasktrailError]
    """Task → why it was refused another life."""
    position: int = 0
    """The position of the last event that came of it; 0 if none did."""


def retry_all(tasks: "Commands", filters: TaskFilters, like: RetryTask) -> RetriedTasks:
    """Retry the failed tasks that pass the filters, in the order of their ids, so that dependencies come first.

    `status` may ask for cancelled ones. Each command is a copy of `like` for another task. If that has a `command_id`,
    each gets an id made from it, so that repeating is harmless. Raises `InvalidValue` for filters without a meaning
    here.
    """
    ids = ids_that_pass(tasks, filters, allowed=RETRYABLE, usual=("failed",))

    def retry(task_id: int) -> RetryTask:
        return replace(like, task_id=task_id, command_id=f"{like.command_id}:{task_id}" if like.command_id else "")

    answers = send_each(tasks, ids, retry)
    return RetriedTasks(retried=answers.done, refused=answers.refused, position=answers.position)


def retry_answer(result: RetriedTasks) -> dict[str, Any]:
    """The answer of HTTP and of `--json` to a retry of many."""
    return bulk_answer(result.retried, result.refused, result.position, name="retried")
