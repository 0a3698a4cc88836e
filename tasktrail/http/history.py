"""Routes that give recorded events: of one task, or of all; as they are, or as a stream that goes on."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from litestar.response import Stream

from ..events.errors import InvalidValue, UnknownTask
from .desk import Desk
from .parameters import MinPosition, Position, TaskId
from .stream import (
    EVENT_STREAM,
    JSON_LINES,
    Span,
    array,
    as_json_array,
    as_json_lines,
    as_server_sent,
    encoded,
    refuse_too_many,
)

Limit = Annotated[int | None, QueryParameter(ge=1, description="At most so many records")]
Follow = Annotated[bool, QueryParameter(description="Go on with what is yet to come")]
Seconds = Annotated[float | None, QueryParameter(gt=0, le=86400, description="End a followed stream after so long")]
_LAST = 2**63 - 1
Asked = Request[Any, Any, Any]


@get("/v1/events")
async def get_log(
    request: Asked,
    desk: NamedDependency[Desk],
    after: Position = 0,
    limit: Limit = None,
    follow: Follow = False,  # noqa: FBT002 - a parameter of an address has a name
    seconds: Seconds = None,
) -> Stream:
    """The log from a position on: JSON Lines, or server-sent events where the client accepts them."""
    return await _stream(request, desk, Span(after=after, limit=limit, follow=follow, seconds=seconds))


@get("/v1/tasks/{task_id:int}/events")
async def get_events(
    request: Asked,
    desk: NamedDependency[Desk],
    task_id: TaskId,
    after: Position = 0,
    follow: Follow = False,  # noqa: FBT002 - a parameter of an address has a name
    seconds: Seconds = None,
    min_position: MinPosition = 0,
) -> Response[Any]:
    """A task's events as an array; followed, or as server-sent events, like the log."""
    if not await desk.read(min_position, desk.service.version_at, task_id, _LAST):
        raise UnknownTask(f"Task {task_id} does not exist", field="task_id")
    span = Span(after=after, task_id=task_id, follow=follow, seconds=seconds)
    if follow or _wants_events(request):
        return await _stream(request, desk, span)
    connection = request.scope["state"]["connection"]
    refuse_too_many(connection)
    return Stream(array(encoded(desk, span, as_json_array, connection)), media_type="application/json")


@get("/v1/tasks/{task_id:int}/notes")
async def get_notes(
    desk: NamedDependency[Desk], task_id: TaskId, min_position: MinPosition = 0
) -> list[dict[str, Any]]:
    """What the service recorded about a task under task id 0, an array: adjustments by operators, deliveries."""
    records = await desk.read(min_position, desk.service.notes, task_id)
    return [record.flat() for record in records]


def _wants_events(request: Asked) -> bool:
    return EVENT_STREAM in request.headers.get("accept", "")


async def _stream(request: Asked, desk: Desk, span: Span) -> Stream:
    """Server-sent events always go on, and begin after the last one that a returning browser has seen."""
    connection = request.scope["state"]["connection"]
    refuse_too_many(connection)
    events = _wants_events(request)
    field = "after"
    if events:
        last = request.headers.get("last-event-id", "")
        field = "Last-Event-ID" if last else field
        span = Span(
            after=_position(last) if last else span.after,
            task_id=span.task_id,
            limit=span.limit,
            follow=True,
            seconds=span.seconds,
        )
    await desk.reach(span.after, field)
    encode = as_server_sent if events else as_json_lines
    return Stream(
        encoded(desk, span, encode, connection),
        media_type=EVENT_STREAM if events else JSON_LINES,
        headers={"cache-control": "no-store"},
    )


def _position(text: str) -> int:
    if not re.fullmatch("[0-9]{1,15}", text):
        raise InvalidValue(f"Last-Event-ID: {text!r} is not a position", field="Last-Event-ID")
    return int(text)


ROUTES: Sequence[HTTPRouteHandler] = (get_log, get_events, get_notes)
