"""The table of docs/explanation/state-machine.md, walked cell by cell: status × command and status × event."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
import pytest

from tasktrail.events import (
    Cancelled,
    CancelTask,
    Checkpoint,
    Checkpointed,
    Completed,
    Event,
    Failed,
    Progressed,
    Retried,
    RetryTask,
    SaveCheckpoint,
    Started,
    StartTask,
    TaskState,
    TasktrailError,
)
from tasktrail.events.commands import AbortAttempt, LifeCommand, SchedulerCommand
from tasktrail.events.context import DecisionContext
from tasktrail.events.decide import decide
from tasktrail.events.errors import IllegalTransition, StaleAttempt, UnknownTask
from tasktrail.events.recorded import EVENT_TAGS
from tasktrail.events.reports import AttemptCheckpointed, AttemptEnded, AttemptProgressed, AttemptReport
from tasktrail.events.state import Status, create, evolve
from tasktrail.events.task_events import TAGS, Created, is_terminal

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
STATUSES: tuple[Status, ...] = get_args(Status)
FACTS = DecisionContext(now=NOW, last_task_id=1)


def state(status: Status, **fields: Any) -> TaskState:
    waiting = create(1, Created(type="noop", max_retries=3, resumable=True, **fields), NOW)
    running = evolve(waiting, Started(), NOW)
    ends: dict[Status, TaskState] = {
        "pending": waiting,
        "running": running,
        "completed": evolve(running, Completed(), NOW),
        "failed": evolve(running, Failed(outcome="failed", error="boom", final=True), NOW),
        "cancelled": evolve(running, Cancelled(attempt_running=True), NOW),
    }
    lost = Failed(outcome="lost", error="boom", final=False)
    ends["retrying"] = evolve(evolve(running, lost, NOW), Retried(cause="crash"), NOW)
    return ends[status]


COMMANDS: dict[str, Callable[[TaskState], LifeCommand | SchedulerCommand | AttemptReport]] = {
    "start": lambda task: StartTask(task_id=task.id),
    "cancel": lambda task: CancelTask(task_id=task.id),
    "retry": lambda task: RetryTask(task_id=task.id),
    "save checkpoint": lambda task: SaveCheckpoint(task_id=task.id, checkpoint=Checkpoint()),
    "progress": lambda task: AttemptProgressed(task_id=task.id, attempt=task.attempt, progress=1.0),
    "checkpoint": lambda task: AttemptCheckpointed(task_id=task.id, attempt=task.attempt, checkpoint=Checkpoint()),
    "completed": lambda task: AttemptEnded(task_id=task.id, attempt=task.attempt, outcome="completed"),
    "failed": lambda task: AttemptEnded(task_id=task.id, attempt=task.attempt, outcome="failed", error="no codec"),
    "failed, retryable": lambda task: AttemptEnded(
        task_id=task.id, attempt=task.attempt, outcome="failed", error="timeout"
    ),
    "timed out": lambda task: AbortAttempt(task_id=task.id, outcome="timed_out", error="timeout"),
    "lost": lambda task: AttemptEnded(task_id=task.id, attempt=task.attempt, outcome="lost"),
    "interrupted": lambda task: AbortAttempt(task_id=task.id, outcome="interrupted", error="interrupted"),
}

# The result of each command, by status; every cell that is not here is a refusal.
LEADS_TO: dict[tuple[Status, str], tuple[str, ...]] = {
    ("pending", "start"): (),
    ("retrying", "start"): (),
    ("pending", "cancel"): ("cancelled",),
    ("retrying", "cancel"): ("cancelled",),
    ("running", "cancel"): ("cancelled",),
    ("failed", "retry"): ("retried",),
    ("cancelled", "retry"): ("retried",),
    ("running", "save checkpoint"): ("checkpointed",),
    ("running", "progress"): ("progressed",),
    ("running", "checkpoint"): ("checkpointed",),
    ("running", "completed"): ("completed",),
    ("running", "failed"): ("failed",),
    ("running", "failed, retryable"): ("failed", "retried"),
    ("running", "timed out"): ("failed", "retried"),
    ("running", "lost"): ("failed", "retried"),
    ("running", "interrupted"): ("failed", "retried"),
}

EVENTS: dict[str, Event] = {
    "started": Started(),
    "progressed": Progressed(progress=40.0),
    "checkpointed": Checkpointed(checkpoint=Checkpoint(processed_frames=1)),
    "failed for good": Failed(outcome="failed", error="x", final=True),
    "failed": Failed(outcome="failed", error="x", final=False),
    "retried": Retried(cause="rule"),
    "cancelled": Cancelled(),
    "completed": Completed(),
}
BECOMES: dict[str, Status] = {
    "started": "running",
    "failed for good": "failed",
    "failed": "retrying",
    "retried": "retrying",
    "cancelled": "cancelled",
    "completed": "completed",
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("status", STATUSES)
def test_a_command_leads_to_what_the_table_says_or_is_refused(status: Status, command: str) -> None:
    task = state(status)
    expected = LEADS_TO.get((status, command))
    if expected is None:
        with pytest.raises((IllegalTransition, StaleAttempt)):
            decide(task, COMMANDS[command](task), FACTS)
    else:
        events = decide(task, COMMANDS[command](task), FACTS)
        assert tuple(EVENT_TAGS[type(event)] for event in events) == expected


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("status", STATUSES)
def test_evolve_is_total_and_counts_the_event(status: Status, name: str) -> None:
    before, later = state(status), NOW + timedelta(seconds=1)
    after = evolve(before, EVENTS[name], later)  # type: ignore[arg-type]  # task events all
    assert after.status == BECOMES.get(name, status)
    assert after.version == before.version + 1
    assert after.updated_at == later


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("status", STATUSES)
def test_evolve_leaves_the_state_before_alone(status: Status, name: str) -> None:
    before, twin = state(status), state(status)
    evolve(before, EVENTS[name], NOW + timedelta(seconds=1))  # type: ignore[arg-type]  # task events all
    assert before == twin


@pytest.mark.parametrize("command", COMMANDS)
def test_a_task_that_does_not_exist_takes_no_command(command: str) -> None:
    with pytest.raises(UnknownTask):
        decide(None, COMMANDS[command](state("running")), FACTS)


@pytest.mark.parametrize("command", ["progress", "checkpoint", "completed", "failed", "lost"])
@pytest.mark.parametrize("attempt", [0, 2, -1])
def test_a_report_of_another_attempt_is_refused(command: str, attempt: int) -> None:
    report = COMMANDS[command](msgspec.structs.replace(state("running"), attempt=attempt))
    with pytest.raises(StaleAttempt):
        decide(state("running"), report, FACTS)


def test_every_event_has_its_row_in_these_tables() -> None:
    assert {type(event) for event in EVENTS.values()} | {Created} == set(TAGS)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_nothing_follows_an_end_but_a_retry_by_hand(status: Status) -> None:
    followers = {command for (before, command) in LEADS_TO if before == status}
    assert followers == ({"retry"} if status != "completed" else set())


@pytest.mark.parametrize(("cell", "tags"), LEADS_TO.items())
def test_a_decision_ends_a_life_at_most_once(cell: tuple[Status, str], tags: tuple[str, ...]) -> None:
    status, command = cell
    task = state(status)
    events = decide(task, COMMANDS[command](task), FACTS)
    assert sum(map(is_terminal, events)) <= 1
    assert len(events) == len(tags)


def test_a_cancel_says_whether_an_attempt_ran() -> None:
    assert decide(state("running"), CancelTask(task_id=1), FACTS) == (Cancelled(attempt_running=True),)
    assert decide(state("pending"), CancelTask(task_id=1), FACTS) == (Cancelled(attempt_running=False),)


def test_a_held_task_is_released_by_a_start() -> None:
    [event] = decide(state("pending", held=True), StartTask(task_id=1), FACTS)
    assert EVENT_TAGS[type(event)] == "adjusted"


@pytest.mark.parametrize("progress", [float("nan"), float("inf"), float("-inf")])
def test_progress_that_is_no_number_is_refused(progress: float) -> None:
    with pytest.raises(TasktrailError):
        decide(state("running"), AttemptProgressed(task_id=1, attempt=1, progress=progress), FACTS)
