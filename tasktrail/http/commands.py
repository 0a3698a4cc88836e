"""Routes that change something. Each answers when the command is durable."""

from collections.abc import Callable, Sequence
from typing import Any

from litestar import Request, post
from litestar.di import NamedDependency
from litestar.exceptions import InternalServerException
from litestar.handlers import HTTPRouteHandler

from ..errors import BadRequest, WrongContentType, problem
from ..events import Accepted, CancelTask, RetryTask, StartTask, TasktrailError
from .decode import MAX_BODY, MAX_COMMAND, Item, decode_array, decode_command, decode_create, decode_on_task, is_array
from .desk import Desk
from .parameters import TaskId

SLACK = 1024
"""So that a command just over the limit is refused by its own size, with both numbers."""

Json = Request[Any, Any, Any]


async def json_body(request: Json) -> bytes:
    """The body. Raises `WrongContentType` unless it is declared as JSON or empty."""
    try:
        body = await request.body()
    except InternalServerException as error:  # Litestar's word for a client that hung up while it sent
        raise BadRequest("The client hung up before the body was complete") from error
    declared = request.headers.get("content-type", "")
    kind = declared.partition(";")[0].strip().lower()
    if body and kind != "application/json":
        raise WrongContentType(f"The body is declared as {declared!r}" if declared else "The body is not declared")
    return body


async def one(desk: Desk, decode: Callable[[], Item]) -> Accepted:
    """Send one command. Raises its refusal."""
    answer = (await desk.send(lambda: [decode()]))[0]
    if isinstance(answer, TasktrailError):
        raise answer
    return answer


@post("/v1/commands", status_code=202, request_max_body_size=MAX_BODY)
async def send_commands(request: Json, desk: NamedDependency[Desk]) -> Accepted | list[dict[str, Any] | Accepted]:
    """One command, or an array of them. In an array a refused one is answered by its problem; the others stand."""
    body = await json_body(request)
    if not is_array(body):
        return await one(desk, lambda: decode_command(body))
    answers = await desk.send(lambda: decode_array(body))
    return [problem(answer) if isinstance(answer, TasktrailError) else answer for answer in answers]


@post("/v1/tasks", status_code=202, request_max_body_size=MAX_COMMAND + SLACK)
async def create_task(request: Json, desk: NamedDependency[Desk]) -> Accepted:
    """A new task."""
    body = await json_body(request)
    return await one(desk, lambda: decode_create(body))


@post("/v1/tasks/{task_id:int}/start", status_code=202, request_max_body_size=MAX_COMMAND + SLACK)
async def start_task(request: Json, desk: NamedDependency[Desk], task_id: TaskId) -> Accepted:
    """Release a held task, or start a waiting one now."""
    body = await json_body(request)
    return await one(desk, lambda: decode_on_task(StartTask, task_id, body))


@post("/v1/tasks/{task_id:int}/cancel", status_code=202, request_max_body_size=MAX_COMMAND + SLACK)
async def cancel_task(request: Json, desk: NamedDependency[Desk], task_id: TaskId) -> Accepted:
    """Stop a task, whether it waits or runs."""
    body = await json_body(request)
    return await one(desk, lambda: decode_on_task(CancelTask, task_id, body))


@post("/v1/tasks/{task_id:int}/retry", status_code=202, request_max_body_size=MAX_COMMAND + SLACK)
async def retry_task(request: Json, desk: NamedDependency[Desk], task_id: TaskId) -> Accepted:
    """Give a failed or cancelled task another life."""
    body = await json_body(request)
    return await one(desk, lambda: decode_on_task(RetryTask, task_id, body))


ROUTES: Sequence[HTTPRouteHandler] = (send_commands, create_task, start_task, cancel_task, retry_task)
