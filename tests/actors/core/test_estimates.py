"""The expected needs of an attempt: reserved, improved by a probe of the input, and watched while it runs."""

from typing import Any

import msgspec
import pytest
from core_harness import Core

from tasktrail.actors.core.dispatch import BACKFILL_BOUND
from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import LimitsConfigured, Sampled, Tick
from tasktrail.actors.core.nodes import NodeSample
from tasktrail.actors.core.resources import QUOTA_FLOOR, MachineSample, Reserved, temp_quota
from tasktrail.events import Accepted
from tasktrail.events.errors import NeverFits
from tasktrail.events.reports import AttemptEnd, AttemptProbed, CapacityChanged, NodeSeen, NodesSeen, Run
from tasktrail.events.task_events import Completed, Created, Estimated, Failed, Retried, Started

FOUND = Estimated(memory=900, temp=50, seconds=7.5, basis={"pages": 3})


def last_run(core: Core) -> Run:
    (order,) = core.orders
    assert isinstance(order, Run)
    return order


def outgrow(core: Core, task_id: int, found: Estimated = FOUND) -> list[object]:
    attempt = core.state.running[task_id].attempt
    assert core.tell(AttemptProbed(task_id, attempt, found)) == []
    return list(core.end(task_id, "outgrown"))


def test_a_run_carries_what_was_reserved_for_it(core: Core) -> None:
    core.create(memory=5, temp=7, seconds=3.0)

    run = last_run(core)

    assert (run.estimate.memory, run.estimate.temp, run.estimate.seconds, run.probed) == (5, 7, 3.0, False)


def test_a_task_that_needs_more_than_was_reserved_goes_back_and_gets_it(core: Core) -> None:
    task_id = core.create(memory=5, temp=7)

    failed, retried, started = outgrow(core, task_id)

    assert isinstance(failed, Failed)
    assert (failed.outcome, failed.final) == ("interrupted", False)
    assert "needs 900 bytes of memory and 50 of temp space; 5 and 7 were reserved" in failed.error
    assert retried == Retried(cause="estimate", estimate=FOUND)
    assert isinstance(started, Started)
    run = last_run(core)
    assert (run.estimate.memory, run.estimate.temp, run.estimate.seconds, run.probed) == (900, 50, 7.5, True)
    assert (core.state.reserved.memory, core.state.reserved.temp) == (900, 50)


def test_going_back_for_more_room_counts_as_no_failure(core: Core) -> None:
    task_id = core.create(memory=5, max_retries=0)

    outgrow(core, task_id)

    task = core.state.tasks[task_id]
    assert (task.retry_count, task.crash_count, task.last_error, task.status) == (0, 0, "", "running")


def test_a_task_that_has_to_wait_for_the_room_says_so() -> None:
    core = Core(max_memory=1000)
    core.tell(CapacityChanged(2))
    small, big = core.create(memory=200), core.create(memory=5)

    outgrow(core, big, Estimated(memory=900))

    task = core.state.tasks[big]
    assert (task.status, task.memory_needed) == ("retrying", 900)
    assert "room" in task.message
    assert core.running() == [small]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (Estimated(memory=1001), "it needs 1,001 bytes of memory, and max_memory is 1,000"),
        (Estimated(memory=901), "it needs 901 bytes of memory, and the machine has 900"),
        (Estimated(temp=101), "it needs 101 bytes of temp space, and the disk has 100"),
        (Estimated(temp=81), "it needs 81 bytes of temp space, and max_temp_size is 80"),
    ],
)
def test_a_task_that_can_never_have_the_room_fails_by_name_and_is_not_tried_again(found: Estimated, told: str) -> None:
    core = Core(max_memory=1000, max_temp_size=80 if found.temp == 81 else 1000)
    if found.memory != 1001:
        core.tell(Sampled(MachineSample(memory_available=10, memory_total=900, temp_free=10, temp_total=100)))
    task_id = core.create(memory=5, max_retries=3)

    (failed,) = outgrow(core, task_id, found)

    assert isinstance(failed, Failed)
    assert (failed.outcome, failed.final, failed.error_type) == ("failed", True, "NeverFits")
    assert told in failed.error


def test_what_never_fitted_is_refused_another_try_until_there_is_more() -> None:
    core = Core(max_memory=1000)
    task_id = core.create(memory=5, max_retries=3)
    outgrow(core, task_id, Estimated(memory=1001))

    refused = core.retry(task_id)
    core.tell(LimitsConfigured(Limits(max_memory=1001)))
    accepted = core.retry(task_id)

    assert isinstance(refused, NeverFits)
    assert isinstance(accepted, Accepted)
    assert core.running() == [task_id]


def test_nobody_goes_back_twice(core: Core) -> None:
    """A worker that asks again for room that it was given is at fault; the task must not loop."""
    task_id = core.create(memory=5)
    outgrow(core, task_id)

    events = outgrow(core, task_id, Estimated(memory=9000))

    assert [type(event) for event in events] == [Failed]
    assert core.read(task_id).status == "failed"


def test_the_better_estimate_survives_a_restart(core: Core) -> None:
    task_id = core.create(memory=5)
    outgrow(core, task_id)

    core.again()

    assert core.read(task_id).memory_needed == 900


def test_an_estimate_is_recorded_beside_what_was_used(core: Core) -> None:
    task_id = core.create(memory=1000)
    core.tell(AttemptProbed(task_id, 1, FOUND))

    (event,) = core.end(task_id, memory_used=800, cpu_used=2.0, temp_used=40, time_used=1.5)

    assert event == Completed(memory_used=800, cpu_used=2.0, temp_used=40, time_used=1.5, estimate=FOUND)
    task = core.read(task_id)
    assert (task.temp_used, task.time_used, task.estimate) == (40, 1.5, FOUND)


@pytest.mark.parametrize(
    ("temp", "max_task_temp", "quota"),
    [
        (0, 0, 0),
        (1, 0, QUOTA_FLOOR),
        (QUOTA_FLOOR, 0, 3 * QUOTA_FLOOR),
        (QUOTA_FLOOR, 10, 10),
        (0, 10, 10),
    ],
)
def test_the_quota_follows_from_the_estimate_and_the_operators_limit(temp: int, max_task_temp: int, quota: int) -> None:
    core = Core()
    task_id = core.create(temp=temp)

    assert temp_quota(core.state.tasks[task_id], Limits(max_task_temp=max_task_temp)) == quota


def test_a_task_beyond_its_temp_quota_is_failed_by_name_and_stopped() -> None:
    core = Core(max_task_temp=100)
    task_id = core.create(temp=1, max_retries=5)
    assert core.tell(Sampled(MachineSample(), {task_id: 100})) == []

    (event,) = core.tell(Sampled(MachineSample(), {task_id: 101}))

    assert isinstance(event, Failed)
    assert (event.final, event.error_type, event.temp_used) == (True, "TempQuotaReached", 101)
    assert "took 101 bytes of temp space, its quota is 100" in event.error
    assert core.stops() == [(task_id, 1)]
    assert core.tell(Sampled(MachineSample(), {task_id: 102})) == [], "once is enough"


def test_a_task_whose_temp_space_cannot_be_counted_is_over_its_quota() -> None:
    core = Core(max_task_temp=100)
    task_id = core.create(temp=1)
    core.tell(Sampled(MachineSample(), {task_id: 40}))

    (event,) = core.tell(Sampled(MachineSample(), {task_id: -1}))

    assert isinstance(event, Failed)
    assert (event.error_type, event.temp_used) == ("TempQuotaReached", 40)
    assert "took temp space that cannot be counted, its quota is 100" in event.error


def test_a_task_that_publishes_is_not_stopped_for_its_temp_files() -> None:
    core = Core(max_task_temp=100)
    task_id = core.create()
    core.want_to_publish(task_id)

    assert core.tell(Sampled(MachineSample(), {task_id: 101})) == []


def test_the_temp_peak_is_the_larger_of_what_samples_and_the_worker_saw(core: Core) -> None:
    task_id = core.create()
    core.tell(Sampled(MachineSample(), {task_id: 70, 99: 5}))

    (event,) = core.end(task_id, temp_used=60)

    assert isinstance(event, Completed)
    assert event.temp_used == 70


def test_the_history_of_a_type_corrects_its_next_estimates_and_never_itself(core: Core) -> None:
    for _ in range(8):
        task_id = core.create(memory=1000, temp=800, seconds=10.0)
        created = core.read(task_id).spec
        assert created.guessed_memory in (0, 1000)
        core.end(task_id, memory_used=2000, temp_used=400, time_used=5.0)

    created = core.read(core.create(memory=1000, temp=800, seconds=10.0)).spec

    assert (created.estimated_memory, created.guessed_memory) == (2000, 1000)
    assert (created.estimated_temp, created.guessed_temp) == (400, 800)
    assert (created.estimated_time, created.guessed_time) == (5.0, 10.0)


def test_history_is_the_same_after_a_restart(core: Core) -> None:
    for _ in range(8):
        core.end(core.create(memory=1000, seconds=10.0), memory_used=2000, time_used=5.0)

    again = core.again()

    assert again.state.correction("work") == core.state.correction("work")
    assert isinstance(again.facts, list)
    again.create(memory=1000)
    assert [fact.event.estimated_memory for fact in again.facts if isinstance(fact.event, Created)] == [2000]


# --- an attempt that is killed with more in memory than was reserved ---


def kill(
    core: Core, task_id: int, memory_used: int, exit_code: int = -9, outcome: AttemptEnd = "lost", **fields: Any
) -> Retried:
    _failed, retried, *_ = core.end(task_id, outcome, memory_used=memory_used, exit_code=exit_code, **fields)
    assert isinstance(retried, Retried)
    return retried


def test_attempts_that_were_killed_as_memory_ran_out_start_one_by_one() -> None:
    """They started together again, until they counted as poison."""
    core = Core()
    core.tell(CapacityChanged(4))
    core.tell(Sampled(MachineSample(memory_available=9000, memory_total=10_000)))
    first, second = core.create(memory=64), core.create(memory=64)
    used = {(first, 1): 6000, (second, 1): 3000}
    core.tell(Sampled(MachineSample(memory_available=0, memory_total=10_000), memory_used=used))

    for task_id in (first, second):
        assert kill(core, task_id, memory_used=6000).estimate == Estimated(memory=5000, seconds=0.0)
    core.tell(Sampled(MachineSample(memory_available=9000, memory_total=10_000), memory_used={}))

    assert len(core.running()) == 1
    assert core.state.reserved.memory == 5000, "half of the machine"


@pytest.mark.parametrize(
    ("used", "limit", "others", "reserved"),
    [
        (1500, 4000, 0, 3000),
        (1500, 2000, 0, 1500),
        (1500, 9000, 7000, 1950),
        (3000, 9000, 0, 5000),
        (130, 4000, 9470, 97),
        (128, 4000, 9472, None),
        (64, 4000, 0, None),
        (63, 4000, 0, None),
    ],
)
def test_twice_what_a_killed_attempt_had_is_reserved_where_it_fits(
    used: int, limit: int, others: int, reserved: int | None
) -> None:
    core = Core(max_memory=limit)
    task_id = core.create(memory=64, temp=5)
    machine = MachineSample(memory_available=10_000 - others - 400, memory_total=10_000)
    core.tell(Sampled(machine, memory_used={(task_id, 1): 0}))
    core.tell(Sampled(msgspec.structs.replace(machine, memory_available=0), memory_used={(task_id, 1): 9600 - others}))

    retried = kill(core, task_id, used)

    assert retried.estimate == (Estimated(memory=reserved, temp=5, seconds=0.0) if reserved else None)
    assert core.state.tasks[task_id].memory_needed == (reserved or 64)


def test_only_a_kill_changes_what_is_reserved(core: Core) -> None:
    task_id = core.create(memory=64)
    assert kill(core, task_id, 3000, exit_code=-11).estimate is None


@pytest.mark.parametrize(("ran_out", "crashes"), [(False, 2), (True, 0), (None, 0)])
def test_a_kill_that_the_kernel_did_not_count_as_one_for_memory_is_a_crash(
    *, ran_out: bool | None, crashes: int
) -> None:
    """A person's `kill -9` of a worker led to a larger reservation, though memory was plenty."""
    core = Core()
    task_id = core.create(memory=64)
    for used in (3000, 9000):
        estimate = kill(core, task_id, used, memory_ran_out=ran_out).estimate
        assert (estimate and estimate.memory) == (None if ran_out is False else 2 * used)
        core.wait(10)
        core.tell(Tick())
    assert core.state.tasks[task_id].crash_count == crashes


def test_what_the_probe_found_besides_stays(core: Core) -> None:
    task_id = core.create(memory=64)
    core.tell(AttemptProbed(task_id, 1, FOUND))
    assert kill(core, task_id, 3000).estimate == msgspec.structs.replace(FOUND, memory=6000)


def test_what_the_probe_found_is_not_lessened(core: Core) -> None:
    task_id = core.create(memory=64)
    core.tell(AttemptProbed(task_id, 1, FOUND))
    assert kill(core, task_id, 500).estimate is None
    assert core.state.tasks[task_id].memory_needed == FOUND.memory


def test_a_kill_that_leads_to_more_memory_is_not_counted_towards_poison() -> None:
    """An attempt may be killed because others of its type, whose needs are not known yet, take the memory."""
    core = Core(max_memory=400)
    task_id = core.create(memory=64)
    kill(core, task_id, 50)
    core.wait(10)
    core.tell(Tick())
    for used, reserved, crashes in ((70, 140, 1), (250, 300, 1), (500, None, 2)):
        estimate = kill(core, task_id, used).estimate
        assert (estimate and estimate.memory) == reserved
        assert core.state.tasks[task_id].crash_count == crashes
        core.wait(10)
        core.tell(Tick())
    (failed,) = core.end(task_id, "lost", memory_used=500, exit_code=-9)
    assert isinstance(failed, Failed)
    assert failed.rule == "poison: 3 crashes in a row"


def test_the_kill_that_would_make_a_task_poison_may_lead_to_more_memory() -> None:
    core = Core()
    task_id = core.create(memory=64)
    for used in (50, 50, 3000):
        retried = kill(core, task_id, used)
        core.wait(10)
        core.tell(Tick())
    assert retried.estimate is not None


def test_a_tool_that_was_killed_leads_to_more_memory_as_well(core: Core) -> None:
    """ffmpeg or soffice is larger than its worker, so the kernel takes it first; the handler then fails."""
    task_id = core.create(memory=64, max_retries=3)
    retried = kill(core, task_id, 3000, outcome="failed", error="connection refused")
    assert (retried.cause, retried.estimate) == ("rule", Estimated(memory=6000, seconds=0.0))


def test_a_type_that_expects_a_time_is_left_to_its_probe() -> None:
    """With an estimate in the task's state the input is not probed, and the time would be taken for a probe's."""
    core = Core(probing=("work",))
    task_id = core.create(memory=64, seconds=9.0)
    assert kill(core, task_id, 3000).estimate is None


def test_a_type_that_expects_a_time_and_has_no_probe_gets_more_memory(core: Core) -> None:
    """A type of one's own came back with the same reservation, until it was poison."""
    task_id = core.create(memory=64, seconds=9.0)
    assert kill(core, task_id, 3000).estimate == Estimated(memory=6000, seconds=9.0)
    assert core.state.tasks[task_id].crash_count == 0


def test_a_killed_task_is_not_passed_for_ever_by_others_of_its_type() -> None:
    """Attempts that had more than was reserved seemed to be other programs, which leave too little."""
    core = Core()
    core.tell(CapacityChanged(4))
    ids = [core.create(memory=64) for _ in range(60)]

    def sample() -> None:
        used = {(one.task_id, one.attempt): 1500 for one in core.state.running.values()}
        free = max(0, 7000 - sum(used.values()))
        core.tell(Sampled(MachineSample(memory_available=free, memory_total=8000), memory_used=used))

    sample()
    assert kill(core, ids[0], 1900).estimate == Estimated(memory=3800, seconds=0.0)
    ended = 0
    while ids[0] not in core.state.running and ended < 50:
        core.wait(1)
        sample()
        core.end(core.running()[0])
        ended += 1
    assert ended <= BACKFILL_BOUND + 4


def sample_a(core: Core, free: int, used: dict[tuple[int, int], int]) -> None:
    core.wait(2)
    machine = MachineSample(memory_available=free, memory_total=8000)
    core.tell(Sampled(MachineSample(), nodes={"a": NodeSample(machine, 1.0, used)}))


def on_a_node() -> Core:
    core = Core(max_concurrent=9)
    core.tell(NodesSeen((NodeSeen(node="a"),)))
    sample_a(core, 7000, {})
    core.tell(CapacityChanged(4, (), ("a",) * 4))
    return core


def test_a_killed_task_is_not_passed_for_ever_on_a_node_either() -> None:
    core = on_a_node()
    ids = [core.create(memory=64) for _ in range(60)]
    sample_a(core, 1000, dict.fromkeys([(one, 1) for one in core.running()], 1500))
    assert kill(core, ids[0], 1900).estimate == Estimated(memory=3800, seconds=0.0)
    ended = 0
    while ids[0] not in core.state.running and ended < 50:
        used = {(one.task_id, one.attempt): 1500 for one in core.state.running.values()}
        sample_a(core, max(0, 7000 - sum(used.values())), used)
        core.end(core.running()[0])
        ended += 1
    assert ended <= BACKFILL_BOUND + 4


def test_what_other_programs_leave_on_the_node_bounds_what_is_reserved_after_a_kill() -> None:
    """It would have waited for ever: no node had half of its memory free."""
    core = on_a_node()
    first, second = core.create(memory=64), core.create(memory=64)
    sample_a(core, 0, {(first, 1): 1500, (second, 1): 1300})
    assert kill(core, first, 1500).estimate == Estimated(memory=2100, seconds=0.0), "three quarters of 2800"
    sample_a(core, 2700, {})
    core.end(second)
    sample_a(core, 2700, {})
    assert core.running() == [first]


@pytest.mark.parametrize("fresh", [0, 2])
def test_what_attempts_may_use_that_nobody_has_measured_does_not_count_as_free_for_it_later(fresh: int) -> None:
    """With them, more than ever comes free was reserved, and the task waited for ever."""
    core = on_a_node()
    sample_a(core, 4000, {})
    task = core.create(memory=1500)
    sample_a(core, 3400, {(task, 1): 600})
    others = [core.create(memory=1000) for _ in range(fresh)]
    sample_a(core, 1900, {(task, 1): 2100})
    assert kill(core, task, 2100).estimate == Estimated(memory=3000, seconds=0.0), "three quarters of 4000"
    for other in others:
        core.end(other)
    sample_a(core, 3900, {})
    assert core.running() == [task]


def test_what_a_probe_finds_too_much_is_free_for_others(core: Core) -> None:
    core.tell(CapacityChanged(2))
    core.tell(Sampled(MachineSample(memory_available=10, memory_total=16, temp_free=10, temp_total=16)))
    first, second = core.create(memory=8, temp=8), core.create(memory=8, temp=8)
    assert core.running() == [first]
    core.tell(AttemptProbed(first, 1, Estimated(memory=2, temp=3)))
    assert (core.state.reserved.memory, core.state.reserved.temp) == (2, 3)
    core.tell(Sampled(MachineSample(memory_available=9, memory_total=16, temp_free=11), {}, memory_used={(1, 1): 1}))
    assert core.running() == [first, second]
    core.end(first)
    core.end(second)
    assert core.state.reserved == Reserved(gone_memory=1)
