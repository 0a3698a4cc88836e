"""Reservations are exact, and each obstacle comes with its numbers."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from core_harness import Core
from hypothesis import given, settings
from hypothesis import strategies as st

from tasktrail.actors.core.explanation import WaitReason, obstacles, why_not_now
from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import LimitsConfigured, Sampled
from tasktrail.actors.core.resources import MachineSample, Reserved, ceiling_of, fits
from tasktrail.actors.core.unit_of_work import UnitOfWork
from tasktrail.events import Created
from tasktrail.events.errors import CannotStartNow
from tasktrail.events.reports import AttemptEnd, CapacityChanged
from tasktrail.events.state import create

MakeCore = Callable[..., Core]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_what_a_task_needs_is_reserved_when_it_starts_and_given_back_when_it_is_gone(core: Core) -> None:
    task_id = core.create(memory=5, temp=7)
    assert (core.state.reserved.memory, core.state.reserved.temp) == (5, 7)
    core.cancel(task_id)
    assert (core.state.reserved.memory, core.state.reserved.temp) == (5, 7), "its process tree is still there"
    core.end(task_id, "stopped")
    assert core.state.reserved == Reserved()


@pytest.mark.parametrize("outcome", ["completed", "failed", "rejected", "stopped", "lost"])
def test_every_end_gives_back_what_was_reserved(core: Core, outcome: AttemptEnd) -> None:
    task_id = core.create(memory=5, temp=7)
    core.create(type="other")  # no handler: it never runs
    core.end(task_id, outcome)
    running = len(core.state.running)
    assert (core.state.reserved.memory, core.state.reserved.temp) == (5 * running, 7 * running)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10), st.integers(0, 9)), max_size=20))
def test_the_sum_of_promises_is_that_of_the_running_tasks(needs: list[tuple[int, int, int]]) -> None:
    core = Core(slots=5, max_concurrent=5, max_memory=20, max_temp_size=20)
    for memory, temp, ends in needs:
        core.create(memory=memory, temp=temp)
        if ends < len(core.running()):
            core.end(core.running()[ends])
        specs = [core.state.tasks[task_id].spec for task_id in core.running()]
        assert core.state.reserved.memory == sum(spec.estimated_memory for spec in specs) <= 20
        assert core.state.reserved.temp == sum(spec.estimated_temp for spec in specs) <= 20


@pytest.mark.parametrize(
    ("limits", "sample", "reason", "detail"),
    [
        (
            Limits(max_memory=9999),
            MachineSample(),
            WaitReason.MEMORY,
            "needs 4,000 bytes, 3,999 are left of max_memory",
        ),
        (
            Limits(),
            MachineSample(memory_available=3999),
            WaitReason.MEMORY,
            "needs 4,000 bytes, 3,999 are left of the machine",
        ),
        (Limits(max_cpu=80), MachineSample(cpu_percent=81), WaitReason.CPU, "81 % is used, max_cpu is 80 %"),
        (
            Limits(max_temp_size=80),
            MachineSample(),
            WaitReason.TEMP_SPACE,
            "needs 50 bytes, 30 are left of max_temp_size",
        ),
        (Limits(), MachineSample(temp_free=49), WaitReason.TEMP_SPACE, "needs 50 bytes, 49 are left of the disk"),
    ],
)
def test_an_obstacle_names_its_numbers(
    core: Core, limits: Limits, sample: MachineSample, reason: WaitReason, detail: str
) -> None:
    task = core.state.tasks[core.create(memory=4000, temp=50)]
    (found,) = obstacles(task, limits, sample, Reserved(memory=6000, temp=50))
    assert (found.reason, found.detail) == (reason, detail)


def test_what_just_fits_fits(core: Core) -> None:
    task = core.state.tasks[core.create(memory=4, temp=5)]
    limits = Limits(max_memory=10, max_cpu=50, max_temp_size=10)
    sample = MachineSample(cpu_percent=50, memory_available=4, temp_free=5)
    assert obstacles(task, limits, sample, Reserved(memory=6, temp=5)) == ()


def test_memory_that_a_sample_found_free_is_not_promised_twice(make_core: MakeCore) -> None:
    core = make_core(slots=4)
    core.tell(Sampled(MachineSample(memory_available=10, memory_total=16)))
    for _ in range(3):
        core.create(memory=6)
    assert core.running() == [1]
    core.tell(Sampled(MachineSample(memory_available=7, memory_total=16)))
    assert core.running() == [1, 2]


def test_disk_that_a_sample_found_free_is_not_promised_twice(make_core: MakeCore) -> None:
    core = make_core(slots=4)
    core.tell(Sampled(MachineSample(temp_free=10)))
    for _ in range(3):
        core.create(temp=6)
    assert core.running() == [1]


def test_what_ended_before_the_next_sample_took_nothing_from_it(make_core: MakeCore) -> None:
    core = make_core(slots=4)
    core.tell(Sampled(MachineSample(memory_available=10)))
    for task_id in (1, 2, 3):
        core.create(memory=6)
        assert core.running() == [task_id]
        core.end(task_id)


def test_what_a_sample_has_seen_is_not_counted_twice_when_it_ends(make_core: MakeCore) -> None:
    core = make_core(slots=4)
    core.create(memory=6)
    core.tell(Sampled(MachineSample(memory_available=10)))
    core.create(memory=6)
    core.end(1)
    core.create(memory=6)
    assert core.running() == [2], "only the next sample can tell that the memory is free"


def test_the_smaller_of_workers_and_max_concurrent_is_the_limit(make_core: MakeCore) -> None:
    core = make_core(slots=3, max_concurrent=2)
    for _ in range(4):
        core.create()
    assert core.running() == [1, 2]
    core.tell(LimitsConfigured(Limits(max_concurrent=9)))
    assert core.running() == [1, 2, 3]
    core.tell(CapacityChanged(4))
    assert core.running() == [1, 2, 3, 4]


def test_fewer_slots_end_nothing_and_start_nothing(make_core: MakeCore) -> None:
    core = make_core(slots=3)
    for _ in range(4):
        core.create()
    core.tell(CapacityChanged(1))
    assert core.running() == [1, 2, 3]
    core.end(1)
    core.end(2)
    assert core.running() == [3]
    core.end(3)
    assert core.running() == [4]


def test_without_a_worker_nothing_starts(make_core: MakeCore) -> None:
    core = make_core(slots=0)
    core.create()
    assert core.running() == []


def test_all_reasons_against_a_start_are_told_at_once(make_core: MakeCore) -> None:
    core = make_core(max_memory=10, max_temp_size=10, max_cpu=50.0)
    core.create(memory=5, temp=5)
    core.tell(Sampled(MachineSample(cpu_percent=90.0)))
    waiting = core.create(memory=6, temp=6, depends_on=(1,))
    answer = core.start(waiting)
    assert isinstance(answer, CannotStartNow)
    found = why_not_now(UnitOfWork(core.state, core.now), core.state.tasks[waiting])
    assert [obstacle.reason.value for obstacle in found] == [
        "Dependency", "ConcurrencyLimit", "Memory", "Cpu", "TempSpace",
    ]  # fmt: skip
    assert all(obstacle.detail in str(answer) for obstacle in found)


numbers = st.integers(0, 12)


@given(
    memory=numbers,
    temp=numbers,
    most=numbers,
    available=numbers,
    taken=numbers,
    seen=numbers,
    busy=st.booleans(),
    low=st.booleans(),
)
def test_a_task_fits_where_there_are_no_obstacles_and_then_it_fits_at_best(
    *,
    memory: int,
    temp: int,
    most: int,
    available: int,
    taken: int,
    seen: int,
    busy: bool,
    low: bool,
) -> None:
    task = create(1, Created(type="t", estimated_memory=memory, estimated_temp=temp), NOW)
    limits = Limits(max_memory=most, max_temp_size=most, max_cpu=50.0)
    sample = MachineSample(cpu_percent=80.0 * busy, memory_available=available, temp_free=available, disk_low=low)
    unseen = max(0, taken - seen)
    reserved = Reserved(memory=taken, temp=taken, unused_memory=unseen, unused_temp=unseen)
    fitting = fits(task, limits, sample, reserved)
    assert fitting is (obstacles(task, limits, sample, reserved) == ())
    assert ceiling_of(limits, sample, reserved).suffices_for(task) or not fitting


def test_what_is_reserved_stays_so_until_it_is_used(make_core: MakeCore) -> None:
    """A film needs its memory minutes after its start. Once a sample had seen the attempt, the next one started."""
    core = make_core(slots=4)
    core.tell(Sampled(MachineSample(memory_available=10, memory_total=16)))
    for _ in range(3):
        core.create(memory=6)
    core.tell(Sampled(MachineSample(memory_available=9, memory_total=16), memory_used={(1, 1): 1}))
    assert core.running() == [1]
    (obstacle,) = obstacles(core.state.tasks[2], core.state.limits, core.state.sample, core.state.reserved)
    told = "needs 6 bytes, 4 are left of the machine: of 9 that are free, 5 are reserved for attempts that run"
    assert obstacle.detail == told
    core.tell(Sampled(MachineSample(memory_available=8, memory_total=16), memory_used={(1, 1): 4}))
    assert core.running() == [1, 2], "other programs have ended"
    core.tell(Sampled(MachineSample(memory_available=16, memory_total=16), memory_used={(1, 1): 60, (2, 1): 0}))
    assert core.running() == [1, 2, 3], "what was not reserved for it is not counted"


def test_the_temp_space_of_a_running_task_stays_reserved_until_it_is_used(make_core: MakeCore) -> None:
    core = make_core(slots=4)
    core.tell(Sampled(MachineSample(temp_free=10)))
    for _ in range(3):
        core.create(temp=6)
    core.tell(Sampled(MachineSample(temp_free=9), {1: 1}))
    assert core.running() == [1]
    core.tell(Sampled(MachineSample(temp_free=9), {1: 4}))
    assert core.running() == [1, 2]
    core.tell(Sampled(MachineSample(temp_free=9), {1: 4, 2: -1}))
    assert core.running() == [1, 2, 3], "what cannot be counted is taken for used"


def test_an_attempt_that_began_after_the_measurement_has_used_nothing(make_core: MakeCore) -> None:
    core = make_core(slots=4)
    for _ in range(2):
        core.create(memory=6)
    core.tell(Sampled(MachineSample(memory_available=12), memory_used={}))
    core.create(memory=1)
    assert core.running() == [1, 2]


def test_a_reservation_that_is_given_back_before_it_is_used_is_free_at_once(make_core: MakeCore) -> None:
    core = make_core(slots=4)
    core.create(memory=6)
    core.tell(Sampled(MachineSample(memory_available=5, memory_total=16), memory_used={(1, 1): 2}))
    assert ceiling_of(core.state.limits, core.state.sample, core.state.reserved).memory == 7
    core.create(memory=5)
    assert core.running() == [1]
    core.end(1)
    assert core.running() == [2]
