"""Routes that change something. Each answers when the command is durable.

A route of one command is made from the command's Struct: its fields, its bounds and its description are the route's.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.exceptions import InternalServerException
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter

from ..api.bulk import retry_answer
from ..errors import BadRequest, WrongContentType, problem
from ..events import (
    Accepted,
    AdjustTask,
    CancelTask,
    Command,
    CreateTask,
    EnableEndpoint,
    RedeliverNotice,
    RetryTask,
    StartTask,
    TasktrailError,
)
from ..events.commands import (
    AddSchedule,
    AddSource,
    AddToken,
    CommandId,
    DrainNode,
    DrainQueue,
    EraseUser,
    PauseQueue,
    PauseSource,
    RemoveSchedule,
    RemoveSource,
    ResumeQueue,
    ResumeSource,
    RevokeToken,
    Seconds,
    SetLimits,
    Text,
    UndrainNode,
    says,
)
from ..events.log.archives import Archived
from ..events.log.event_log import Erasable
from ..events.values import traceparent_in
from ..projections import Forgotten, Rebuilt, TaskFilters
from ..projections.queries.filters import Ids, Texts
from ..projections.queries.forgettable import LONGEST
from .access import Access
from .backend import Backend
from .identity import OWNER, Identity
from .permissions import ADMINISTER, COMMAND_NEEDS, OPERATE, SUBMIT
from .requests import (
    LARGEST,
    MAX_BODY,
    MAX_COMMAND,
    Item,
    TaskIdPath,
    decode_array,
    decode_as,
    decode_command,
    decode_create,
    decode_kind,
    in_trace,
    is_array,
)

SLACK = 1024
"""Bytes above the limit that are still read, so that a command just over it is refused with both numbers."""

Json = Request[Any, Any, Any]
AcceptedResponse = Response[Accepted]
TokenPath = Annotated[str, PathParameter(description="The token's name")]
UserPath = Annotated[int, PathParameter(description="The user's number", ge=1, le=LARGEST)]
SourcePath = Annotated[str, PathParameter(description="The source's name")]
NodePath = Annotated[str, PathParameter(description="The node's name")]
SchedulePath = Annotated[str, PathParameter(description="The schedule's name")]


async def json_body(request: Json) -> bytes:
    """Return the body. Raises `WrongContentType` unless it is declared as plain JSON or empty."""
    try:
        body = await request.body()
    except InternalServerException as error:  # Litestar's word for a client that hung up while it sent
        raise BadRequest("The client hung up before the body was complete") from error
    declared = request.headers.get("content-type", "")
    kind = declared.partition(";")[0].strip().lower()
    if body and kind != "application/json":
        raise WrongContentType(f"The body is declared as {declared!r}" if declared else "The body is not declared")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if body and coding != "identity":
        remedy = "Send the JSON as it is, without `Content-Encoding`."
        raise WrongContentType(f"The body is encoded as {coding!r}, which is not decoded here", remedy=remedy)
    return body


def request_trace(request: Json) -> str:
    """Return the trace that the request belongs to; empty without one, or if the header is invalid."""
    return traceparent_in(request.headers.get("traceparent", ""))


async def one(backend: Backend, who: Identity, decode: Callable[[], Item]) -> AcceptedResponse:
    """Send one command for `who`. Raises the error if it is refused."""
    accepted, headers = await _accepted(backend, who, decode)
    return Response(accepted, headers=headers)


async def _accepted(backend: Backend, who: Identity, decode: Callable[[], Item]) -> tuple[Accepted, dict[str, str]]:
    """Return the answer and its headers: for a new task, its location."""
    sent: list[Item] = []

    def decoded() -> list[Item]:
        sent.append(decode())
        return sent

    answer = (await backend.send(who, decoded))[0]
    if isinstance(answer, TasktrailError):
        raise answer
    created = isinstance(sent[0], CreateTask)
    return answer, {"location": f"/v1/tasks/{answer.task_id}"} if created else {}


async def carry_out(
    backend: Backend, who: Identity, body: bytes, trace: str
) -> tuple[Accepted | list[dict[str, Any] | Accepted], dict[str, str]]:
    """Return the answer to the commands in a body, and its headers. `trace`: of the request; empty without one."""
    if not is_array(body):
        return await _accepted(backend, who, lambda: in_trace(decode_command(body), trace))
    answers = await backend.send(who, lambda: [in_trace(item, trace) for item in decode_array(body)])
    return [problem(answer) if isinstance(answer, TasktrailError) else answer for answer in answers], {}


@post("/v1/commands", needs=SUBMIT, status_code=202, request_max_body_size=MAX_BODY)
async def send_commands(
    request: Json, backend: NamedDependency[Backend], who: NamedDependency[Identity]
) -> AcceptedResponse | list[dict[str, Any] | Accepted]:
    """Send one command, or an array of them. In an array a refused one is answered by its problem; the others stand."""
    answer, headers = await carry_out(backend, who, await json_body(request), request_trace(request))
    return Response(answer, headers=headers) if isinstance(answer, Accepted) else answer


@post("/v1/tasks", needs=SUBMIT, status_code=202, request_max_body_size=MAX_COMMAND + SLACK)
async def create_task(
    request: Json, backend: NamedDependency[Backend], who: NamedDependency[Identity]
) -> AcceptedResponse:
    """A new task. The header `traceparent` (W3C) names the trace that it belongs to."""
    body, trace = await json_body(request), request_trace(request)
    return await one(backend, who, lambda: in_trace(decode_create(body), trace))


def command_route(path: str, kind: type[Command], name: str = "") -> HTTPRouteHandler:
    """POST `path` sends one command of that kind. The body need not hold what the path names.

    Args:
        path: may name `task_id`, `schedule`, `source`, `node` or `token`.
        kind: the command; the first line of its docstring describes the route.
        name: of the operation in /openapi.json, where it is not the command's own.
    """

    async def send(request: Json, backend: Backend, who: Identity, **named: str | int) -> AcceptedResponse:
        body = await json_body(request)
        return await one(backend, who, lambda: decode_kind(kind, body, **named))

    async def plain(
        request: Json, backend: NamedDependency[Backend], who: NamedDependency[Identity]
    ) -> AcceptedResponse:
        return await send(request, backend, who)

    async def on_task(
        request: Json, backend: NamedDependency[Backend], who: NamedDependency[Identity], task_id: TaskIdPath
    ) -> AcceptedResponse:
        return await send(request, backend, who, task_id=task_id)

    async def on_schedule(
        request: Json, backend: NamedDependency[Backend], who: NamedDependency[Identity], schedule: SchedulePath
    ) -> AcceptedResponse:
        return await send(request, backend, who, schedule=schedule)

    async def on_source(
        request: Json, backend: NamedDependency[Backend], who: NamedDependency[Identity], source: SourcePath
    ) -> AcceptedResponse:
        return await send(request, backend, who, source=source)

    async def on_node(
        request: Json, backend: NamedDependency[Backend], who: NamedDependency[Identity], node: NodePath
    ) -> AcceptedResponse:
        return await send(request, backend, who, node=node)

    async def on_token(
        request: Json, backend: NamedDependency[Backend], who: NamedDependency[Identity], token: TokenPath
    ) -> AcceptedResponse:
        return await send(request, backend, who, token=token)

    routes: dict[str, Callable[..., Any]] = {
        "{task_id": on_task,
        "{schedule": on_schedule,
        "{source": on_source,
        "{node": on_node,
        "{token": on_token,
    }
    route = next((routes[part] for part in routes if part in path), plain)
    route.__name__ = name or str(kind.__struct_config__.tag)
    route.__doc__ = (kind.__doc__ or "").partition("\n")[0]
    return post(path, needs=COMMAND_NEEDS[kind], status_code=202, request_max_body_size=MAX_COMMAND + SLACK)(route)


COMMANDS: dict[str, type[Command]] = {
    "/v1/tasks/{task_id:int}/start": StartTask,
    "/v1/tasks/{task_id:int}/cancel": CancelTask,
    "/v1/tasks/{task_id:int}/retry": RetryTask,
    "/v1/tasks/{task_id:int}/adjust": AdjustTask,
    "/v1/tasks/{task_id:int}/redeliver": RedeliverNotice,
    "/v1/queue/pause": PauseQueue,
    "/v1/queue/resume": ResumeQueue,
    "/v1/queue/drain": DrainQueue,
    "/v1/limits": SetLimits,
    "/v1/schedules": AddSchedule,
    "/v1/schedules/{schedule:str}/remove": RemoveSchedule,
    "/v1/endpoints/enable": EnableEndpoint,
    "/v1/tokens": AddToken,
    "/v1/tokens/{token:str}/revoke": RevokeToken,
    "/v1/sources": AddSource,
    "/v1/sources/{source:str}/remove": RemoveSource,
    "/v1/sources/{source:str}/pause": PauseSource,
    "/v1/sources/{source:str}/resume": ResumeSource,
    "/v1/nodes/{node:str}/drain": DrainNode,
    "/v1/nodes/{node:str}/undrain": UndrainNode,
}
"""Path → the one command that is sent there."""
_OTHERWISE_NAMED: dict[type[Command], str] = {RedeliverNotice: "redeliver"}


class RetryTasks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks to retry: the filters of the list, and the fields of every command."""

    status: Texts = "failed"
    type: Texts = ()
    user_id: Ids = ()
    document_id: Ids = ()
    parent_task_id: Ids = ()
    label: Texts = ()
    batch: Texts = ()
    search: str = ""
    force: bool = False
    """Also beyond `max_retries`."""
    delay: Seconds = 0.0
    """Seconds to wait first."""
    command_id: CommandId = ""
    """The id of each task's command is made from it."""
    actor: Text = ""
    reason: Text = ""


_FILTERS = ("status", "type", "user_id", "document_id", "parent_task_id", "label", "batch", "search")


@post("/v1/tasks/retry", needs=SUBMIT, status_code=202, request_max_body_size=MAX_COMMAND)
async def retry_tasks(
    request: Json, backend: NamedDependency[Backend], access: NamedDependency[Access], who: NamedDependency[Identity]
) -> dict[str, Any]:
    """Give every failed task that passes the filters another life. If one is refused, the others go on."""
    body = await json_body(request)

    def retry() -> dict[str, Any]:
        wanted = decode_as(RetryTasks, body)
        result = backend.commands_of(who, access).retry_tasks(
            TaskFilters(**{name: getattr(wanted, name) for name in _FILTERS}),
            force=wanted.force,
            delay=wanted.delay,
            reason=wanted.reason,
            actor=wanted.actor or OWNER,
            command_id=wanted.command_id,
        )
        return retry_answer(result)

    return await backend.change(who, retry)


@post("/v1/rebuild", needs=OPERATE, status_code=200)
async def rebuild(backend: NamedDependency[Backend]) -> Rebuilt:
    """Build the views anew from the log beside the live ones, compare them, and put them in place.

    Answers with the differences when that is done. Work and questions go on meanwhile; one rebuild at a time.
    """
    return await backend.rebuild()


class ErasureWanted(EraseUser, frozen=True, kw_only=True, tag="erase_user"):
    """The command, or the question how much it would erase."""

    dry_run: Annotated[bool, says("Only say how much it would be.")] = False


@post("/v1/users/{user_id:int}/erase", needs=ADMINISTER, status_code=202, request_max_body_size=MAX_COMMAND + SLACK)
async def erase_user(
    request: Json, backend: NamedDependency[Backend], who: NamedDependency[Identity], user_id: UserPath
) -> Response[Accepted | Erasable]:
    """Erase the personal data of a user's tasks for ever, by destroying the keys. All these tasks have to be over."""
    wanted = decode_kind(ErasureWanted, await json_body(request), user_id=user_id)
    if wanted.dry_run:
        return Response(await backend.bulk(lambda: backend.service.erasable(user_id)), status_code=200)
    fields = {name: getattr(wanted, name) for name in EraseUser.__struct_fields__}
    return Response((await one(backend, who, lambda: EraseUser(**fields))).content)


class ForgetTasks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which finished tasks to forget."""

    older_than: Annotated[float, msgspec.Meta(ge=0, le=LONGEST)]
    """Seconds since the end of a task, at least."""
    status: Literal["completed", "failed", "cancelled"] | None = None
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    user_id: Annotated[int, msgspec.Meta(ge=0, le=LARGEST)] | None = None
    dry_run: bool = False
    """Only say how many it would be."""
    actor: Text = ""
    reason: Text = ""


@post("/v1/forget", needs=ADMINISTER, status_code=200, request_max_body_size=MAX_COMMAND)
async def forget(request: Json, backend: NamedDependency[Backend], who: NamedDependency[Identity]) -> Forgotten:
    """Forget tasks that are over, for good: stubs take the place of their records.

    Answers with their number once views, snapshots and folders hold nothing of them any more, either.
    """
    body = await json_body(request)

    def forget() -> Forgotten:
        wanted = decode_as(ForgetTasks, body)
        return backend.service.forget(
            wanted.older_than,
            status=wanted.status,
            type=wanted.type,
            user_id=wanted.user_id,
            dry_run=wanted.dry_run,
            reason=wanted.reason,
            actor=(wanted.actor or OWNER) if who.owner else who.name,
        )

    return await backend.bulk(forget)


class ArchiveRecords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which records to archive."""

    before: Annotated[int, msgspec.Meta(ge=0, le=LARGEST)] | Text | None = None
    """A position, or a time (RFC 3339): only what was recorded before it. Left out: as much as may be."""
    dry_run: bool = False
    """Only say how much it would be."""
    actor: Text = ""
    reason: Text = ""


@post("/v1/archive", needs=ADMINISTER, status_code=200, request_max_body_size=MAX_COMMAND)
async def archive(request: Json, backend: NamedDependency[Backend], who: NamedDependency[Identity]) -> Archived:
    """Move the beginning of the log into compressed files, from which it is read as before.

    Whole ranges of records are moved, up to the first range with a record of an unfinished task. Answers with how many
    when it is done.
    """
    body = await json_body(request)

    def archive() -> Archived:
        wanted = decode_as(ArchiveRecords, body)
        return backend.service.archive(
            wanted.before,
            dry_run=wanted.dry_run,
            reason=wanted.reason,
            actor=(wanted.actor or OWNER) if who.owner else who.name,
        )

    return await backend.bulk(archive)


COMMAND_ROUTES: Sequence[HTTPRouteHandler] = (
    send_commands,
    create_task,
    *(command_route(path, kind, _OTHERWISE_NAMED.get(kind, "")) for path, kind in COMMANDS.items()),
    retry_tasks,
    rebuild,
    erase_user,
    forget,
    archive,
)
