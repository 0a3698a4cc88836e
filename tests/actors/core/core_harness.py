"""A Scheduler core to send messages to, with a clock that tests move."""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from tasktrail.actors.core.explanation import Why, explain
from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import Answered, Boot, Commanded, Intake, Jumped, Message, Submit
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.core.step import step, tasks_to_load
from tasktrail.events import (
    Accepted,
    CancelTask,
    Checkpoint,
    Command,
    CreateTask,
    Event,
    Fact,
    Recorded,
    RetryTask,
    Started,
    StartTask,
    TaskEvent,
    TaskState,
    TasktrailError,
)
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.reports import (
    AttemptCheckpointed,
    AttemptEnd,
    AttemptEnded,
    AttemptProgressed,
    CapacityChanged,
    Order,
    PublishWanted,
    Run,
    Stop,
)
from tasktrail.events.state import fold
from tasktrail.events.system_events import ClockJumped, RetentionRule
from tasktrail.events.task_events import Estimated

GRACE = {"work": 0.5}


class Core:
    """The pure core with a log and a clock. Every message is committed at once."""

    def __init__(
        self,
        *,
        slots: int = 1,
        log: MemoryEventLog | None = None,
        grace: Mapping[str, float] = GRACE,
        after: float = 0.0,
        at: datetime | None = None,
        own: set[int] | None = None,
        short: Collection[str] = (),
        probing: Collection[str] = (),
        outlived: bool = False,
        retention: tuple[RetentionRule, ...] | None = None,
        archive_after: float | None = None,
        **limits: Any,
    ) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.log = log or MemoryEventLog()
        self.orders: list[Order] = []
        """The orders to the executor that the last message caused."""
        self.facts: list[Fact] = []
        """The events that the last message had recorded."""
        self.answers: dict[Any, Accepted | TasktrailError] = {}
        limits = {"max_concurrent": 8} | limits
        self.state = SchedulerState(
            Limits(**limits),
            grace=grace,
            short=short,
            probing=probing,
            work_root="/data/tmp",
            own=own,
            outlived=outlived,
        )
        for record in self.log.read():
            self.state.apply(record, record.position)
        if self.log.head().position:
            self.now = at or max(self.now, self.state.durable.last_at or self.now) + timedelta(seconds=after)
        boot = Boot(version="1", epoch=1, pid=1, host="here", retention=retention, archive_after=archive_after)
        self.tell(replace(boot, started=self._starts()) if outlived else boot)
        self.tell(CapacityChanged(slots))

    def _starts(self) -> dict[int, int]:
        """Find the positions of starts, as the Scheduler's shell does."""
        starts = {record.task_id: record.position for record in self.log.read() if isinstance(record.event, Started)}
        return {task.id: starts[task.id] for task in self.state.tasks.special() if task.status == "running"}

    def tell(self, message: Message) -> list[Event]:
        """Step and commit one message; return its events."""
        while missing := list(tasks_to_load(self.state, message)):
            for task_id in missing:
                self.state.load(self.read(task_id))
        staged = step(self.state, message, self.now)
        records = self.log.append(staged.facts, expected=self.state.position - len(staged.facts))
        self.state.forget_finished({record.task_id for record in records})
        self.facts, self.orders = staged.facts, []
        for effect in staged.effects:
            if isinstance(effect, Commanded):
                self.orders.append(effect.order)
            elif isinstance(effect, Answered):
                self.answers[effect.token] = effect.answer
        return [fact.event for fact in staged.facts]

    def read(self, task_id: int) -> TaskState:
        """Return the task as the log has it."""
        task = fold(task_id, _task_events(self.log.read_task(task_id, adjusted=True)))
        assert task is not None
        return task

    def send(self, command: Command, **intake: Any) -> Accepted:
        """Send a command that has to be accepted."""
        answer = self.ask(command, **intake)
        assert isinstance(answer, Accepted), answer
        return answer

    def ask(self, command: Command, **intake: Any) -> Accepted | TasktrailError | None:
        """Send a command; return its answer, if it has one yet."""
        token = object()
        self.tell(Submit(command, Intake(**intake), token))
        return self.answers.get(token)

    def create(
        self, *, memory: int = 0, temp: int = 0, seconds: float = 0.0, can_resume: bool = True, **fields: Any
    ) -> int:
        """Create a task and return its id; it has no retries by default."""
        usual: dict[str, Any] = {"type": "work", "max_retries": 0}
        command = CreateTask(**(usual | fields))
        estimate = Estimated(memory=memory, temp=temp, seconds=seconds)
        return self.send(command, estimate=estimate, can_resume=can_resume).task_id

    def cancel(self, task_id: int) -> Accepted | TasktrailError | None:
        return self.ask(CancelTask(task_id=task_id, command_id="cancel"))

    def retry(self, task_id: int, *, force: bool = False, delay: float = 0.0) -> Accepted | TasktrailError | None:
        return self.ask(RetryTask(task_id=task_id, command_id="retry", force=force, delay=delay))

    def start(self, task_id: int) -> Accepted | TasktrailError | None:
        return self.ask(StartTask(task_id=task_id, command_id="start"))

    def end(self, task_id: int, outcome: AttemptEnd = "completed", attempt: int = 0, **fields: Any) -> list[Event]:
        """Report the end of the attempt that holds the slot, or of the given one, as the executor does."""
        attempt = attempt or self.state.running[task_id].attempt
        return self.tell(AttemptEnded(task_id, attempt, outcome, **fields))

    def progress(self, task_id: int, percent: float, attempt: int = 1) -> list[Event]:
        return self.tell(AttemptProgressed(task_id, attempt, percent, "working"))

    def checkpoint(
        self, task_id: int, attempt: int = 1, *, frames: int = 7, progress: float | None = None
    ) -> list[Event]:
        return self.tell(AttemptCheckpointed(task_id, attempt, Checkpoint(processed_frames=frames), progress))

    def want_to_publish(self, task_id: int, attempt: int = 1) -> list[Event]:
        return self.tell(PublishWanted(task_id, attempt))

    def wait(self, seconds: float) -> None:
        """Let time pass, without any message."""
        self.now += timedelta(seconds=seconds)

    def set_clock(self, seconds: float) -> list[Event]:
        """Set the wall clock forward or back, and report it."""
        shown, self.now = self.now, self.now + timedelta(seconds=seconds)
        return self.tell(Jumped(ClockJumped(shown=shown, shows=self.now)))

    def why(self, task_id: int, *, live: bool = True) -> Why:
        """Explain why a task in memory waits."""
        found = explain(self.state, task_id, self.now, live=live)
        assert found
        return found()

    def running(self) -> list[int]:
        """Return the tasks whose attempt holds a slot, in the order of their starts."""
        return list(self.state.running)

    def runs(self) -> list[tuple[int, int]]:
        """Return the attempts that the last message started."""
        return [(order.task_id, order.attempt) for order in self.orders if isinstance(order, Run)]

    def stops(self) -> list[tuple[int, int]]:
        """Return the attempts that the last message asked to stop."""
        return [(order.task_id, order.attempt) for order in self.orders if isinstance(order, Stop)]

    def alter(self, event: Event) -> int:
        """Append what no service would append; return its position."""
        fact = Fact(0, self.state.durable.system_version + 1, event, self.now)
        return self.log.append([fact], expected=self.log.head().position)[0].position

    def again(self, **settings: Any) -> "Core":
        """Kill the service and start the next one on the same log, `after` some seconds or `at` a time."""
        return Core(log=self.log, **settings)


def _task_events(records: Iterable[Recorded]) -> Iterable[tuple[TaskEvent, datetime]]:
    return [(record.event, record.recorded_at) for record in records]  # type: ignore[misc]  # a task's records
