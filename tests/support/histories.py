"""Writes histories that the rules allow, without actors, threads or a clock, for tests of code that reads a log."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal, TypeAlias

from msgspec.structs import replace

from tasktrail.events import (
    AdjustTask,
    CancelTask,
    Checkpoint,
    CreateTask,
    Event,
    EventLog,
    Fact,
    Recorded,
    RetryTask,
    Started,
    StartTask,
    TaskState,
    TasktrailError,
)
from tasktrail.events.commands import AbortAttempt, SaveCheckpoint, SchedulerCommand
from tasktrail.events.context import DecisionContext
from tasktrail.events.decide import decide
from tasktrail.events.log.event_log import Answer
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.stubs import digest_of
from tasktrail.events.priority import terms
from tasktrail.events.ranges import to_ranges
from tasktrail.events.recorded import timestamp
from tasktrail.events.reports import AttemptCheckpointed, AttemptEnd, AttemptEnded, AttemptProgressed, AttemptReport
from tasktrail.events.state import create, evolve, overlay
from tasktrail.events.system_events import (
    SYSTEM_TAGS,
    Adjusted,
    DeliveryAttempted,
    RetentionRule,
    ServiceStarted,
    TasksForgotten,
)
from tasktrail.events.task_events import Created
from tasktrail.projections.views.rows import SPEAK_OF_A_TASK

BEGIN = datetime(2026, 1, 31, 12, tzinfo=UTC)

OneTaskCommand: TypeAlias = CreateTask | StartTask | CancelTask | RetryTask | SaveCheckpoint | AdjustTask
Decidable: TypeAlias = OneTaskCommand | SchedulerCommand | AttemptReport

OPERATIONS = (
    *("create", "start", "progress", "checkpoint", "complete", "fail", "lose", "interrupt", "time out"),
    *("cancel", "retry", "release", "adjust", "deliver", "restart"),
)
"""The operations of `Journal.play`."""

_ENDS: dict[str, AttemptEnd] = {"fail": "failed", "lose": "lost"}
_ABORTS: dict[str, Literal["interrupted", "timed_out"]] = {"interrupt": "interrupted", "time out": "timed_out"}


class Journal:
    """A log and the states that its records fold to. Each call is one decision and one commit."""

    def __init__(self, log: EventLog, at: datetime = BEGIN) -> None:
        self.log = log
        self.at = at
        """The time of the next record; tests may move it forward."""
        self.states: dict[int, TaskState] = {}
        self.records: list[Recorded] = []
        self.forgotten: set[int] = set()
        self._system_version = 0
        self._epoch = 0

    def send(self, command: Decidable, *, force_resumable: bool = True) -> list[Recorded]:
        """Decide and record. Raises the `TasktrailError` of a refusal, and then records nothing."""
        create_new = isinstance(command, CreateTask)
        task_id = len(self.states) + 1 if isinstance(command, CreateTask) else command.task_id
        facts = DecisionContext(now=self.at, last_task_id=len(self.states), can_resume=force_resumable)
        events = decide(None if create_new else self.states.get(task_id), command, facts)
        return self.record(task_id, *events, command_id=getattr(command, "command_id", ""))

    def create(self, kind: str = "image_thumbnail", **fields: object) -> int:
        """Create a task and return its id."""
        return self.send(CreateTask(type=kind, **fields))[-1].task_id  # type: ignore[arg-type]  # the caller's fields

    def start(self, task_id: int) -> list[Recorded]:
        """Record that an attempt begins, as the Scheduler does when a worker is free."""
        state = self.states[task_id]
        priority = terms(state, self.at).total
        return self.record(task_id, Started(worker="w1", effective_priority=priority, resumed=bool(state.resume_from)))

    def record(self, task_id: int, *events: Event, command_id: str = "") -> list[Recorded]:
        """Record the given events in one commit, with an answer when there is a command id."""
        states = dict(self.states)
        version = self._system_version
        facts = []
        for event in events:
            if type(event) in SYSTEM_TAGS:
                version += 1
                facts.append(Fact(0, version, event, self.at, "test", command_id=command_id))
                if isinstance(event, Adjusted):
                    states[event.task_id] = overlay(states[event.task_id], event, self.at)
                continue
            state = states.get(task_id)
            after = create(task_id, event, self.at) if isinstance(event, Created) else None
            after = after or evolve(state, event, self.at)  # type: ignore[arg-type]  # a task event on a task
            states[task_id] = after
            fact = Fact(task_id, after.version, event, self.at, "test", "because", command_id)
            facts.append(replace(fact, attempt=after.attempt, life=after.life))
        head = self.log.head().position
        answers = [Answer(command_id, b"digest", task_id, head + len(facts))] if command_id and facts else []
        records = self.log.append(facts, answers, expected=head)
        self.states, self._system_version = states, version
        self.records += records
        return records

    def over(self) -> list[int]:
        """Return the ended tasks to which no other task refers."""
        specs = [task.spec for task in self.states.values()]
        referred = {other for spec in specs for other in (*spec.depends_on, spec.parent_task_id)}
        return [task.id for task in self.states.values() if task.finished and task.id not in referred]

    def forget(self, *task_ids: int) -> TasksForgotten:
        """Drop all records of tasks, and the service's records about them."""
        gone = [one for one in self.log.read() if one.task_id in task_ids or speaks_of(one) in task_ids]
        left = ((one.position, one.task_id, one.version, timestamp(one.recorded_at), one.hash) for one in gone)
        event = TasksForgotten(
            tasks=to_ranges(task_ids),
            positions=to_ranges(one.position for one in gone),
            stubs=digest_of(left),
            rule=RetentionRule(older_than=0.0),
        )
        self.record(0, event)
        self.records = list(self.log.read())
        self.forgotten.update(task_ids)
        return event

    def play(self, operation: str, pick: int, number: int) -> bool:
        """Do one of `OPERATIONS` to a task that `pick` chooses; return whether it was allowed. `number` varies it."""
        self.at += timedelta(milliseconds=17 * (number + 1))
        if operation == "create" or not self.states:
            self.send(_some_task(pick, number, len(self.states), self.at))
            return True
        task_id = pick % len(self.states) + 1
        if task_id in self.forgotten:
            return False
        try:
            self._play(operation, self.states[task_id], number)
        except TasktrailError:
            return False
        return True

    def _play(self, operation: str, state: TaskState, number: int) -> None:
        match operation:
            case "start" if state.waiting:
                self.start(state.id)
            case "adjust" if state.waiting:
                self.record(0, Adjusted(task_id=state.id, priority=number % 11, held=number % 5 == 0))
            case "deliver":
                self.record(0, DeliveryAttempted(notice_id="x", task_id=state.id, channel="email", target="a", ok=True))
            case "restart":
                self._epoch += 1
                while isinstance(self.log, SqliteEventLog) and self.log.epoch < self._epoch:
                    self.log._epoch = self.log._take_epoch(self.at)
                    self.log._files.note()
                self.record(0, ServiceStarted(version="0", epoch=self._epoch, pid=number, host="here"))
            case "start" | "adjust":
                pass
            case _:
                self.send(_command(operation, state, number, f"{operation}-{len(self.records)}"))


def speaks_of(record: Recorded) -> int:
    """Return the task that a record of the service is about; 0 if none."""
    return record.event.task_id if isinstance(record.event, SPEAK_OF_A_TASK) else 0


def with_two_drops(journal: Journal) -> list[tuple[int, int]]:
    """Play a random history and forget two of its tasks; return each task with the position of its `TasksForgotten`."""
    random_history(journal, 60, seed=5)
    drops = []
    for gone in journal.over()[:2]:
        journal.forget(gone)
        drops.append((gone, journal.log.head().position))
    return drops


def random_history(journal: Journal, steps: int, seed: int) -> None:
    """Many random steps; the same for the same seed."""
    chance = Random(seed)
    for _step in range(steps):
        operation = chance.choices(OPERATIONS, (6, 8, 4, 2, 5, *(1,) * 10))[0]
        journal.play(operation, chance.randrange(10_000), chance.randrange(101))


def _command(operation: str, state: TaskState, number: int, command_id: str) -> Decidable:
    task_id, attempt = state.id, state.attempt
    match operation:
        case "progress":
            return AttemptProgressed(task_id=task_id, attempt=attempt, progress=float(number), message=f"{number} done")
        case "checkpoint":
            checkpoint = Checkpoint(processed_frames=number, data={"number": number})
            return AttemptCheckpointed(task_id=task_id, attempt=attempt, checkpoint=checkpoint, progress=number / 2)
        case "complete":
            return AttemptEnded(task_id=task_id, attempt=attempt, outcome="completed", result={"number": number})
        case "cancel":
            return CancelTask(task_id=task_id, command_id=command_id)
        case "retry":
            return RetryTask(task_id=task_id, force=number % 2 == 0, command_id=command_id)
        case "release":
            return StartTask(task_id=task_id, command_id=command_id)
        case _:
            error = ("connection refused by 10.0.0.1", "no such codec", "timeout after 5 s")[number % 3]
            if operation in _ABORTS:
                return AbortAttempt(task_id=task_id, outcome=_ABORTS[operation], error=error, error_type="OSError")
            used = number * 1000
            return AttemptEnded(task_id, attempt, _ENDS[operation], error=error, error_type="OSError", memory_used=used)


def _some_task(pick: int, number: int, known: int, at: datetime) -> CreateTask:
    return CreateTask(
        type=("image_thumbnail", "video_convert", "document_preview")[pick % 3],
        input_file=f"/in/clip_{pick}.mp4",
        output_file=f"/out/会议录像 {number}.jpg",
        options={"width": number, "deep": {"list": [1, 2.5, None]}},
        priority=number % 11,
        max_retries=number % 4,
        retry_delay=float(number % 3),
        user_id=pick % 4,
        user_level=pick % 2,
        label=("", "night", "import-7")[number % 3],
        batch=("", "films", "letters")[(pick + number) % 3],
        document_id=number % 5,
        estimated_time=float(number * 60),
        parent_task_id=pick % known + 1 if known and number % 4 == 0 else None,
        notify_webhook="https://example.org/hook" if pick % 3 == 0 else "",
        callback_url="https://example.org/done" if pick % 5 == 0 else "",
        notify_email="user@example.org" if pick % 7 == 0 else "",
        notify_targets=("ops", "team")[: number % 3] if pick % 5 == 1 else (),
        scheduled_for=at + timedelta(seconds=number) if number % 6 == 0 else None,
        held=number % 9 == 0,
        command_id=f"create-{known}",
    )
