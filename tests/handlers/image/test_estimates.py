"""The estimate of a picture is more than its need, but not far more: measured in separate processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image, ImageOps

from tasktrail.handlers.contract import resolve
from tasktrail.testing import job_for, task_type_of

THUMBNAIL, CONVERT = (
    "tasktrail.handlers.image.thumbnail:image_thumbnail",
    "tasktrail.handlers.image.convert:image_convert",
)
SIDE = 1600


def picture(mode: str) -> Image.Image:
    """Make a noisy picture, the most expensive kind."""
    grey = Image.effect_noise((SIDE, SIDE), 90)
    match mode:
        case "RGB":
            return Image.merge("RGB", (grey, ImageOps.mirror(grey), ImageOps.flip(grey)))
        case "RGBA":
            coloured = picture("RGB")
            coloured.putalpha(grey)
            return coloured
        case "P":
            return picture("RGB").quantize(200, method=Image.Quantize.FASTOCTREE)
        case _:
            return grey.convert(mode)


def held(
    home: str, source: Path, output: Path, options: dict[str, Any], run_attempt: Callable[..., Any]
) -> tuple[int, int]:
    """Return the estimate, and the peak of the process."""
    task_type = task_type_of(resolve(home))
    estimate = task_type.probe_input(job_for(msgspec.convert(options, task_type.options), source, output))
    done = run_attempt(home, source, output, options)
    assert done.ended == "Finished"
    return estimate.memory, done.peak


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "suffix", "home", "output", "options"),
    [
        ("RGBA", ".png", THUMBNAIL, ".jpg", {}),
        ("P", ".png", THUMBNAIL, ".png", {"width": 640, "height": 640}),
        ("RGBA", ".webp", THUMBNAIL, ".jpg", {}),
        ("1", ".tif", THUMBNAIL, ".jpg", {}),
        pytest.param("RGB", ".png", CONVERT, ".webp", {"lossless": True}, marks=pytest.mark.long),
        ("RGBA", ".png", CONVERT, ".webp", {}),
        ("RGB", ".jpg", CONVERT, ".jpg", {}),
        ("RGB", ".png", CONVERT, ".avif", {"width": 1000}),
    ],
)
def test_a_large_picture_stays_under_its_estimate_in_every_mode_and_encoder(
    *,
    mode: str,
    suffix: str,
    home: str,
    output: str,
    options: dict[str, Any],
    run_attempt: Callable[..., Any],
    tmp_path: Path,
) -> None:
    source = tmp_path / f"in{suffix}"
    picture(mode).save(source)
    expected, used = held(home, source, tmp_path / f"out{output}", options, run_attempt)
    assert used <= expected <= 3 * used


@pytest.mark.slow
@pytest.mark.parametrize(("output", "options"), [(".webp", {"lossless": True}), (".gif", {})])
def test_an_animation_stays_under_its_estimate_though_its_writer_holds_all_frames(
    output: str, options: dict[str, Any], run_attempt: Callable[..., Any], tmp_path: Path
) -> None:
    source = tmp_path / "in.gif"
    frames = [Image.radial_gradient("L").rotate(18 * number).resize((600, 600)) for number in range(20)]
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=40)
    expected, used = held(CONVERT, source, tmp_path / f"out{output}", options, run_attempt)
    assert used <= expected <= 3 * used


@pytest.mark.slow
@pytest.mark.parametrize(("source", "output"), [(".jpg", ".jpg"), (".png", ".png"), (".png", ".tif")])
def test_a_turned_picture_that_is_held_as_a_whole_stays_under_its_estimate(
    source: str, output: str, run_attempt: Callable[..., Any], tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture("RGB").resize((3000, 3000)).save(tmp_path / f"in{source}", exif=exif)
    expected, used = held(CONVERT, tmp_path / f"in{source}", tmp_path / f"out{output}", {}, run_attempt)
    assert used <= expected <= 3 * used
