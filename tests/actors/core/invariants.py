"""The checker: follows the log record by record, and compares the Scheduler's memory with what the log says.

It shares `evolve` with the core and nothing else; what must hold is written here a second time, from the design.
"""

from collections import Counter
from datetime import datetime

from simulated_executor import Key, SimulatedExecutor, must

from tasktrail.actors.core import dispatch
from tasktrail.actors.core.admission import Limits
from tasktrail.actors.core.messages import Message, Submit
from tasktrail.actors.core.overtaking import overtaken_by
from tasktrail.actors.core.state import SchedulerState
from tasktrail.events import Cancelled, Created, Event, Failed, Recorded, Retried, Started, StartTask, TaskState
from tasktrail.events.codec import decode, encode
from tasktrail.events.state import create, evolve, overlay
from tasktrail.events.system_events import Adjusted
from tasktrail.events.task_events import is_terminal

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
"""The table of states in the design: event → the states it is allowed in."""


class Ledger:
    """What the log says, folded as it grows, each record checked against those before it."""

    def __init__(self, max_crashes: int) -> None:
        self.max_crashes = max_crashes
        self.tasks: dict[int, TaskState] = {}
        self.open: set[int] = set()
        self.position = 0
        self._versions: Counter[int] = Counter()
        self._ends: Counter[Key] = Counter()
        self._automatic: Counter[Key] = Counter()
        self._crashes: Counter[int] = Counter()
        self._last_at: datetime | None = None
        self._retry_must_follow = 0

    def add(self, record: Recorded) -> None:
        """Check one more record and fold it."""
        self.position += 1
        self._versions[record.task_id] += 1
        must(record.position == self.position, f"I3: a gap before position {record.position}")
        must(record.version == self._versions[record.task_id], f"I3: a gap in the versions at {record.position}")
        must(self._last_at is None or record.recorded_at >= self._last_at, f"time runs back at {record.position}")
        must(decode(*encode(record.event)) == record.event, f"I4: position {record.position} reads back differently")
        self._last_at = record.recorded_at
        follows = self._retry_must_follow
        must(not follows or _is_retry_of(record, follows), f"task {follows}: no Retried after Failed(final=false)")
        self._retry_must_follow = 0
        if record.task_id:
            self._add_to_task(record)
        elif isinstance(record.event, Adjusted):
            self.tasks[record.event.task_id] = overlay(
                self.tasks[record.event.task_id], record.event, record.recorded_at
            )

    def _add_to_task(self, record: Recorded) -> None:
        event, task_id = record.event, record.task_id
        task = self.tasks.get(task_id)
        if isinstance(event, Created):
            must(task is None and task_id == len(self.tasks) + 1, f"task {task_id} is created out of turn")
            task = create(task_id, event, record.recorded_at)
        else:
            must(task, f"task {task_id} has events and was never created")
            assert task is not None
            self._check(task, event, record)
            task = evolve(task, event, record.recorded_at)  # type: ignore[arg-type]  # a task's records hold task events
        self.tasks[task_id] = task
        must((record.attempt, record.life) == (task.attempt, task.life), f"the envelope of {record.position} is wrong")
        if is_terminal(event):
            self._ends[task_id, task.life] += 1
            must(self._ends[task_id, task.life] == 1, f"I2: life {task.life} of task {task_id} ends twice")
            self.open.discard(task_id)
        else:
            self.open.add(task_id)

    def _check(self, task: TaskState, event: Event, record: Recorded) -> None:
        name = encode(event)[0]
        must(task.status in MAY_RECEIVE[name], f"{name} at {record.position}: task {task.id} is {task.status}")
        if isinstance(event, Started):
            unmet = [other for other in task.spec.depends_on if self.tasks[other].status != "completed"]
            must(not unmet, f"task {task.id} starts before {unmet}")
            must(not task.held, f"task {task.id} starts although it is held")
        if isinstance(event, Failed):
            must(event.final or task.status == "running", f"task {task.id} fails an attempt that does not run")
            self._retry_must_follow = 0 if event.final else task.id
            self._count_crash(task, event)
        if name == "checkpointed":
            self._crashes[task.id] = 0
        if isinstance(event, Retried):
            self._count_retry(task, event)

    def _count_crash(self, task: TaskState, event: Failed) -> None:
        if event.outcome == "lost":
            self._crashes[task.id] += 1
            poison = self._crashes[task.id] >= self.max_crashes
            must(event.final == poison, f"I6: task {task.id} after crash {self._crashes[task.id]}: {event}")
        elif event.outcome != "interrupted":
            self._crashes[task.id] = 0

    def _count_retry(self, task: TaskState, event: Retried) -> None:
        if event.cause == "manual":
            self._crashes[task.id] = 0
            allowed = event.forced or task.retry_count < task.spec.max_retries
            must(task.finished and allowed, f"I6: task {task.id} is retried by hand beyond its retries")
        else:
            must(not task.finished, f"task {task.id} is retried by a rule after its end")
            must(event.cause != "rule" or task.retry_count < task.spec.max_retries, f"I6: task {task.id}: retries")

    def unmet(self, task: TaskState) -> set[int]:
        """The dependencies that a task waits for."""
        return {other for other in task.spec.depends_on if self.tasks[other].status != "completed"}


def _is_retry_of(record: Recorded, task_id: int) -> bool:
    return isinstance(record.event, Retried) and record.task_id == task_id


def check_commit(ledger: Ledger, records: list[Recorded], state: SchedulerState, executor: SimulatedExecutor) -> None:
    """Follow what was committed, and compare it with the memory that staged it."""
    for record in records:
        ledger.add(record)
        if isinstance(record.event, Cancelled):
            attempt = executor.live.get((record.task_id, record.attempt))
            must(not (attempt and attempt.granted), f"I7: task {record.task_id} is cancelled while it publishes")
    must(state.position == ledger.position, f"I4: memory is at {state.position}, the log at {ledger.position}")
    for record in records:
        task = state.tasks.get(record.task_id)
        must(task is None or task == ledger.tasks[record.task_id], f"I4: task {record.task_id} is not as in the log")


def check_reservations(state: SchedulerState, limits: Limits, before: dict[int, int], message: Message) -> None:
    """What is promised is the sum over running attempts, and nothing new was started beyond the limits."""
    memory = sum(entry.reserved_for.spec.estimated_memory for entry in state.running.values())
    temp = sum(entry.reserved_for.spec.estimated_temp for entry in state.running.values())
    must((state.reserved.memory, state.reserved.temp) == (memory, temp), f"I7: reservations leak after {message}")
    if any(before.get(task_id) != entry.attempt for task_id, entry in state.running.items()):
        must(len(state.running) <= min(state.slots, limits.max_concurrent), "I7: more attempts than slots")
        must(memory <= limits.max_memory and temp <= limits.max_temp_size, "I7: more promised than allowed")
        must(not state.draining, "an attempt starts while the service drains")


class Overtakings:
    """How often each queued task saw a worse one start before it."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def follow(self, state: SchedulerState, before: dict[int, int], message: Message) -> None:
        """Look at what has started. By hand anything may start; on an idle machine the next that fits may."""
        for task_id in [task_id for task_id in self._counts if task_id not in state.queue]:
            del self._counts[task_id]
        if isinstance(message, Submit) and isinstance(message.command, StartTask):
            return
        started = [task_id for task_id, entry in state.running.items() if before.get(task_id) != entry.attempt]
        if len(started) == len(state.running):
            started = started[1:]
        for task_id in started:
            self._counts.update(overtaken_by(state, state.tasks[task_id]))
        often = [task_id for task_id, count in self._counts.items() if count > dispatch.BACKFILL_BOUND]
        must(not often, f"I5: tasks {often} are overtaken more often than the bound says")


def check_places(state: SchedulerState, now: datetime) -> None:
    """Each waiting task is in exactly the one place where its state says it waits."""
    wakes: dict[int, datetime] = {}
    for timer in state.timers:
        if not timer.attempt:
            wakes[timer.task_id] = min(timer.at, wakes.get(timer.task_id, timer.at))
    for task in state.tasks.values():
        queued, blocked = task.id in state.queue, state.blocked.get(task.id)
        if not task.waiting:
            must(
                task.id not in state.too_big and task.id not in state.overtaken, f"task {task.id} still waits for room"
            )
            must(not queued and not blocked, f"task {task.id} is {task.status} and still waits somewhere")
            continue
        if task.held or task.spec.type not in state.grace or task.id in state.running or blocked:
            must(not queued, f"task {task.id} is queued although something stands against it")
            continue
        schedule = task.scheduled_for if task.started_at is None else None
        due = max((at for at in (task.due_at, schedule) if at is not None), default=now)
        wakes_in_time = task.id in wakes and wakes[task.id] <= max(due, now)
        must(
            queued or wakes_in_time or task.id in state.too_big,
            f"task {task.id} waits for {due} and nothing will wake it then",
        )


def check_memory(state: SchedulerState, ledger: Ledger) -> None:
    """With nothing staged: what is open or holds a slot is in memory; who waits for others is blocked and will hear."""
    in_memory = ledger.open | state.running.keys()
    must(state.tasks.keys() == in_memory, f"I11: in memory {state.tasks.keys() ^ in_memory} should not be, or should")
    for task_id in ledger.open:
        task = ledger.tasks[task_id]
        unmet = ledger.unmet(task) if task.waiting else set()
        must(state.blocked.get(task_id, set()) == unmet, f"task {task_id} should wait for {unmet}")
        for other in unmet:
            must(task_id in state.dependents.get(other, ()), f"task {task_id} will not hear of task {other}")


def check_executor(state: SchedulerState, executor: SimulatedExecutor) -> None:
    """With nothing staged: slots are held for what runs or ends, and what must not go on was told to stop."""
    held = {(entry.task_id, entry.attempt) for entry in state.running.values()}
    ending = executor.ends_on_the_way()
    must(held >= executor.live.keys(), f"attempts without a slot: {executor.live.keys() - held}")
    must(held <= executor.live.keys() | ending, f"I7: slots leak: {held - executor.live.keys() - ending}")
    for task_id, number in held & executor.live.keys():
        task = state.tasks[task_id]
        current = task.status == "running" and task.attempt == number
        stopped = executor.live[task_id, number].stop_wanted
        must(current or stopped, f"attempt {number} of task {task_id} goes on although the task is {task.status}")
        must(not current or not stopped or state.draining, f"task {task_id} was asked to stop for no reason")
