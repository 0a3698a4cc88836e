"""Routes about notices: what became of them, sending one again, and endpoints that are disabled."""

from collections.abc import Sequence

from litestar import get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from ..events import Accepted, EnableEndpoint, RedeliverNotice
from ..projections import DisabledEndpoint, NoticeStatus
from .commands import SLACK, Json, json_body, one
from .decode import MAX_COMMAND, decode_kind, decode_on_task
from .desk import Desk
from .parameters import MinPosition, TaskId


@get("/v1/tasks/{task_id:int}/notices")
async def get_notices(
    desk: NamedDependency[Desk], task_id: TaskId, min_position: MinPosition = 0
) -> list[NoticeStatus]:
    """What became of a task's notices."""
    return await desk.read(min_position, desk.service.notices, task_id)


@get("/v1/endpoints")
async def get_endpoints(desk: NamedDependency[Desk], min_position: MinPosition = 0) -> list[DisabledEndpoint]:
    """The receivers that have said that they are gone, to which nothing is sent."""
    return await desk.read(min_position, desk.service.endpoints)


@post("/v1/tasks/{task_id:int}/redeliver", status_code=202, request_max_body_size=MAX_COMMAND + SLACK)
async def redeliver(request: Json, desk: NamedDependency[Desk], task_id: TaskId) -> Accepted:
    """Send a notice of the task once more, under its old id."""
    body = await json_body(request)
    return await one(desk, lambda: decode_on_task(RedeliverNotice, task_id, body))


@post("/v1/endpoints/enable", status_code=202, request_max_body_size=MAX_COMMAND + SLACK)
async def enable_endpoint(request: Json, desk: NamedDependency[Desk]) -> Accepted:
    """Send notices again to an endpoint that is disabled."""
    body = await json_body(request)
    return await one(desk, lambda: decode_kind(EnableEndpoint, body))


ROUTES: Sequence[HTTPRouteHandler] = (get_notices, get_endpoints, redeliver, enable_endpoint)
