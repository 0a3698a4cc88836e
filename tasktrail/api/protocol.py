"""What can be asked of tasktrail, whoever answers: the embedded service, a running one over HTTP, or the files alone.

`Reading` needs no service: the log and the views are enough. `Tasks` adds commands. The command line and the HTTP
routes are written against these two, so they never care who is behind them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from ..actors.core.board import LimitsBoard, QueueBoard, ScheduleBoard
from ..actors.core.explanation import Why
from ..events import Accepted, Checkpoint, Command, Recorded, Task, TasktrailError
from ..events.values import MAX_INTEGER
from ..handlers.printed import Output
from ..projections import DisabledEndpoint, NoticeStatus, Stats, TaskFilters, Verification
from ..projections.queries.as_of import Point
from .bulk import RetriedTasks


class TypeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A task type as `tasktrail types` shows it."""

    name: str
    summary: str
    resumable: bool
    needs_input: bool
    needs_output: bool
    options: dict[str, Any]
    """JSON schema of the options."""
    programs: tuple[str, ...] = ()
    """Which programs of the service's machine the type can use, and whether they are there; for people."""
    output_suffix: str = ""
    """With its dot: what the output is called where only its folder is given. Empty: as the input."""
    missing: tuple[str, ...] = ()
    """Packages that it needs and that are not installed there; its tasks are refused until they are."""
    install: str = ""
    """What to install when some are missing."""


class Reading(Protocol):
    """Questions. Every answer sees at least the commands that the same object has had accepted."""

    def get_task(self, task_id: int, *, as_of: Point | None = None) -> Task:
        """One task. Raises `UnknownTask`."""

    def get_task_progress(self, task_id: int) -> tuple[float, str]:
        """Percent and message. Raises `UnknownTask`."""

    def list_tasks(self, filters: TaskFilters | None = None) -> tuple[list[Task], int]:
        """One page, and how many there are in all."""

    def load_checkpoint(self, task_id: int) -> Checkpoint | None:
        """The task's latest resume data."""

    def notices(self, task_id: int) -> list[NoticeStatus]:
        """What became of the task's notices, in the order of its events. Raises `UnknownTask`."""

    def endpoints(self) -> list[DisabledEndpoint]:
        """The receivers that have said that they are gone, to which nothing is sent."""

    def events(self, task_id: int) -> list[Recorded]:
        """The recorded events of one task, in order. Raises `UnknownTask`."""

    def notes(self, task_id: int) -> list[Recorded]:
        """What the service recorded about one task under task id 0: adjustments, deliveries. Raises `UnknownTask`."""

    def log(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """Recorded events of all tasks and of the service, in order of position."""

    def follow(self, after: int = 0) -> Iterator[Recorded]:
        """Like `log`, and then what is yet to come, until the iterator is closed or the service stops."""

    def output(
        self,
        task_id: int,
        attempt: int | None = None,
        *,
        after: int = 0,
        last: int | None = None,
        most: int = MAX_INTEGER,
    ) -> Output:
        """What an attempt printed, the latest unless one is named: from a byte on, or only so many bytes from the end.

        `most`: bytes that are read at most. Raises `UnknownTask` and `UnknownAttempt`.
        """

    def why(self, task_id: int) -> Why:
        """All reasons why a task waits, and what is ahead of it. Raises `UnknownTask`."""

    def queue(self, limit: int = 50) -> QueueBoard:
        """The first of the queue in its order, and what runs."""

    def limits(self) -> LimitsBoard:
        """What may run at once, and the pauses that hold."""

    def schedules(self) -> list[ScheduleBoard]:
        """All recurring schedules, by name."""

    def stats(self) -> Stats:
        """Numbers over all tasks."""

    def types(self) -> list[TypeInfo]:
        """The task types there are handlers for."""

    def verify(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """Check the chain, the rules and the views. `progress` is told a position and the last one, now and then."""


class Tasks(Reading, Protocol):
    """Commands. Each is durable when the method returns; a refusal is a `TasktrailError` and changes nothing."""

    def create_task(self, *args: Any, **fields: Any) -> int:
        """A new task's id; `Commanding` has the parameters, which are the fields of `CreateTask`."""

    def create_graph(
        self,
        tasks: Sequence[Mapping[str, Any]],
        *,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
    ) -> dict[str, int]:
        """Several new tasks that belong together, all or none; their ids by name."""

    def send(self, command: Command) -> Accepted:
        """Any command."""

    def send_many(self, commands: Sequence[Command]) -> list[Accepted | TasktrailError]:
        """Many commands in one go: an answer each, in order. Much quicker than one by one."""

    def start_task(
        self, task_id: int, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Release a held task, or start a waiting one now."""

    def cancel_task(
        self,
        task_id: int,
        *,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
        children: bool = False,
    ) -> Accepted:
        """Stop a task, whether it waits or runs; with `children` also everything open below it."""

    def retry_task(
        self,
        task_id: int,
        *,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
        force: bool = False,
        delay: float = 0.0,
    ) -> Accepted:
        """Give a failed or cancelled task another life, after `delay` seconds."""

    def retry_tasks(
        self,
        filters: TaskFilters | None = None,
        *,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
        force: bool = False,
        delay: float = 0.0,
    ) -> RetriedTasks:
        """Give every failed task that passes the filters another life, after `delay` seconds."""

    def save_checkpoint(self, task_id: int, checkpoint: Checkpoint) -> Accepted:
        """Save resume data of a running task from outside its handler."""

    def redeliver(
        self, task_id: int, notice_id: str, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Send a notice of the task once more, under its old id."""

    def enable_endpoint(
        self, target: str, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Send notices again to an endpoint that is disabled."""

    def wait(self, task_id: int, timeout: float | None = None) -> Task:
        """The task, once its life is over. Raises `WaitTimeout`."""

    def close(self) -> None:
        """Let go: the embedded service stops in good order, a client hangs up."""
