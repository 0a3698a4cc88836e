"""Attempts that outlive the service: the next service continues the live ones, and no dead one."""

from typing import Any

import pytest
from core_harness import Core

from tasktrail.actors.core.messages import Close, Drain, Reconcile, Tick
from tasktrail.events import Accepted, Cancelled, Checkpointed, Completed, Created, Failed, Retried, Started
from tasktrail.events.reports import (
    AllFound,
    AttemptEnd,
    AttemptEnded,
    AttemptFound,
    AttemptsHeld,
    CapacityChanged,
    Grant,
    PublishWanted,
    Saved,
    Settled,
    Stop,
    TellHeld,
)
from tasktrail.events.system_events import ServiceStarted


def running(*, slots: int = 1, **fields: Any) -> tuple[Core, int]:
    """Make a core whose service dies while a task runs, and the next service's."""
    core = Core(slots=slots, outlived=True)
    task_id = core.create(**fields)
    return Core(slots=slots, outlived=True, log=core.log, after=5.0), task_id


def test_a_restart_ends_no_attempt_that_may_live() -> None:
    core, task_id = running()
    assert core.read(task_id).status == "running"
    assert core.state.free_slots == 0

    assert core.tell(AttemptFound(task_id, 1, publishing=False)) == []
    assert core.tell(AllFound()) == []
    core.progress(task_id, 40)
    core.end(task_id)

    assert core.read(task_id).status == "completed"
    assert [type(record.event) for record in core.log.read_task(task_id)].count(Started) == 1


def test_what_is_not_found_is_interrupted_and_queued_again() -> None:
    core, task_id = running()

    events = core.tell(AllFound())

    assert [type(event) for event in events] == [Failed, Retried, Started]
    assert isinstance(events[0], Failed)
    assert events[0].outcome == "interrupted"
    assert core.read(task_id).attempt == 2


def test_an_end_from_before_the_restart_counts() -> None:
    core, task_id = running()

    assert [type(event) for event in core.end(task_id, attempt=1)] == [Completed]
    assert core.tell(AllFound()) == []


def test_each_end_is_settled_once_it_is_recorded_also_a_stale_one() -> None:
    core, task_id = running()
    core.end(task_id, attempt=1)
    assert core.orders == [Settled(task_id, 1, completed=True)]

    core.tell(AttemptEnded(task_id, 7, "completed"))

    assert core.orders == [Settled(task_id, 7)]


@pytest.mark.parametrize("outcome", ["lost", "stopped", "failed"])
def test_only_an_end_that_completes_the_task_says_so(outcome: AttemptEnd) -> None:
    """A retry needs the temp files of any other."""
    core, task_id = running()

    core.end(task_id, outcome, attempt=1)

    assert core.read(task_id).status != "completed"
    assert Settled(task_id, 1) in core.orders


def test_an_executor_that_ends_with_the_service_hears_nothing_of_it() -> None:
    core = Core()
    core.end(core.create())
    assert core.orders == []


def test_an_attempt_that_should_not_be_there_is_stopped() -> None:
    core, task_id = running()
    core.tell(AttemptFound(task_id, 1, publishing=False))
    core.tell(AttemptFound(99, 3, publishing=False))
    assert core.orders == [Stop(99, 3)]


def test_a_cancel_waits_until_it_is_known_whether_the_output_may_appear() -> None:
    """The last service may have granted the publishing just before it died."""
    core, task_id = running()
    assert core.cancel(task_id) is None

    core.tell(AttemptFound(task_id, 1, publishing=True))
    assert core.orders == []
    core.end(task_id)

    assert core.read(task_id).status == "completed"


def test_a_cancel_is_carried_out_when_nothing_was_granted() -> None:
    core, task_id = running()
    assert core.cancel(task_id) is None

    events = core.tell(AttemptFound(task_id, 1, publishing=False))

    assert [type(event) for event in events] == [Cancelled]
    assert core.orders == [Stop(task_id, 1)]
    assert all(isinstance(answer, Accepted) for answer in core.answers.values())


def test_a_cancel_is_carried_out_when_the_attempt_is_dead() -> None:
    core, task_id = running()
    core.cancel(task_id)

    core.tell(AllFound())

    assert core.read(task_id).status == "cancelled"


def test_a_grant_is_given_after_the_restart() -> None:
    core, task_id = running(output_file="/out/a")
    core.tell(AttemptFound(task_id, 1, publishing=False))

    core.tell(PublishWanted(task_id, 1))

    assert core.orders == [Grant(task_id, 1)]


def test_time_limits_act_on_an_attempt_once_it_is_found() -> None:
    core = Core(outlived=True)
    task_id = core.create(timeout=60.0)
    core = Core(outlived=True, log=core.log, after=120.0)
    assert core.read(task_id).status == "running"

    core.tell(AttemptFound(task_id, 1, publishing=False))
    core.tell(Tick())

    assert core.orders == [Stop(task_id, 1)]
    assert core.read(task_id).status == "failed"


def test_the_comparison_leaves_out_what_is_still_sought() -> None:
    core, task_id = running()
    for _ in range(3):
        core.tell(Reconcile())
        (order,) = core.orders
        assert isinstance(order, TellHeld)
        assert core.tell(AttemptsHeld(order.number, ())) == []

    core.tell(AttemptFound(task_id, 1, publishing=False))
    assert core.read(task_id).status == "running"


def test_a_worker_with_labels_is_found_with_them() -> None:
    core = Core(outlived=True)
    core.tell(CapacityChanged(1, (("gpu",),)))
    task_id = core.create(worker_label="gpu")
    assert core.read(task_id).status == "running"
    core = Core(outlived=True, log=core.log, after=5.0)

    core.tell(AttemptFound(task_id, 1, publishing=False, offer=("gpu",)))
    core.tell(CapacityChanged(1, (("gpu",),)))
    other = core.create(worker_label="gpu")
    assert core.read(other).status == "pending"
    core.end(task_id)

    assert core.read(other).status == "running"


def test_a_service_that_stops_in_good_order_stops_what_it_finds() -> None:
    core, task_id = running()
    core.tell(Drain())
    assert core.orders == []

    core.tell(AttemptFound(task_id, 1, publishing=False))
    assert core.orders == [Stop(task_id, 1)]
    core.tell(AttemptEnded(task_id, 1, "stopped"))
    core.tell(Close())

    assert [type(record.event) for record in core.log.read_task(task_id)] == [Created, Started, Failed, Retried]


def test_an_interrupted_attempt_counts_as_no_crash() -> None:
    core = Core(outlived=True)
    task_id = core.create()
    for _ in range(5):
        core.end(task_id, "interrupted", error="no service was heard of")

    task = core.read(task_id)
    assert (task.status, task.attempt, task.crash_count) == ("running", 6, 0)


def test_the_start_is_recorded_first() -> None:
    core, _ = running()
    starts = [record for record in core.log.read() if isinstance(record.event, ServiceStarted)]
    assert len(starts) == 2


def test_a_checkpoint_that_is_told_again_is_recorded_once_and_answered() -> None:
    """The last service has recorded it and was killed before it could answer."""
    core = Core(outlived=True)
    task_id = core.create()
    core.checkpoint(task_id)
    core = Core(outlived=True, log=core.log, after=5.0)
    core.tell(AttemptFound(task_id, 1, publishing=False))

    assert core.checkpoint(task_id) == []
    assert core.orders == [Saved(task_id, 1)]

    assert [type(event) for event in core.checkpoint(task_id)] == [Checkpointed], "the next one is the attempt's wish"


def test_no_silence_is_counted_while_nobody_listened() -> None:
    core = Core(outlived=True)
    task_id = core.create(no_progress_timeout=60.0)
    core = Core(outlived=True, log=core.log, after=61.0)

    core.tell(AttemptFound(task_id, 1, publishing=False))
    core.wait(1.0)
    core.tell(Tick())
    core.tell(Tick())

    assert core.orders == []
    assert core.read(task_id).status == "running"


def test_what_the_last_service_had_stopped_when_it_ended_is_interrupted() -> None:
    core, task_id = running()

    events = core.end(task_id, "stopped", attempt=1)

    assert isinstance(events[0], Failed)
    assert events[0].outcome == "interrupted"
    assert [type(event) for event in events[1:]] == [Retried, Started]


def test_a_short_attempt_that_is_found_holds_a_worker_though_none_was_there_when_the_service_began() -> None:
    core = Core(slots=1, outlived=True, short=("work",))
    task_id = core.create()
    core = Core(slots=0, outlived=True, short=("work",), log=core.log, after=5.0)
    core.tell(AttemptFound(task_id, 1, publishing=False))
    core.tell(CapacityChanged(1))
    assert (core.state.workers.shared, core.state.free_slots) == (1, 0)
    core.end(task_id)
    assert core.state.free_slots == 1
