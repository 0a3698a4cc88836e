"""Routes that answer questions about tasks, the queue, the log, and the service.

Answers include everything that is durable; `min_position` makes them wait for your own write.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from litestar.response import Stream
from msgspec.structs import replace

from ..actors.core.board import LimitsBoard, QueueBoard, ScheduleBoard, TokenBoard
from ..actors.core.explanation import Why
from ..actors.core.node_board import NodeBoard
from ..actors.core.sources import WatchedFolder
from ..api.one_user import narrowed
from ..api.protocol import CHANGES_SHOWN, QUEUE_SHOWN, TypeInfo
from ..api.reader_process import (
    LIST_WITHIN,
    AttemptsQuestion,
    BoardName,
    BoardQuestion,
    DiffQuestion,
    ListAnswer,
    ListQuestion,
    ProvenanceQuestion,
    StatsQuestion,
)
from ..events import Task
from ..events.errors import CONTRADICTION, InvalidValue, Malformed, NotReady, UnknownTask
from ..handlers.attempt_output import PAGE, Output
from ..projections import DisabledEndpoint, NoticeStatus, Stats, TaskChanges, TaskFilters, Verification
from ..projections.attempts import Attempt
from ..projections.queries.as_of import Point, parse_point
from ..projections.queries.filters import MAX_LIMIT, MAX_VALUES
from .backend import Backend
from .identity import Identity
from .permissions import AUDIT, LIST_TOKENS, PUBLIC, SEE, SEE_ALL
from .requests import (
    LARGEST,
    AsOfQuery,
    EventsQuery,
    FromQuery,
    MinPositionQuery,
    PositionQuery,
    TaskIdPath,
    ToQuery,
    event_names,
    moment_text,
    point,
    unescaped,
)
from .streams import (
    EVENT_STREAM,
    JSON_LINES,
    StreamRequest,
    array,
    as_json_array,
    as_json_lines,
    as_named_events,
    as_server_sent,
    encoded,
    refuse_unreadable,
)

T = TypeVar("T")

ValuesQuery = Annotated[list[str] | None, QueryParameter(description="One value, several with commas, or repeated")]
TextQuery = Annotated[str | None, QueryParameter()]
AttemptQuery = Annotated[int | None, QueryParameter(ge=1, le=LARGEST, description="An attempt's number")]
ByteQuery = Annotated[
    int, QueryParameter(ge=0, le=LARGEST, description="The byte to begin at: `next` of the last answer")
]
LastQuery = Annotated[int | None, QueryParameter(ge=1, le=PAGE, description="Only so many bytes, from the end")]
MostQuery = Annotated[int, QueryParameter(ge=0, le=PAGE, description="At most so many bytes")]
SortQuery = Annotated[str | None, QueryParameter(description="A field; `-` in front for the greatest first")]

HttpRequest = Request[Any, Any, Any]


class TaskPage(msgspec.Struct, frozen=True):
    """One page of tasks, and how many there are in all."""

    tasks: list[Task]
    total: int


class Progress(msgspec.Struct, frozen=True):
    """The progress of a task."""

    task_id: int
    progress: float
    """Percent."""
    message: str


@get("/v1/tasks", needs=SEE)
async def list_tasks(
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    status: ValuesQuery = None,
    type: ValuesQuery = None,  # noqa: A002 - the field's name
    user_id: ValuesQuery = None,
    document_id: ValuesQuery = None,
    parent_task_id: ValuesQuery = None,
    label: ValuesQuery = None,
    batch: ValuesQuery = None,
    search: TextQuery = None,
    sort: SortQuery = None,
    limit: TextQuery = None,
    offset: TextQuery = None,
    as_of: AsOfQuery = None,
    min_position: MinPositionQuery = 0,
) -> TaskPage:
    """A page of the tasks that fit the filters."""
    # `TaskFilters` checks the values, so that their errors are the same everywhere.
    filters = TaskFilters.parse(
        {
            "status": _all_of("status", status),
            "type": _all_of("type", type),
            "user_id": _all_of("user_id", user_id),
            "document_id": _all_of("document_id", document_id),
            "parent_task_id": _all_of("parent_task_id", parent_task_id),
            "label": _all_of("label", label),
            "batch": _all_of("batch", batch),
            "search": search or "",
            "sort": sort or "",
            "limit": limit or "",
            "offset": offset or "",
            "as_of": unescaped(as_of or ""),
        }
    )
    seen = backend.seen_by(who)
    if filters.as_of != "":
        await backend.read(min_position, seen.check_types, filters)
        own = narrowed(filters, who.user_id)
        if own is None:
            return TaskPage([], 0)
        found = await backend.past(ListQuestion(own), ListAnswer, LIST_WITHIN, who)
        return TaskPage(found.tasks, found.total)
    tasks, total = await backend.read(min_position, seen.list_tasks, filters)
    return TaskPage(tasks, total)


def _all_of(field: str, values: Sequence[str] | None) -> Sequence[str]:
    if values and len(values) > MAX_VALUES:
        raise InvalidValue(f"{field} may be given up to {MAX_VALUES} times, not {len(values)}", field=field)
    return values or ()


ChangesLimitQuery = Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="At most so many tasks")]
OffsetQuery = Annotated[int, QueryParameter(ge=0, le=LARGEST, description="How many tasks to leave out in front")]


@get("/v1/diff", needs=SEE)
async def diff(
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    begin: FromQuery = "",
    end: ToQuery = None,
    limit: ChangesLimitQuery = CHANGES_SHOWN,
    offset: OffsetQuery = 0,
    min_position: MinPositionQuery = 0,
) -> TaskChanges:
    """The changes between two moments: each task with a record in between, before and after."""
    if not begin:
        raise Malformed("`from` has to be given", field="from", remedy="Give the moment to begin at: from=120, say.")
    since, until = parse_point(unescaped(begin), "from"), point(end, "to")
    await backend.reach(min_position, "min_position")
    asked = DiffQuestion(moment_text(since), None if until is None else moment_text(until), limit, offset, who.user_id)
    return await changes_between(backend, asked, LIST_WITHIN, who)


async def changes_between(backend: Backend, question: DiffQuestion, within: float, who: Identity | None) -> TaskChanges:
    """Return a page of changed tasks. A separate process reads all records in between, `within` seconds at most."""
    await backend.ask(backend.service.source.settle)
    return msgspec.json.decode(await backend.apart(question, within, who=who), type=TaskChanges)


WaitQuery = Annotated[
    float, QueryParameter(ge=0, le=300, description="Answer once the task has ended, or after so many seconds")
]


@get("/v1/tasks/{task_id:int}", needs=SEE)
async def get_task(
    request: HttpRequest,
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    task_id: TaskIdPath,
    as_of: AsOfQuery = None,
    min_position: MinPositionQuery = 0,
    wait: WaitQuery = 0.0,
) -> Task:
    """One task, now or as of an earlier moment; with `wait`, once it has ended, or as it is when the time is up."""
    moment = point(as_of)

    async def look() -> Task:
        return await backend.read(min_position, lambda: backend.seen_by(who).get_task(task_id, as_of=moment))

    if not wait:
        return await look()
    if moment is not None:
        raise InvalidValue(
            "wait: a task does not change in the past",
            field="wait",
            remedy="Leave `wait` or `as_of` out.",
            status=CONTRADICTION,
        )

    async def is_open() -> bool:
        return await backend.read(min_position, backend.seen_by(who).is_open, task_id)

    connection = request.scope["state"]["connection"]
    return await backend.waiters.ended(task_id, is_open, look, wait, connection, request.receive)


@get("/v1/tasks/{task_id:int}/progress", needs=SEE)
async def get_progress(
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    task_id: TaskIdPath,
    min_position: MinPositionQuery = 0,
) -> Progress:
    """The progress of a task."""
    percent, message = await backend.read(min_position, backend.seen_by(who).get_task_progress, task_id)
    return Progress(task_id, percent, message)


@get("/v1/tasks/{task_id:int}/attempts", needs=SEE)
async def get_attempts(
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    task_id: TaskIdPath,
    as_of: AsOfQuery = None,
    min_position: MinPositionQuery = 0,
) -> list[Attempt]:
    """All attempts of a task: when, by which worker, what was reserved and used, how far it came, what followed."""
    moment = point(as_of)
    if not await backend.read(min_position, backend.seen_by(who).version_at, task_id, _LAST):
        raise UnknownTask(f"Task {task_id} does not exist", field="task_id")
    asked = AttemptsQuestion(task_id, None if moment is None else moment_text(moment))
    return msgspec.json.decode(await backend.apart(asked, LIST_WITHIN, who=who), type=list[Attempt])


@get("/v1/tasks/{task_id:int}/provenance", needs=SEE)
async def get_provenance(
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    task_id: TaskIdPath,
    min_position: MinPositionQuery = 0,
) -> Response[dict[str, Any]]:
    """The provenance of a task's output: a signed in-toto statement in a DSSE envelope."""
    if not await backend.read(min_position, backend.seen_by(who).version_at, task_id, _LAST):
        raise UnknownTask(f"Task {task_id} does not exist", field="task_id")
    asked = ProvenanceQuestion(task_id, str(backend.service.seals_folder()))
    envelope = msgspec.json.decode(await backend.apart(asked, LIST_WITHIN, who=who))
    # Have a browser save it as a file. The name is the one in the examples of the command.
    return Response(envelope, headers={"content-disposition": f'attachment; filename="task-{task_id}.intoto.json"'})


@get("/v1/tasks/{task_id:int}/output", needs=SEE)
async def get_output(
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    task_id: TaskIdPath,
    attempt: AttemptQuery = None,
    after: ByteQuery = 0,
    last: LastQuery = None,
    most: MostQuery = PAGE,
    min_position: MinPositionQuery = 0,
) -> Output:
    """The printed output of an attempt, by default the latest: at most 256 KiB; `next` is where to go on."""
    return await backend.read(
        min_position, lambda: backend.seen_by(who).output(task_id, attempt, after=after, last=last, most=most)
    )


LimitQuery = Annotated[int, QueryParameter(ge=0, le=10_000, description="At most so many tasks of the queue")]


@get("/v1/tasks/{task_id:int}/why", needs=SEE)
async def why(
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    task_id: TaskIdPath,
    as_of: AsOfQuery = None,
    min_position: MinPositionQuery = 0,
) -> Why:
    """All reasons why a task is not running, and what is ahead of it, now or as of an earlier moment."""
    if (moment := point(as_of)) is not None:
        if not await backend.read(min_position, backend.seen_by(who).version_at, task_id, _LAST):
            raise UnknownTask(f"Task {task_id} does not exist", field="task_id")
        return await _board_as_of(backend, who, Why, "why", moment, task_id=task_id)
    return await backend.read(min_position, backend.seen_by(who).why, task_id)


async def _board_as_of(
    backend: Backend, who: Identity, kind: type[T], board: BoardName, moment: Point, **more: int
) -> T:
    await backend.ask(backend.service.source.settle)  # raises what is wrong with the log
    limits = await backend.ask(backend.service.source.limits)  # only this process knows what it was started with
    question = BoardQuestion(board, moment_text(moment), limits, user_id=who.user_id, **more)
    return msgspec.json.decode(await backend.apart(question, LIST_WITHIN, who=who), type=kind)


@get("/v1/queue", needs=SEE)
async def queue(
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    limit: LimitQuery = QUEUE_SHOWN,
    as_of: AsOfQuery = None,
    min_position: MinPositionQuery = 0,
) -> QueueBoard:
    """The waiting tasks, in the order in which they will run, and the running ones, now or as of an earlier moment."""
    if (moment := point(as_of)) is not None:
        await backend.reach(min_position, "min_position")
        return await _board_as_of(backend, who, QueueBoard, "queue", moment, limit=limit)
    return await backend.read(min_position, backend.seen_by(who).queue, limit)


@get("/v1/limits", needs=SEE)
async def get_limits(
    backend: NamedDependency[Backend], who: NamedDependency[Identity], as_of: AsOfQuery = None
) -> LimitsBoard:
    """The limits, and the pauses that hold, now or as of an earlier moment."""
    if (moment := point(as_of)) is not None:
        return await _board_as_of(backend, who, LimitsBoard, "limits", moment)
    return await backend.ask(backend.seen_by(who).limits)


@get("/v1/schedules", needs=SEE)
async def get_schedules(
    backend: NamedDependency[Backend], who: NamedDependency[Identity], as_of: AsOfQuery = None
) -> list[ScheduleBoard]:
    """The recurring schedules, and when each runs next, now or as of an earlier moment."""
    if (moment := point(as_of)) is not None:
        return await _board_as_of(backend, who, list[ScheduleBoard], "schedules", moment)
    return await backend.ask(backend.seen_by(who).schedules)


@get("/v1/nodes", needs=SEE_ALL)
async def get_nodes(
    backend: NamedDependency[Backend], who: NamedDependency[Identity], as_of: AsOfQuery = None
) -> list[NodeBoard]:
    """The nodes that attempts run on, by name: what each has, how it stands, and when it was last seen.

    As of an earlier moment, only what is recorded of them.
    """
    if (moment := point(as_of)) is not None:
        return await _board_as_of(backend, who, list[NodeBoard], "nodes", moment)
    return await backend.ask(backend.service.nodes)


@get("/v1/sources", needs=SEE_ALL)
async def get_sources(backend: NamedDependency[Backend], as_of: AsOfQuery = None) -> list[WatchedFolder]:
    """The watched folders, by name, now or as of an earlier moment."""
    if (moment := point(as_of)) is not None:
        return await backend.bulk(lambda: backend.service.sources(as_of=moment))
    return await backend.ask(backend.service.sources)


@get("/v1/tokens", needs=LIST_TOKENS)
async def get_tokens(backend: NamedDependency[Backend], as_of: AsOfQuery = None) -> list[TokenBoard]:
    """The tokens, by name, now or as of an earlier moment; neither their secrets nor hashes of them."""
    if (moment := point(as_of)) is not None:
        return await backend.bulk(lambda: backend.service.tokens(as_of=moment))
    return await backend.ask(backend.service.tokens)


@get("/v1/tasks/{task_id:int}/notices", needs=SEE)
async def get_notices(
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    task_id: TaskIdPath,
    min_position: MinPositionQuery = 0,
) -> list[NoticeStatus]:
    """The status of a task's notices."""
    return await backend.read(min_position, backend.seen_by(who).notices, task_id)


@get("/v1/endpoints", needs=SEE_ALL)
async def get_endpoints(
    backend: NamedDependency[Backend], min_position: MinPositionQuery = 0
) -> list[DisabledEndpoint]:
    """The receivers that nothing is sent to, because they answered that they are gone."""
    return await backend.read(min_position, backend.service.endpoints)


RecordsQuery = Annotated[int | None, QueryParameter(ge=1, description="At most so many records")]
FollowQuery = Annotated[bool, QueryParameter(description="Go on with what is yet to come")]
NamedQuery = Annotated[
    bool, QueryParameter(description="Give each server-sent event the name of what happened, such as `completed`")
]
SecondsQuery = Annotated[
    float | None, QueryParameter(gt=0, le=86400, description="End a followed stream after so long")
]
_LAST = 2**63 - 1


@get("/v1/events", needs=SEE)
async def get_log(
    request: HttpRequest,
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    after: PositionQuery = 0,
    limit: RecordsQuery = None,
    event: EventsQuery = None,
    follow: FollowQuery = False,  # noqa: FBT002 - a parameter of an address has a name
    seconds: SecondsQuery = None,
    named: NamedQuery = False,  # noqa: FBT002
) -> Stream:
    """The log from a position on: JSON Lines, or server-sent events where the client accepts them."""
    span = StreamRequest(
        after=after,
        limit=limit,
        events=event_names(event),
        follow=follow,
        seconds=seconds,
        named=named,
        only_user=who.user_id,
    )
    return await _stream(request, backend, span)


@get("/v1/tasks/{task_id:int}/events", needs=SEE)
async def get_events(
    request: HttpRequest,
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    task_id: TaskIdPath,
    after: PositionQuery = 0,
    event: EventsQuery = None,
    follow: FollowQuery = False,  # noqa: FBT002 - a parameter of an address has a name
    seconds: SecondsQuery = None,
    named: NamedQuery = False,  # noqa: FBT002
    min_position: MinPositionQuery = 0,
) -> Response[Any]:
    """A task's events as an array; followed, or as server-sent events, like the log."""
    if not await backend.read(min_position, backend.seen_by(who).version_at, task_id, _LAST):
        raise UnknownTask(f"Task {task_id} does not exist", field="task_id")
    span = StreamRequest(
        after=after, task_id=task_id, events=event_names(event), follow=follow, seconds=seconds, named=named
    )
    if follow or _wants_events(request):
        return await _stream(request, backend, span)
    connection = request.scope["state"]["connection"]
    connection.room.refuse_stream(connection.who)
    await refuse_unreadable(backend, span)
    return Stream(array(encoded(backend, span, as_json_array, connection)), media_type="application/json")


@get("/v1/tasks/{task_id:int}/notes", needs=SEE)
async def get_notes(
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    task_id: TaskIdPath,
    min_position: MinPositionQuery = 0,
) -> list[dict[str, Any]]:
    """The records about a task under task id 0, an array: adjustments by operators, deliveries."""
    records = await backend.read(min_position, backend.seen_by(who).notes, task_id)
    return [record.flat() for record in records]


def _wants_events(request: HttpRequest) -> bool:
    return EVENT_STREAM in request.headers.get("accept", "")


async def _stream(request: HttpRequest, backend: Backend, span: StreamRequest) -> Stream:
    """Answer with a stream. Server-sent events always follow, from the last one that a returning browser has seen."""
    connection = request.scope["state"]["connection"]
    connection.room.refuse_stream(connection.who)
    events = _wants_events(request)
    field = "after"
    if events:
        last = request.headers.get("last-event-id", "")
        field = "Last-Event-ID" if last else field
        span = replace(span, after=_position(last) if last else span.after, follow=True)
    await backend.reach(span.after, field)
    await refuse_unreadable(backend, span)
    encode = (as_named_events if span.named else as_server_sent) if events else as_json_lines
    return Stream(
        encoded(backend, span, encode, connection),
        media_type=EVENT_STREAM if events else JSON_LINES,
    )


def _position(text: str) -> int:
    if not re.fullmatch("[0-9]{1,15}", text):
        raise InvalidValue(f"Last-Event-ID: {text!r} is not a position", field="Last-Event-ID")
    return int(text)


_UNAVAILABLE = 503


class Health(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str = "ok"


class Readiness(msgspec.Struct, frozen=True):
    """Commands are accepted; the log ends at `position`."""

    ready: bool
    position: int
    degraded: list[str] = []
    """Faults despite which commands are accepted, in words."""


@get("/v1/stats", needs=SEE)
async def get_stats(
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    as_of: AsOfQuery = None,
    min_position: MinPositionQuery = 0,
) -> Stats:
    """Statistics of all tasks, now or as of an earlier moment."""
    if (moment := point(as_of)) is not None:
        await backend.reach(min_position, "min_position")
        return await backend.past(StatsQuestion(moment_text(moment), who.user_id), Stats, LIST_WITHIN, who)
    return await backend.read(min_position, backend.seen_by(who).stats)


@get("/v1/types", needs=SEE)
async def get_types(backend: NamedDependency[Backend], who: NamedDependency[Identity]) -> list[TypeInfo]:
    """The task types there are handlers for, with the JSON schema of their options."""
    return await backend.ask(backend.seen_by(who).types)


@get("/v1/verify", needs=AUDIT)
async def verify(backend: NamedDependency[Backend], who: NamedDependency[Identity]) -> Verification:
    """Check the chain, the rules and the views. Reads the whole log, so only one check runs at a time."""
    return await backend.verify(who.name)


@get("/healthz", needs=PUBLIC)
async def healthz() -> Health:
    """Whether the process answers."""
    return Health()


@get("/readyz", needs=SEE)
async def readyz(backend: NamedDependency[Backend]) -> Readiness:
    """Whether commands are accepted; if not, 503 and all reasons."""
    obstacles = backend.service.obstacles
    if obstacles:
        first = next((one for one in obstacles if one.status == _UNAVAILABLE), NotReady(""))
        first.message = "; ".join(one.message for one in obstacles)
        first.advice = " ".join(dict.fromkeys(one.advice for one in obstacles))
        raise first
    degraded = await backend.ask(lambda: backend.service.degraded)
    return Readiness(ready=True, position=backend.service.watermark.position, degraded=degraded)


@get("/metrics", media_type="text/plain", needs=SEE_ALL)
async def get_metrics(request: HttpRequest, backend: NamedDependency[Backend]) -> Response[bytes]:
    """Metrics for Prometheus; as OpenMetrics if the client prefers that."""
    page, media_type = await backend.ask(backend.metrics.page, request.headers.get("accept", ""))
    return Response(page, headers={"content-type": media_type})


QUERY_ROUTES: Sequence[HTTPRouteHandler] = (
    list_tasks,
    diff,
    get_task,
    get_progress,
    get_attempts,
    get_provenance,
    get_output,
    get_notices,
    get_events,
    get_notes,
    why,
    queue,
    get_limits,
    get_schedules,
    get_nodes,
    get_sources,
    get_endpoints,
    get_tokens,
    get_log,
    get_stats,
    get_types,
    verify,
    healthz,
    readyz,
    get_metrics,
)
