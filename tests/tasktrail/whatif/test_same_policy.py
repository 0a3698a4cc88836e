"""Under the recorded policy the core makes the recorded starts again: the log holds everything they depend on."""

from random import Random
from typing import Any

import pytest
from asking import ask, ask_about
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from recorded_world import OPERATIONS, World

from tasktrail.actors.core import dispatch
from tasktrail.actors.core.messages import Sampled
from tasktrail.actors.core.resources import MachineSample
from tasktrail.events import CreateTask, Failed, Retried, Started
from tasktrail.events.commands import AddSchedule

ACTIONS = st.lists(
    st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 10**6), st.integers(0, 200)), min_size=5, max_size=40
)


def made(actions: list[tuple[str, int, int]], seed: int) -> World:
    """Make a world in which these things were done, and then everything came to rest."""
    rng = Random(seed)
    world = World(
        slots=rng.choice((1, 2, 3)),
        seed=seed,
        max_concurrent=rng.choice((1, 2, 4)),
        max_memory=100,
        fair_share=rng.random() < 0.3,
        max_per_user=rng.choice((0, 2)),
    )
    for operation, pick, tenths in actions:
        world.act(operation, pick)
        world.go_on(tenths / 10)
    world.settle()
    return world


def by_chance(seed: int, steps: int = 60) -> World:
    rng = Random(seed)
    return made([(rng.choice(OPERATIONS), rng.randrange(10**6), rng.randrange(200)) for _ in range(steps)], seed)


@settings(max_examples=60, deadline=None)
@given(ACTIONS, st.integers(0, 1000))
def test_the_same_policy_makes_the_same_starts(actions: list[tuple[str, int, int]], seed: int) -> None:
    fidelity = ask(made(actions, seed)).fidelity
    assert fidelity.exact, fidelity.first_difference


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1400, 100))
def test_the_same_policy_makes_the_same_starts_in_many_worlds(seed: int) -> None:
    for one in range(seed, seed + 100):
        fidelity = ask(by_chance(one)).fidelity
        assert fidelity.exact, (one, fidelity.first_difference)


def test_the_worlds_have_everything_in_them() -> None:
    """Otherwise the tests above prove little."""
    records = [record for seed in range(20) for record in by_chance(seed).records]
    kinds = {type(record.event).__name__ for record in records}
    outcomes = {getattr(record.event, "outcome", "") for record in records}
    causes = {getattr(record.event, "cause", "") for record in records}
    assert kinds >= {
        "Checkpointed",
        "Cancelled",
        "Adjusted",
        "QueuePaused",
        "QueueResumed",
        "LimitsChanged",
        "ClockJumped",
    }
    assert outcomes >= {"failed", "timed_out", "lost", "interrupted"}
    assert causes >= {"rule", "crash", "recovery", "manual"}


@pytest.mark.parametrize("slots", [1, 2])
def test_an_attempt_that_outlives_a_jump_of_the_clock_outlives_it_again(slots: int) -> None:
    world = World(slots=slots, max_concurrent=slots, length=lambda _run: 30.0)
    for _ in range(3):
        world.create(timeout=60.0, total_timeout=90.0, max_retries=1, retry_delay=1.0)
        world.go_on(7)
    world.set_clock(3600)
    world.settle()
    assert not [record for record in world.records if isinstance(record.event, Failed)]
    fidelity = ask(world).fidelity
    assert fidelity.exact, fidelity.first_difference


def test_a_part_of_the_log_is_played_from_what_was_true_then() -> None:
    world = World(slots=2, max_concurrent=2)
    for number in range(30):
        world.create(priority=number % 5, options={"end": ("completed", "failed")[number % 4 == 0]}, max_retries=1)
        world.go_on(20)
    world.settle()
    records = world.records
    for begin, end in ((40, None), (None, 60), (33, 70), (records[50].recorded_at, records[80].recorded_at)):
        fidelity = ask(world, begin=begin, end=end).fidelity
        assert fidelity.recorded_starts > 5
        assert fidelity.exact, fidelity.first_difference


def test_a_schedule_older_than_the_part_that_is_played_creates_nothing_by_itself() -> None:
    """Its tasks come from the log. If it ran in the play as well, that would create twice as many, and never end."""
    world = World(slots=2, max_concurrent=2, length=lambda _run: 1.0)
    world.send(AddSchedule(schedule="each minute", every=60.0, task=CreateTask(type="work")))
    world.go_on(600)
    begin = next(record.position for record in world.records if record.task_id == 3)
    answer = ask(world, begin=begin, end=len(world.records), max_concurrent=1)
    assert answer.fidelity.exact, answer.fidelity.first_difference
    assert answer.fidelity.recorded_starts == 8
    assert ask(world, begin=begin).rows[-1].replayed.started == 8


def test_a_kill_for_lack_of_memory_is_played_as_it_was_judged() -> None:
    """Two of the four kills were no crashes, since more was reserved after each. The other two came with no more."""
    world = World(slots=2, max_concurrent=2, max_memory=100, length=lambda _run: 3.0)
    world.core.tell(Sampled(MachineSample(memory_available=200, memory_total=200)))
    killed = world.create(memory=10, options={"end": "lost", "takes": 25})
    for _ in range(12):
        world.create(memory=30)
        world.go_on(2)
    world.settle()
    expected = [record.event.estimate for record in world.records if isinstance(record.event, Retried)]
    assert [one and one.memory for one in expected] == [50, None, None]
    assert world.core.read(killed).attempt == 4
    fidelity = ask(world).fidelity
    assert fidelity.exact, fidelity.first_difference


def test_a_start_that_the_core_would_not_have_made_is_told() -> None:
    """The play does not copy the log: after a change of the recorded starts, the difference is found."""
    world = World(slots=1, max_concurrent=1)
    for priority in (1, 2, 9, 3):
        world.create(priority=priority)
    world.settle()
    records = world.records
    starts = [record for record in records if isinstance(record.event, Started)]
    other = {starts[1].position: starts[2].task_id, starts[2].position: starts[1].task_id}
    forged = [replace(record, task_id=other.get(record.position, record.task_id)) for record in records]
    fidelity = ask_about(forged, world.limits, 1).fidelity
    assert not fidelity.exact
    assert fidelity.first_difference is not None
    assert fidelity.first_difference.number == 2


def test_a_fault_in_the_core_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record comes from a core that obeyed the limits; a core that does not plays it."""
    world = World(slots=3, max_concurrent=3, max_memory=10)
    for _ in range(6):
        world.create(memory=8)
    world.settle()
    assert ask(world).fidelity.exact
    monkeypatch.setattr(dispatch, "fits", lambda *_: True)
    assert not ask(world).fidelity.exact


def test_two_plays_of_one_log_are_equal() -> None:
    world = by_chance(7)
    assert ask(world, max_concurrent=3) == ask(world, max_concurrent=3)


def test_when_a_stopped_attempt_was_gone_shows_in_the_log() -> None:
    world = World(slots=1, max_concurrent=1)
    world.stopping = 0.2
    for _ in range(3):
        world.create()
    world.go_on(0.5)
    world.act("cancel", 0)
    world.settle()
    assert ask(world).fidelity.exact


def test_timers_and_workers_that_are_late_show_in_the_log() -> None:
    """A service takes a while to get its workers ready, and a timer goes off late."""
    world = World(slots=2, max_concurrent=2)
    late: dict[str, Any] = {"retry_delay": 5.0, "max_retries": 1, "options": {"end": "failed"}}
    world.create(**late)
    world.create()
    world.lateness = 0.037
    world.settle()
    world.restart(stop=False, pause=10, ready_after=0.4)
    world.create()
    world.settle()
    assert ask(world).fidelity.exact
