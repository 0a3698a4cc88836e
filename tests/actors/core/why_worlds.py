"""Worlds in which a task waits, and operations that remove its reasons."""

from collections import Counter
from datetime import timedelta
from typing import Any

from core_harness import Core
from hypothesis import strategies as st
from msgspec.structs import replace

from tasktrail.actors.core.explanation import Obstacle
from tasktrail.actors.core.messages import Drain, LimitsConfigured, Sampled, Tick
from tasktrail.actors.core.resources import MachineSample
from tasktrail.actors.core.routing import offers_of
from tasktrail.actors.core.unit_of_work import UnitOfWork
from tasktrail.events import AdjustTask
from tasktrail.events.commands import PauseQueue, ResumeQueue, SetLimits
from tasktrail.events.reports import CapacityChanged

TYPES = ("work", "other")
GRACE = dict.fromkeys(TYPES, 0.5)
AT_ONCE = 2
"""Short attempts that share a worker."""

RATES: list[dict[str, str]] = [
    *[{}] * 9,
    {"type:work": "1/d"},
    {"user:*": "2/d", "user:1": "1/9d"},
    {"label:x": "1/2d", "type:*": "3/d"},
]

WINDOWS: list[dict[str, tuple[str, ...]]] = [*[{}] * 9, {"work": ("12-13",)}, {"*": ("fri 9-10",), "other": ("0-24",)}]

wishes = st.fixed_dictionaries(
    {
        "type": st.sampled_from(TYPES),
        "user_id": st.integers(0, 1),
        "label": st.sampled_from(["", "x"]),
        "worker_label": st.sampled_from([*[""] * 9, "gpu"]),
        "priority": st.integers(0, 10),
        "memory": st.sampled_from([0, 0, 0, 1, 4, 6, 9, 12]),
        "temp": st.sampled_from([0, 0, 0, 0, 3, 9]),
    }
)
settings_of_a_world = st.fixed_dictionaries(
    {
        "slots": st.sampled_from([1, 2, 3, 4]),
        "offering": st.sampled_from([0, 0, 0, 1, 2]),
        "max_memory": st.sampled_from([20, 10, 6]),
        "max_temp_size": st.sampled_from([20, 5]),
        "max_per_type": st.sampled_from([0, 0, 1, 2]),
        "max_per_user": st.sampled_from([0, 0, 1, 2]),
        "max_per_label": st.sampled_from([0, 0, 1]),
        "fair_share": st.booleans(),
        "rates": st.sampled_from(RATES),
        "windows": st.sampled_from(WINDOWS),
    }
)
samples = st.builds(
    MachineSample,
    cpu_percent=st.sampled_from([5.0, 5.0, 95.0]),
    memory_available=st.sampled_from([30, 30, 3]),
    temp_free=st.sampled_from([30, 8, 2]),
    memory_total=st.just(30),
)
pauses = st.tuples(
    st.sampled_from([None, None, PauseQueue(), PauseQueue(), PauseQueue(type="work"), PauseQueue(user_id=1)]),
    st.booleans(),
)
"""Whether the pause comes before the first of the others, so that none of them runs."""
holds = st.fixed_dictionaries(
    {
        "held": st.sampled_from([False, False, True]),
        "later": st.sampled_from([False, False, True]),
        "dependencies": st.sampled_from(["", "", "waits", "cancelled", "waits cancelled"]),
        "past": st.sampled_from(["", "", "", "failed", "cancelled", "cancelled, retried later"]),
        "draining": st.sampled_from([False, False, False, True]),
    }
)
"""What holds the task before the others do. A task with a past has begun to run alone, and waits for no task."""


class Scenario:
    """A world that can be rebuilt at will: a question about one task in it, with some of its reasons lifted."""

    def __init__(
        self, world: dict[str, Any], others: list[dict[str, Any]], mine: dict[str, Any], more: dict[str, Any]
    ) -> None:
        self.world, self.others, self.mine, self.more = world, others, mine, more

    def build(self) -> tuple[Core, int]:
        """Build the world just before the question. Everything that could start has started."""
        world = dict(self.world)
        slots, labels = world.pop("slots"), {"gpu": world.pop("offering")}
        core = Core(slots=0, grace=GRACE, short=self.more["short"], max_cpu=90.0, temp_low=4, temp_high=6, **world)
        core.state.workers.at_once = AT_ONCE
        core.tell(CapacityChanged(slots, offers_of(labels, slots)))
        core.state.backfill_bound = self.more["backfill_bound"]
        hold = self.more["hold"]
        task_id = self._with_a_past(core) if hold["past"] else 0
        pause, early = self.more["pause"]
        if pause is not None and early:
            core.send(pause)
        half = len(self.others) // 2
        for other in self.others[:half]:
            core.create(**other)
        core.tell(Sampled(self.more["sample"]))
        task_id = task_id or self._new(core)
        if hold["held"]:
            core.ask(AdjustTask(task_id=task_id, held=True))
        if pause is not None and not early:
            core.send(pause)
        for other in self.others[half:]:
            core.create(**other)
        if hold["draining"]:
            core.tell(Drain())
        return core, task_id

    def _new(self, core: Core) -> int:
        hold = self.more["hold"]
        depends_on = tuple(core.create(held=True) for _ in hold["dependencies"].split())
        for other, fate in zip(depends_on, hold["dependencies"].split(), strict=True):
            if fate == "cancelled":
                core.cancel(other)
        later = core.now + timedelta(hours=1) if hold["later"] else None
        mine = {**self.mine, "depends_on": depends_on, "on_dependency_failure": "wait"}
        return core.create(**mine, held=hold["held"], scheduled_for=later)

    def _with_a_past(self, core: Core) -> int:
        """Give it an earlier attempt, if it fits at all."""
        past = self.more["hold"]["past"]
        task_id = core.create(**self.mine, max_retries=1, retry_delay=0 if past == "cancelled" else 3600)
        if task_id not in core.running():
            return task_id
        if past == "failed":
            core.end(task_id, "failed", error="timeout")
        else:
            core.cancel(task_id)
            core.retry(task_id)
        return task_id


class Lifting:
    """Removes reasons: one slot, one place, or just the missing bytes. Then a step is taken."""

    def __init__(self, core: Core, task_id: int) -> None:
        self.core, self.task = core, core.state.tasks[task_id]
        self.draining = core.state.draining
        self.limits, self.sample = core.state.limits, core.state.sample
        self.offers = sorted(core.state.workers.offers.elements()) or [()] * core.state.workers.slots
        self.offers_label = False

    def lift(self, reasons: list[Obstacle]) -> None:
        """Lift reasons; nothing starts before all are lifted."""
        state = self.core.state
        state.draining = True
        for one in reasons:
            getattr(self, f"_{one.reason.lower()}")(one)
        state.sample = self.sample  # not reported: running attempts would count as sampled, and leave more for others
        self._offer()
        self.core.tell(LimitsConfigured(self.limits))
        state.draining = self.draining
        self.core.tell(Tick())

    def leave_only(self, named: tuple[int, ...]) -> None:
        """Leave no other task waiting for room. Nothing starts meanwhile."""
        self.core.state.draining = True
        for other in [*self.core.state.queue.first(100), *self.core.state.set_aside]:
            if other not in (self.task.id, *named):
                self.core.cancel(other)

    def _held(self, _one: Obstacle) -> None:
        self.core.send(AdjustTask(task_id=self.task.id, held=False))

    def _notbefore(self, _one: Obstacle) -> None:
        self.core.wait(3600)  # an adjustment would change its place as well

    _retrydelay = _notbefore

    def _dependency(self, one: Obstacle) -> None:
        for free in [free for other in one.tasks for free in self.core.state.unblock(other)]:
            UnitOfWork(self.core.state, self.core.now).place(free)

    _dependencyfailed = _dependency

    def _nohandler(self, _one: Obstacle) -> None:
        state = self.core.state
        state.grace = {**state.grace, self.task.spec.type: 0.5}
        UnitOfWork(state, self.core.now).place(state.tasks[self.task.id])

    def _stopping(self, _one: Obstacle) -> None:
        self.core.end(self.task.id, "stopped")

    def _shuttingdown(self, _one: Obstacle) -> None:
        self.draining = False

    def _paused(self, one: Obstacle) -> None:
        (pause,) = (pause for pause in self.core.state.durable.pauses.all() if pause.position in one.evidence)
        self.core.send(ResumeQueue(type=pause.type, user_id=pause.user_id))

    def _concurrencylimit(self, one: Obstacle) -> None:
        more = int(one.numbers["held"]) + 1
        self.limits = replace(self.limits, max_concurrent=max(self.limits.max_concurrent, more))
        self.offers += [()] * (more - len(self.offers))

    def _workerlabel(self, _one: Obstacle) -> None:
        self.offers_label = True

    def _offer(self) -> None:
        """Let the free worker with the fewest labels offer the label, too."""
        taken = Counter(entry.offer for entry in self.core.state.running.values() if not entry.short)
        taken[()] += self.core.state.workers.shared
        if self.offers_label:
            free = [offer for offer in self.offers if self.offers.count(offer) > taken[offer]]
            if free:
                other = min(free, key=lambda offer: (len(offer), offer))
                self.offers.remove(other)
                self.offers.append((*other, self.task.spec.worker_label))
        self.core.tell(CapacityChanged(len(self.offers), tuple(self.offers)))

    def _typelimit(self, one: Obstacle) -> None:
        self._raise("types", self.task.spec.type, one)

    def _userlimit(self, one: Obstacle) -> None:
        self._raise("users", str(self.task.spec.user_id), one)

    def _labellimit(self, one: Obstacle) -> None:
        self._raise("labels", self.task.spec.label, one)

    def _ratelimit(self, one: Obstacle) -> None:
        (higher,) = one.commands
        assert isinstance(higher, SetLimits)
        rates = {name: rate for name, rate in higher.rates.items() if rate is not None}
        self.limits = replace(self.limits, rates=self.limits.rates | rates)

    def _window(self, _one: Obstacle) -> None:
        self.limits = replace(self.limits, windows=self.limits.windows | {self.task.spec.type: ("0-24",)})

    def _raise(self, table: str, name: str, one: Obstacle) -> None:
        numbers = {**getattr(self.limits, table), name: int(one.numbers["running"]) + 1}
        self.limits = replace(self.limits, **{table: numbers})

    def _memory(self, one: Obstacle) -> None:
        missing = int(one.numbers["missing"])
        if "max_memory" in one.detail:
            self.limits = replace(self.limits, max_memory=self.limits.max_memory + missing)
        else:
            self.sample = replace(self.sample, memory_available=self.sample.memory_available + missing)

    def _tempspace(self, one: Obstacle) -> None:
        missing = int(one.numbers.get("missing", 0))
        if "max_temp_size" in one.detail:
            self.limits = replace(self.limits, max_temp_size=self.limits.max_temp_size + missing)
        elif missing:
            self.sample = replace(self.sample, temp_free=self.sample.temp_free + missing)
        else:
            self.sample = replace(self.sample, disk_low=False)

    def _cpu(self, _one: Obstacle) -> None:
        self.sample = replace(self.sample, cpu_percent=self.limits.max_cpu)

    def _higherpriority(self, _one: Obstacle) -> None:
        self.leave_only(())


scenarios = st.builds(
    Scenario,
    settings_of_a_world,
    st.lists(wishes, max_size=8) | st.lists(wishes, min_size=6, max_size=8),
    st.builds(
        lambda wish, kind, priority: {**wish, "type": kind, "priority": priority},
        wishes,
        st.sampled_from([*TYPES, *TYPES, "without handler"]),
        st.sampled_from([0, 0, 5, 10]),
    ),
    st.fixed_dictionaries(
        {
            "sample": samples,
            "pause": pauses,
            "hold": holds,
            "backfill_bound": st.sampled_from([None, 0, 1]),
            "short": st.sampled_from([(), (), TYPES[:1], TYPES]),
        }
    ),
)
