"""The queue serves limits without scanning the tasks that they hold, and never gives another task than a scan would."""

import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import FrameType

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tasktrail.actors.core.limits import LimitKey, LimitKind, limit_keys_of
from tasktrail.actors.core.queue import EQUAL, ReadyQueue, Share
from tasktrail.events import Created, TaskState
from tasktrail.events.priority import queue_key
from tasktrail.events.state import create

START = datetime(2026, 1, 1, tzinfo=UTC)


def task(task_id: int, kind: str = "a", user: int = 0, label: str = "", minutes: float = 0) -> TaskState:
    spec = Created(type=kind, user_id=user, label=label)
    return create(task_id, spec, START + timedelta(minutes=minutes))


tasks = st.builds(
    task,
    st.integers(1, 25),
    st.sampled_from("abc"),
    st.integers(0, 2),
    st.sampled_from(["", "x", "y"]),
    st.integers(0, 60),
)
keys = st.sampled_from(
    [(LimitKind.TYPE, kind) for kind in "abc"]
    + [(LimitKind.USER, user) for user in range(3)]
    + [(LimitKind.LABEL, label) for label in "xy"]
)


class QueueBehindGates(RuleBasedStateMachine):
    """Compares with a scanned list. Running tasks hold a place at each of their keys."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: dict[LimitKey, int] = {}
        self.held: Counter[LimitKey] = Counter()
        self.fair = False
        self.starts = 0
        self.last_starts: Counter[int] = Counter()
        self.queue = ReadyQueue(self.is_closed, self.share)
        self.waiting: dict[int, TaskState] = {}
        self.running: dict[int, TaskState] = {}

    def is_closed(self, key: LimitKey) -> bool:
        return self.held[key] >= self.limits.get(key, 100)

    def share(self, user: int) -> Share:
        return Share(self.held[LimitKind.USER, user], self.last_starts[user]) if self.fair else EQUAL

    def best(self) -> int | None:
        free = [one for one in self.waiting.values() if not any(map(self.is_closed, limit_keys_of(one)))]
        first = min(free, key=lambda one: (self.share(one.spec.user_id), *queue_key(one)), default=None)
        return first.id if first else None

    @rule(state=tasks)
    def push(self, state: TaskState) -> None:
        if state.id in self.running:
            return
        old = self.waiting.get(state.id)
        if old is not None and limit_keys_of(old) != limit_keys_of(state):
            self.queue.remove(state.id)  # a task's type, user and label never change
        self.queue.push(state)
        self.waiting[state.id] = state

    @rule()
    def start(self) -> None:
        best = self.best()
        assert self.queue.pop() == best
        if best is not None:
            state = self.running[best] = self.waiting.pop(best)
            self.held.update(limit_keys_of(state))
            self.starts += 1
            self.last_starts[state.spec.user_id] = self.starts
            self.queue.share_changed(state.spec.user_id)

    @rule(pick=st.integers(0, 30))
    def end(self, pick: int) -> None:
        if not self.running:
            return
        state = self.running.pop(sorted(self.running)[pick % len(self.running)])
        self.held.subtract(limit_keys_of(state))
        for key in limit_keys_of(state):
            self.queue.wake(key)
        self.queue.share_changed(state.spec.user_id)

    @rule(task_id=st.integers(1, 25))
    def remove(self, task_id: int) -> None:
        assert self.queue.remove(task_id) == (self.waiting.pop(task_id, None) is not None)

    @rule(key=keys, limit=st.integers(0, 3))
    def set_limit(self, key: LimitKey, limit: int) -> None:
        self.limits[key] = limit
        self.queue.wake_all()

    @rule(fair=st.booleans())
    def share_or_not(self, fair: bool) -> None:  # noqa: FBT001 - hypothesis passes it by name
        self.fair = fair
        self.queue.wake_all()

    @invariant()
    def gives_what_a_scan_would_give(self) -> None:
        assert self.queue.peek() == self.best()
        assert len(self.queue) == len(self.waiting)
        if not self.fair:
            assert self.queue.first(30) == sorted(self.waiting, key=lambda one: queue_key(self.waiting[one]))


TestQueueBehindGates = QueueBehindGates.TestCase
TestQueueBehindGates.settings = settings(deadline=None, max_examples=150, stateful_step_count=40)


def test_what_stands_behind_a_shut_gate_is_not_looked_at_again() -> None:
    asked: Counter[LimitKey] = Counter()

    def is_closed(key: LimitKey) -> bool:
        asked[key] += 1
        return key == (LimitKind.TYPE, "a")

    queue = ReadyQueue(is_closed)
    for number in range(1, 1001):
        queue.push(task(number, "a", user=number % 100))
    for number in range(1001, 2001):
        queue.push(task(number, "b", minutes=5))
    assert [queue.pop() for _ in range(1000)] == list(range(1001, 2001))
    assert asked[LimitKind.TYPE, "a"] == 100, "one look for each bucket, not for each task and each start"


def test_churn_behind_a_shut_gate_leaves_nothing_behind() -> None:
    queue = ReadyQueue(lambda key: key[0] is LimitKind.TYPE)
    for number in range(5000):
        queue.push(task(number % 3 + 1, minutes=-number))
        assert queue.peek() is None
        queue.remove(number % 3 + 1)
    assert sum(map(len, queue._parked.values())) + len(queue._heads) < 300


def test_one_slot_wakes_one_bucket_of_ten_thousand() -> None:
    open_now = [False]
    queue = ReadyQueue(lambda key: key[0] is LimitKind.TYPE and not open_now[0])
    for number in range(1, 10_001):
        queue.push(task(number, user=number))
    assert queue.peek() is None
    open_now[0] = True
    queue.wake((LimitKind.TYPE, "a"))
    assert len(queue._heads) == 1
    assert queue.peek() == 1


def calls_of(number: int) -> int:
    """Return the number of function calls for that many tasks to come and go."""
    queue = ReadyQueue(lambda key: key == (LimitKind.TYPE, "a"))
    waiting = [task(one, "ab"[one % 2], user=one % 1000) for one in range(1, number + 1)]
    calls = 0

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        for one in waiting:
            queue.push(one)
        while queue.pop() is not None:
            pass
    finally:
        sys.setprofile(None)
    assert len(queue) == number // 2
    return calls


def test_the_work_for_each_task_does_not_grow_with_their_number() -> None:
    assert calls_of(16_000) < 1.5 * 4 * calls_of(4_000)
