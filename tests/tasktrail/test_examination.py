"""What is refused of a command before it reaches the Scheduler: where the fault lies in it."""

from pathlib import Path
from typing import Any

import pytest

from tasktrail.events import Command, CreateTask, TasktrailError
from tasktrail.events.commands import AddSchedule, AddSource, FileTask
from tasktrail.handlers.registry import Registry
from tasktrail.intake.examination import CommandIntake
from tasktrail.intake.paths import PathRules

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"type": "video_convertt"}, "type"),
    ({"type": "video_convert", "options": {"crf": 99}}, "options.crf"),
    ({"type": "video_convert", "user_level": 9}, "user_level"),
    ({"type": "video_convert", "label": "two\nlines"}, "label"),
    ({"type": "video_convert", "notify_webhook": "http://127.0.0.1/hook"}, "notify_webhook"),
    ({"type": "document_preview", "original": "replace"}, "original"),
]


def refused(command: Command) -> str:
    """The field that a refusal names."""
    intake = CommandIntake(Registry.load(), PathRules(), max_user_level=3, has_tasks=lambda _type: False)
    with pytest.raises(TasktrailError) as caught:
        intake.examine(command)
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
