"""Senseless options are refused when the command arrives, and the refusal names the option."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasktrail import task
from tasktrail.api.service import TaskService
from tasktrail.events.errors import InvalidOptions
from tasktrail.intake.refusals import convert_options


class Box(msgspec.Struct, forbid_unknown_fields=True):
    """A part of the options."""

    width: int


@task
def greet(name: str, times: int, box: Box | None = None) -> str:
    """A user's type; two of its options have no default."""
    return f"{name} {times} {box}"


@pytest.mark.parametrize(
    ("options", "said", "field", "given"),
    [
        ({}, "options name, times of greet have to be given", "name", "-o name=VALUE -o times=VALUE"),
        ({"name": "x"}, "option times of greet has to be given", "times", "-o times=VALUE"),
    ],
)
def test_an_option_that_is_left_out_and_has_no_default_is_named(
    options: dict[str, Any], said: str, field: str, given: str
) -> None:
    with pytest.raises(InvalidOptions) as caught:
        convert_options(greet.__tasktrail__, options)
    assert (caught.value.message, caught.value.field) == (said, f"options.{field}")
    assert given in caught.value.advice
    assert "`tasktrail types greet`" in caught.value.advice


@pytest.mark.parametrize(
    ("box", "said"),
    [({}, "needs `width`"), ({"width": 1, "hight": 2}, "has no field `hight`")],
)
def test_what_is_wrong_within_an_option_is_in_plain_words(box: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        convert_options(greet.__tasktrail__, {"name": "x", "times": 1, "box": box})
    assert (caught.value.message, caught.value.field) == (f"option box of greet {said}", "options.box")


@pytest.mark.parametrize(
    ("kind", "options", "name"),
    [
        ("video_thumbnail", {"width": 10, "position": "behind"}, "position"),
        ("video_convert", {"crf": 20, "width": 640, "scale": 0.5}, "scale"),
        ("video_convert", {"encoder": "vaapi"}, "encoder"),
        ("video_preview", {"fps": 60, "clips": 100}, "clips"),
        ("model_preview", {"kind": "turntable", "width": 4096, "height": 4096, "frames": 360}, "frames"),
        ("document_preview", {"pages": "3-1"}, "pages"),
        ("document_preview", {"width": 10, "dpi": 300}, "dpi"),
        ("video_convert", {"scale": 1, "width": 64, "height": 64}, "scale"),
    ],
)
def test_what_a_type_refuses_by_rules_of_its_own_names_the_option(
    service: TaskService, kind: str, options: dict[str, Any], name: str
) -> None:
    with pytest.raises(InvalidOptions, match=f"option {name} of {kind}: ") as caught:
        service.create_task(type=kind, options=options)
    assert caught.value.field == f"options.{name}"


@pytest.mark.parametrize(
    ("kind", "source", "output", "options", "name"),
    [
        ("video_preview", "in.mp4", "out.jpg", {"columns": 2, "clips": 3}, "clips"),
        ("video_preview", "in.mp4", "out.gif", {"clips": 3, "rows": 2}, "rows"),
        ("video_thumbnail", "in.mp4", "out.jpg", {"position": 3, "candidates": 5}, "candidates"),
        ("video_convert", "in.mp4", "out.mp4", {"audio_codec": "none", "audio_track": 2}, "audio_track"),
        ("video_convert", "in.mp4", "out.mp4", {"encoder": "nvenc", "preset": "slow"}, "preset"),
        ("model_preview", "in.stl", "out.png", {"views": ["top"]}, "views"),
        ("model_preview", "in.stl", "out.png", {"kind": "sheet", "view": "top"}, "view"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    service: TaskService, tmp_path: Path, kind: str, source: str, output: str, options: dict[str, Any], name: str
) -> None:
    (tmp_path / source).write_text("x")
    with pytest.raises(InvalidOptions, match=f"{name} has no effect") as caught:
        service.create_task(
            type=kind, input_file=str(tmp_path / source), output_file=str(tmp_path / output), options=options
        )
    assert caught.value.field == f"options.{name}"
