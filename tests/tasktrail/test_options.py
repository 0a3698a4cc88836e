"""Options that cannot be meant are refused when the command arrives, and the refusal names the option."""

from pathlib import Path
from typing import Any

import pytest

from tasktrail.api.service import TaskService
from tasktrail.events.errors import InvalidOptions


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
