"""Commands refused before they reach the Scheduler: the refusal names the faulty part."""

from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest

from tasktrail.actors.machine import Machine
from tasktrail.config.settings import Config
from tasktrail.events import Command, Created, CreateTask, TasktrailError
from tasktrail.events.commands import AddSchedule, AddSource, FileTask
from tasktrail.events.errors import HandlerFault
from tasktrail.events.estimates import Correction, recorded
from tasktrail.events.task_events import Estimated
from tasktrail.handlers.contract import Estimate, Job, Room, TaskType
from tasktrail.handlers.errors import BadAnswer
from tasktrail.handlers.registry import Registry
from tasktrail.intake.examination import CommandIntake, configured_intake
from tasktrail.intake.paths import PathRules
from tasktrail.paths import DataPaths

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"type": "video_convertt"}, "type"),
    ({"type": "video_convert", "options": {"crf": 99}}, "options.crf"),
    ({"type": "video_convert", "user_level": 9}, "user_level"),
    ({"type": "video_convert", "label": "two\nlines"}, "label"),
    ({"type": "video_convert", "notify_webhook": "http://127.0.0.1/hook"}, "notify_webhook"),
    ({"type": "document_preview", "original": "replace"}, "original"),
]


def refused(command: Command) -> str:
    """Return the field that a refusal names."""
    intake = CommandIntake(Registry.load(), PathRules(), max_user_level=3, has_tasks=lambda _type: False)
    with pytest.raises(TasktrailError) as caught:
        intake.examine(intake.normalized(intake.as_sent(command)))
    return caught.value.field


@pytest.mark.parametrize(("fields", "field"), WRONG)
def test_a_fault_in_the_task_of_a_schedule_or_source_is_told_with_its_place(
    fields: dict[str, Any], field: str, tmp_path: Path
) -> None:
    (film := tmp_path / "a.mp4").write_bytes(b"film")
    task = CreateTask(**fields, input_file=str(film), output_file=str(tmp_path / "b.mp4"))
    assert refused(task) == field
    assert refused(AddSchedule(schedule="nightly", every=60.0, task=task)) == f"task.{field}"
    source = AddSource(source="inbox", inputs=(str(tmp_path),), to="/out/{stem}.mp4", task=FileTask(**fields))
    assert refused(source) == f"task.{field}"


def test_a_place_in_the_pattern_of_a_source_is_not_in_its_task(tmp_path: Path) -> None:
    task = FileTask(type="video_convert")
    source = AddSource(source="inbox", inputs=(str(tmp_path),), to="/out/{stam}.mp4", task=task)
    assert refused(source) == "to"


def taken_in(estimate: Any) -> Estimated:
    """Return what is recorded of the answers of a user's type."""
    registry = Registry()
    registry.add(TaskType(name="own", summary="", run=print, estimate=lambda _job: estimate), "own:own")
    intake = CommandIntake(registry, PathRules(), max_user_level=3, has_tasks=lambda _type: False)
    return intake.examine(CreateTask(type="own")).estimate


@pytest.mark.parametrize("what", ["check", "estimate"])
def test_an_error_in_the_code_of_a_type_is_told_as_its_own(what: str, tmp_path: Path) -> None:
    """It reached the sender bare."""
    (text := tmp_path / "a.txt").write_bytes(b"\xff")

    def read(job: Job[Any]) -> Any:
        return job.input_file.read_text("utf-8")

    registry = Registry()
    own: dict[str, Any] = {"estimate": Estimate(), what: read}
    registry.add(TaskType(name="own", summary="", run=print, **own), "own:own")
    intake = CommandIntake(registry, PathRules(), max_user_level=3, has_tasks=lambda _type: False)
    with pytest.raises(HandlerFault, match=f"The {what} of own raised UnicodeDecodeError: ") as caught:
        intake.examine(CreateTask(type="own", input_file=str(text)))
    assert caught.value.advice == f"Correct the {what}, or send an input that it can read."


@pytest.mark.parametrize(("executor", "bounded"), [("local", True), ("ray", False)])
def test_an_attempt_on_a_cluster_is_not_bounded_by_the_memory_of_this_machine(
    tmp_path: Path, executor: Literal["local", "ray"], *, bounded: bool
) -> None:
    registry, rooms = Registry(), list[Room]()

    def estimate(job: Job[Any]) -> Estimate:
        rooms.append(job.room)
        return Estimate()

    registry.add(TaskType(name="own", summary="", run=print, estimate=estimate), "own:own")
    folder, config = DataPaths(tmp_path), Config(executor=executor)
    asked: dict[str, Any] = {"has_tasks": lambda _type: False, "why_never": lambda _memory, _temp: ""}

    configured_intake(config, folder, registry, **asked).examine(CreateTask(type="own"))

    (room,) = rooms
    assert (room.memory <= Machine(tmp_path).limits().memory // 2) == bounded


CARELESS: list[dict[str, Any]] = [{"memory": 1.3 * 77}, {"temp": np.int64(7)}, {"seconds": 2}]


@pytest.mark.parametrize("fields", CARELESS)
def test_whatever_a_type_estimates_the_record_can_be_read_again(fields: dict[str, Any]) -> None:
    """An unreadable record would keep the service from ever starting again."""
    spec = Created(type="own", **recorded(taken_in(Estimate(**fields)), Correction()))
    assert msgspec.json.decode(msgspec.json.encode(spec), type=Created) == spec


@pytest.mark.parametrize("basis", ["a text", None, 5, [1], {1: 2}, {"a": {2}}, {"a": float("nan")}])
def test_a_basis_that_cannot_be_recorded_is_told_in_its_place(basis: Any) -> None:
    found = taken_in(Estimate(memory=7, basis=basis))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Estimated) == found
    assert (found.memory, list(found.basis)) == (7, ["basis"])


@pytest.mark.parametrize("estimate", [None, 5, Estimate(memory="5")])  # type: ignore[arg-type] # as a colleague may
def test_what_is_no_estimate_is_told_with_its_type(estimate: Any) -> None:
    with pytest.raises(BadAnswer, match="The estimate of own"):
        taken_in(estimate)
