"""The executor's reports: only the current attempt is heard, and no report breaks the Scheduler."""

from math import inf, nan

import pytest
from core_harness import Core

from tasktrail.actors.core.messages import Intake, Submit
from tasktrail.events import Checkpoint, Checkpointed, Completed, Failed, Progressed, SaveCheckpoint
from tasktrail.events.errors import InvalidValue
from tasktrail.events.log.rows import decode, encode
from tasktrail.events.reports import (
    AttemptCheckpointed,
    AttemptEnd,
    AttemptEnded,
    AttemptProgressed,
    Grant,
    PublishWanted,
    Report,
    Saved,
    WorkerGone,
)
from tasktrail.events.system_events import WorkerExited


def stale(task_id: int, attempt: int) -> list[Report]:
    """Return one report of each kind."""
    return [
        AttemptProgressed(task_id, attempt, 50.0),
        AttemptCheckpointed(task_id, attempt, Checkpoint()),
        PublishWanted(task_id, attempt),
        AttemptEnded(task_id, attempt, "completed"),
    ]


def assert_all_refused(core: Core, reports: list[Report]) -> None:
    for report in reports:
        assert core.tell(report) == []
        assert core.orders == []


def test_reports_of_an_earlier_attempt_are_refused(core: Core) -> None:
    task_id = core.create(max_retries=1, retry_delay=0.0)
    core.end(task_id, "failed", error="connection refused")
    assert_all_refused(core, stale(task_id, 1))
    assert core.running() == [task_id]


def test_reports_of_an_attempt_that_was_never_started_are_refused(core: Core) -> None:
    task_id = core.create()
    assert_all_refused(core, stale(task_id, 2))
    assert_all_refused(core, stale(99, 1))
    assert_all_refused(core, stale(0, 1))


def test_reports_after_a_cancel_are_refused_and_the_end_frees_the_slot(core: Core) -> None:
    task_id = core.create()
    core.cancel(task_id)
    assert_all_refused(core, stale(task_id, 1)[:3])
    assert core.end(task_id, "completed") == []
    assert core.running() == []


def test_a_second_end_of_the_same_attempt_is_refused(core: Core) -> None:
    task_id = core.create()
    core.end(task_id)
    assert_all_refused(core, [AttemptEnded(task_id, 1, "failed")])


def test_a_late_report_after_a_restart_is_refused(core: Core) -> None:
    task_id = core.create()
    core = core.again()
    assert_all_refused(core, stale(task_id, 1))


def test_a_checkpoint_is_recorded_and_then_acknowledged(core: Core) -> None:
    task_id = core.create()
    (event,) = core.checkpoint(task_id, progress=40.0)
    assert event == Checkpointed(checkpoint=Checkpoint(processed_frames=7), progress=40.0)
    assert core.orders == [Saved(task_id, 1)]
    assert core.state.tasks[task_id].progress == 40.0


def test_the_grant_is_given_to_the_current_attempt(core: Core) -> None:
    task_id = core.create()
    assert core.want_to_publish(task_id) == []
    assert core.orders == [Grant(task_id, 1)]


def test_the_worker_reports_on_behalf_of_the_attempt(core: Core) -> None:
    task_id = core.create()
    started = next(r.position for r in core.log.read_task(task_id) if r.attempt == 1)
    core.end(task_id)
    assert [(fact.actor, fact.causation_id) for fact in core.facts] == [("worker", f"event:{started}")]


def test_the_exit_of_a_worker_is_recorded(core: Core) -> None:
    assert core.tell(WorkerGone(7, -9, "killed")) == [WorkerExited(pid=7, exit_code=-9, why="killed")]


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        ("completed", "Completed"),
        ("failed", "Failed"),
        ("rejected", "Failed"),
        ("stopped", "Failed"),
        ("lost", "Failed"),
    ],
)
def test_each_end_is_recorded_with_what_it_cost(core: Core, outcome: AttemptEnd, kind: str) -> None:
    task_id = core.create()
    event = core.end(task_id, outcome, memory_used=5, cpu_used=1.5)[0]
    assert isinstance(event, Completed | Failed)
    assert type(event).__name__ == kind
    assert (event.memory_used, event.cpu_used) == (5, 1.5)


def test_a_rejected_attempt_is_not_tried_again_whatever_the_error_says(core: Core) -> None:
    task_id = core.create(max_retries=5)
    (failed,) = core.end(task_id, "rejected", error="connection refused")
    assert isinstance(failed, Failed)
    assert failed.final


def test_a_handler_that_stops_without_being_asked_has_failed(core: Core) -> None:
    (failed,) = core.end(core.create(), "stopped")
    assert isinstance(failed, Failed)
    assert (failed.outcome, failed.error) == ("failed", "the handler stopped without being asked to")


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_progress_that_is_no_number_is_refused_and_breaks_nothing(core: Core, value: float) -> None:
    task_id = core.create()
    assert core.tell(AttemptProgressed(task_id, 1, value)) == []
    assert core.tell(AttemptCheckpointed(task_id, 1, Checkpoint(), value)) == []
    assert core.tell(AttemptCheckpointed(task_id, 1, Checkpoint(last_position=value))) == []
    assert core.progress(task_id, 5.0) == [Progressed(progress=5.0, message="working")]


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_cost_that_is_no_number_does_not_make_the_log_unreadable(core: Core, value: float) -> None:
    (event,) = core.end(core.create(), "completed", cpu_used=value)
    assert decode(*encode(event)) == event


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_checkpoint_that_json_cannot_hold_is_refused(core: Core, value: float) -> None:
    command = SaveCheckpoint(task_id=core.create(), checkpoint=Checkpoint(last_position=value))
    core.tell(Submit(command, Intake(), "token"))
    answer = core.answers["token"]
    assert isinstance(answer, InvalidValue)
    assert answer.field == "last_position"


@pytest.mark.parametrize("percent", [-5.0, 105.0])
def test_progress_is_cut_to_0_to_100(core: Core, percent: float) -> None:
    (event,) = core.progress(core.create(), percent)
    assert isinstance(event, Progressed)
    assert event.progress == min(100.0, max(0.0, percent))
