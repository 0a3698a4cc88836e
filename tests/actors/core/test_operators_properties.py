"""Whatever operators, people and workers do: limits hold, no task waits for nothing, and a restart keeps it all."""

from collections import Counter

from core_harness import Core
from eligible import is_eligible
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tasktrail.actors.core.explanation import obstacles
from tasktrail.actors.core.limits import Limits, is_closed, limit_keys_of, limit_of
from tasktrail.actors.core.messages import Sampled, Tick
from tasktrail.actors.core.resources import MachineSample
from tasktrail.events import AdjustTask, CreateTask, Started
from tasktrail.events.commands import AddSchedule, DrainQueue, PauseQueue, RemoveSchedule, ResumeQueue, SetLimits
from tasktrail.events.system_events import QueueDrained

TYPES = ("work", "other")
SCOPES = st.sampled_from([{}, {"type": "work"}, {"user_id": 1}])
LIMITS = st.sampled_from(
    [
        {"max_concurrent": 1},
        {"max_concurrent": 4},
        {"max_per_type": 1},
        {"max_per_user": 2},
        {"max_per_label": 1},
        {"types": {"work": 2}},
        {"types": {"work": None}},
        {"users": {"1": 1}},
        {"labels": {"x": 2}},
        {"max_memory": 8},
        {"max_memory": 0},
        {"fair_share": True},
        {"reset": True},
    ]
)


class Operations(RuleBasedStateMachine):
    """The core, and the rules that must hold after each message."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Core(slots=4, grace=dict.fromkeys(TYPES, 0.5))
        self.begun: Counter[object] = Counter()

    @rule(
        kind=st.sampled_from(TYPES),
        user=st.integers(0, 2),
        label=st.sampled_from(["", "x"]),
        memory=st.sampled_from([0, 3, 9]),
        held=st.sampled_from([False, False, False, True]),
    )
    def create(self, kind: str, user: int, label: str, memory: int, held: bool) -> None:  # noqa: FBT001 - by name
        self.core.create(type=kind, user_id=user, label=label, memory=memory, held=held)

    @rule(pick=st.integers(0, 9), outcome=st.sampled_from(["completed", "failed", "lost"]))
    def end(self, pick: int, outcome: str) -> None:
        running = self.core.running()
        if running:
            self.core.end(running[pick % len(running)], outcome)  # type: ignore[arg-type]  # one of the outcomes

    @rule(limits=LIMITS)
    def set_limits(self, limits: dict[str, object]) -> None:
        self.core.ask(SetLimits(**limits))  # type: ignore[arg-type]  # fields of the command

    @rule(scope=SCOPES)
    def pause(self, scope: dict[str, object]) -> None:
        self.core.ask(PauseQueue(**scope))  # type: ignore[arg-type]  # fields of the command

    @rule(scope=SCOPES)
    def resume(self, scope: dict[str, object]) -> None:
        self.core.ask(ResumeQueue(**scope))  # type: ignore[arg-type]  # fields of the command

    @rule()
    def drain(self) -> None:
        self.core.ask(DrainQueue())

    @rule(pick=st.integers(1, 20), priority=st.integers(0, 10), held=st.sampled_from([None, False, True]))
    def adjust(self, pick: int, priority: int, held: bool | None) -> None:  # noqa: FBT001 - by name
        self.core.ask(AdjustTask(task_id=pick, priority=priority, held=held))

    @rule(pick=st.integers(1, 20))
    def start(self, pick: int) -> None:
        self.core.start(pick)

    @rule(pick=st.integers(1, 20))
    def cancel(self, pick: int) -> None:
        self.core.cancel(pick)

    @rule(every=st.sampled_from([30.0, 45.0]))
    def schedule(self, every: float) -> None:
        self.core.ask(AddSchedule(schedule="often", task=CreateTask(type="work", user_id=1), every=every))

    @rule()
    def unschedule(self) -> None:
        self.core.ask(RemoveSchedule(schedule="often"))

    @rule(seconds=st.integers(1, 100))
    def pass_time(self, seconds: int) -> None:
        self.core.wait(seconds)
        self.core.tell(Tick())

    @rule(memory=st.sampled_from([2, 30]), cpu=st.sampled_from([5.0, 100.0]))
    def sample(self, memory: int, cpu: float) -> None:
        self.core.tell(Sampled(MachineSample(memory_available=memory, memory_total=30, cpu_percent=cpu)))

    @rule()
    def restart(self) -> None:
        old, now = self.core.state, self.core.now
        self.core = self.core.again(slots=4, grace=dict.fromkeys(TYPES, 0.5))
        self.core.now = now
        new = self.core.state
        assert new.limits == old.limits
        assert new.next_runs.first() == old.next_runs.first()
        assert {one: schedule.runs for one, schedule in new.durable.schedules.by_name.items()} == {
            one: schedule.runs for one, schedule in old.durable.schedules.by_name.items()
        }
        assert [(one.position, one.drain) for one in new.durable.pauses.all()] == [
            (one.position, one.drain) for one in old.durable.pauses.all()
        ]
        open_before = {one: task.priority for one, task in old.tasks.items() if not task.finished}
        assert {one: task.priority for one, task in new.tasks.items()} == open_before

    @invariant()
    def what_holds_a_place_is_counted_exactly(self) -> None:
        state = self.core.state
        held = Counter(key for entry in state.running.values() for key in limit_keys_of(entry.reserved_for))
        assert state.running_counts.counts == held
        assert state.reserved.memory == sum(one.reserved_for.spec.estimated_memory for one in state.running.values())

    @invariant()
    def what_starts_keeps_within_the_limits_and_the_pauses(self) -> None:
        state = self.core.state
        started = [fact.task_id for fact in self.core.facts if isinstance(fact.event, Started)]
        assert not started or state.durable.pauses.everything is None, "the message that pauses starts nothing"
        for task_id in started:
            for key in limit_keys_of(state.tasks[task_id]):
                limit = limit_of(key, state.limits)
                assert not limit or state.running_counts.counts[key] <= limit
                assert state.durable.pauses.of(key) is None

    @invariant()
    def nothing_that_could_start_waits(self) -> None:
        state = self.core.state
        if state.free_slots <= 0 or any(state.overtaken.get(one, 0) >= 32 for one in state.queue):
            return
        for task_id in state.queue:
            task = state.tasks[task_id]
            if is_eligible(state, task):
                assert obstacles(task, state.limits, state.sample, state.reserved), f"task {task_id} could start"

    @invariant()
    def a_drain_that_is_over_says_so(self) -> None:
        state = self.core.state
        pause = state.durable.pauses.everything
        if pause is not None and pause.drain:
            assert pause.drained == (not state.running)
        drained = [fact for fact in self.core.facts if isinstance(fact.event, QueueDrained)]
        assert len(drained) <= 1


TestOperations = Operations.TestCase
TestOperations.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)


def test_the_limit_of_a_gate_is_none_when_nobody_has_set_one() -> None:
    core = Core()
    core.create()
    (task,) = core.state.tasks.values()
    assert [limit_of(key, Limits()) for key in limit_keys_of(task)] == [0, 0]
    assert not any(
        is_closed(key, core.state.limits, core.state.running_counts, core.state.durable.pauses)
        for key in limit_keys_of(task)
    )
