"""Values that cannot be recorded, sent or read back are refused by name, and cost no slot, whatever their way in."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tasktrail import TaskFilters, TaskService
from tasktrail.events import Checkpoint, Created, CreateGraph, CreateTask, Fact, GraphTask, SaveCheckpoint
from tasktrail.events.commands import AddSchedule
from tasktrail.events.errors import InvalidValue
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.projections.errors import BeyondTheLog

WITHIN = 20.0
Opener = Callable[..., TaskService]

HUGE = 10**20
BAD = [HUGE, 2**63, -(2**63) - 1, float("nan"), float("inf"), "\udc80", b"x", {1}, {1: 2}, [[HUGE]]]


@pytest.mark.parametrize("value", BAD, ids=lambda value: repr(value)[:20])
def test_no_option_is_let_in_that_could_not_go_on(service: TaskService, value: Any) -> None:
    with pytest.raises(InvalidValue) as refused:
        service.create_task(type="echo", options={"value": value})
    assert refused.value.field.startswith("options.value")
    graph = [{"name": "a", "type": "echo", "options": {"value": value}}]
    with pytest.raises(InvalidValue) as refused:
        service.create_graph(graph)
    assert refused.value.field.startswith("tasks[0].options.value")
    with pytest.raises(InvalidValue) as refused:
        service.add_schedule("often", {"type": "echo", "options": {"value": value}}, every=60)
    assert "options.value" in refused.value.field
    assert service.list_tasks()[1] == 0


@pytest.mark.parametrize(
    ("checkpoint", "field"),
    [
        (Checkpoint(data={"x": HUGE}), "checkpoint.data.x"),
        (Checkpoint(processed_bytes=HUGE), "checkpoint.processed_bytes"),
        (Checkpoint(last_position=float("inf")), "checkpoint.last_position"),
        (Checkpoint(temp_files=("\udc80",)), "checkpoint.temp_files[0]"),
    ],
)
def test_no_checkpoint_from_outside_is_let_in_that_could_not_go_on(
    service: TaskService, checkpoint: Checkpoint, field: str
) -> None:
    task_id = service.create_task(type="patient")
    with pytest.raises(InvalidValue) as refused:
        service.save_checkpoint(task_id, checkpoint)
    assert refused.value.field == field
    with pytest.raises(InvalidValue):
        service.send(SaveCheckpoint(task_id=task_id, checkpoint=checkpoint))


def test_no_task_within_a_command_is_let_in_unchecked(service: TaskService) -> None:
    wrong = CreateTask(type="echo", priority=99)
    for command in (
        AddSchedule(schedule="often", task=wrong, every=60.0),
        CreateGraph(tasks=(GraphTask(name="a", type="echo", max_retries=-1),)),
    ):
        with pytest.raises(InvalidValue):
            service.send(command)


@pytest.mark.parametrize("field", ["user_id", "parent_task_id", "depends_on"])
def test_an_id_beyond_64_bits_is_refused(service: TaskService, field: str) -> None:
    value: Any = (HUGE,) if field == "depends_on" else HUGE
    with pytest.raises(InvalidValue) as refused:
        service.create_task(type="noop", **{field: value})
    assert refused.value.field.startswith(field)
    with pytest.raises(InvalidValue) as refused:
        service.cancel_task(HUGE)
    assert refused.value.field == "task_id"


def test_a_result_that_cannot_go_on_ends_its_task_once_and_by_name(open_service: Opener) -> None:
    service = open_service(workers=1)
    for shape in ("integer", "unsigned", "nan", "deep"):
        task = service.wait(service.create_task(type="answer", options={"shape": shape}, max_retries=3), timeout=WITHIN)
        assert (task.status, task.error_type, task.attempt) == ("failed", "BadAnswer", 1)
    done = service.wait(service.create_task(type="noop"), timeout=WITHIN)
    assert done.status == "completed"


def test_an_old_log_that_holds_what_cannot_be_sent_stops_no_work(open_service: Opener, tmp_path: Path) -> None:
    """An earlier version let them in: as many of them as there are workers."""
    (tmp_path / "data").mkdir(mode=0o700)
    now = datetime.now(UTC)
    log = SqliteEventLog(tmp_path / "data" / "log.db", now=now)
    poison = [
        Created(type="echo", options={"value": HUGE}, max_retries=3),
        Created(type="noop", estimated_memory=HUGE),
        Created(type="echo", options={"value": {"deep": -HUGE}}),
        Created(type="noop"),
    ]
    facts = [Fact(number, 1, event, now, "test", life=1) for number, event in enumerate(poison, 1)]
    log.append(facts, expected=0)
    log.close()

    service = open_service(workers=1)
    for task_id in (1, 3):
        task = service.wait(task_id, timeout=WITHIN)
        assert (task.status, task.error_type, task.attempt) == ("failed", "Unencodable", 1)
        assert "cannot be handed to a worker" in task.error
    assert service.wait(4, timeout=WITHIN).status == "completed"
    assert service.wait(service.create_task(type="noop"), timeout=WITHIN).status == "completed"
    assert service.list_tasks()[1] == 5
    assert service.verify().ok


MOMENTS = [
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+14:00",
    "1969-12-31T00:00:00Z",
]


@pytest.mark.parametrize("text", MOMENTS)
def test_no_moment_is_let_in_that_time_outs_cannot_be_reckoned_from(service: TaskService, text: str) -> None:
    """One such time made the Scheduler stop and fold the whole log again, and affected other tasks."""
    moment: Any = datetime.fromisoformat(text)
    for field in ("scheduled_for", "deadline"):
        with pytest.raises(InvalidValue) as refused:
            service.create_task(type="noop", queue_timeout=60, **{field: moment})
        assert refused.value.field == field
    task_id = service.create_task(type="noop", held=True)
    with pytest.raises(InvalidValue) as refused:
        service.adjust_task(task_id, scheduled_for=moment)
    assert refused.value.field == "scheduled_for"
    with pytest.raises(InvalidValue) as refused:
        service.add_schedule("often", {"type": "noop"}, every=60, starting_at=moment)
    assert refused.value.field == "starting_at"


def test_an_old_log_that_holds_the_last_moment_there_is_stops_nothing(open_service: Opener, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    now = datetime.now(UTC)
    log = SqliteEventLog(tmp_path / "data" / "log.db", now=now)
    event = Created(type="noop", scheduled_for=datetime.max.replace(tzinfo=UTC), queue_timeout=60.0)
    log.append([Fact(1, 1, event, now, "test", life=1)], expected=0)
    log.close()
    service = open_service(workers=1)
    assert service.wait(service.create_task(type="noop"), timeout=WITHIN).status == "completed"
    assert service.get_task(1).status == "pending"


ODD = {"huge": HUGE, "endless": 10**5000, "negative": -1, "nan": float("nan"), "half": 1.5, "text": "\udc80"}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_a_question_with_such_a_number_is_refused_by_name(service: TaskService, value: Any) -> None:
    for field in ("limit", "offset", "user_id", "document_id", "parent_task_id"):
        with pytest.raises(InvalidValue) as refused:
            TaskFilters(**{field: value})
        assert refused.value.field == field
    with pytest.raises((InvalidValue, BeyondTheLog)) as asked:
        service.list_tasks(TaskFilters(as_of=value))
    assert asked.value.field == "as_of"
    str(asked.value).encode()
    for read in (service.log, service.follow):
        with pytest.raises(InvalidValue) as refused:
            next(iter(read(after=value)))
        assert refused.value.field == "after"


def test_a_text_that_utf8_cannot_write_is_refused_with_its_field(service: TaskService) -> None:
    cancel: Any = service.cancel_task
    with pytest.raises(InvalidValue) as refused:
        cancel("\ud800")
    assert refused.value.field == "task_id"
    with pytest.raises(InvalidValue) as refused:
        service.set_limits(labels={"\ud800": 1})
    assert refused.value.field == "labels.?"
    str(refused.value).encode()


def test_extreme_numbers_that_can_go_on_come_through_whole(service: TaskService) -> None:
    value = [2**63 - 1, -(2**63), 1.7e308, 5e-324, "\0", "\U0010ffff", {"": None}]
    command = CreateTask(type="echo", options={"value": value})
    task = service.wait(service.send(command).task_id, timeout=WITHIN)
    assert (task.status, task.options["value"], task.result["value"]) == ("completed", value, value)
