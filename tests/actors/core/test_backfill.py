"""Smaller tasks may start past one that does not fit, but not for ever, and a task that never fits stops no other."""

from collections.abc import Callable
from typing import Any

import pytest
from core_harness import Core

from tasktrail.actors.core import dispatch
from tasktrail.actors.core.board import queue_board
from tasktrail.actors.core.dispatch import BACKFILL_BOUND, BACKFILL_DEPTH
from tasktrail.actors.core.explanation import STANDS_ASIDE
from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import LimitsConfigured, Sampled, Tick
from tasktrail.actors.core.resources import MachineSample
from tasktrail.actors.core.state import SchedulerState
from tasktrail.events.errors import CannotStartNow

MakeCore = Callable[..., Core]


def a_full_machine(make_core: MakeCore) -> tuple[Core, int]:
    """Make a core where a long task takes 6 of 10 bytes, and a big one that needs 8 is first in the queue."""
    core = make_core(slots=2, max_memory=10)
    core.create(memory=6)
    return core, core.create(memory=8, priority=5)


def overtakings(core: Core, big: int, tries: int) -> int:
    """Return how many of a number of small tasks start past the big one. Each ends at once."""
    started = 0
    for _ in range(tries):
        small = core.create(memory=1)
        if small not in core.running():
            core.cancel(small)
            continue
        assert big not in core.running()
        core.end(small)
        started += 1
    return started


def test_a_smaller_task_starts_past_one_that_does_not_fit(make_core: MakeCore) -> None:
    core, _ = a_full_machine(make_core)
    small = core.create(memory=4)
    assert small in core.running()


def test_the_head_is_overtaken_so_often_and_no_more(make_core: MakeCore) -> None:
    core, big = a_full_machine(make_core)
    assert overtakings(core, big, BACKFILL_BOUND + 10) == BACKFILL_BOUND


def test_the_head_starts_as_soon_as_it_fits(make_core: MakeCore) -> None:
    core, big = a_full_machine(make_core)
    overtakings(core, big, BACKFILL_BOUND + 1)
    waiting = core.create(memory=1)
    core.end(1)
    assert core.running() == [big, waiting]


def test_better_tasks_that_come_and_go_do_not_reset_the_bound(make_core: MakeCore) -> None:
    core, big = a_full_machine(make_core)
    started = 0
    for _ in range(10):
        started += overtakings(core, big, BACKFILL_BOUND // 2)
        better = core.create(memory=1, priority=10)
        core.end(better)
    assert started == BACKFILL_BOUND


def test_a_better_head_that_does_not_fit_does_not_reset_the_bound_of_the_one_behind_it(make_core: MakeCore) -> None:
    core, big = a_full_machine(make_core)
    started = 0
    for _ in range(10):
        bigger = core.create(memory=9, priority=10)
        started += overtakings(core, big, BACKFILL_BOUND // 2)
        core.cancel(bigger)
    assert started == BACKFILL_BOUND


def test_a_task_that_starts_counts_from_nothing_when_it_waits_again(make_core: MakeCore) -> None:
    core, big = a_full_machine(make_core)
    overtakings(core, big, BACKFILL_BOUND)
    core.end(1)
    core.end(big, "lost")
    assert core.running() == [big]
    core.end(big, "lost")  # now it waits a second, and 6 bytes are taken again
    core.create(memory=6)
    core.wait(1)
    core.tell(Tick())
    assert overtakings(core, big, BACKFILL_BOUND + 1) == BACKFILL_BOUND


def test_nothing_is_kept_for_a_task_that_needs_more_than_is_allowed(make_core: MakeCore) -> None:
    core = make_core(slots=2, max_memory=10)
    huge = [core.create(memory=11, priority=9) for _ in range(BACKFILL_DEPTH + 1)]
    core.create(memory=6)
    assert overtakings(core, huge[0], 3 * BACKFILL_BOUND) == 3 * BACKFILL_BOUND


def test_nothing_is_kept_for_a_task_that_needs_more_than_the_machine_has(make_core: MakeCore) -> None:
    core = make_core(slots=2)
    core.tell(Sampled(MachineSample(memory_available=6, memory_total=10)))
    huge = core.create(memory=11, priority=9)
    assert overtakings(core, huge, 3 * BACKFILL_BOUND) == 3 * BACKFILL_BOUND


def test_a_task_too_big_for_the_limits_starts_when_they_are_raised(make_core: MakeCore) -> None:
    core = make_core(max_memory=10)
    huge = core.create(memory=11)
    core.tell(LimitsConfigured(Limits(max_memory=11)))
    assert core.running() == [huge]


def test_a_task_too_big_for_the_machine_starts_when_that_has_grown(make_core: MakeCore) -> None:
    core = make_core()
    core.tell(Sampled(MachineSample(memory_available=6, memory_total=10)))
    huge = core.create(memory=11)
    core.tell(Sampled(MachineSample(memory_available=15, memory_total=20)))
    assert core.running() == [huge]


def test_a_task_too_big_can_be_cancelled_and_does_not_come_back(make_core: MakeCore) -> None:
    core = make_core(max_memory=10)
    huge = core.create(memory=11)
    core.cancel(huge)
    core.tell(LimitsConfigured(Limits(max_memory=11)))
    assert core.running() == []


def test_a_task_too_big_says_so_when_it_is_to_start_now(make_core: MakeCore) -> None:
    core = make_core(max_memory=10)
    huge = core.create(memory=11)
    answer = core.start(huge)
    assert isinstance(answer, CannotStartNow)
    assert "needs 11 bytes, 10 are left of max_memory" in str(answer)


def test_when_nothing_runs_that_could_make_room_others_go_on(make_core: MakeCore) -> None:
    core = make_core()
    core.tell(Sampled(MachineSample(temp_free=5)))
    big = core.create(temp=6, priority=9)
    assert overtakings(core, big, 3 * BACKFILL_BOUND) == 3 * BACKFILL_BOUND


def test_no_room_is_kept_where_others_hold_what_is_missing(make_core: MakeCore) -> None:
    """Attempts here hold 20 of the 100 bytes, other programs 30: 75 will not be there, whatever ends."""
    core = make_core(slots=3)
    core.create(memory=20)
    core.tell(Sampled(MachineSample(memory_available=50, memory_total=100)))
    big = core.create(memory=75, priority=9)
    assert overtakings(core, big, 3 * BACKFILL_BOUND) == 3 * BACKFILL_BOUND
    core.tell(Sampled(MachineSample(memory_available=60, memory_total=100)))
    assert overtakings(core, big, 3 * BACKFILL_BOUND) == BACKFILL_BOUND, "now it is there once the first one ends"
    core.end(1)
    core.tell(Sampled(MachineSample(memory_available=80, memory_total=100)))
    assert core.running() == [big]


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("need", ["memory", "temp"])
def test_what_an_attempt_held_is_not_taken_for_lost_until_the_next_sample(
    make_core: MakeCore, slots: int, need: str
) -> None:
    """An attempt ends some time before the sample that shows the memory it gave back."""
    core = make_core(slots=slots)

    def sample() -> None:
        left = 10 - sum(getattr(one.reserved_for, f"{need}_needed") for one in core.state.running.values())
        core.tell(Sampled(MachineSample(memory_available=left) if need == "memory" else MachineSample(temp_free=left)))

    def create(amount: int, **fields: Any) -> int:
        return core.create(**{need: amount, **fields})

    sample()
    create(3)
    big = create(8, priority=10)
    small = [create(3) for _ in range(2 * BACKFILL_BOUND)]
    for _ in small:
        core.wait(1)
        sample()
        if big in core.running():
            break
        core.end(core.running()[0])
    assert big in core.running()
    assert sum(one not in core.state.tasks for one in small) <= BACKFILL_BOUND


def test_the_queue_tells_how_many_stand_aside(make_core: MakeCore) -> None:
    core = make_core(max_memory=10)
    for _ in range(3):
        core.create(memory=11)
    board = queue_board(core.state, core.now, 10)
    assert (board.ready, board.blocked, board.aside, board.entries) == (0, 0, 3, ())


def test_of_many_that_stood_aside_the_best_comes_back_first(make_core: MakeCore) -> None:
    core = make_core(slots=1, max_memory=10)
    best = core.create(memory=12, priority=10)
    for _ in range(BACKFILL_DEPTH):
        core.create(memory=11)
    core.tell(LimitsConfigured(Limits(max_memory=12)))
    assert core.running() == [best]


def test_why_says_of_a_task_that_stands_aside_that_others_go_ahead(make_core: MakeCore) -> None:
    core = make_core(slots=3)
    core.create(memory=20)
    core.tell(Sampled(MachineSample(memory_available=50, memory_total=100)))
    big = core.create(memory=75)
    answer = core.why(big)
    assert answer.remark == STANDS_ASIDE
    core.tell(Sampled(MachineSample(memory_available=60, memory_total=100)))
    answer = core.why(big)
    assert answer.remark == ""


def test_no_room_is_kept_for_more_than_the_disk_has(make_core: MakeCore) -> None:
    core = make_core(slots=3)
    core.tell(Sampled(MachineSample(temp_free=50)))
    core.create(temp=20)
    big = core.create(temp=51, priority=9)
    assert overtakings(core, big, 3 * BACKFILL_BOUND) == 3 * BACKFILL_BOUND


def test_those_that_stand_aside_do_not_hide_who_is_behind_them(make_core: MakeCore) -> None:
    core = make_core(slots=2)
    core.tell(Sampled(MachineSample(memory_available=10, memory_total=100)))
    aside = [core.create(memory=11, priority=9) for _ in range(2 * BACKFILL_DEPTH)]
    small = core.create(memory=1)
    assert core.running() == [small]
    core.tell(Sampled(MachineSample(memory_available=12, memory_total=100)))
    core.end(small)
    assert core.running() == [aside[0]]


def test_a_look_that_found_nobody_is_not_taken_again_until_something_has_changed(
    make_core: MakeCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    core, big = a_full_machine(make_core)
    looks: list[object] = []
    look = dispatch._next_fitting

    def noted(state: SchedulerState) -> object:
        looks.append(state)
        return look(state)

    monkeypatch.setattr(dispatch, "_next_fitting", noted)
    core.progress(1, 10.0)
    core.create(held=True)
    core.wait(5)
    core.tell(Tick())
    assert looks == []
    core.create(memory=9)
    assert looks
    core.end(1)
    assert core.running() == [big]


def test_nothing_at_all_starts_while_the_processors_are_busy(make_core: MakeCore) -> None:
    core = make_core(slots=2, max_cpu=50.0)
    core.tell(Sampled(MachineSample(cpu_percent=51.0)))
    task_id = core.create()
    assert core.running() == []
    core.tell(Sampled(MachineSample(cpu_percent=50.0)))
    assert core.running() == [task_id]


def test_a_fitting_task_is_looked_for_only_so_far_down_the_queue(make_core: MakeCore) -> None:
    core, _ = a_full_machine(make_core)
    for _ in range(BACKFILL_DEPTH - 1):
        core.create(memory=9, priority=1)
    small = core.create(memory=1)
    assert small not in core.running()
