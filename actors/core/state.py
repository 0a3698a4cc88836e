"""What the Scheduler knows. Everything durable in it is a fold of the log; the rest is about this very moment."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from heapq import heappop, heappush

from ...events import Completed, Created, Event, Fact, Recorded, Started, TaskState
from ...events.clock_jumps import Jumps
from ...events.dependencies import is_met
from ...events.experience import Correction, Experience
from ...events.retry import RetryRule
from ...events.state import create, evolve, overlay
from ...events.system_events import Adjusted, ClockJumped, DeliveryAttempted, EndpointEnabled, LimitsChanged
from ...events.timeouts import End, attempt_ends, waiting_ends
from .admission import Limits, Reserved, Sample
from .fair_share import EQUAL, Share, Turns
from .families import Families
from .gates import Gate, GateKind, Tally, gates_of, is_shut
from .limits import LimitBook
from .outputs import Outputs
from .oversized import Oversized
from .pauses import Pauses
from .ready_queue import ReadyQueue
from .running import Reconciliation, Running
from .schedules import Schedules
from .timer import Timer


class SchedulerState:
    """The Scheduler's memory: open tasks, the queue, timers, slots and reservations.

    `tasks` holds what is not finished, and for a moment the finished tasks that a message is about.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        grace: Mapping[str, float],
        work_root: str = "",
        retry_rules: tuple[RetryRule, ...] = (),
        own: set[int] | None = None,
    ) -> None:
        self.limit_book = LimitBook(limits)
        self.pauses = Pauses()
        self.schedules = Schedules()
        self.jumps = Jumps()
        self.turns = Turns()
        self.retry_rules = retry_rules
        """The user's own, before the built-in ones."""
        self.own = own
        """The tasks to work on when all others stay as they are; none: all."""
        self.work_root = work_root
        """Folder that holds the work folder of each task."""
        self.grace = grace
        """Seconds between the wish to stop and the kill, for each task type that has a handler here."""
        self.sample = Sample()
        self.reserved = Reserved()
        self.tally = Tally()
        self.slots = 0
        self.draining = self.closed = False
        self.tasks: dict[int, TaskState] = {}
        self.last_task_id = self.position = self.system_version = 0
        self.last_at: datetime | None = None
        self.queue = ReadyQueue(self._is_shut, self._share)
        self.timers: list[Timer] = []
        self._tidy_at = 64
        self.running: dict[int, Running] = {}
        self.look = Reconciliation()
        self.blocked: dict[int, set[int]] = {}
        """Task → the dependencies it still waits for."""
        self.dependents: dict[int, set[int]] = {}
        self.unblocked_at: dict[int, datetime] = {}
        """Waiting task with a limit on its time in the queue → when the last dependency was met."""
        self.families = Families()
        self.outputs = Outputs()
        self.overtaken: dict[int, int] = {}
        """Queued task that did not fit → how many behind it have started before it."""
        self.backfill_bound: int | None = None
        """How often that may be; none: as often as the dispatch allows by itself."""
        self.adjusted_at: dict[int, int] = {}
        """Open task that was adjusted → where that is recorded last."""
        self.too_big = Oversized()
        """Tasks that were next and would not fit if nothing ran; they come back when limits or machine allow."""
        self.seen_in_vain: object = None
        """What the dispatch saw when it last found nobody who could start."""
        self.experience: dict[str, Experience] = {}
        """Task type → how its estimates came out."""
        self.disabled: set[str] = set()
        """Endpoints that have said that they are gone."""
        self.stale_reports = 0
        self._passing: set[int] = set()
        """Tasks that were loaded, or whose attempt is gone, since `forget_finished` was asked last."""

    def apply(self, record: Recorded) -> None:
        """Fold one record of the log. Used at boot; afterwards the step folds what it stages itself."""
        self.position = record.position
        self.last_at = record.recorded_at
        event = record.event
        if record.task_id == 0:
            self.system_version = record.version
            self.apply_system(record, record.position)
        elif isinstance(event, Created):
            self.last_task_id = record.task_id
            self.tasks[record.task_id] = create(record.task_id, event, record.recorded_at)
            self.schedules.apply(record, record.position)
        else:
            self.tasks[record.task_id] = evolve(
                self.tasks[record.task_id],
                event,  # type: ignore[arg-type]  # a task's records hold task events
                record.recorded_at,
            )
            self.learn(self.tasks[record.task_id], event)

    def learn(self, task: TaskState, event: Event) -> None:
        """Remember what the event says beyond its task, now that it is folded into that: turns, how estimates do."""
        if self.adjusted_at and task.finished:
            self.adjusted_at.pop(task.id, None)
        if type(event) is Started:
            forgotten = self.turns.take(task.spec.user_id, self.position)
            if forgotten is not None:
                self.queue.share_changed(forgotten)
        elif type(event) is Completed:
            self.experience.setdefault(task.spec.type, Experience()).learn(task, event)

    def correction(self, task_type: str) -> Correction:
        """What the history of the type makes of its estimates."""
        experience = self.experience.get(task_type)
        return Correction() if experience is None else experience.correction()

    def apply_system(self, fact: Fact, position: int) -> None:
        """Fold one record of the system stream."""
        event = fact.event
        match event:
            case Adjusted():
                if event.task_id in self.tasks:
                    self.tasks[event.task_id] = overlay(self.tasks[event.task_id], event, fact.recorded_at)
                    self.adjusted_at[event.task_id] = position
            case LimitsChanged():
                self.limit_book.apply(event, position)
            case DeliveryAttempted():
                if event.disabled:
                    self.disabled.add(event.target)
            case EndpointEnabled():
                self.disabled.discard(event.target)
            case ClockJumped():
                self.jumps.apply(event)
                self.schedules.apply(fact, position)
            case _:
                self.pauses.apply(fact, position)
                self.schedules.apply(fact, position)

    @property
    def limits(self) -> Limits:
        """The limits that hold now."""
        return self.limit_book.now

    def _is_shut(self, gate: Gate) -> bool:
        return is_shut(gate, self.limit_book.now, self.tally, self.pauses)

    def is_ours(self, task_id: int) -> bool:
        """Whether this service works on the task."""
        return self.own is None or task_id in self.own

    def _share(self, user_id: int) -> Share:
        if not self.limit_book.now.fair_share:
            return EQUAL
        return Share(self.tally.counts[GateKind.USER, user_id], self.turns.of(user_id))

    def load(self, task: TaskState) -> None:
        """Take in a task that `needed` has named, until the next commit."""
        self.tasks[task.id] = task
        self._passing.add(task.id)

    def forget_finished(self, task_ids: set[int]) -> None:
        """Drop finished tasks from memory; the log has them when somebody asks.

        To be called after each commit, with the tasks that it was about.
        """
        task_ids = task_ids | self._passing  # the end of a cancelled attempt is recorded nowhere
        self._passing = set()
        for task_id in task_ids:
            task = self.tasks.get(task_id)
            if task is not None and task.finished and task_id not in self.running:
                del self.tasks[task_id]

    def look_at(self, sample: Sample) -> None:
        """The machine was sampled: what runs is part of it."""
        self.sample = sample.after(self.sample, self.limits)
        self.reserved.sampled()
        for running in self.running.values():
            running.seen = True

    def hold(self, running: Running) -> None:
        """An attempt takes a slot, and its resources."""
        task = running.reserved_for
        self.running[running.task_id] = running
        self.reserved.take(task)
        self.tally.take(task)
        self.queue.share_changed(task.spec.user_id)

    def release(self, running: Running) -> None:
        """The process tree of an attempt is gone: its slot and its resources are free."""
        task = running.reserved_for
        del self.running[running.task_id]
        self.reserved.give_back(task, seen=running.seen)
        self.tally.give_back(task)
        for gate in gates_of(task):
            self.queue.wake(gate)
        self.queue.share_changed(task.spec.user_id)
        self._passing.add(running.task_id)

    def link(self, task: TaskState) -> None:
        """The task is open: those above it must find it. Their states must be in memory, up to a known one."""
        self.families.link(task.id, lambda task_id: self.tasks[task_id].spec.parent_task_id)

    def unlink(self, task_id: int) -> None:
        """The task is over."""
        self.families.unlink(task_id, lambda other: other in self.tasks and not self.tasks[other].finished)

    def block(self, task: TaskState) -> None:
        """Note the dependencies that a waiting task still waits for. Their states must be in memory."""
        unmet = {other for other in task.spec.depends_on if not is_met(task, self.tasks[other])}
        if unmet:
            self.blocked[task.id] = unmet
            for other in unmet:
                self.dependents.setdefault(other, set()).add(task.id)
        elif task.spec.depends_on and task.spec.queue_timeout is not None:
            ends = [self.tasks[other].completed_at for other in task.spec.depends_on]
            self.unblocked_at[task.id] = max(at for at in (*ends, task.updated_at) if at is not None)

    def unblock(self, completed: int) -> list[TaskState]:
        """A task is completed: the tasks that waited for it, and now for nothing else."""
        waiting = sorted(self.dependents.get(completed, ()))
        return [self.tasks[task_id] for task_id in waiting if self.free(task_id, completed)]

    def free(self, task_id: int, dependency: int) -> bool:
        """The task waits for this dependency no longer, as was recorded just now; whether it waits for none."""
        waiting = self.dependents.get(dependency, set())
        waiting.discard(task_id)
        if not waiting:
            self.dependents.pop(dependency, None)
        unmet = self.blocked.get(task_id, set())
        unmet.discard(dependency)
        if unmet:
            return False
        self.blocked.pop(task_id, None)
        if self.tasks[task_id].spec.queue_timeout is not None and self.last_at is not None:
            self.unblocked_at[task_id] = self.last_at
        return True

    def queued_at(self, task: TaskState) -> datetime | None:
        """Since when a waiting task waits for nothing but room; none while it is held or waits for others."""
        if task.held or self.blocked.get(task.id):
            return None
        return self.jumps.moved(max(task.queued_since, self.unblocked_at.get(task.id, task.queued_since)))

    def not_before(self, task: TaskState) -> datetime | None:
        """The moment that the next attempt waits for; a retry's delay that a clock far ahead has set is over."""
        at = task.not_before
        if at is None or task.due_at is None or not self.jumps.kept:
            return at
        if task.due_at < task.updated_at or self.jumps.reached(task.updated_at) == task.updated_at:
            return at
        return task.scheduled_for if task.started_at is None else None

    def waiting_ends(self, task: TaskState) -> Iterator[End]:
        """The limits of a waiting task."""
        began = task.life_started_at and self.jumps.moved(task.life_started_at)
        return waiting_ends(task, queued_at=self.queued_at(task), life_began_at=began)

    def attempt_ends(self, running: Running) -> Iterator[End]:
        """The limits of a running attempt."""
        task = self.tasks[running.task_id]
        began = task.life_started_at
        began = running.since if began in (None, task.started_at) else self.jumps.moved(began)
        return attempt_ends(task, running.signs(), began)

    @property
    def free_slots(self) -> int:
        """Attempts that could start now if nothing else stood against it."""
        return min(self.slots, self.limits.max_concurrent) - len(self.running)

    def set_timer(self, at: datetime, task_id: int, attempt: int = 0) -> None:
        """Look at the task again at `at`."""
        heappush(self.timers, Timer(at, task_id, attempt))
        if len(self.timers) > self._tidy_at:
            self.timers = sorted({timer for timer in self.timers if self._is_of_use(timer)})
            self._tidy_at = 2 * len(self.timers) + 64

    def _is_of_use(self, timer: Timer) -> bool:
        if timer.attempt:
            running = self.running.get(timer.task_id)
            return running is not None and running.attempt == timer.attempt
        task = self.tasks.get(timer.task_id)
        if task is None or not task.waiting:
            return False
        return self.not_before(task) == timer.at or any(end.at == timer.at for end in self.waiting_ends(task))

    def due_timers(self, now: datetime) -> list[Timer]:
        """Take the timers that have gone off, earliest first."""
        due = []
        while self.timers and self.timers[0].at <= now:
            due.append(heappop(self.timers))
        return due

    def next_wake(self) -> datetime | None:
        """When the earliest timer goes off, or a schedule's time comes."""
        fires = self.schedules.next_wake() if self.own is None else None
        moments = (self.timers[0].at if self.timers else None, fires)
        return min((at for at in moments if at is not None), default=None)
