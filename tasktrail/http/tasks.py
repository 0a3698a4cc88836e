"""Routes that ask about tasks. Answers come from the views; `min_position` makes them wait for a write of your own."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter

from ..api.apart import LIST_WITHIN, ListQuestion
from ..events import Task
from ..handlers.printed import PAGE, Output
from ..projections import TaskFilters
from .desk import Desk
from .parameters import LARGEST, AsOf, MinPosition, TaskId, point, unescaped

Values = Annotated[list[str] | None, QueryParameter(description="One value, several with commas, or repeated")]
Text = Annotated[str | None, QueryParameter()]
Attempt = Annotated[int | None, QueryParameter(ge=1, le=LARGEST, description="An attempt's number")]
Byte = Annotated[int, QueryParameter(ge=0, le=LARGEST, description="The byte to begin at: `next` of the last answer")]
Last = Annotated[int | None, QueryParameter(ge=1, le=PAGE, description="Only so many bytes, from the end")]
Most = Annotated[int, QueryParameter(ge=0, le=PAGE, description="At most so many bytes")]
Sort = Annotated[str | None, QueryParameter(description="A field; `-` in front for the greatest first")]


class TaskPage(msgspec.Struct, frozen=True):
    """One page of tasks, and how many there are in all."""

    tasks: list[Task]
    total: int


class Progress(msgspec.Struct, frozen=True):
    """How far a task is."""

    task_id: int
    progress: float
    """Percent."""
    message: str


@get("/v1/tasks")
async def list_tasks(
    desk: NamedDependency[Desk],
    status: Values = None,
    type: Values = None,  # noqa: A002 - the field's name
    user_id: Values = None,
    document_id: Values = None,
    parent_task_id: Values = None,
    label: Values = None,
    search: Text = None,
    sort: Sort = None,
    limit: Text = None,
    offset: Text = None,
    as_of: AsOf = None,
    min_position: MinPosition = 0,
) -> TaskPage:
    """Tasks that fit the filters, a page of them."""
    # The values are checked where filters are at home: their errors are the same from everywhere.
    filters = TaskFilters.parse(
        {
            "status": ",".join(status or ()),
            "type": ",".join(type or ()),
            "user_id": ",".join(user_id or ()),
            "document_id": ",".join(document_id or ()),
            "parent_task_id": ",".join(parent_task_id or ()),
            "label": ",".join(label or ()),
            "search": search or "",
            "sort": sort or "",
            "limit": limit or "",
            "offset": offset or "",
            "as_of": unescaped(as_of or ""),
        }
    )
    if filters.as_of != "":
        await desk.read(min_position, desk.service.know_types, filters)
        return msgspec.json.decode(await desk.apart(ListQuestion(filters), LIST_WITHIN), type=TaskPage)
    tasks, total = await desk.read(min_position, desk.service.list_tasks, filters)
    return TaskPage(tasks, total)


@get("/v1/tasks/{task_id:int}")
async def get_task(
    desk: NamedDependency[Desk], task_id: TaskId, as_of: AsOf = None, min_position: MinPosition = 0
) -> Task:
    """One task, now or as of an earlier moment."""
    moment = point(as_of)
    return await desk.read(min_position, lambda: desk.service.get_task(task_id, as_of=moment))


@get("/v1/tasks/{task_id:int}/progress")
async def get_progress(desk: NamedDependency[Desk], task_id: TaskId, min_position: MinPosition = 0) -> Progress:
    """How far a task is."""
    percent, message = await desk.read(min_position, desk.service.get_task_progress, task_id)
    return Progress(task_id, percent, message)


@get("/v1/tasks/{task_id:int}/output")
async def get_output(
    desk: NamedDependency[Desk],
    task_id: TaskId,
    attempt: Attempt = None,
    after: Byte = 0,
    last: Last = None,
    most: Most = PAGE,
    min_position: MinPosition = 0,
) -> Output:
    """What an attempt printed, the latest unless one is named: a part of at most 256 KiB; `next` is where to go on."""
    return await desk.read(
        min_position, lambda: desk.service.output(task_id, attempt, after=after, last=last, most=most)
    )


ROUTES: Sequence[HTTPRouteHandler] = (list_tasks, get_task, get_progress, get_output)
