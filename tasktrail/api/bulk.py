"""One command for each of many tasks. Each gets an answer of its own: a refusal does not stop the others."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from ..errors import problem
from ..events import TasktrailError
from ..events.errors import InvalidValue
from ..projections import TaskFilters
from ..projections.queries.filters import values_of


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one command for each of many tasks."""

    done: tuple[int, ...]
    """Ids of the tasks whose command was accepted."""
    refused: dict[int, TasktrailError]
    """Task → why its command was refused."""
    position: int = 0
    """The position of the last event that the commands led to; 0 if there is none."""


def bulk_answer(
    done: Sequence[int], refused: Mapping[int, TasktrailError], position: int, *, name: str
) -> dict[str, Any]:
    """The answer of HTTP and of `--json`: a count, the ids under `name`, and a problem for each refusal."""
    problems = [problem(error, task_id=task_id) for task_id, error in refused.items()]
    return {"count": len(done), name: list(done), "refused": problems, "position": position}


def changeable(filters: TaskFilters, allowed: Sequence[str], usual: Sequence[str]) -> TaskFilters:
    """Return the filters for tasks that are to be changed. `usual`: the statuses if the filters name none.

    Raises `InvalidValue` for a status that is not `allowed`, for `as_of`, and for a filter that was given and names
    nothing, as that of a variable nobody has set: all tasks would pass it.
    """
    for field, not_given in (("status", ()), ("type", ()), ("label", ()), ("batch", ()), ("search", "")):
        given = getattr(filters, field)
        if given != not_given and not values_of(given):
            raise InvalidValue(
                f"{field} is given, but names nothing", field=field, remedy="Name something, or leave it out."
            )
    wanted = values_of(filters.status) or tuple(usual)
    for status in wanted:
        if status not in allowed:
            *others, last = allowed
            raise InvalidValue(
                f"A task that is {status} cannot be chosen here, only {', '.join(others)} or {last}", field="status"
            )
    if filters.as_of != "":
        raise InvalidValue("The past cannot be changed", field="as_of")
    return replace(filters, status=wanted)


RETRYABLE = ("failed", "cancelled")


class RetriedTasks(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a retry of many tasks."""

    retried: tuple[int, ...]
    """Ids of the tasks that have another life."""
    refused: dict[int, TasktrailError]
    """Task → why it was refused another life."""
    position: int = 0
    """The position of the last event that the retry led to; 0 if there is none."""


def retry_answer(result: RetriedTasks) -> dict[str, Any]:
    """The answer of HTTP and of `--json` to a retry of many."""
    return bulk_answer(result.retried, result.refused, result.position, name="retried")
