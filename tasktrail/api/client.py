"""`Client`: the methods of `TaskService`, answered by a service that runs in another process."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from msgspec.structs import replace

from ..actors.core.board import LimitsBoard, QueueBoard, ScheduleBoard, TokenBoard
from ..actors.core.explanation import Why
from ..events import Accepted, Checkpoint, Command, Recorded, Task, TasktrailError
from ..events.errors import ServiceUnreachable, UnknownTask, WaitTimeout
from ..events.state import FINISHED
from ..events.task_events import is_terminal
from ..events.values import (
    MAX_INTEGER,
    MIN_INTEGER,
    check_patience,
    check_position,
    check_task_id,
    check_whole,
    in_words,
)
from ..handlers.attempt_output import PAGE, Output
from ..paths import DataPaths, path_of
from ..projections import DisabledEndpoint, NoticeStatus, Stats, TaskFilters, Verification
from ..projections.queries.as_of import Point, parse_point
from ..projections.queries.filters import filters_of
from .commands import Commands
from .connection import (
    PAUSES,
    REPLY_WITHIN,
    Connection,
    Params,
    StreamBroken,
    answer_of,
    chunks,
    encode_command,
    recorded,
    recorded_all,
    with_id,
)
from .protocol import QUEUE_SHOWN, TypeInfo

_LONGEST_STREAM = 3600.0
_NOT_NOW = 503
_LOOK_AGAIN = 0.5
"""Seconds until a service that could not answer is asked again."""

T = TypeVar("T")


class _Ready(msgspec.Struct):
    """Of what `/readyz` answers, the part that may be of interest."""

    degraded: list[str]


class Client(Commands):
    """The commands and questions, over HTTP to a running service. May be used from many threads.

    A command whose answer is lost is sent again under the same id, so it still has one effect.

    ```python
    with Client.connect("data") as tasks:
        task_id = tasks.create_task(type="image_thumbnail", input_file="in.jpg", output_file="out.jpg")
        print(tasks.wait(task_id, timeout=60).status)
    ```
    """

    def __init__(
        self, url: str, *, token: str = "", socket: Path | None = None, answer_within: float = REPLY_WITHIN
    ) -> None:
        """A client of the service at `url`, or behind a Unix socket. Answers must come within `answer_within` seconds.

        `token`: a token, or the secret in the file `http-token` of the service's data folder.
        """
        self._connection = Connection(url, socket, answer_within, token)
        self._seen = 0
        self._lock = threading.Lock()

    @classmethod
    def connect(cls, data: str | Path) -> Self:
        """A client of the service that runs on a data folder. Raises `ServiceUnreachable` if none does."""
        paths = DataPaths(path_of(data, "data"))
        if not paths.socket.exists():
            raise paths.no_service()
        return cls("http://localhost", socket=paths.socket)

    def close(self) -> None:
        """Close the connection. The service goes on."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- commands -----------------------------------------------------------------------------------------------

    def _send_all(self, commands: Sequence[Command], *, checked: bool) -> list[Accepted | TasktrailError]:  # noqa: ARG002 - the service checks what it gets
        """If a request fails as a whole, the error is the answer to each of its commands.

        Raises `ServiceUnreachable` when there is no service to begin with.
        """
        if len(commands) == 1:
            return [self._send_one(with_id(commands[0]))]
        answers: list[Accepted | TasktrailError] = []
        for ids, body, wrong in chunks([with_id(command) for command in commands]):
            answers += [wrong] if wrong is not None else self._send_chunk(ids, body, first=not answers)
        return answers

    def _send_one(self, command: Command) -> Accepted | TasktrailError:
        try:
            body = self._connection.post("/v1/commands", encode_command(command), [command.command_id])
        except ServiceUnreachable:
            raise
        except TasktrailError as error:
            return error
        accepted = msgspec.json.decode(body, type=Accepted)
        self._saw(accepted.position)
        return accepted

    def _send_chunk(self, ids: list[str], body: bytes, *, first: bool) -> list[Accepted | TasktrailError]:
        try:
            answered = self._connection.post("/v1/commands", body, ids)
        except TasktrailError as error:
            if first and isinstance(error, ServiceUnreachable):
                raise
            return [error] * len(ids)
        answers = [answer_of(one) for one in msgspec.json.decode(answered, type=list[dict[str, Any]])]
        self._saw(max((answer.position for answer in answers if isinstance(answer, Accepted)), default=0))
        return answers

    # --- questions ----------------------------------------------------------------------------------------------

    def get_task(self, task_id: int, *, as_of: Point | None = None) -> Task:
        """One task, now or as of a position or time. Raises `UnknownTask`."""
        point = None if as_of is None else parse_point(as_of)
        moment = {} if point is None else {"as_of": point if isinstance(point, int) else point.isoformat()}
        return self._ask(Task, _task(task_id), moment)

    def get_task_progress(self, task_id: int) -> tuple[float, str]:
        """Percent and message. Raises `UnknownTask`."""
        answer = self._ask(dict[str, Any], _task(task_id, "/progress"))
        return float(answer["progress"]), str(answer["message"])

    def list_tasks(self, filters: TaskFilters | None = None) -> tuple[list[Task], int]:
        """One page, newest first unless sorted otherwise, and how many there are in all."""
        answer = self._ask(dict[str, msgspec.Raw], "/v1/tasks", _texts(filters_of(filters)))
        tasks = msgspec.json.decode(answer["tasks"], type=list[Task])
        return tasks, msgspec.json.decode(answer["total"], type=int)

    def load_checkpoint(self, task_id: int) -> Checkpoint | None:
        """The task's latest resume data. Raises `UnknownTask`."""
        return self.get_task(task_id).checkpoint

    def why(self, task_id: int) -> Why:
        """All reasons why a task waits, and what is ahead of it. Raises `UnknownTask`."""
        return self._ask(Why, _task(task_id, "/why"))

    def queue(self, limit: int = QUEUE_SHOWN) -> QueueBoard:
        """The first of the queue in its order, and what runs."""
        return self._ask(QueueBoard, "/v1/queue", {"limit": check_whole(limit, "limit")})

    def limits(self) -> LimitsBoard:
        """What may run at once, and the pauses that hold."""
        return self._decoded(LimitsBoard, self._connection.get("/v1/limits"))

    def tokens(self) -> list[TokenBoard]:
        """All tokens, by name: those that were added and not revoked."""
        return self._decoded(list[TokenBoard], self._connection.get("/v1/tokens"))

    def schedules(self) -> list[ScheduleBoard]:
        """All recurring schedules, by name."""
        return self._decoded(list[ScheduleBoard], self._connection.get("/v1/schedules"))

    def notices(self, task_id: int) -> list[NoticeStatus]:
        """What became of the task's notices, in the order of its events. Raises `UnknownTask`."""
        return self._ask(list[NoticeStatus], _task(task_id, "/notices"))

    def endpoints(self) -> list[DisabledEndpoint]:
        """The receivers that have said that they are gone, to which nothing is sent."""
        return self._ask(list[DisabledEndpoint], "/v1/endpoints")

    def stats(self) -> Stats:
        """Numbers over all tasks."""
        return self._ask(Stats, "/v1/stats")

    def types(self) -> list[TypeInfo]:
        """The task types that the service has handlers for."""
        return self._decoded(list[TypeInfo], self._connection.get("/v1/types"))

    def verify(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """Check the chain, the rules and the views. The longer the log, the longer it takes.

        The service tells nothing while it checks: `progress` is called once, at the end.
        """
        found = self._decoded(Verification, self._connection.get("/v1/verify", patient=True))
        if progress is not None:
            progress(found.position, found.position)
        return found

    def events(self, task_id: int) -> list[Recorded]:
        """The recorded events of one task, in order. Raises `UnknownTask`."""
        return recorded_all(self._connection.get(_task(task_id, "/events"), self._own_write()))

    def notes(self, task_id: int) -> list[Recorded]:
        """What the service recorded about one task under task id 0: adjustments, deliveries. Raises `UnknownTask`."""
        return recorded_all(self._connection.get(_task(task_id, "/notes"), self._own_write()))

    def output(
        self,
        task_id: int,
        attempt: int | None = None,
        *,
        after: int = 0,
        last: int | None = None,
        most: int = MAX_INTEGER,
    ) -> Output:
        """What an attempt printed, the latest unless one is named: from byte `after` on, or only the last `last` bytes.

        `most`: the most bytes that are read. Raises `UnknownTask` and `UnknownAttempt`.
        """
        left = check_whole(most, "most")
        wanted: Params = (
            {"after": check_position(after)} if last is None else {"last": check_whole(last, "last", MIN_INTEGER)}
        )
        answer = part = self._output(task_id, attempt, {**wanted, "most": min(left, PAGE)})
        begin = min(after, part.size) if last is None else max(part.size - last, 0)
        while part.text and part.next < part.size and (left := left - (part.next - begin - part.left_out)) > 0:
            begin = part.next
            part = self._output(task_id, answer.attempt, {"after": begin, "most": min(left, PAGE)})
            answer = replace(part, text=answer.text + part.text, left_out=answer.left_out + part.left_out)
        return answer

    def _output(self, task_id: int, attempt: int | None, wanted: Params) -> Output:
        which = {} if attempt is None else {"attempt": check_whole(attempt, "attempt", MIN_INTEGER)}
        return self._ask(Output, _task(task_id, "/output"), {**which, **wanted})

    def log(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """Recorded events of all tasks and of the service, in order of position."""
        limit = None if limit is None else check_whole(limit, "limit")
        return self._records("/v1/events", check_position(after), {}, limit)

    def follow(self, after: int = 0) -> Iterator[Recorded]:
        """Like `log`, and then the records that are still to come, without gaps, until closed or the service stops."""
        return self._records("/v1/events", check_position(after), {"follow": True})

    def wait(self, task_id: int, timeout: float | None = None) -> Task:
        """The task, once its life is over. Raises `WaitTimeout` after `timeout` seconds."""
        timeout = check_patience(timeout)
        events = _task(task_id, "/events")
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._connection.check_open()
            left = _LONGEST_STREAM if deadline is None else deadline - time.monotonic()
            try:
                position = int(self._decoded(dict[str, Any], self._connection.get("/readyz"))["position"])
                task = self.get_task(task_id)
            except TasktrailError as error:
                if error.status != _NOT_NOW or isinstance(error, ServiceUnreachable):
                    raise
                if left <= 0:
                    raise WaitTimeout(f"Task {task_id} has not ended in {timeout:g} s: {error.message}") from error
                time.sleep(min(left, _LOOK_AGAIN))  # nothing can end while the log cannot be written
                continue
            if task.status in FINISHED:
                return task
            if left <= 0:
                raise WaitTimeout(f"Task {task_id} is still {task.status} after {timeout:g} s")
            span: Params = {"follow": True, "seconds": min(left, _LONGEST_STREAM)}
            for record in self._records(events, position, span):
                if is_terminal(record.event):
                    self._saw(record.position)
                    break

    def login_address(self) -> str:
        """An address that logs a browser in as whoever asks, once and within an hour."""
        return str(self._decoded(dict[str, str], self._connection.post("/v1/login", b"", ("",)))["address"])

    def check_ready(self) -> list[str]:
        """What is out of order although the service takes commands, in words. Raises the reasons if it takes none."""
        return msgspec.json.decode(self._connection.get("/readyz"), type=_Ready).degraded

    # --- requests -----------------------------------------------------------------------------------------------

    def _records(self, path: str, after: int, params: Params, limit: int | None = None) -> Iterator[Recorded]:
        """The records of a stream. A stream that breaks is resumed where it broke."""
        losses = 0
        while limit is None or limit > 0:
            wanted = {**params, "after": after} if limit is None else {**params, "after": after, "limit": limit}
            try:
                with self._connection.lines(path, wanted) as lines:
                    for line in lines:
                        record = recorded(line)
                        after, losses = record.position, 0
                        limit = None if limit is None else limit - 1
                        yield record
            except StreamBroken as error:
                if losses == len(PAUSES):
                    raise self._connection.unreachable() from error
                time.sleep(PAUSES[losses])
                losses += 1
            else:
                return

    def _ask(self, kind: type[T], path: str, params: Params | None = None) -> T:
        return self._decoded(kind, self._connection.get(path, {**(params or {}), **self._own_write()}))

    def _decoded(self, kind: type[T], body: bytes) -> T:
        return msgspec.json.decode(body, type=kind)

    def _own_write(self) -> Params:
        return {"min_position": self._seen} if self._seen else {}

    def _saw(self, position: int) -> None:
        with self._lock:
            self._seen = max(self._seen, position)


def _task(task_id: int, part: str = "") -> str:
    """The address of a task, or of a part of it. Raises `InvalidValue`, and `UnknownTask` for what no task can have."""
    check_task_id(task_id)
    if not 0 < task_id <= MAX_INTEGER:
        raise UnknownTask(f"Task {in_words(task_id)} does not exist", field="task_id")
    return f"/v1/tasks/{task_id}{part}"


def _texts(filters: TaskFilters) -> dict[str, str]:
    """The filters as parameters of an address, without those that are not set."""
    given = msgspec.to_builtins(filters)
    return {
        name: ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for name, value in given.items()
    }
