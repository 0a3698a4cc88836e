"""The commands and questions over HTTP, written once for `Client` and `AsyncClient`."""

import threading
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from datetime import datetime, timedelta
from math import inf
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, ClassVar, Self, TypeVar
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from ..actors.core.board import LimitsBoard, QueueBoard, ScheduleBoard, TokenBoard
from ..actors.core.explanation import Why
from ..actors.core.node_board import NodeBoard
from ..actors.core.sources import WatchedFolder
from ..batches.request import MadeBatch, NewBatch
from ..events import Accepted, Checkpoint, Command, Recorded, Task, TasktrailError
from ..events.errors import InvalidPath, ServiceUnreachable, UnknownBatch, UnknownTask, WaitTimeout
from ..events.existence import exists
from ..events.log.archives import Archived
from ..events.log.event_log import Erasable
from ..events.state import FINISHED
from ..events.values import (
    MAX_INTEGER,
    MIN_INTEGER,
    check_name,
    check_patience,
    check_position,
    check_task_id,
    check_whole,
    in_words,
)
from ..handlers.attempt_output import PAGE, Output
from ..intake.conversion import new_command_id
from ..intake.event_names import event_tags
from ..paths import DataPaths, path_of
from ..projections import (
    Batch,
    DisabledEndpoint,
    Forgotten,
    NoticeStatus,
    Rebuilt,
    Stats,
    TaskChanges,
    TaskFilters,
    Verification,
)
from ..projections.attempts import Attempt
from ..projections.queries.as_of import Point, parse_point
from ..projections.queries.filters import MAX_LIMIT, filters_of, text_of, values_of
from ..projections.queries.forgettable import rule_of
from .commands import Commands
from .connection import NOT_NOW, PAUSES, REPLY_WITHIN, Connection, LineSplitter, StreamBroken
from .either_way import either_stream, either_way
from .forms import answers_in, chunks, decoded, encode_command, record_from_json, recorded_all, with_id
from .pages import earlier_place
from .protocol import BATCHES_SHOWN, CHANGES_SHOWN, QUEUE_SHOWN, TypeInfo
from .wire import Params, Wire

_ONE_POLL = 30.0
"""Seconds that the service is asked to wait for a task before it answers in any case."""
LOOK_AGAIN = 0.5
"""Seconds until a service that could not answer is asked again."""
_BACK_WITHIN = 30.0
"""Seconds for which a known service may be gone, because it restarts, while a caller waits for a task."""
_NOTHING: Params = {}
_LOG = "/v1/events"

T = TypeVar("T")


class _Ready(msgspec.Struct):
    """The parts of the answer of `/readyz` that a client uses."""

    position: int
    degraded: list[str]


class _Page(msgspec.Struct):
    tasks: list[Task]
    total: int


class _Progress(msgspec.Struct):
    progress: float
    message: str


class _Login(msgspec.Struct):
    address: Annotated[str, msgspec.Meta(pattern=r"^https?://[!-~]+\Z")]
    """Its form is checked, because a browser is started with it."""


class Remote(Commands):
    """The commands and questions of a client. A command whose answer is lost is sent again under its id."""

    _wire: ClassVar[type[Wire]]

    def __init__(
        self, url: str, *, token: str = "", socket: Path | None = None, answer_within: float = REPLY_WITHIN
    ) -> None:
        """A client of the service at `url`, or behind a Unix socket. Answers must come within `answer_within` seconds.

        `token`: a token, or the secret in the file `http-token` of the service's data folder. To send it to another
        machine by `http://` is worth a warning, unless the variable TASKTRAIL_UNENCRYPTED is 1.
        """
        self._connection = Connection(self._wire(url, socket, token), answer_within)
        self._seen = 0
        self._lock = threading.Lock()

    @classmethod
    def connect(cls, data: str | Path) -> Self:
        """A client of the service that runs on a data folder. Raises `ServiceUnreachable` if none answers there.

        A service that has just been started answers once it has printed `ready`.
        """
        if isinstance(data, str) and "://" in data:
            remedy = f"Write {cls.__name__}({data!r}, token=...)."
            raise InvalidPath(f"{data!r} is an address, and no data folder", field="data", remedy=remedy)
        paths = DataPaths(path_of(data, "data"))
        paths.refuse_unusable()
        if not exists(paths.socket):
            raise paths.no_service()
        return cls("http://localhost", socket=paths.socket)

    async def _ending(self, task_id: int, within: float) -> Task:
        """Return the task once it has ended, or as it is after some time, at most `within` seconds."""
        span = min(within, _ONE_POLL)
        return await self._task(task_id, {"wait": span} if span else {}, patience=span, again=False)

    @either_way
    async def close(self) -> None:
        """Close the connection. The service goes on."""
        await self._close()

    async def _close(self) -> None:
        await self._connection.close()

    # --- commands -----------------------------------------------------------------------------------------------

    async def _send_all(self, commands: Sequence[Command], *, checked: bool) -> list[Accepted | TasktrailError]:  # noqa: ARG002 - the service checks what it gets
        """Send the commands. If a request fails as a whole, its error is the answer to each of its commands.

        Raises `ServiceUnreachable` when there is no service to begin with.
        """
        if len(commands) == 1:
            return [await self._send_one(with_id(commands[0]))]
        answers: list[Accepted | TasktrailError] = []
        for ids, body, wrong in chunks([with_id(command) for command in commands]):
            answers += [wrong] if wrong is not None else await self._send_chunk(ids, body, first=not answers)
        return answers

    async def _send_one(self, command: Command) -> Accepted | TasktrailError:
        try:
            body = await self._connection.post("/v1/commands", encode_command(command), [command.command_id])
        except ServiceUnreachable:
            raise
        except TasktrailError as error:
            return error
        accepted = decoded(body, Accepted)
        self._note_position(accepted.position)
        return accepted

    async def _send_chunk(self, ids: list[str], body: bytes, *, first: bool) -> list[Accepted | TasktrailError]:
        try:
            answers = answers_in(await self._connection.post("/v1/commands", body, ids))
        except TasktrailError as error:
            if first and isinstance(error, ServiceUnreachable):
                raise
            return [error] * len(ids)
        self._note_position(max((answer.position for answer in answers if isinstance(answer, Accepted)), default=0))
        return answers

    async def _make_batch(self, wanted: NewBatch) -> MadeBatch:
        """Make a batch. A request whose answer is lost is sent again, under its id, and gets the first answer."""
        if not wanted.command_id:
            wanted = replace(wanted, command_id=new_command_id())
        body = await self._connection.post("/v1/batches", msgspec.json.encode(wanted), [wanted.command_id])
        made = decoded(body, MadeBatch)
        self._note_position(made.position)
        return made

    # --- questions ----------------------------------------------------------------------------------------------

    @either_way
    async def get_task(self, task_id: int, *, as_of: Point | None = None) -> Task:
        """One task, now or as of a position or time. Raises `UnknownTask`."""
        return await self._task(task_id, _moment(as_of))

    @either_way
    async def get_task_progress(self, task_id: int) -> tuple[float, str]:
        """The task's progress in percent, and its message. Raises `UnknownTask`."""
        answer = await self._ask(_Progress, _path_of(task_id, "/progress"))
        return answer.progress, answer.message

    @either_way
    async def list_tasks(self, filters: TaskFilters | None = None) -> tuple[list[Task], int]:
        """One page of tasks, by default the newest first, and the number of all that match."""
        return await self._page(filters_of(filters))

    async def _find_ids(self, filters: TaskFilters) -> list[int]:
        wanted = replace(filters, sort="id", limit=MAX_LIMIT, offset=0)
        page, total = await self._page(wanted)
        if total > len(page) and filters.as_of == "":
            # A task that leaves the list moves up all that follow it, so the next page would lack one.
            wanted = replace(wanted, as_of=(await self._ask(Stats, "/v1/stats")).position)
            page, total = await self._page(wanted)
        ids, place = [task.id for task in page], len(page)
        while page and place < total:
            page, left = await self._page(replace(wanted, offset=place))
            while left < total:
                place, total = earlier_place(place, total, left), left
                page, left = await self._page(replace(wanted, offset=place))
            ids += [task.id for task in page]
            place, total = place + len(page), left
        return list(dict.fromkeys(ids))

    async def _page(self, filters: TaskFilters) -> tuple[list[Task], int]:
        answer = await self._ask(_Page, "/v1/tasks", _texts(filters))
        return answer.tasks, answer.total

    @either_way
    async def load_checkpoint(self, task_id: int) -> Checkpoint | None:
        """The task's latest checkpoint; None if it has none. Raises `UnknownTask`."""
        return (await self._task(task_id)).checkpoint

    @either_way
    async def why(self, task_id: int, *, as_of: Point | None = None) -> Why:
        """All reasons why a task waits, and what is ahead of it, now or as of a position or time.

        Raises `UnknownTask`.
        """
        return await self._ask(Why, _path_of(task_id, "/why"), _moment(as_of))

    @either_way
    async def queue(self, limit: int = QUEUE_SHOWN, *, as_of: Point | None = None) -> QueueBoard:
        """The first tasks of the queue, and the running tasks, now or as of a position or time."""
        return await self._ask(QueueBoard, "/v1/queue", {"limit": check_whole(limit, "limit"), **_moment(as_of)})

    @either_way
    async def limits(self, *, as_of: Point | None = None) -> LimitsBoard:
        """The limits on what may run at once, and the pauses."""
        return await self._get(LimitsBoard, "/v1/limits", _moment(as_of))

    @either_way
    async def schedules(self, *, as_of: Point | None = None) -> list[ScheduleBoard]:
        """All recurring schedules, by name."""
        return await self._get(list[ScheduleBoard], "/v1/schedules", _moment(as_of))

    @either_way
    async def nodes(self, *, as_of: Point | None = None) -> list[NodeBoard]:
        """See `TaskService`."""
        return await self._get(list[NodeBoard], "/v1/nodes", _moment(as_of))

    @either_way
    async def sources(self, *, as_of: Point | None = None) -> list[WatchedFolder]:
        """All watched folders, by name."""
        return await self._get(list[WatchedFolder], "/v1/sources", _moment(as_of))

    @either_way
    async def tokens(self, *, as_of: Point | None = None) -> list[TokenBoard]:
        """All tokens, by name: those that were added and not revoked."""
        return await self._get(list[TokenBoard], "/v1/tokens", _moment(as_of))

    @either_way
    async def notices(self, task_id: int) -> list[NoticeStatus]:
        """The state of the task's notices, in the order of its events. Raises `UnknownTask`."""
        return await self._ask(list[NoticeStatus], _path_of(task_id, "/notices"))

    @either_way
    async def endpoints(self) -> list[DisabledEndpoint]:
        """The disabled receivers: they have said that they are gone, so nothing is sent to them."""
        return await self._ask(list[DisabledEndpoint], "/v1/endpoints")

    @either_way
    async def batches(self, limit: int = BATCHES_SHOWN, *, as_of: Point | None = None) -> list[Batch]:
        """The newest batches and how far they are, now or as of a position or time."""
        most = check_whole(limit, "limit", 1, MAX_LIMIT)
        return await self._ask(list[Batch], "/v1/batches", {"limit": most, **_moment(as_of)})

    @either_way
    async def batch(self, name: str, *, as_of: Point | None = None) -> Batch:
        """One batch and how far it is, now or as of a position or time. Raises `UnknownBatch`."""
        if not check_name(name, "batch") or "/" in name:  # it would be another address
            raise UnknownBatch(f"No task belongs to a batch {name!r}", field="batch")
        return await self._ask(Batch, f"/v1/batches/{quote(name, safe='')}", _moment(as_of))

    @either_way
    async def diff(
        self, begin: Point, end: Point | None = None, *, limit: int = CHANGES_SHOWN, offset: int = 0
    ) -> TaskChanges:
        """How the tasks changed between two positions or times: a page of them, by their ids.

        It shows all tasks with a record after `begin`, up to and including `end`; without an end, up to now. The
        service reads all records in between.
        """
        between = {**_moment(parse_point(begin, "from"), "from"), **_moment(end, "to")}
        page = {"limit": check_whole(limit, "limit", 1, MAX_LIMIT), "offset": check_whole(offset, "offset")}
        return await self._ask(TaskChanges, "/v1/diff", {**between, **page})

    @either_way
    async def stats(self, *, as_of: Point | None = None) -> Stats:
        """Statistics over all tasks, now or as of a position or time."""
        return await self._ask(Stats, "/v1/stats", _moment(as_of))

    @either_way
    async def types(self) -> list[TypeInfo]:
        """The task types that the service has handlers for."""
        return await self._get(list[TypeInfo], "/v1/types")

    @either_way
    async def verify(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """Check the chain, the rules and the views. The longer the log, the longer it takes.

        The service reports nothing while it checks: `progress` is called once, at the end.
        """
        found = await self._get(Verification, "/v1/verify", patience=None)
        if progress is not None:
            progress(found.position, found.position)
        return found

    @either_way
    async def rebuild(self, progress: Callable[[int, int], None] | None = None) -> Rebuilt:
        """Build the views anew beside the live ones, compare, and put them in place. Work goes on meanwhile.

        The longer the log, the longer it takes. The service reports nothing while it builds: `progress` is called
        once, at the end.
        """
        built = decoded(await self._connection.post("/v1/rebuild", b"", patience=None), Rebuilt)
        if progress is not None:
            progress(built.position, built.position)
        return built

    @either_way
    async def archive(
        self,
        before: int | str | datetime | None = None,
        *,
        dry_run: bool = False,
        reason: str = "",
        actor: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Archived:
        """Move the beginning of the log into compressed files, from which it is read as before. See the guide on it.

        Ranges of 65,536 records are moved. A range with a record of an unfinished task stays, and so do all after it.

        Args:
            before: a position or a time: only records from before it. None: as many as possible.
            dry_run: only count them.
            reason: why; recorded.
            actor: who; recorded.
            progress: called once, at the end.
        """
        point = before.isoformat() if isinstance(before, datetime) else before
        body = msgspec.json.encode({"before": point, "dry_run": dry_run, "reason": reason, "actor": actor or ""})
        done = decoded(await self._connection.post("/v1/archive", body, patience=None), Archived)
        if progress is not None:
            progress(done.records, done.records)
        return done

    @either_way
    async def forget(
        self,
        older_than: float | timedelta,
        *,
        status: str | None = None,
        type: str | None = None,  # noqa: A002 - as the field
        user_id: int | None = None,
        dry_run: bool = False,
        reason: str = "",
        actor: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Forgotten:
        """Forget tasks that are over, for good: stubs take the place of their records. See the guide on old tasks.

        It returns once views, snapshots and folders have nothing left of them.

        Args:
            older_than: the least seconds since a task's end.
            status: only tasks that are `completed`, `failed` or `cancelled`.
            type: only tasks of this type.
            user_id: only tasks of this user.
            dry_run: only count them.
            reason: why; recorded.
            actor: who; recorded.
            progress: called once, at the end.
        """
        wanted = msgspec.structs.asdict(rule_of(older_than, status, type, user_id))
        wanted |= {"dry_run": dry_run, "reason": reason, "actor": actor or ""}
        body = msgspec.json.encode(wanted)
        done = decoded(await self._connection.post("/v1/forget", body, patience=None), Forgotten)
        if progress is not None:
            progress(done.tasks, done.tasks)
        return done

    @either_way
    async def erasable(self, user_id: int) -> Erasable:
        """Count what `erase_user` would erase of a user. It reads all records, and changes nothing."""
        path = f"/v1/users/{check_whole(user_id, 'user_id', 1)}/erase"
        return decoded(await self._connection.post(path, b'{"dry_run":true}', patience=None), Erasable)

    @either_way
    async def events(self, task_id: int) -> list[Recorded]:
        """The recorded events of one task, in order. Raises `UnknownTask`."""
        return recorded_all(await self._connection.get(_path_of(task_id, "/events"), self._min_position()))

    @either_way
    async def notes(self, task_id: int) -> list[Recorded]:
        """The service's own records (task id 0) about one task: adjustments, deliveries. Raises `UnknownTask`."""
        return recorded_all(await self._connection.get(_path_of(task_id, "/notes"), self._min_position()))

    @either_way
    async def attempts(self, task_id: int, *, as_of: Point | None = None) -> list[Attempt]:
        """All attempts of a task, now or as of a position or time. Raises `UnknownTask`."""
        return await self._ask(list[Attempt], _path_of(task_id, "/attempts"), _moment(as_of))

    @either_way
    async def provenance(self, task_id: int) -> dict[str, Any]:
        """The signed statement of how and from what a task's output was made: in-toto, in a DSSE envelope.

        It is signed with the key of the seals, which `tasktrail seal` makes. Raises `SealUnfit` without a key, or if
        the task has made no file, and `UnknownTask`.
        """
        return await self._ask(dict[str, Any], _path_of(task_id, "/provenance"))

    @either_way
    async def output(
        self,
        task_id: int,
        attempt: int | None = None,
        *,
        after: int = 0,
        last: int | None = None,
        most: int = MAX_INTEGER,
    ) -> Output:
        """The output of an attempt, by default the latest: from byte `after` on, or only the last `last` bytes.

        `most`: the most bytes that are read. Raises `UnknownTask` and `UnknownAttempt`.
        """
        bytes_left = check_whole(most, "most")
        wanted: Params = (
            {"after": check_position(after)} if last is None else {"last": check_whole(last, "last", MIN_INTEGER)}
        )
        answer = part = await self._output(task_id, attempt, {**wanted, "most": min(bytes_left, PAGE)})
        begin = min(after, part.size) if last is None else max(part.size - last, 0)
        while (
            part.text and part.next < part.size and (bytes_left := bytes_left - (part.next - begin - part.left_out)) > 0
        ):
            begin = part.next
            part = await self._output(task_id, answer.attempt, {"after": begin, "most": min(bytes_left, PAGE)})
            answer = replace(part, text=answer.text + part.text, left_out=answer.left_out + part.left_out)
        return answer

    async def _output(self, task_id: int, attempt: int | None, wanted: Params) -> Output:
        which = {} if attempt is None else {"attempt": check_whole(attempt, "attempt", MIN_INTEGER)}
        return await self._ask(Output, _path_of(task_id, "/output"), {**which, **wanted})

    @either_way
    async def login_address(self) -> str:
        """An address that logs a browser in as the caller, once and within an hour."""
        return decoded(await self._connection.post("/v1/login", b""), _Login).address

    @either_way
    async def check_ready(self) -> list[str]:
        """Describe what is out of order although the service takes commands. Raises the reasons if it takes none."""
        return (await self._get(_Ready, "/readyz")).degraded

    # --- following and waiting ----------------------------------------------------------------------------------

    @either_stream
    def log(self, after: int = 0, limit: int | None = None) -> AsyncGenerator[Recorded, None]:
        """Recorded events of all tasks and of the service, in order of position. Raises `BeyondTheLog`."""
        limit = None if limit is None else check_whole(limit, "limit")
        return self._records(check_position(after), {}, limit)

    @either_stream
    def follow(
        self, after: int = 0, *, task_id: int | None = None, events: Collection[str] = ()
    ) -> AsyncGenerator[Recorded, None]:
        """Like `log`, and then new records as they come, without gaps, until closed or the service stops.

        `task_id`: only records of this task, which may begin another life after its end. `events`: only these, such as
        `("completed", "failed")`. Raises `UnknownTask` and `BeyondTheLog`.
        """
        return self._followed(check_position(after), event_tags(events), task_id)

    @either_way
    async def wait(self, task_id: int, timeout: float | None = None) -> Task:  # noqa: ASYNC109 - it is a number of seconds
        """Wait until the task's life is over, and return it. Raises `WaitTimeout` after `timeout` seconds."""
        timeout = check_patience(timeout)
        deadline = inf if timeout is None else monotonic() + timeout
        within = max(deadline - monotonic(), 0.0) if self._connection.heard else 0.0
        began, deaf_since, was_there = monotonic(), inf, False
        while True:
            self._connection.check_open()
            try:
                task = await self._ending(task_id, within)
            except TasktrailError as error:
                now = monotonic()
                deaf_since = min(deaf_since, now)
                was_there = was_there or self._connection.cut_off_at >= began
                gone = isinstance(error, ServiceUnreachable) and not (was_there and now - deaf_since <= _BACK_WITHIN)
                if gone or (error.status != NOT_NOW and error.retry_after is None):
                    raise
                if now >= deadline:
                    raise WaitTimeout(f"Task {task_id} has not ended in {timeout:g} s: {error.message}") from error
                await self._connection.pause(min(deadline - now, error.retry_after or LOOK_AGAIN))
            else:
                deaf_since, was_there = inf, True
                if task.status in FINISHED:
                    return task
                if monotonic() >= deadline:
                    why = await self._obstacle()
                    raise WaitTimeout(f"Task {task_id} is still {task.status} after {timeout:g} s{why}")
            within = max(deadline - monotonic(), 0.0)

    async def _obstacle(self) -> str:
        """Why no task can end now, as the end of a sentence; empty if the service takes commands."""
        try:
            await self._position(again=False)
        except TasktrailError as error:
            return f": {error.message}"
        return ""

    # --- requests -----------------------------------------------------------------------------------------------

    async def _position(self, *, again: bool = True) -> int:
        """Ask for the position at which the log ends."""
        return (await self._get(_Ready, "/readyz", again=again)).position

    def _followed(
        self, after: int, events: Collection[str], task_id: int | None = None
    ) -> AsyncGenerator[Recorded, None]:
        wanted: Params = {"follow": True, "event": ",".join(sorted(events))} if events else {"follow": True}
        path = _LOG if task_id is None else _path_of(task_id, "/events")
        return self._records(after, wanted, path=path)

    async def _records(
        self, after: int, params: Params, limit: int | None = None, path: str = _LOG
    ) -> AsyncGenerator[Recorded, None]:
        """The records of a stream. A stream that breaks is resumed where it broke."""
        losses = 0
        while limit is None or limit > 0:
            wanted = {**params, "after": after} if limit is None else {**params, "after": after, "limit": limit}
            try:
                async with self._connection.stream(path, wanted) as pieces:
                    lines = LineSplitter()
                    async for piece in pieces:
                        for line in lines.split(piece):
                            record = record_from_json(line)
                            after, losses = record.position, 0
                            limit = None if limit is None else limit - 1
                            yield record
            except StreamBroken as error:
                if losses == len(PAUSES):
                    raise self._connection.unreachable(error) from error
                await self._connection.pause(PAUSES[losses])
                losses += 1
            else:
                return

    async def _task(self, task_id: int, params: Params = _NOTHING, **how: Any) -> Task:
        return await self._ask(Task, _path_of(task_id), params, **how)

    async def _ask(self, kind: type[T], path: str, params: Params = _NOTHING, **how: Any) -> T:
        return await self._get(kind, path, {**params, **self._min_position()}, **how)

    async def _get(self, kind: type[T], path: str, params: Params = _NOTHING, **how: Any) -> T:
        """Ask, and decode the answer. `how`: arguments of `Connection.get`."""
        return decoded(await self._connection.get(path, params, **how), kind)

    def _min_position(self) -> Params:
        return {"min_position": self._seen} if self._seen else {}

    def _note_position(self, position: int) -> None:
        with self._lock:
            self._seen = max(self._seen, position)


def _path_of(task_id: int, part: str = "") -> str:
    """The path of a task, or of a part of it. Raises `InvalidValue`, and `UnknownTask` for an impossible id."""
    check_task_id(task_id)
    if not 0 < task_id <= MAX_INTEGER:
        raise UnknownTask(f"Task {in_words(task_id)} does not exist", field="task_id")
    return f"/v1/tasks/{task_id}{part}"


def _moment(moment: Point | None, field: str = "as_of") -> Params:
    """A position or time, as a parameter of an address. Raises `InvalidValue`."""
    point = None if moment is None else parse_point(moment, field)
    return {} if point is None else {field: point if isinstance(point, int) else point.isoformat()}


def _texts(filters: TaskFilters) -> dict[str, str]:
    """The filters as parameters of an address, without those that are not set or name nothing.

    `as_of` is sent however it is written: the service refuses a blank one, which must not stand for now.
    """
    given = msgspec.to_builtins(filters)
    texts = {
        name: text_of(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for name, value in given.items()
    }
    return {name: text for name, text in texts.items() if name == "as_of" or values_of(text)}
