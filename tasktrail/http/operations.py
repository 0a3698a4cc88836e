"""Routes of operators: the queue and why a task waits in it; pauses, limits, adjustments, schedules."""

from collections.abc import Sequence
from typing import Annotated

from litestar import get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter, QueryParameter

from ..actors.core.board import LimitsBoard, QueueBoard, ScheduleBoard
from ..actors.core.explanation import Why
from ..api.protocol import QUEUE_SHOWN
from ..events import Accepted, AdjustTask
from ..events.commands import AddSchedule, DrainQueue, PauseQueue, RemoveSchedule, ResumeQueue, SetLimits
from .commands import SLACK, Json, json_body, one
from .decode import MAX_COMMAND, decode_kind, decode_on_task
from .desk import Desk
from .parameters import MinPosition, TaskId

_MAX = MAX_COMMAND + SLACK
Limit = Annotated[int, QueryParameter(ge=0, le=10_000, description="At most so many tasks of the queue")]
Name = Annotated[str, PathParameter(description="The schedule's name")]


@get("/v1/tasks/{task_id:int}/why")
async def why(desk: NamedDependency[Desk], task_id: TaskId, min_position: MinPosition = 0) -> Why:
    """All reasons why a task is not running, and what is ahead of it."""
    return await desk.read(min_position, desk.service.why, task_id)


@get("/v1/queue")
async def queue(desk: NamedDependency[Desk], limit: Limit = QUEUE_SHOWN, min_position: MinPosition = 0) -> QueueBoard:
    """What waits for room, in the order in which it will run, and what runs."""
    return await desk.read(min_position, desk.service.queue, limit)


@get("/v1/limits")
async def get_limits(desk: NamedDependency[Desk]) -> LimitsBoard:
    """What may run at once, and the pauses that hold."""
    return await desk.ask(desk.service.limits)


@get("/v1/schedules")
async def get_schedules(desk: NamedDependency[Desk]) -> list[ScheduleBoard]:
    """The recurring schedules, and when each runs next."""
    return await desk.ask(desk.service.schedules)


@post("/v1/tasks/{task_id:int}/adjust", status_code=202, request_max_body_size=_MAX)
async def adjust_task(request: Json, desk: NamedDependency[Desk], task_id: TaskId) -> Accepted:
    """Change a waiting task's priority or time, or hold or release it."""
    body = await json_body(request)
    return await one(desk, lambda: decode_on_task(AdjustTask, task_id, body))


@post("/v1/queue/pause", status_code=202, request_max_body_size=_MAX)
async def pause_queue(request: Json, desk: NamedDependency[Desk]) -> Accepted:
    """Start nothing more: of all, of a type, or of a user."""
    body = await json_body(request)
    return await one(desk, lambda: decode_kind(PauseQueue, body))


@post("/v1/queue/resume", status_code=202, request_max_body_size=_MAX)
async def resume_queue(request: Json, desk: NamedDependency[Desk]) -> Accepted:
    """Undo a pause of the same scope; without a scope also a drain."""
    body = await json_body(request)
    return await one(desk, lambda: decode_kind(ResumeQueue, body))


@post("/v1/queue/drain", status_code=202, request_max_body_size=_MAX)
async def drain_queue(request: Json, desk: NamedDependency[Desk]) -> Accepted:
    """Start nothing more, and record when the last attempt has ended."""
    body = await json_body(request)
    return await one(desk, lambda: decode_kind(DrainQueue, body))


@post("/v1/limits", status_code=202, request_max_body_size=_MAX)
async def set_limits(request: Json, desk: NamedDependency[Desk]) -> Accepted:
    """Change what may run at once."""
    body = await json_body(request)
    return await one(desk, lambda: decode_kind(SetLimits, body))


@post("/v1/schedules", status_code=202, request_max_body_size=_MAX)
async def add_schedule(request: Json, desk: NamedDependency[Desk]) -> Accepted:
    """A new recurring schedule."""
    body = await json_body(request)
    return await one(desk, lambda: decode_kind(AddSchedule, body))


@post("/v1/schedules/{schedule:str}/remove", status_code=202, request_max_body_size=_MAX)
async def remove_schedule(request: Json, desk: NamedDependency[Desk], schedule: Name) -> Accepted:
    """End a schedule; tasks that it has created stay."""
    body = await json_body(request)
    return await one(desk, lambda: decode_kind(RemoveSchedule, body, schedule=schedule))


ROUTES: Sequence[HTTPRouteHandler] = (
    why,
    queue,
    get_limits,
    get_schedules,
    adjust_task,
    pause_queue,
    resume_queue,
    drain_queue,
    set_limits,
    add_schedule,
    remove_schedule,
)
