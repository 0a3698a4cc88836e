"""The queue gives the task with the highest dynamic priority by the seed's formula, and behaves as its TaskQueue."""

from datetime import UTC, datetime, timedelta

import pytest
from core_harness import Core
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tasktrail.actors.core.queue import ReadyQueue
from tasktrail.events import Created, TaskState
from tasktrail.events.state import create

START = datetime(2026, 1, 1, tzinfo=UTC)

tasks = st.builds(
    lambda task_id, priority, level, minutes, long: task(task_id, priority, level, minutes * 60, 3601.0 if long else 0),
    st.integers(1, 30),
    st.integers(0, 10),
    st.integers(0, 2),
    st.integers(0, 40),
    st.booleans(),
)


def task(
    task_id: int, priority: int = 0, level: int = 0, waits_from: float = 0.0, estimated_time: float = 0.0
) -> TaskState:
    spec = Created(type="work", priority=priority, user_level=level, estimated_time=estimated_time)
    return create(task_id, spec, START + timedelta(seconds=waits_from))


def seed_priority(state: TaskState, now: datetime) -> int:
    """Return the seed's CalculatePriority, in the seed's words; exact when whole minutes have passed."""
    priority = state.priority
    priority += state.spec.user_level * 10
    priority += int((now - state.created_at).total_seconds() / 60)
    if state.spec.estimated_time > 3600:
        priority -= 20
    return priority


@settings(deadline=None)
@given(st.lists(tasks, unique_by=lambda state: state.id, min_size=1), st.integers(0, 10_000))
def test_the_order_is_that_of_the_seeds_priority(waiting: list[TaskState], minutes: int) -> None:
    queue = ReadyQueue()
    for state in waiting:
        queue.push(state)
    now = START + timedelta(minutes=40 + minutes)
    expected = sorted(waiting, key=lambda state: (-seed_priority(state, now), state.id))
    assert [queue.pop() for _ in waiting] == [state.id for state in expected]


@settings(deadline=None)
@given(st.lists(tasks, unique_by=lambda state: state.id), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_order_of_pushing(waiting: list[TaskState], rng: "st.random") -> None:  # type: ignore[name-defined]  # hypothesis' stand-in for random.Random
    one, other = ReadyQueue(), ReadyQueue()
    for state in waiting:
        one.push(state)
    rng.shuffle(waiting)
    for state in waiting:
        other.push(state)
    assert [one.pop() for _ in waiting] == [other.pop() for _ in waiting]


class QueueAgainstModel(RuleBasedStateMachine):
    """Compares the heap with its stale entries to a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = ReadyQueue()
        self.model: dict[int, TaskState] = {}

    def best(self) -> int | None:
        now = START + timedelta(days=1)
        return min(self.model, key=lambda i: (-seed_priority(self.model[i], now), i), default=None)

    @rule(state=tasks)
    def push(self, state: TaskState) -> None:
        self.queue.push(state)
        self.model[state.id] = state

    @rule()
    def pop(self) -> None:
        best = self.best()
        assert self.queue.pop() == best
        if best is not None:
            del self.model[best]

    @rule(task_id=st.integers(1, 30))
    def remove(self, task_id: int) -> None:
        assert self.queue.remove(task_id) == (self.model.pop(task_id, None) is not None)

    @invariant()
    def agrees(self) -> None:
        assert self.queue.peek() == self.best()
        assert len(self.queue) == len(self.model)
        assert all((i in self.queue) == (i in self.model) for i in range(31))


TestQueueAgainstModel = QueueAgainstModel.TestCase
TestQueueAgainstModel.settings = settings(deadline=None)


def test_an_empty_queue_has_nothing_to_give() -> None:
    queue = ReadyQueue()
    assert (queue.pop(), queue.peek(), len(queue), queue.remove(1)) == (None, None, 0, False)


def test_peek_leaves_the_task_where_it_is() -> None:
    queue = ReadyQueue()
    queue.push(task(1))
    assert (queue.peek(), queue.peek(), len(queue)) == (1, 1, 1)


def entries(queue: ReadyQueue) -> int:
    """Return everything the queue keeps, including stale entries."""
    heads = len(queue._heads) + sum(len(parked) for parked in queue._parked.values())
    return (
        heads + sum(len(bucket.heap) for bucket in queue._buckets.values()) + len(queue._buckets) + len(queue._of_user)
    )


@pytest.mark.parametrize("rounds", [1000])
def test_tasks_that_come_and_go_leave_nothing_behind(rounds: int) -> None:
    queue = ReadyQueue()
    for number in range(rounds):
        queue.push(task(1 + number % 7, priority=number % 11))
        queue.push(task(1 + number % 7, priority=(number + 1) % 11))
        queue.remove(1 + number % 7)
    assert entries(queue) < 200


def test_tasks_that_move_leave_nothing_behind() -> None:
    queue = ReadyQueue()
    for number in range(1000):
        queue.push(task(1, priority=number % 11))
    assert entries(queue) < 200
    assert (queue.pop(), queue.pop()) == (1, None)


def test_a_user_level_outweighs_ten_minutes_of_waiting(core: Core) -> None:
    core.create()
    old = core.create()
    core.wait(599)
    favoured = core.create(user_level=1)
    core.end(1)
    assert core.running() == [favoured]
    core.end(favoured)
    assert core.running() == [old]


def test_a_task_that_waits_long_enough_overtakes_a_better_one(core: Core) -> None:
    core.create()
    old = core.create(priority=0)
    core.wait(601)
    core.create(priority=10)
    core.end(1)
    assert core.running() == [old]


def test_more_than_an_hour_of_expected_work_costs_twenty_points(core: Core) -> None:
    core.create()
    long = core.create(priority=10, estimated_time=3601.0)
    hour = core.create(priority=0, estimated_time=3600.0)
    core.end(1)
    assert core.running() == [hour]
    core.end(hour)
    assert core.running() == [long]


def test_equals_run_in_order_of_creation(core: Core) -> None:
    created = [core.create() for _ in range(5)]
    for task_id in created:
        assert core.running() == [task_id]
        core.end(task_id)


def test_a_retry_keeps_its_place_by_its_first_creation(core: Core) -> None:
    first = core.create(max_retries=1, retry_delay=0.0)
    core.wait(1)
    core.create()
    core.end(first, "failed", error="connection refused")
    assert core.running() == [first]


def test_the_wait_for_a_schedule_earns_nothing(core: Core) -> None:
    core.create()
    scheduled = core.create(scheduled_for=core.now + timedelta(seconds=900))
    core.wait(600)
    plain = core.create()
    core.wait(400)
    core.end(1)
    assert core.running() == [plain]
    assert core.state.tasks[scheduled].waiting
