"""The command line in this process, against tasks in memory instead of a service; and in processes of its own."""

import sys
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import click.testing
import pytest
from click.testing import CliRunner
from histories import Journal
from msgspec.structs import replace

from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import Answered, Intake, Submit
from tasktrail.actors.core.state import Durable, SchedulerState
from tasktrail.actors.core.step import step
from tasktrail.api.commands import Commands
from tasktrail.api.either_way import Blocking
from tasktrail.api.protocol import TypeInfo
from tasktrail.api.reader import Questions
from tasktrail.api.source import folded_state, state_from_log
from tasktrail.batches.request import MadeBatch, NewBatch
from tasktrail.cli.app import run
from tasktrail.cli.session import Environment, Presence, Session
from tasktrail.events import (
    Accepted,
    Checkpoint,
    Checkpointed,
    Command,
    CreateGraph,
    CreateTask,
    EnableEndpoint,
    OperatorCommand,
    Progressed,
    Recorded,
    RedeliverNotice,
    Task,
    TasktrailError,
)
from tasktrail.events.creation import as_commands, ids_by_name
from tasktrail.events.errors import ServiceUnreachable, WaitTimeout
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.system_events import EndpointEnabled
from tasktrail.handlers.attempt_output import Output, read
from tasktrail.paths import DataPaths
from tasktrail.projections import (
    Batch,
    DisabledEndpoint,
    NoticeStatus,
    Stats,
    TaskFilters,
    TaskQueries,
    TaskViews,
    UnknownNotice,
)
from tasktrail.projections.attempts import Attempt, attempts
from tasktrail.projections.notices import log_id, redelivery
from tasktrail.projections.queries.as_of import Point, fold_to, position_of, task_as_of, time_of

T = TypeVar("T")


class MemorySource:
    """A state folded from a log in memory; the fake itself answers questions about files."""

    live = False
    paths = DataPaths(Path("/nowhere"))

    def __init__(self, journal: Journal, log: MemoryEventLog) -> None:
        self._journal = journal
        self._log = log

    def state(self, function: Callable[[SchedulerState, datetime], T]) -> T:
        return function(state_from_log(self._log.read(), Limits(), self._journal.at), self._journal.at)

    def state_as_of(self, point: Point | None, function: Callable[[SchedulerState, datetime], T]) -> T:
        if point is None:
            return self.state(function)
        moment = time_of(self._log, point)
        return function(folded_state(self._log.read(0, position_of(self._log, point)), Limits(), moment), moment)

    def orders_as_of(self, point: Point | None, function: Callable[[Durable], T]) -> T:
        return self.state_as_of(point, lambda state, _now: function(state.durable))

    def log(self) -> MemoryEventLog:
        return self._log


class MemoryTasks(Questions, Commands, Blocking):
    """Commands and questions over a log in memory. While a caller waits, each look runs the next step of `script`."""

    def __init__(self) -> None:
        self.memory_log = MemoryEventLog()
        self.journal = Journal(self.memory_log)
        super().__init__(cast("Any", MemorySource(self.journal, self.memory_log)))
        self.script: deque[Callable[[], object]] = deque()
        self.sent: list[Command] = []
        self.printed = Path("/nowhere")
        self.sent_together: list[int] = []
        self.make: Callable[[NewBatch], MadeBatch] = lambda _wanted: pytest.fail("no batch is expected here")
        self.closed = False
        self.taken_on: list[int] = []
        self._views = TaskViews(":memory:")
        self._queries = TaskQueries(self._views.connection)

    def _record(self, command: Command) -> Accepted:
        self.sent.append(command)
        if isinstance(command, OperatorCommand):
            return self._operate(command)
        if isinstance(command, CreateGraph):
            first = len(self.journal.states) + 1
            for _name, _place, one in as_commands(command, first):
                self.journal.send(one)
            position = self.memory_log.head().position
            return Accepted(first, position, command.command_id, ids_by_name(command, first))
        if isinstance(command, RedeliverNotice | EnableEndpoint):
            return self._note(command)
        records = self.journal.send(command)
        task_id = records[-1].task_id if isinstance(command, CreateTask) else getattr(command, "task_id", 0)
        return Accepted(task_id, self.memory_log.head().position, command.command_id)

    def _operate(self, command: OperatorCommand) -> Accepted:
        state = state_from_log(self.memory_log.read(), Limits(), self.journal.at)
        staged = step(state, Submit(command, Intake(), "token"), self.journal.at)
        (answer,) = [effect.answer for effect in staged.effects if isinstance(effect, Answered)]
        if isinstance(answer, TasktrailError):
            raise answer
        facts = [replace(fact, version=len(self.memory_log.read_task(0)) + 1) for fact in staged.facts[:1]]
        self.memory_log.append(facts, expected=self.memory_log.head().position)
        return answer

    def _note(self, command: RedeliverNotice | EnableEndpoint) -> Accepted:
        if isinstance(command, EnableEndpoint):
            self.journal.record(0, EndpointEnabled(target=command.target))
            return Accepted(0, self.memory_log.head().position, command.command_id)
        records = self.memory_log.read_task(command.task_id)
        wanted = redelivery(log_id(next(self.memory_log.read())), records, command.notice_id)
        if wanted is None:
            raise UnknownNotice(f"Task {command.task_id} has no notice {command.notice_id}", field="notice_id")
        self.journal.record(0, wanted)
        return Accepted(command.task_id, self.memory_log.head().position, command.command_id)

    def notices(self, task_id: int) -> list[NoticeStatus]:
        self._catch_up()
        return self._queries.notices(task_id)

    def notes(self, task_id: int) -> list[Recorded]:
        self._catch_up()
        return [record for position in self._queries.notes(task_id) for record in self.memory_log.read(position - 1, 1)]

    def output(
        self,
        task_id: int,
        attempt: int | None = None,
        *,
        after: int = 0,
        last: int | None = None,
        most: int = 0,  # noqa: ARG002 - all of it
    ) -> Output:
        task = self.get_task(task_id)
        number = attempt or task.attempt
        running = task.status == "running" and number == task.attempt
        part = read(self.printed, task_id, number, after=after if last is None else -last, running=running)
        if self.script and running:
            self.script.popleft()()
        return part

    def endpoints(self) -> list[DisabledEndpoint]:
        self._catch_up()
        return self._queries.endpoints()

    async def _send_all(self, commands: Sequence[Command], *, checked: bool) -> list[Accepted | TasktrailError]:  # noqa: ARG002
        self.sent_together.append(len(commands))
        return [self._answer(command) for command in commands]

    async def _make_batch(self, wanted: NewBatch) -> MadeBatch:
        return self.make(wanted)

    def _answer(self, command: Command) -> Accepted | TasktrailError:
        try:
            return self._record(command)
        except TasktrailError as error:
            return error

    def wait(self, task_id: int, timeout: float | None = None) -> Task:
        if self.script:
            self.script.popleft()()
        task = self.get_task(task_id)
        if task.status in ("completed", "failed", "cancelled"):
            return task
        raise WaitTimeout(f"Task {task_id} is still {task.status} after {timeout} s")

    def close(self) -> None:
        self.closed = True

    def _catch_up(self) -> None:
        self._views.apply(list(self.memory_log.read(self._views.position)))

    def get_task(self, task_id: int, *, as_of: Point | None = None) -> Task:
        if as_of is not None:
            return task_as_of(self.memory_log, task_id, as_of)
        self._catch_up()
        return self._queries.get(task_id, self.journal.at)

    def get_task_progress(self, task_id: int) -> tuple[float, str]:
        task = self.get_task(task_id)
        return task.progress, task.message

    def list_tasks(self, filters: TaskFilters | None = None) -> tuple[list[Task], int]:
        wanted = filters or TaskFilters()
        if wanted.as_of != "":
            with fold_to(self.memory_log, wanted.as_of) as past:
                return past.list(wanted)
        self._catch_up()
        return self._queries.list(wanted, self.journal.at)

    def batches(self, limit: int = 20, *, as_of: Point | None = None) -> list[Batch]:
        assert as_of is None
        self._catch_up()
        return list(self._queries.batches(limit))

    async def _find_ids(self, filters: TaskFilters) -> list[int]:
        self._catch_up()
        return list(self._queries.ids(filters, 1000))

    def load_checkpoint(self, task_id: int) -> Checkpoint | None:
        return self.get_task(task_id).checkpoint

    def events(self, task_id: int) -> list[Recorded]:
        self.get_task(task_id)
        return self.memory_log.read_task(task_id)

    def attempts(self, task_id: int, *, as_of: Point | None = None) -> list[Attempt]:
        return [*attempts(one for one in self.events(task_id) if not isinstance(as_of, int) or one.position <= as_of)]

    def status_since(self, task_id: int) -> int:
        passing = (Progressed, Checkpointed)
        return next(one.position for one in reversed(self.events(task_id)) if not isinstance(one.event, passing))

    def log(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        return self.memory_log.read(after, limit)

    def follow(
        self,
        after: int = 0,
        *,
        task_id: int | None = None,  # noqa: ARG002 - all of it
        events: Collection[str] = (),  # noqa: ARG002
    ) -> Generator[Recorded, None, None]:
        while True:
            for record in self.memory_log.read(after):
                after = record.position
                yield record
            if not self.script:
                return
            self.script.popleft()()

    def stats(self, *, as_of: Point | None = None) -> Stats:
        if as_of is not None:
            with fold_to(self.memory_log, as_of) as past:
                return past.stats()
        self._catch_up()
        return self._queries.stats(self.journal.at)

    def types(self) -> list[TypeInfo]:
        return [
            TypeInfo(
                name="noop", summary="Do nothing.", resumable=False, needs_input=False, needs_output=False, options={}
            )
        ]

    # --- what workers would do ----------------------------------------------------------------------------------

    def work_on(self, task_id: int) -> None:
        self.taken_on.append(task_id)

    def forget(self) -> None:
        self._queries.close()

    def later(self, seconds: float = 1.0) -> None:
        self.journal.at += timedelta(seconds=seconds)


class MemoryDoors(Environment):
    """Ways to the tasks in memory; those that are shut are empty."""

    def __init__(self, service: MemoryTasks | None = None, embedded: MemoryTasks | None = None) -> None:
        self.running = service
        self.inside = embedded
        self.sessions: list[Session] = []
        self.paused = 0.0

    def presence(self, _session: Session) -> Presence:
        return "answers" if self.running else "absent"

    def pause(self, seconds: float) -> None:
        self.paused += seconds

    def now(self) -> datetime:
        tasks = self.running or self.inside
        assert tasks is not None
        return tasks.journal.at

    def service(self, session: Session) -> Any:
        self.sessions.append(session)
        if self.running is None:
            raise ServiceUnreachable(f"No service runs on {session.data}")
        return self.running

    def files(self, session: Session) -> Any:
        self.sessions.append(session)
        return self.inside

    def refuse_without_log(self, session: Session, first: CreateTask | None) -> None:
        """Act as if there were a log."""

    def embedded(self, session: Session) -> Any:
        self.sessions.append(session)
        return self.inside


class Result(NamedTuple):
    """The result of a command line."""

    code: int
    out: str
    err: str


@pytest.fixture
def tasks() -> Iterator[MemoryTasks]:
    memory = MemoryTasks()
    yield memory
    memory.forget()


@pytest.fixture
def environment(tasks: MemoryTasks) -> MemoryDoors:
    """Set the environment of a running service."""
    return MemoryDoors(service=tasks)


@pytest.fixture
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let standard output and standard error be terminals."""
    monkeypatch.setattr(click.testing._NamedTextIOWrapper, "isatty", lambda _: True, raising=False)


@pytest.fixture
def cli(environment: MemoryDoors) -> Callable[..., Result]:
    """Run a command line in this process."""

    def call(*arguments: str, stdin: bytes | str = b"") -> Result:
        with CliRunner().isolation(input=stdin) as streams:
            try:
                code = run(arguments, environment)
            except SystemExit as leaving:
                code = int(leaving.code or 0)
            sys.stdout.flush()
            out, err = streams[0].getvalue().decode(), streams[1].getvalue().decode()
        return Result(code, out, err)

    return call
