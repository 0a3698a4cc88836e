"""One seed's world: people, machine, executor, receivers and faults around the real Scheduler.

Each step has its own random numbers, made from the seed and the step's number: steps can be left out, and the others
stay what they were. This is how a failure is made short.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from agreement import (
    check_blocked,
    check_executor,
    check_folded,
    check_memory,
    check_orders,
    check_places,
    check_reservations,
)
from broken import broken, must
from configuring import MAX_MEMORY, of_a_cluster, some_limits
from disk import Disk, SimulatedLog
from house import House, SimulatedTypes
from ledger import Ledger
from overtaking import Overtakings
from people import People
from places import NodesRoom, check_nodes
from sim_cluster import MACHINES, Cluster, ClusterExecutor
from sim_executor import SimulatedExecutor
from sim_notifier import Receivers, SimulatedNotifier
from starts import (
    DiskMark,
    MachineRoom,
    check_idle,
    check_limits,
    check_missed_runs,
    check_order,
    check_tally,
    check_windows,
    check_workers,
)
from stopwatch import Stopwatch
from story import Story
from turns import Turns
from windows import Windows

from tasktrail.actors.core.messages import Delivered, Sampled, Staged, Submit, Tick
from tasktrail.actors.scheduler import NOTICED
from tasktrail.events import Cancelled, Fact, Recorded, StartTask, TaskState
from tasktrail.events.reports import Order
from tasktrail.events.system_events import ClockJumped, DeliveryAttempted, DeliveryPostponed

STARTS = (
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 3, 28, 22, tzinfo=UTC),
    datetime(2026, 10, 24, 22, tzinfo=UTC),
)
"""Any day, and the evenings before summer time begins and ends."""
REFOLD_EVERY = 1000
"""Steps between two comparisons of the whole memory with the whole log."""
IDLE_EVERY = 4
"""Steps between two looks for a task that could start and does not."""
LATE_EVERY = 4
"""Steps between two looks for an attempt that continues for too long."""
ORDERS_EVERY = 16
"""Steps between two comparisons of the operators' orders."""
LOOKED_AT = 6
"""The number of tasks that each step looks at, in turn, besides those it has touched."""
_SPREAD = 1 << 24
"""More than the steps of a world, so that no two steps of any two seeds share their random numbers."""


def has_nodes(seed: int) -> bool:
    """Return whether the world of this seed is a cluster."""
    return seed % 4 == 0


class World:
    """Everything that outlives the service, and the service. The frequency of each fault is drawn first."""

    def __init__(self, seed: int, story: Story | None = None) -> None:
        self.seed = seed
        self.story = story
        self.rng = Random(seed * _SPREAD)
        self.time = self.rng.choice(STARTS)
        self.seconds = 0.0
        self.configure()
        self.dry = self.rng.choice((0.15, 0.4, 1.0))
        """How often a message is the last of its batch."""
        self.lag = self.rng.choice((0.0, 0.0, 0.3, 0.8))
        """How often the executor is slow to obey."""
        self.losses = self.rng.choice((0.0, 0.0, 0.1, 0.5))
        """How often a consumer is not told of a commit."""
        self.ledger = Ledger(self.limits.max_crashes)
        self.ledger.latest = self.time
        self.receivers = Receivers()
        self.people = People(self.rng, self.ledger, self.receivers, nodes=has_nodes(seed))
        self.cluster = Cluster(self.rng) if has_nodes(seed) else None
        """None: there is one machine."""
        self.turns = Turns()
        self.windows = Windows()
        self.disk = Disk()
        self.log = SimulatedLog(self.disk, self._durable)
        self.trace = hashlib.sha256()
        self.clock_was_set = False
        """Whether the clock was set and the Scheduler has not noticed yet."""
        self._set_by = self._known_to_be_set_by = 0.0
        """Seconds by which the wall clock was set forward: in all, and as far as the log or a new service knows."""
        self.deliveries: list[Delivered] = []
        """Reports of the notifier that have not reached the Scheduler."""
        self.steps = 0
        self._most_overtaken = 0
        self._looking_at: list[int] = []
        self._touched: set[int] = set()
        self.open()

    def configure(self) -> None:
        """Change the configured limits."""
        self.limits = some_limits(self.rng)
        if has_nodes(self.seed):
            self.limits = of_a_cluster(self.limits)

    # --- the service and its clock ------------------------------------------------------------------------------

    def now(self) -> datetime:
        """Return the wall clock's time, for the Scheduler."""
        return self.time

    def monotonic(self) -> float:
        """Return seconds that no one can set, for the Scheduler."""
        return self.seconds

    def open(self) -> None:
        """Start a new service, executor and notifier on the log of the old ones."""
        self.executor: SimulatedExecutor
        if self.cluster is not None:
            self.executor = ClusterExecutor(self.rng, self.cluster, self.ledger)
        else:
            self.executor = SimulatedExecutor(self.rng, self.rng.randint(1, 4), self.ledger)
        grace = {"plain": 0.5, "other": 5.0} | ({"seldom": 0.5} if self.rng.random() < 0.5 else {})
        types = SimulatedTypes(grace, self.rng.choice(((), ("other",), ("plain", "seldom"))), self.rng.randint(2, 4))
        types = types._replace(outlived=self.executor.outlives)
        self.deliveries.clear()
        self.people.waiting.clear()  # callers who still wait are cut off, and do not know
        self.notifier = SimulatedNotifier(self.rng, self.log, self.receivers, self.deliveries.append)
        self.stopwatch = Stopwatch(self.ledger)
        if abs(self._set_by - self._known_to_be_set_by) > NOTICED:
            self.windows.forget()
        self._known_to_be_set_by = self._set_by
        self.clock_was_set = False
        self.house = House(self.log, self, self.limits, types, self)
        self.disk_mark = DiskMark()
        self.room = MachineRoom()
        self.nodes_room = NodesRoom()
        self._begin_memory()
        self._checked: object = None
        """The memory that the checks after a step use."""
        self._ran: dict[int, int] = {}
        self._drained = False
        self.house.open()
        self._memory_changed()
        self._check_orders()
        self.note(f"a service has started, epoch {self.log.epoch}")

    def _begin_memory(self) -> None:
        self._memory: object = None
        if not hasattr(self, "overtakings"):
            self.overtakings = Overtakings()

    def _memory_changed(self) -> bool:
        """Return whether the Scheduler has folded its memory anew; then it counts overtakings anew, too."""
        if self.house.state is self._memory:
            return False
        self._memory = self.house.state
        self._most_overtaken = self.most_overtaken
        self.overtakings = Overtakings()
        return True

    @property
    def most_overtaken(self) -> int:
        """Return how often any task was overtaken at most, by the count of any of the services."""
        return max(self._most_overtaken, self.overtakings.most)

    def failing(self) -> bool:
        """Return whether a commit has just failed, and its waiting callers are being told."""
        return self.disk.failing

    def tell(self, message: Any) -> None:
        """Give the Scheduler one message, which may be the last of its batch."""
        if self.clock_was_set:
            self.clock_was_set = False
            self.tell(Tick())  # it notices first, and acts on that; the checks below look at one step
        self.disk.failing = False
        self.house.tell(message, dry=self.rng.random() < self.dry)
        if self._memory_changed():
            check_reservations(self.house.state, [])

    def before(self, house: House, message: Any) -> None:
        """Note a message that the Scheduler takes: a new one, or one that it kept while the log was shut."""
        self._checked, self._ran = None, {}
        if house is not self.house or house.in_trouble:
            return
        state = self._checked = house.state
        self._drained = state.draining
        self._ran = {task_id: entry.attempt for task_id, entry in state.running.items()}
        self._staged, self._stepped = Staged([], []), False
        if isinstance(message, Sampled):
            self.disk_mark.sampled(message.sample, state.limits)
            self.room.sampled(message, state.running.values())
            self.nodes_room.sampled(message, state)
        self.stopwatch.hear(message, self.seconds)

    def after(self, house: House, message: Any) -> None:
        """Check after a stepped message."""
        state = house.state
        if state is not self._checked:
            return  # it was not stepped; or it failed, and memory was made anew
        started = [task_id for task_id, entry in state.running.items() if self._ran.get(task_id) != entry.attempt]
        check_reservations(state, started, drained=self._drained)
        if started:
            check_workers(state, started)
            check_nodes(state, started)
            check_windows(state.limits, [state.tasks[task_id] for task_id in started], self.time)
            self._check_started(message, started)
        elif self._stepped and self.steps % IDLE_EVERY == 0:
            check_idle(state)
            check_tally(state)
        if isinstance(message, Delivered):
            only = all(isinstance(fact.event, DeliveryAttempted | DeliveryPostponed) for fact in self._staged.facts)
            must(only or len(self._staged.facts) > 1, f"I9: a delivery has led to {self._staged.facts}")

    def _check_started(self, message: Any, started: list[int]) -> None:
        state = self.house.state
        check_limits(state, started, self.disk_mark)
        if state.nodes.many:
            self.nodes_room.check(state, started)
        else:
            self.room.check(state)
        if not (isinstance(message, Submit) and isinstance(message.command, StartTask)):
            self.overtakings.follow(state, started)
            check_order(state, started[-1], self.turns.before_the_last())

    @property
    def staged_last(self) -> list[Fact]:
        """Return the events of the last message."""
        return self._staged.facts

    def commit(self) -> None:
        """End the batch."""
        self.disk.failing = False
        self.house.commit()
        self._memory_changed()

    # --- what the service says (see `Watcher`) ------------------------------------------------------------------

    def staged(self, house: House, staged: Staged) -> None:
        """Check a stepped message."""
        if house is self.house:
            self._staged, self._stepped = staged, True
            check_missed_runs(house.state, staged, self.time)
            self.stopwatch.follow(staged.facts, self.seconds)
            self.turns.stage(staged.facts, house.state)
            self.windows.stage(staged.facts, self.seconds)
            self._touched.update(fact.task_id for fact in staged.facts)

    def _durable(self, records: list[Recorded]) -> None:
        self.ledger.follow(records)
        self.receivers.follow(records, self.ledger.tasks)
        self.turns.follow(records, self.ledger.tasks)
        for record in records:
            self.windows.follow(record, self.ledger.tasks)
            match record.event:
                case Cancelled():
                    self._check_not_publishing(record)
                case ClockJumped(shown=shown, shows=shows):
                    self._known_to_be_set_by += (shows - shown).total_seconds()
        if records:
            self.trace.update(records[-1].hash)
        if self.story is not None:
            self.story.recorded(records)

    def _check_not_publishing(self, record: Recorded) -> None:
        """Check that a late cancel waits for the end of publishing, and then finds the task completed."""
        attempt = self.executor.live.get((record.task_id, record.attempt))
        must(not (attempt and attempt.granted), f"I7: task {record.task_id} is cancelled while it publishes")

    def published(self, house: House, records: list[Recorded]) -> None:
        """Tell consumers that these records are durable; now and then one is left out."""
        must(house is self.house, "I13: a service that was replaced has written")
        must(records[-1].position <= self.ledger.position, "I1: records are published and not durable")
        if self.rng.random() >= self.losses:
            self.notifier.follow(records)

    def ordered(self, house: House, orders: list[Order]) -> None:
        """Pass orders to the executor, which may be slow."""
        must(house is self.house, "I13: a service that was replaced gives orders")
        if self.story is not None:
            self.story.tell(f"orders: {', '.join(map(repr, orders))}")
        self.trace.update(repr(orders).encode())
        self.executor.orders.extend(orders)
        if self.rng.random() >= self.lag:
            self.executor.obey()

    def loaded(self, house: House, task: TaskState) -> None:
        """Note that a task was read back from the log."""
        if house is self.house:
            must(task == self.ledger.tasks[task.id], f"I4: task {task.id} is read back as {task}")

    def note(self, text: str) -> None:
        """Add a line to the story."""
        if self.story is not None:
            self.story.tell(text)

    # --- checks -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check after each step: what it touched, and a few others in turn; everything after each thousandth step."""
        state = self.house.state
        if self.steps % LATE_EVERY == 0 and state.running and not self.clock_was_set:
            self._check_none_late()
        if self.steps % REFOLD_EVERY == 0:
            self.check_everything()
            return
        if len(self._looking_at) < LOOKED_AT:
            self._looking_at = list(state.tasks)
        ids = [*self._touched, *self._looking_at[-LOOKED_AT:]]
        del self._looking_at[-LOOKED_AT:]
        self._check_tasks(task_id for task_id in ids if task_id in state.tasks)
        if self.house.quiet:
            self._touched.clear()

    def _check_none_late(self) -> None:
        if self.house.in_trouble:
            return  # an end that cannot be recorded cannot be ordered
        wake = self.house.wake_at
        if wake is None or wake > self.time:
            self.stopwatch.check_none_late(self.house.state, self.seconds)

    def _check_tasks(self, task_ids: Iterable[int]) -> None:
        state = self.house.state
        ids = list(task_ids)
        check_places(state, [state.tasks[task_id] for task_id in ids], self.time)
        if self.house.quiet:
            for task_id in ids:
                if state.tasks[task_id] != self.ledger.tasks[task_id]:
                    broken(f"I4: task {task_id} is not as in the log")
            check_blocked(state, self.ledger, ids)
            check_executor(state, self.executor)
            if self.steps % ORDERS_EVERY == 0:
                self._check_orders()
            if len(state.tasks) < 50 or self.steps % 16 == 0:
                check_memory(state, self.ledger)

    def _check_orders(self) -> None:
        if self.house.quiet:
            check_orders(self.house.state, self.ledger, self.limits, self.receivers.disabled)

    def check_schedules(self) -> None:
        """After a look at the timers, check that nothing due is forgotten."""
        if self.house.quiet and not self.house.state.draining and not self.house.in_trouble:
            self.ledger.standing.check_none_missed(self.time)

    def check_everything(self) -> None:
        """Compare the whole memory with the whole log, once staged records are durable."""
        self.commit()
        if self.house.quiet:
            self._check_tasks(self.house.state.tasks)
            check_memory(self.house.state, self.ledger)
            check_folded(self.house, self.ledger)

    def is_free(self, task: TaskState) -> bool:
        """Return whether only time, room and other tasks keep it from its end."""
        if task.finished:
            return task.status == "completed"
        possible = not task.held and task.spec.type in self.house.state.grace and self._has_room_for(task)
        return possible and all(self.is_free(self.ledger.tasks[other]) for other in self.ledger.unmet(task))

    def _has_room_for(self, task: TaskState) -> bool:
        if task.memory_needed > MAX_MEMORY or self.cluster is None:
            return task.memory_needed <= MAX_MEMORY
        names = {node.seen.address: name for name, node in self.house.state.nodes.by_name.items()}
        return any(
            machine.suits(task.spec.requires, names.get(address, ""))
            and task.memory_needed <= machine.memory
            and task.temp_needed <= machine.temp
            and (not task.spec.worker_label or any(task.spec.worker_label in offer for offer in machine.offers))
            for address, machine in MACHINES.items()
        )

    def begin_step(self, number: int) -> None:
        """Make the random numbers of this step, whatever came before."""
        self.steps = number
        self.rng.seed(self.seed * _SPREAD + number)

    def pass_time(self, seconds: float) -> None:
        """Let some seconds pass."""
        self._move(seconds)
        self.seconds += seconds

    def set_clock(self, seconds: float) -> None:
        """Set the wall clock forward or back."""
        self.clock_was_set = True
        self._set_by += seconds
        self._move(seconds)

    def _move(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.ledger.latest = max(self.ledger.latest, self.time)
