"""The limits of an attempt, in numbers."""

import resource
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tasktrail.events.reports import Run
from tasktrail.events.task_events import Estimated
from tasktrail.handlers import Bounds, Room, TaskType
from tasktrail.handlers.process.limits import (
    FILE_FLOOR,
    MEMORY_FLOOR,
    ProcessSize,
    bounds_for,
    cpu_allowance,
    soft_limits,
)
from tasktrail.handlers.process.sandbox import Sandbox

AMOUNTS = st.integers(min_value=0, max_value=2**45)
SECONDS = st.floats(min_value=0, max_value=1e7)


def run(memory: int = 0, temp: int = 0, seconds: float = 0.0) -> Run:
    return Run(1, 1, "t", "", "", {}, None, "", estimate=Estimated(memory=memory, temp=temp, seconds=seconds))


def test_what_is_unknown_sets_no_limit() -> None:
    assert set(soft_limits(run(), 0, ProcessSize(1, 1), 1.0)) == {resource.RLIMIT_NOFILE}


@given(memory=AMOUNTS, size=st.integers(min_value=1, max_value=2**45))
def test_a_warm_worker_gets_as_much_address_space_as_a_new_one(memory: int, size: int) -> None:
    fresh, warm = (
        soft_limits(run(memory=memory), 0, ProcessSize(have, have), 0.0).get(resource.RLIMIT_AS, 0) - have
        for have in (1, size)
    )

    assert fresh == warm or memory == 0
    assert memory == 0 or fresh >= max(MEMORY_FLOOR, 2 * memory)


@given(memory=AMOUNTS, cap=st.integers(min_value=1, max_value=2**45), size=st.integers(min_value=1, max_value=2**45))
def test_the_operators_limit_is_never_exceeded(memory: int, cap: int, size: int) -> None:
    assert soft_limits(run(memory=memory), cap, ProcessSize(size, size), 0.0)[resource.RLIMIT_AS] <= cap


@given(seconds=SECONDS, used=SECONDS)
def test_cpu_time_counts_from_what_was_used_before(seconds: float, used: float) -> None:
    limit = soft_limits(run(seconds=seconds), 0, ProcessSize(1, 1), used).get(resource.RLIMIT_CPU)

    assert (limit is None) == (seconds == 0)
    assert limit is None or limit >= used + cpu_allowance(seconds) - 1 >= used + seconds


def test_cpu_time_grows_with_the_cpus_that_an_attempt_may_keep_busy() -> None:
    long = run(seconds=10_000)
    one, eight = (soft_limits(long, 0, ProcessSize(1, 1), 0.0, cores=cores)[resource.RLIMIT_CPU] for cores in (1, 8))
    assert eight == 8 * (one - 1) + 1
    task_type = TaskType(name="t", summary="", run=print, bounds=Bounds(cpu_per_probed=3.0))
    bounds = [
        bounds_for(replace(long, probed=True), task_type, Sandbox(), cpu_before=0, resident=0, room=Room(cores))
        for cores in (1, 8)
    ]
    assert [(bound.cpu, bound.cpu_per_probed) for bound in bounds if bound] == [(30_000, 3.0), (240_000, 24.0)]


@given(temp=st.integers(min_value=1, max_value=2**45))
def test_a_file_may_be_twice_the_temp_space_and_never_less_than_the_floor(temp: int) -> None:
    assert soft_limits(run(temp=temp), 0, ProcessSize(1, 1), 0.0)[resource.RLIMIT_FSIZE] == max(FILE_FLOOR, 2 * temp)


IN_A_PROCESS_OF_ITS_OWN = """
import resource
from tasktrail.events.reports import Run
from tasktrail.events.task_events import Estimated
from tasktrail.handlers.process.limits import KernelLimits

def run(**estimate):
    return Run(1, 1, "t", "", "", {}, None, "", estimate=Estimated(**estimate))

def look():
    return [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_CPU)]

first, limits = look(), KernelLimits(0)
limits.after_fork(limited=True)
free = look()
assert free == [first[0], min(first[1], 1024) if first[1] > 0 else 1024, first[2]]
limits.set(run(memory=1))
small = look()
assert small[0] > 0 and small[1:] == free[1:]
limits.lift()
assert look() == free

limits.set_ahead(run(memory=1))
ahead = look()
limits.set(run(memory=1))
assert look() == ahead and ahead[0] >= small[0]
limits.lift()
assert look() == free

for other in (run(memory=2**33), run(memory=1, seconds=1e6)):
    limits.set_ahead(run(memory=1))
    limits.set(other)
    assert look() != ahead
    limits.lift()
    assert look() == free

limits.set_ahead(run(memory=1, seconds=1.0))
spun = sum(range(30_000_000))
limits.set(run(memory=1, seconds=1.0))
used = resource.getrusage(resource.RUSAGE_SELF)
assert look()[2] == int(used.ru_utime + used.ru_stime + 600) + 1, "counted from its beginning"
"""


def test_a_process_that_waits_for_its_next_attempt_is_bound_as_if_it_had_not() -> None:
    subprocess.run([sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN], check=True)
