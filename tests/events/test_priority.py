"""A heap with a fixed key gives the order of the effective priority at any time, so no queue is ever sorted again."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events import Created, TaskState
from tasktrail.events.priority import queue_key, static_priority, terms
from tasktrail.events.state import create

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
seconds = st.integers(0, 10**7)


@st.composite
def tasks(draw: st.DrawFn) -> list[TaskState]:
    """Draw tasks that wait at `NOW`, since their creation or since the time they were scheduled for."""
    states = []
    for task_id in range(1, draw(st.integers(2, 12))):
        created_at = NOW - timedelta(seconds=draw(seconds))
        scheduled = draw(st.none() | st.integers(-(10**7), 10**7))
        scheduled_for = None if scheduled is None else min(NOW, created_at + timedelta(seconds=scheduled))
        event = Created(
            type="noop",
            priority=draw(st.integers(0, 10)),
            user_level=draw(st.integers(0, 5)),
            estimated_time=draw(st.sampled_from([0.0, 3600.0, 3600.1, 1e6])),
            scheduled_for=scheduled_for,
        )
        states.append(create(task_id, event, created_at))
    return states


@given(tasks(), seconds)
def test_the_order_of_keys_is_the_order_of_effective_priority_at_any_time(states: list[TaskState], later: int) -> None:
    now = NOW + timedelta(seconds=later)
    queue = [terms(state, now).total for state in sorted(states, key=queue_key)]
    assert all(first >= second - 1e-6 for first, second in pairwise(queue))


@given(tasks())
def test_of_equals_the_older_task_runs_first(states: list[TaskState]) -> None:
    keys = [queue_key(state) for state in states]
    assert len(set(keys)) == len(keys)
    for state in states:
        twin = create(state.id + 100, state.spec, state.created_at)
        assert queue_key(state) < queue_key(twin)


@given(tasks(), seconds)
def test_everybody_gains_a_point_a_minute(states: list[TaskState], later: int) -> None:
    for state in states:
        gained = terms(state, NOW + timedelta(seconds=later)).total - terms(state, NOW).total
        assert abs(gained - later / 60) < 0.0011, "both are told in thousandths"


@given(tasks())
def test_before_its_time_a_task_has_its_static_priority(states: list[TaskState]) -> None:
    for state in states:
        assert terms(state, state.waiting_since - timedelta(seconds=1)).total == static_priority(state)
