"""People and programs: they send commands, sensible or not, repeat them when in doubt, and check what they are told.

A new kind of command is one function under `@wish`.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from broken import broken, must
from ledger import Ledger

from tasktrail.actors.core.messages import Intake, Submit
from tasktrail.actors.messages import Reply, Ticket
from tasktrail.events import (
    Accepted,
    CancelTask,
    Checkpoint,
    Command,
    CreateGraph,
    CreateTask,
    EnableEndpoint,
    GraphTask,
    RetryTask,
    SaveCheckpoint,
    StartTask,
    TaskState,
    TasktrailError,
)
from tasktrail.events.errors import CommandIdReused, Fenced, OutcomeUnknown
from tasktrail.intake import digest

if TYPE_CHECKING:
    from tasktrail.events.task_events import DependencyPolicy

Answer: TypeAlias = Accepted | TasktrailError
Wish: TypeAlias = "Callable[[Eyes, str], tuple[Command, Intake]]"

WISHES: dict[Wish, float] = {}
"""Function that makes a command → how often it is wanted."""


def wish(often: float) -> Callable[[Wish], Wish]:
    """Let people send what the function makes: it gets what they see, and the command id."""

    def enlist(function: Wish) -> Wish:
        WISHES[function] = often
        return function

    return enlist


class Eyes:
    """What people see: the tasks as the log has them, and the time."""

    def __init__(self, rng: Random, tasks: Mapping[int, TaskState]) -> None:
        self.rng = rng
        self.tasks = tasks
        self.now = datetime.min.replace(tzinfo=UTC)

    @property
    def last(self) -> int:
        """The newest task."""
        return len(self.tasks)

    def task(self, *wanted: str) -> int:
        """Mostly a task of late in one of these states, now and then any, or one that is not there."""
        if self.rng.random() < 0.3:
            return max(0, self.last + 2 - int(self.rng.expovariate(0.15)))
        recent = range(max(1, self.last - 20), self.last + 1)
        fitting = [task_id for task_id in recent if self.tasks[task_id].status in wanted]
        return self.rng.choice(fitting) if fitting else self.last


@wish(3)
def create(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    rng, last = eyes.rng, eyes.last
    depends_on = [max(0, last + 1 - rng.randint(0, 8)) for _ in range(rng.randint(-4, 3))]
    later = eyes.now + timedelta(seconds=rng.randint(-100, 2000))
    told = rng.random() < 0.2
    command = CreateTask(
        type=rng.choice(("plain", "plain", "other", "seldom")),
        output_file=rng.choice(("", "/out", "/out")),
        options={"fate": rng.choice(("", "", "", "deadly", "flaky"))},
        priority=rng.randint(0, 10),
        user_level=rng.choice((0, 0, 1)),
        user_id=rng.randint(0, 3),
        estimated_time=rng.choice((0.0, 0.0, 7200.0)),
        max_retries=rng.randint(0, 3),
        retry_delay=rng.choice((0.0, 1.0, 60.0, 3600.0)),
        resumable=rng.choice((None, False)),
        depends_on=tuple(depends_on),
        on_dependency_failure=rng.choice(("wait", "wait", "ignore", "fail", "cancel")),
        retry_backoff=rng.choice((1.0, 2.0)),
        retry_jitter=rng.choice((0.0, 0.5)),
        queue_timeout=rng.choice((None, None, 600.0)),
        total_timeout=rng.choice((None, None, None, 7200.0)),
        heartbeat_timeout=rng.choice((None, None, 60.0)),
        no_progress_timeout=rng.choice((None, None, 120.0)),
        deadline=rng.choice((None, None, None, later + timedelta(seconds=600))),
        parent_task_id=last or None if rng.random() < 0.1 else None,
        scheduled_for=later if rng.random() < 0.15 else None,
        held=rng.random() < 0.1,
        timeout=rng.choice((None, None, 30.0, 300.0)),
        notify_webhook=f"https://example.com/{rng.randint(1, 20)}" if told else "",
        callback_url=f"https://example.org/{rng.randint(1, 20)}" if told and rng.random() < 0.5 else "",
        notify_on=rng.choice(((), (), ("created", "retried", "completed"))),
        notify_email="a@example.com" if told and rng.random() < 0.5 else "",
        command_id=command_id,
    )
    memory, temp = rng.choice((0, 1, 1, 4, 9, 15)), rng.choice((0, 0, 0, 1, 6))
    return command, Intake(can_resume=rng.random() < 0.8, estimated_memory=memory, estimated_temp=temp)


@wish(0.3)
def create_graph(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    rng = eyes.rng
    first = GraphTask(name="a", type="plain", options={"fate": rng.choice(("", "flaky"))})
    policy: DependencyPolicy = rng.choice(("wait", "ignore", "fail", "cancel"))
    second = GraphTask(
        name="b", type="other", options={"fate": ""}, depends_on=("a",), parent="a", on_dependency_failure=policy
    )
    found = Intake(can_resume=rng.random() < 0.5, estimated_memory=rng.choice((0, 2)))
    return CreateGraph(tasks=(first, second), command_id=command_id), Intake(by_name={"a": found, "b": found})


@wish(1)
def start(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    return StartTask(task_id=eyes.task("pending"), command_id=command_id), Intake()


@wish(1.5)
def cancel(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    children = eyes.rng.random() < 0.2
    return CancelTask(task_id=eyes.task("running"), command_id=command_id, children=children), Intake()


@wish(1.5)
def retry(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    force = eyes.rng.random() < 0.5
    return RetryTask(task_id=eyes.task("failed", "cancelled"), command_id=command_id, force=force), Intake()


@wish(1)
def save_checkpoint(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    checkpoint = Checkpoint(processed_bytes=eyes.rng.randrange(1000))
    return SaveCheckpoint(task_id=eyes.task("running"), command_id=command_id, checkpoint=checkpoint), Intake()


@wish(0.2)
def enable_endpoint(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    target = f"https://example.com/{eyes.rng.randint(1, 20)}"
    return EnableEndpoint(target=target, command_id=command_id), Intake()


class Asked:
    """A command that somebody has sent, once or more often."""

    def __init__(self, command: Command, intake: Intake) -> None:
        self.command = command
        self.intake = intake
        self.accepted: Accepted | None = None
        self.refused = False


class People:
    """All who send commands. They outlive the service."""

    def __init__(self, rng: Random, ledger: Ledger) -> None:
        self.eyes = Eyes(rng, ledger.tasks)
        self._rng = rng
        self._ledger = ledger
        self._ids = 0
        self._recent: list[Asked] = []
        self.waiting: dict[int, str] = {}
        """Sendings that the service has and has not answered: number → command id."""
        self._sendings = 0
        self.in_doubt: dict[str, Asked] = {}
        """Commands whose senders do not know what became of them: no answer yet, or "unknown"."""

    def send(self, now: datetime, failing: Callable[[], bool]) -> Submit:
        """A new command. `failing` tells whether the answer comes because a commit has failed."""
        self._ids += 1
        self.eyes.now = now
        make = self._rng.choices(list(WISHES), list(WISHES.values()))[0]
        asked = Asked(*make(self.eyes, str(self._ids)))
        self._recent.append(asked)
        if len(self._recent) > 40:
            del self._recent[:20]
        return self._submit(asked, failing)

    def repeat(self, failing: Callable[[], bool]) -> Submit | None:
        """The same command once more, with its id, whether it was answered or not."""
        return self._submit(self._rng.choice(self._recent), failing) if self._recent else None

    def reuse_an_id(self, failing: Callable[[], bool]) -> Submit | None:
        """Somebody sends another command under an id that is taken."""
        taken = [asked for asked in self._recent if asked.accepted is not None]
        if not taken:
            return None
        asked = self._rng.choice(taken)
        other = CreateTask(type="another", command_id=asked.command.command_id)

        def reply(answer: Answer) -> None:
            allowed = isinstance(answer, CommandIdReused | OutcomeUnknown | Fenced)
            must(allowed, f"I1: another command under the id {other.command_id} is answered with {answer!r}")
            if failing() and not isinstance(answer, OutcomeUnknown):
                broken(f"I14: the commit failed, and {other.command_id} is told {answer!r}")

        return Submit(other, Intake(), Ticket(reply, other.command_id, digest(other)))

    def ask_again(self, failing: Callable[[], bool]) -> list[Submit]:
        """Whoever is in doubt repeats the command."""
        return [self._submit(asked, failing) for asked in self.in_doubt.values()]

    def _submit(self, asked: Asked, failing: Callable[[], bool]) -> Submit:
        command = asked.command
        self.in_doubt[command.command_id] = asked
        return Submit(
            command, asked.intake, Ticket(self._reply_to(asked, failing), command.command_id, digest(command))
        )

    def _reply_to(self, asked: Asked, failing: Callable[[], bool]) -> Reply:
        self._sendings += 1
        number = self._sendings
        self.waiting[number] = asked.command.command_id

        def reply(answer: Answer) -> None:
            self.waiting.pop(number, None)
            self._hear(asked, answer, failing=failing())

        return reply

    def lost(self) -> None:
        """What was sent last does not reach the service."""
        self.waiting.pop(self._sendings, None)

    def _hear(self, asked: Asked, answer: Answer, *, failing: bool) -> None:
        command_id = asked.command.command_id
        if isinstance(answer, OutcomeUnknown | Fenced):
            return
        if failing:
            broken(f"I14: the commit failed, and command {command_id} is told {answer!r}")
        if isinstance(answer, Accepted):
            self._ledger.check_answer(answer)
            if asked.accepted not in (None, answer):
                broken(f"I1: command {command_id} was accepted as {asked.accepted}, and now as {answer}")
            asked.accepted = answer
        else:
            must(asked.accepted is None, f"I1: command {command_id} was accepted, and now refused: {answer!r}")
            must(isinstance(answer, TasktrailError), f"I10: {answer!r} is no answer")
            asked.refused = True
        self.in_doubt.pop(command_id, None)
