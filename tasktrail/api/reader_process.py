"""A process that answers slow questions: `python -m tasktrail.api.reader_process`.

A check of everything, a rebuild of the views, and earlier times that the views do not know need a fold of the whole
log. That takes seconds of Python and much memory. A thread of the service would share the interpreter with every
command. A process can be bounded, gives way to others, and frees its memory when it ends. It only reads files, except
that it builds views beside the live ones. It answers one question at a time, and ends after a while without one.
"""

import os
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import msgspec
import psutil

from ..actors.core.limits import Limits
from ..events import Task, TasktrailError
from ..events.clock import SystemClock
from ..events.errors import NotReady, TooCostly
from ..events.log.event_log import ReportProgress
from ..events.task import reserved_space
from ..handlers.process.sandbox import die_with
from ..handlers.registry import Registry
from ..paths import DataPaths
from ..projections import Batch, Stats, TaskFilters
from ..projections.queries.activity import Span
from ..projections.queries.as_of import FoldedPast, parse_point
from ..projections.queries.filters import Ids
from ..projections.queries.past import Past
from ..projections.queries.walk import Census, Stretch, parse_place
from .one_user import OneUser
from .reader import Questions
from .source import Source, rebuild_beside

if TYPE_CHECKING:
    from .served import Served

_IDLE = 30.0
"""Seconds without a question after which the process ends and gives its memory back."""
LIST_MEMORY = 512 * 1024 * 1024
"""Bytes of memory for a question about an earlier time. Lists are built in a file and need far less than boards."""
LIST_WITHIN = 120.0
_NICE = 10


class ListQuestion(msgspec.Struct, frozen=True, tag="list"):
    """Asks for a page of tasks as of an earlier time. The caller has checked the types."""

    filters: TaskFilters


class ListAnswer(msgspec.Struct, frozen=True):
    """The page, and how many tasks passed the filters in all."""

    tasks: list[Task]
    total: int


class AttemptsQuestion(msgspec.Struct, frozen=True, tag="attempts"):
    """Asks for all attempts of a task."""

    task_id: int
    as_of: str | int | None = None


class DiffQuestion(msgspec.Struct, frozen=True, tag="diff"):
    """Asks how the tasks changed between two positions or times, a page of them."""

    begin: str | int
    end: str | int | None
    """None: the end of the log."""
    limit: int
    offset: int
    user_id: int | None = None
    """Only tasks of this user."""


class ProvenanceQuestion(msgspec.Struct, frozen=True, tag="provenance"):
    """Asks for the signed statement of how a task's output was made."""

    task_id: int
    seals: str
    """The folder of the seals."""


BoardName: TypeAlias = Literal["why", "queue", "limits", "nodes", "schedules"]


class BoardQuestion(msgspec.Struct, frozen=True, tag="board"):
    """Asks for the Scheduler's state at an earlier time: which task waited for what, what ran, what was ordered."""

    board: BoardName
    as_of: str | int
    configured: Limits
    """The limits in the configuration of the process that asks."""
    task_id: int = 0
    """For `why`."""
    limit: int = 0
    """For `queue`."""
    user_id: int | None = None
    """Only what this user may know."""


class VerifyQuestion(msgspec.Struct, frozen=True, tag="verify"):
    """Asks for a check of everything."""


class RebuildQuestion(msgspec.Struct, frozen=True, tag="rebuild"):
    """Asks for the views to be built beside the live ones and compared with them."""


class StandingQuestion(msgspec.Struct, frozen=True, tag="standing"):
    """Asks for the overview at an earlier time."""

    as_of: str | int
    shown: int
    """The most tasks of each kind."""
    user_id: int | None = None
    """Only tasks of this user."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The overview, as far as the log knows it."""

    stats: Stats
    running: list[Task]
    reserved_memory: int
    """Bytes reserved for all running tasks, also those that are not shown."""
    reserved_temp: int
    waiting: list[Task]
    """The head of the queue."""
    failures: list[Task]
    hour: list[Span]
    day: list[Span]


class StatsQuestion(msgspec.Struct, frozen=True, tag="stats"):
    """Asks for the statistics at an earlier time."""

    as_of: str | int
    user_id: int | None = None
    """Only over tasks of this user."""


class BatchesQuestion(msgspec.Struct, frozen=True, tag="batches"):
    """Asks how far batches were at an earlier time."""

    as_of: str | int
    name: str | None = None
    """Only this one."""
    most: int = 1
    user_id: int | None = None
    """Only tasks of this user count."""


class BatchesAnswer(msgspec.Struct, frozen=True):
    """The batches; empty if the named one did not exist."""

    batches: list[Batch]


class StretchQuestion(msgspec.Struct, frozen=True, tag="stretch"):
    """Asks for a stretch of a list as it was at an earlier position."""

    filters: TaskFilters
    position: int
    place: str = ""


class StretchAnswer(msgspec.Struct, frozen=True):
    """The stretch, and how many tasks passed the filters in all."""

    stretch: Stretch
    census: Census


PastQuestion: TypeAlias = ListQuestion | StandingQuestion | StatsQuestion | BatchesQuestion | StretchQuestion
Question: TypeAlias = (
    PastQuestion
    | AttemptsQuestion
    | BoardQuestion
    | DiffQuestion
    | ProvenanceQuestion
    | VerifyQuestion
    | RebuildQuestion
)


class Reply(msgspec.Struct, frozen=True):
    """The JSON of an answer, or the pickled error. Or else how far it has come, and another reply follows."""

    json: bytes = b""
    error: bytes = b""
    reached: tuple[int, int] | None = None


class ReaderProcess:
    """A process that answers, started when it is needed. For one thread at a time, except `close` and `tidy`."""

    def __init__(self, paths: DataPaths, environment: Mapping[str, str]) -> None:
        self._paths = paths
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._closed = False

    def ask(self, question: Question, within: float | None = None, progress: ReportProgress | None = None) -> bytes:
        """Return the answer's JSON. Raises the question's own errors, `TooCostly`, and `NotReady` once closed.

        `within`: seconds until each sign of life. `progress` is called each time the process reports how far it is.
        """
        encoded = msgspec.json.encode(question)
        for again in (True, False):
            try:
                pipe = self._ready()
                pipe.send_bytes(encoded)
                while True:
                    if not pipe.poll(within):
                        self._end()
                        raise TooCostly(f"The answer would take more than {within:g} s")
                    reply = msgspec.msgpack.decode(pipe.recv_bytes(), type=Reply)
                    if reply.reached is None:
                        return self._decode(reply)
                    if progress is not None:
                        progress(*reply.reached)
            except (EOFError, OSError) as error:  # the process had just ended, or was killed
                died = self._end()
                if self._closed:
                    raise NotReady("The service stops") from error
                if not again or died == -signal.SIGKILL:
                    raise TooCostly(
                        "The process that was computing the answer was killed, perhaps because memory ran out"
                    ) from error
        raise AssertionError

    def close(self) -> None:
        """End the process, also in the middle of an answer. From any thread."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()
            process.wait()

    def tidy(self) -> bool:
        """Reap a process that has ended by itself. Returns whether one runs. From any thread."""
        process = self._process
        return process is not None and process.poll() is None

    def _ready(self) -> Connection:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._pipe is None:
            if self._closed:
                raise EOFError
            self._pipe, child_pipe = Pipe()
            command = [sys.executable, "-P", "-m", "tasktrail.api.reader_process", str(child_pipe.fileno())]
            with child_pipe:
                self._process = subprocess.Popen(
                    [*command, str(self._paths.data), str(self._paths.temp), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(child_pipe.fileno(),),
                    cwd="/",
                    env={**self._environment, "SQLITE_TMPDIR": str(self._paths.temp)},
                    start_new_session=True,
                )
            if self._closed:
                self._process.kill()
        return self._pipe

    def _decode(self, answer: Reply) -> bytes:
        if answer.error:
            raise pickle.loads(answer.error)  # noqa: S301 - our own process wrote it
        return answer.json

    def _end(self) -> int | None:
        """End the process. Returns its exit code if it had ended by itself."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        process, self._process = self._process, None
        if process is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            return process.wait(0.2)
        process.kill()
        process.wait()
        return None


def answer(questions: Questions, question: Question, progress: ReportProgress | None = None) -> bytes:
    """The JSON of the answer. Raises the question's errors."""
    match question:
        case VerifyQuestion():
            return msgspec.json.encode(questions.verify(progress))
        case RebuildQuestion():
            return msgspec.json.encode(rebuild_beside(questions.source.log(), questions.source.paths, progress))
        case AttemptsQuestion(task_id, as_of):
            return msgspec.json.encode(questions.attempts(task_id, as_of=None if as_of is None else parse_point(as_of)))
        case BoardQuestion():
            return msgspec.json.encode(_board(questions, question))
        case DiffQuestion(begin, end, limit, offset, user_id):
            return msgspec.json.encode(questions.changes_of(user_id, begin, end, limit, offset))
        case ProvenanceQuestion(task_id, seals):
            return msgspec.json.encode(questions.provenance_by(task_id, Path(seals)))
        case _:
            return msgspec.json.encode(
                questions.past(point_of(question), lambda past: answer_from_past(past, question))
            )


def _board(questions: Questions, question: BoardQuestion) -> object:
    point, user = parse_point(question.as_of), question.user_id
    questions.source.given_limits = question.configured
    # What a user may know of these needs nothing that only a service has.
    seen = questions if user is None else OneUser(cast("Served", questions), user)
    match question.board:
        case "why":
            return seen.why(question.task_id, as_of=point)
        case "queue":
            return seen.queue(question.limit, as_of=point)
        case "limits":
            return seen.limits(as_of=point)
        case "schedules":
            return seen.schedules(as_of=point)
        case "nodes":
            return questions.nodes(as_of=point)


def point_of(question: PastQuestion) -> str | int:
    """The position or time that is asked about."""
    match question:
        case ListQuestion(filters):
            return filters.as_of
        case StandingQuestion(as_of) | StatsQuestion(as_of) | BatchesQuestion(as_of):
            return as_of
        case StretchQuestion(position=position):
            return position


def answer_from_past(
    past: Past | FoldedPast, question: PastQuestion
) -> ListAnswer | Standing | Stats | BatchesAnswer | StretchAnswer:
    """Answer the question from the past."""
    match question:
        case ListQuestion(filters):
            return ListAnswer(*past.list(filters))
        case StretchQuestion(filters, _position, place):
            return StretchAnswer(*past.stretch(filters, parse_place(place)))
        case StatsQuestion(user_id=user_id):
            return past.stats() if user_id is None else past.stats_of(user_id)
        case BatchesQuestion(name=name, most=most, user_id=user_id):
            if name is None:
                return BatchesAnswer(list(past.batches(most, user_id)))
            found = past.batch(name, user_id)
            return BatchesAnswer([] if found is None else [found])
        case StandingQuestion(_as_of, shown, user_id):
            return _standing(past, shown, () if user_id is None else user_id)


def _standing(past: Past | FoldedPast, shown: int, users: Ids) -> Standing:
    def some(status: str, sort: str) -> list[Task]:
        return past.list(TaskFilters(status=status, sort=sort, user_id=users, limit=shown))[0]

    with past.every(TaskFilters(status="running", user_id=users)) as every:
        running = list(every.tasks)
    return Standing(
        stats=past.stats(),
        running=running[:shown],
        reserved_memory=sum(reserved_space(task).memory for task in running),
        reserved_temp=sum(reserved_space(task).temp for task in running),
        waiting=some("pending,retrying", "-effective_priority"),
        failures=some("failed", "-updated_at"),
        hour=past.activity(60, 1),
        day=past.activity(24 * 60, 30),
    )


def answered(questions: Questions, encoded: bytes, progress: ReportProgress | None = None) -> tuple[Reply, bool]:
    """The answer to send back, and whether the process can take another question."""
    try:
        question = msgspec.json.decode(encoded, type=Question)
        _allow(psutil.virtual_memory().available // 2 if isinstance(question, VerifyQuestion) else LIST_MEMORY)
        return Reply(json=answer(questions, question, progress)), True
    except MemoryError:
        error = TooCostly("The answer takes more memory than one question may have")
        return Reply(error=pickle.dumps(error)), False
    except TasktrailError as error:
        return Reply(error=pickle.dumps(error)), True


def _allow(memory: int) -> None:
    """Bound the memory of this process, if the system can: an allocation beyond it fails."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory, hard))


def _send_progress(pipe: Connection, position: int, last: int) -> None:
    pipe.send_bytes(msgspec.msgpack.encode(Reply(reached=(position, last))))


def main(descriptor: str, data: str, temp: str, parent: str) -> None:
    """Answer until no more questions come."""
    if not die_with(parent):
        return
    os.nice(_NICE)
    questions = Questions(Source(DataPaths(Path(data), Path(temp)), Registry(), SystemClock(), scratch=""))
    fit = True
    with Connection(int(descriptor)) as pipe, suppress(EOFError, OSError):
        while fit and pipe.poll(_IDLE):
            reply, fit = answered(questions, pipe.recv_bytes(), partial(_send_progress, pipe))
            pipe.send_bytes(msgspec.msgpack.encode(reply))


if __name__ == "__main__":
    main(*sys.argv[1:])
