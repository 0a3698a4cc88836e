"""With fair share the queue is shown in the order in which users take turns."""

from collections.abc import Callable

import pytest
from core_harness import Core
from hypothesis import given, settings
from hypothesis import strategies as st

from tasktrail.actors.core import queue
from tasktrail.actors.core.board import queue_board
from tasktrail.events import Started
from tasktrail.events.commands import PauseQueue, ResumeQueue
from tasktrail.events.reports import CapacityChanged

wishes = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": st.integers(1, 4),
            "priority": st.integers(0, 10),
            "type": st.sampled_from(["work", "other"]),
            "label": st.sampled_from(["", "x"]),
        }
    ),
    max_size=12,
)


def test_whose_turn_it_is_comes_before_the_priority(make_core: Callable[..., Core]) -> None:
    core = make_core(slots=1, fair_share=True)
    core.create(user_id=1)
    mine, next_of_mine = (core.create(user_id=1, priority=10) for _ in range(2))
    other = core.create(user_id=2)
    assert [one.task_id for one in queue_board(core.state, core.now, 10).entries] == [other, mine, next_of_mine]
    assert core.why(other).place == 1
    assert [one.task_id for one in core.why(next_of_mine).ahead] == [other, mine]
    core.end(1)
    assert core.running() == [other]


@settings(deadline=None)
@given(past=wishes, waiting=wishes, slots=st.integers(0, 6), fair=st.booleans())
def test_the_order_is_that_of_the_starts_when_there_are_slots_for_all(
    past: list[dict[str, object]], waiting: list[dict[str, object]], slots: int, *, fair: bool
) -> None:
    """Some are running already, some have run, and users differ in all of it."""
    core = Core(slots=slots, max_concurrent=100, fair_share=fair, grace={"work": 0.5, "other": 0.5})
    for one in past:
        core.create(**one)  # type: ignore[arg-type]  # fields of a command
    for task_id in core.running()[::2]:
        core.end(task_id)
    core.send(PauseQueue())
    for one in waiting:
        core.create(**one)  # type: ignore[arg-type]  # fields of a command
    shown = [one.task_id for one in queue_board(core.state, core.now, 100).entries]
    places = {task_id: core.why(task_id) for task_id in shown}
    core.tell(CapacityChanged(100))
    core.send(ResumeQueue())
    assert [fact.task_id for fact in core.facts if isinstance(fact.event, Started)] == shown
    for place, task_id in enumerate(shown, 1):
        assert places[task_id].place == place
        assert [one.task_id for one in places[task_id].ahead] == shown[: min(place - 1, 10)]


def test_a_user_who_is_forgotten_is_not_kept_behind_those_who_are_new(
    make_core: Callable[..., Core], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "KNOWN_USERS", 3)
    core = make_core(slots=1, fair_share=True)
    core.end(core.create(user_id=1))
    core.create(user_id=2)
    mine = core.create(user_id=1, priority=10)
    for user in range(3, 9):
        core.create(user_id=user)
    started = []
    for _ in range(5):
        core.end(core.running()[0])
        started += core.running()
    assert core.state.durable.fair_share.of(1) > 0
    assert started.index(mine) == 2  # users 2, 3 and 4 were remembered instead
