"""Follows the log record by record. It shares `evolve` with the core; the rules are written a second time."""

from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import TypeAlias

from broken import broken, must
from standing import Standing

from tasktrail.events import (
    Accepted,
    Checkpoint,
    Checkpointed,
    Created,
    Event,
    Failed,
    Recorded,
    Retried,
    Started,
    TaskState,
)
from tasktrail.events.log.chain import GENESIS, link
from tasktrail.events.log.rows import decode, to_row
from tasktrail.events.recorded import EVENT_TAGS
from tasktrail.events.state import create, evolve, overlay
from tasktrail.events.system_events import Adjusted, Deduplicated, QueueDrained, ServiceStarted
from tasktrail.events.task_events import is_terminal

Key: TypeAlias = tuple[int, int]

MAY_RECEIVE = {
    "created": {"pending"},
    "started": {"pending", "retrying"},
    "progressed": {"running"},
    "checkpointed": {"running"},
    "completed": {"running"},
    "cancelled": {"pending", "retrying", "running"},
    "failed": {"pending", "retrying", "running"},
    "retried": {"retrying", "failed", "cancelled"},
}
"""The table of states in the design: event → the states in which it is allowed."""


class Ledger:
    """The durable state, each record checked against those before it."""

    def __init__(self, max_crashes: int) -> None:
        self.max_crashes = max_crashes
        self.tasks: dict[int, TaskState] = {}
        self.standing = Standing()
        self.open: set[int] = set()
        self.position = 0
        self.latest = datetime.min.replace(tzinfo=UTC)
        """The latest time that the wall clock has shown: what was due then stays due when it is set back."""
        self.epoch = 0
        self.checkpoints: dict[int, Checkpoint] = {}
        self.resumes_from: dict[int, tuple[int, Checkpoint | None]] = {}
        """Task → its latest attempt, and the checkpoint at its start."""
        self.recorded: dict[str, tuple[int, list[int]]] = {}
        """Command id → its append, and the positions of the records that it led to."""
        self._appends = 0
        self._hash = GENESIS
        self._versions: Counter[int] = Counter()
        self._ends: Counter[Key] = Counter()
        self._writers: defaultdict[str, set[int]] = defaultdict(set)
        """Output → open tasks that write it."""
        self._holders: dict[tuple[int, str], int] = {}
        """User and key → the open task that holds it."""
        self._crashes: Counter[int] = Counter()
        self._killed = False
        """Whether the last failure is of a worker that was killed."""
        self._excused = False
        """Whether the last crash was one too many, and yet the life goes on."""
        self._saved_at: dict[int, float] = {}
        """Task → the progress of its last checkpoint."""
        self._priorities: dict[int, int] = {}
        """Task that was adjusted → its latest priority."""
        self._last_at: datetime | None = None
        self._retry_must_follow = 0

    def follow(self, records: list[Recorded]) -> None:
        """Follow one append, all of which is durable."""
        self._appends += 1
        for record in records:
            self._add(record)

    def _add(self, record: Recorded) -> None:
        self.position += 1
        self._versions[record.task_id] += 1
        if record.position != self.position or record.version != self._versions[record.task_id]:
            broken(f"I3: a gap at position {record.position}")
        row = to_row(record, record.position)
        self._hash = link(self._hash, row)
        if record.hash != self._hash:
            broken(f"I3: the chain breaks at {record.position}")
        if decode(row[3], row[13]) != record.event:
            broken(f"I4: position {record.position} reads back differently")
        if self._last_at is not None and record.recorded_at < self._last_at:
            broken(f"I3: time runs back at {record.position}")
        self._last_at = record.recorded_at
        follows, self._retry_must_follow = self._retry_must_follow, 0
        if follows and not (isinstance(record.event, Retried) and record.task_id == follows):
            broken(f"task {follows}: no Retried after Failed(final=false)")
        if record.command_id:
            self._note_command(record)
        if record.task_id:
            self._add_to_task(record)
        else:
            self._add_to_service(record)

    def _add_to_service(self, record: Recorded) -> None:
        event = record.event
        self.standing.follow(record, max(self.latest, record.recorded_at))
        if isinstance(event, QueueDrained):
            must(all(self.tasks[task_id].status != "running" for task_id in self.open), "drained, and attempts run")
        elif isinstance(event, Deduplicated):
            spec = self.tasks[event.task_id].spec
            held_by = self._holders.get((spec.user_id, spec.unique))
            must(held_by == event.task_id, f"I8: task {event.task_id} is the answer, the key is that of {held_by}")
        elif isinstance(event, Adjusted):
            self.tasks[event.task_id] = overlay(self.tasks[event.task_id], event, record.recorded_at)
            if event.priority is not None:
                self._priorities[event.task_id] = event.priority
        elif isinstance(event, ServiceStarted):
            must(event.epoch > self.epoch, f"I13: epoch {event.epoch} after {self.epoch}")
            self.epoch = event.epoch

    def _note_command(self, record: Recorded) -> None:
        """Check that one id has one effect: all its records are in one append."""
        append, positions = self.recorded.setdefault(record.command_id, (self._appends, []))
        if append != self._appends:
            broken(f"I1: command {record.command_id} is carried out a second time, at {record.position}")
        positions.append(record.position)

    def _add_to_task(self, record: Recorded) -> None:
        event, task_id = record.event, record.task_id
        task = self.tasks.get(task_id)
        if isinstance(event, Created):
            must(task is None and task_id == len(self.tasks) + 1, f"task {task_id} is created out of turn")
            task = create(task_id, event, record.recorded_at)
            if event.schedule:
                self.standing.check_run(event.schedule, event.fire_time, max(self.latest, record.recorded_at))
                self.standing.plans[event.schedule].runs += 1
        else:
            if task is None:
                broken(f"task {task_id} has events and was never created")
            self._check(task, event, record)
            task = evolve(task, event, record.recorded_at)  # type: ignore[arg-type]  # a task's records hold task events
        self.tasks[task_id] = task
        if record.attempt != task.attempt or record.life != task.life:
            broken(f"the envelope of {record.position} is wrong")
        if isinstance(event, Retried):
            self._check_kept(task)
        if is_terminal(event):
            self._ends[task_id, task.life] += 1
            must(self._ends[task_id, task.life] == 1, f"I2: life {task.life} of task {task_id} ends twice")
            self.open.discard(task_id)
            self._writers[task.spec.output_file].discard(task_id)
            self._holders.pop((task.spec.user_id, task.spec.unique), None)
        else:
            self._check_key(task)
            self.open.add(task_id)
            self._writers[task.spec.output_file].add(task_id)

    def _check_key(self, task: TaskState) -> None:
        """Check that one user has at most one open task with a key."""
        if task.spec.unique:
            holder = self._holders.setdefault((task.spec.user_id, task.spec.unique), task.id)
            must(holder == task.id, f"I8: tasks {holder} and {task.id} are open with one key")

    def _check(self, task: TaskState, event: Event, record: Recorded) -> None:
        name = EVENT_TAGS[type(event)]
        if task.status not in MAY_RECEIVE[name]:
            broken(f"I2: {name} at {record.position}: task {task.id} is {task.status}")
        match event:
            case Started():
                self._check_start(task, record)
            case Failed():
                must(event.final or task.status == "running", f"task {task.id} fails an attempt that does not run")
                self._retry_must_follow = 0 if event.final else task.id
                self._count_crash(task, event)
            case Checkpointed():
                self._forgive(task, event)
                self.checkpoints[task.id] = event.checkpoint
            case Retried():
                self._check_retry(task, event)

    def _check_start(self, task: TaskState, record: Recorded) -> None:
        self.standing.check_start(task, record.position)
        wanted = self._priorities.get(task.id, task.spec.priority)
        must(task.priority == wanted, f"task {task.id} starts with priority {task.priority} instead of {wanted}")
        writers = self._writers[task.spec.output_file]
        if task.spec.output_file and writers != {task.id}:
            broken(f"task {task.id} starts, and {sorted(writers)} write {task.spec.output_file}")
        unmet = self.unmet(task)
        must(not unmet, f"task {task.id} starts before {unmet}")
        must(not task.held, f"task {task.id} starts although it is held")
        due = task.not_before
        if due is not None and due > self.latest and not record.command_id:
            broken(f"I6: task {task.id} starts at {record.recorded_at}, before it is due at {due}")
        checkpoint = self.checkpoints.get(task.id) if task.spec.resumable else None
        self.resumes_from[task.id] = (task.attempt + 1, checkpoint)

    def _forgive(self, task: TaskState, event: Checkpointed) -> None:
        """Clear the count of crashes once the next attempt has less to do than the last one had."""
        before = self._saved_at.get(task.id, 0.0)
        at = self._saved_at[task.id] = task.progress if event.progress is None else event.progress
        if task.spec.resumable and (at > before or event.checkpoint != self.checkpoints.get(task.id)):
            self._crashes[task.id] = 0

    def _count_crash(self, task: TaskState, event: Failed) -> None:
        self._killed = event.exit_code == -9
        if event.outcome == "lost":
            self._crashes[task.id] += 1
            poison = self._crashes[task.id] >= self.max_crashes
            self._excused = poison and not event.final
            must(poison or not event.final, f"I6: task {task.id} after crash {self._crashes[task.id]}: {event}")
        elif event.outcome != "interrupted":
            self._crashes[task.id] = 0

    def _check_retry(self, task: TaskState, event: Retried) -> None:
        if event.cause == "manual":
            self._crashes[task.id] = 0
            allowed = event.forced or task.retry_count < task.spec.max_retries
            must(task.finished and allowed, f"I6: task {task.id} is retried by hand beyond its retries")
            return
        must(not task.finished, f"task {task.id} is retried by a rule after its end")
        if event.cause == "crash" and event.estimate is None:
            must(not self._excused, f"I6: task {task.id} after crash {self._crashes[task.id]}: {event}")
        if event.cause == "crash" and event.estimate is not None:
            self._crashes[task.id] -= 1
            more = event.estimate.memory - task.memory_needed
            must(self._killed and more > 0, f"I6: task {task.id} gets {more} bytes more after {task.error}")
        if event.cause == "rule":
            must(task.retry_count < task.spec.max_retries, f"I6: task {task.id} is retried beyond its retries")
            delayed = event.due_at is not None or not task.spec.retry_delay
            must(delayed, f"I6: task {task.id} is retried without its delay")

    def _check_kept(self, task: TaskState) -> None:
        """Check that saved checkpoints outlive an attempt, and that progress says where the next one begins."""
        kept = self.checkpoints.get(task.id)
        must(task.checkpoint == kept, f"task {task.id} has lost its checkpoint")
        begins = task.checkpoint_progress if kept is not None and task.spec.resumable else 0.0
        must(task.progress == begins, f"task {task.id} begins at {task.progress} %, not at {begins} %")

    def unmet(self, task: TaskState) -> set[int]:
        """Return the dependencies that a task waits for. Once a life has had a start, it waits for none."""
        if task.life_started_at is not None:
            return set()
        others = (other for other in task.spec.depends_on if other not in task.ignored)
        return {other for other in others if self.tasks[other].status != "completed"}

    def check_answer(self, answer: Accepted) -> None:
        """Check that everything acknowledged is durable."""
        if answer.position > self.position or answer.position not in self.recorded.get(answer.command_id, (0, []))[1]:
            broken(f"I1: command {answer.command_id} is acknowledged at {answer.position}, where the log has it not")
