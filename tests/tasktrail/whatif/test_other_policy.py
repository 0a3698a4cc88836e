"""The table for another policy."""

import pytest
from asking import ask
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_world import World

from tasktrail.config.settings import Config
from tasktrail.events.commands import SetLimits
from tasktrail.events.errors import InvalidValue
from tasktrail.whatif.answer import WhatIf
from tasktrail.whatif.ask import what_if
from tasktrail.whatif.timeline import Measures


def asked(answer: WhatIf, task_type: str = "") -> Measures:
    (row,) = [row for row in answer.rows if row.type == task_type]
    assert row.asked is not None
    return row.asked


def about(seconds: float | None) -> int:
    """Round to the second: a world separates its events by microseconds."""
    assert seconds is not None
    return round(seconds)


def equal_tasks(number: int, slots: int) -> World:
    """Create a number of tasks at once, a minute each."""
    world = World(slots=slots, max_concurrent=slots, length=lambda _run: 60.0)
    for _ in range(number):
        world.create()
    world.settle()
    return world


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 25), st.integers(1, 4), st.integers(1, 6))
def test_more_slots_never_make_equal_independent_tasks_end_later(number: int, slots: int, more: int) -> None:
    answer = ask(equal_tasks(number, slots), workers=slots + more, max_concurrent=slots + more)
    replayed, wider = answer.rows[-1].replayed.makespan, asked(answer).makespan
    assert replayed is not None
    assert wider is not None
    assert wider <= replayed
    assert about(replayed) == 60 * -(-number // slots)
    assert about(wider) == 60 * -(-number // (slots + more))


def test_a_limit_of_a_type_makes_that_type_wait_and_lets_others_go_first() -> None:
    world = World(slots=2, max_concurrent=2, length=lambda _run: 10.0)
    for number in range(20):
        world.create(type=("long", "work")[number % 2])
    world.settle()
    answer = ask(world, types={"long": 1})
    assert about(asked(answer, "long").wait_max) == 90
    assert about(asked(answer, "work").wait_max) == 90
    two = ask(world, types={"long": 1}, max_concurrent=3, workers=3)
    assert about(asked(two, "work").wait_max) == 40
    assert about(asked(two, "long").wait_max) == 90
    assert two.moved is not None
    assert two.moved.earlier > 0


def test_without_the_bonus_of_users_the_first_come_goes_first() -> None:
    world = World(slots=1, max_concurrent=1, length=lambda _run: 10.0)
    for level in (0, 0, 5):
        world.create(user_level=level)
    world.settle()
    answer = ask(world, user_bonus=False)
    assert {change.task_id: about(change.moved) for change in answer.changed} == {2: -10, 3: 10}
    assert answer.rows[-1].replayed.overtaken == 0
    assert answer.moved is not None
    assert (answer.moved.earlier, answer.moved.later, answer.moved.same) == (1, 1, 1)


def test_a_smaller_bound_on_backfilling_keeps_room_for_a_large_task_sooner() -> None:
    world = World(slots=3, max_concurrent=3, max_memory=10, length=lambda _run: 10.0)
    world.create(memory=4)
    world.go_on(1)
    world.create(memory=10, priority=10)
    for _ in range(40):
        world.create(memory=4)
        world.go_on(2)
    world.settle()
    starts = {row: ask(world, backfill_bound=row).changed for row in (0, 5)}
    moved = {bound: next(one.moved for one in rows if one.task_id == 2) for bound, rows in starts.items()}
    assert moved[0] is not None
    assert moved[5] is not None
    assert moved[0] < moved[5] < 0


def test_fair_share_lets_a_user_who_comes_late_go_first() -> None:
    world = World(slots=2, max_concurrent=2, length=lambda _run: 10.0)
    for _ in range(10):
        world.create(user_id=1)
    late = world.create(user_id=2)
    world.settle()
    (change,) = [one for one in ask(world, fair_share=True).changed if one.task_id == late]
    assert about(change.moved) == -40


def test_a_limit_that_is_asked_for_outlives_recorded_changes() -> None:
    world = World(slots=4, max_concurrent=4, length=lambda _run: 10.0)
    world.send(SetLimits(max_concurrent=1, max_per_user=1))
    for _ in range(8):
        world.create()
    world.send(SetLimits(reset=True))
    world.settle()
    answer = ask(world, max_concurrent=2)
    assert about(answer.rows[-1].replayed.makespan) == 20
    assert about(asked(answer).makespan) == 40


def test_attempts_that_the_log_does_not_tell_are_guessed_and_counted() -> None:
    world = World(slots=1, max_concurrent=1, length=lambda _run: 10.0)
    first, second = world.create(), world.create()
    world.create()
    world.go_on(5)
    world.core.cancel(second)
    world.settle()
    answer = ask(world, workers=2, max_concurrent=2)
    assert answer.asked is not None
    assert answer.asked.guessed == 0
    assert answer.asked.refused == 0
    assert [one.task_id for one in answer.changed] == [second, 3]
    assert answer.changed[0].replayed is None
    assert first not in {one.task_id for one in answer.changed}
    longer = World(slots=1, max_concurrent=1, length=lambda _run: 10.0)
    longer.create()
    longer.create()
    longer.go_on(11)
    longer.core.cancel(2)
    longer.settle()
    sooner = ask(longer, workers=2, max_concurrent=2)
    assert sooner.asked is not None
    assert (sooner.asked.guessed, sooner.asked.refused) == (1, 1)


def test_as_many_tasks_are_listed_as_are_wanted() -> None:
    world = equal_tasks(12, 1)
    assert len(ask(world, workers=2, max_concurrent=2, rows=3).changed) == 3
    assert ask(world, workers=2, max_concurrent=2, rows=0).changed == ()


def test_waiting_is_counted_from_the_time_that_a_task_is_meant_for() -> None:
    world = World(slots=1, max_concurrent=1, length=lambda _run: 10.0)
    world.create(scheduled_for=world.core.now.replace(minute=5))
    world.settle()
    assert ask(world).rows[-1].recorded.wait_max == 0.0


def test_a_rate_spreads_the_starts() -> None:
    answer = ask(equal_tasks(6, slots=6), rates={"type:work": "2/m"})
    assert about(answer.rows[-1].replayed.wait_max) == 0
    assert about(asked(answer).wait_max) == 120
    assert answer.moved is not None
    assert (answer.moved.same, answer.moved.later) == (2, 4)


def test_a_recorded_rate_is_kept_to_in_the_play() -> None:
    world = World(slots=6, rates={"type:work": "2/m"}, length=lambda _run: 10.0)
    for _ in range(6):
        world.create()
    world.settle()
    answer = ask(world)
    assert answer.fidelity.exact
    assert about(answer.rows[-1].replayed.wait_max) == 120
    assert about(asked(ask(world, rates={"type:work": "3/m"})).wait_max) == 60


def test_windows_keep_a_type_until_they_open() -> None:
    config = Config(workers=2, max_concurrent=2)
    answer = what_if(equal_tasks(2, slots=2).records, config, windows=["work=1-2"])
    assert about(asked(answer).wait_max) == 3600
    with pytest.raises(InvalidValue, match="is no window of time"):
        what_if(equal_tasks(1, slots=1).records, config, windows=["work=1"])


def test_windows_do_not_keep_a_play_going_when_the_tasks_that_wait_can_never_start() -> None:
    """Windows open and close for ever, and with nothing else to come the play looked at each of them without end."""
    world = World(slots=1, max_concurrent=1, length=lambda _run: 60.0)
    world.create(worker_label="gpu")
    world.create()
    world.settle()
    config = Config(workers=1, max_concurrent=1, windows=("work=1-2", "other=sun 3-4"))
    answer = what_if(world.records, config, max_concurrent=2)
    assert (answer.rows[-1].replayed.started, asked(answer).started) == (1, 1)


def test_tasks_that_nobody_had_a_worker_for_start_where_some_offer_the_label() -> None:
    world = World(slots=3, length=lambda _run: 10.0)
    for _ in range(4):
        world.create(worker_label="gpu")
    world.settle()
    answer = ask(world, worker_labels={"gpu": 2})
    assert answer.rows[-1].replayed.started == 0
    assert asked(answer).started == 4
