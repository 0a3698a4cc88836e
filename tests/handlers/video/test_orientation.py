"""A display matrix can mirror a picture as well as rotate it: every video type shows all eight orientations upright."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from tasktrail.handlers import Finished
from tasktrail.handlers.image.shaping import upright
from tasktrail.handlers.video.preview import video_preview
from tasktrail.handlers.video.preview.options import VideoPreviewOptions
from tasktrail.handlers.video.source import read_source
from tasktrail.handlers.video.thumbnail import video_thumbnail
from tasktrail.handlers.video.thumbnail.options import VideoThumbnailOptions
from tasktrail.testing import RecordingContext, run_handler

ONE = 1 << 16
MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
"""EXIF's number of the orientation → where the matrix sends the two axes."""


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    """Another colour in each corner."""
    picture = Image.new("RGB", (160, 96), (200, 40, 40))
    picture.paste((40, 180, 40), (80, 0, 160, 48))
    picture.paste((40, 40, 200), (0, 48, 80, 96))
    picture.paste((220, 220, 60), (80, 48, 160, 96))
    return picture


@pytest.fixture(params=MATRICES)
def film(request: pytest.FixtureRequest, scene: Image.Image, tmp_path: Path) -> tuple[Path, Image.Image]:
    """Make a film of the scene in one of eight orientations, and the picture as it should look."""
    across, down, back, up = (ONE * number for number in MATRICES[request.param])
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "5"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *scene.size, "yuv444p"
        stream.set_display_matrix([across, down, 0, back, up, 0, 0, 0, 1 << 30])
        for _ in range(10):
            output.mux(stream.encode(VideoFrame.from_ndarray(np.asarray(scene), "rgb24")))
        output.mux(stream.encode(None))
    return path, upright(scene, request.param)


def apart(found: Image.Image, wanted: Image.Image) -> float:
    assert found.size == wanted.size
    return float(np.abs(np.asarray(found, dtype=np.int16) - np.asarray(wanted, dtype=np.int16)).mean())


def test_a_conversion_is_upright(film: tuple[Path, Image.Image], prepare: Callable[..., Any], convert: Any) -> None:
    path, wanted = film
    context = prepare(path, crf=5)
    assert isinstance(convert(context), Finished)
    with av.open(str(context.output_file)) as container:
        frame = next(container.decode(video=0))
        assert frame.side_data.get("DISPLAYMATRIX") is None
        assert apart(Image.fromarray(frame.to_ndarray(format="rgb24")), wanted) < 12


@pytest.mark.parametrize(
    ("handler", "options"),
    [
        (video_thumbnail, VideoThumbnailOptions(position="0")),
        (video_preview, VideoPreviewOptions(columns=1, rows=1, gap=0, width=160, timestamps=False)),
    ],
    ids=["thumbnail", "preview"],
)
def test_a_thumbnail_and_a_preview_are_upright(
    film: tuple[Path, Image.Image], handler: Any, options: Any, tmp_path: Path
) -> None:
    path, wanted = film
    context = RecordingContext(options, work_dir=tmp_path, input_file=path, output_file=tmp_path / "out.png")
    assert isinstance(run_handler(handler, context), Finished)
    with Image.open(context.output_file) as picture:
        found = picture.convert("RGB")
    assert apart(found.resize(wanted.size), wanted) < 12
    assert (found.width > found.height) == (wanted.width > wanted.height)


def turned(degrees: float) -> list[int]:
    across, down = round(ONE * math.cos(math.radians(degrees))), round(ONE * math.sin(math.radians(degrees)))
    return [across, down, 0, -down, across, 0, 0, 0, 1 << 30]


@pytest.mark.parametrize(
    ("matrix", "told"),
    [
        (turned(45), "turned by 45° more clockwise, which is not done"),
        (turned(45.4), "turned by 45° more counter-clockwise, which is not done"),  # beside a quarter turn clockwise
        (turned(2), "turned by 2° more clockwise, which is not done"),
        (turned(89), "turned by 1° more counter-clockwise, which is not done"),
        (turned(181), "turned by 1° more clockwise, which is not done"),
        ([1, -ONE, 0, ONE, 1, 0, 0, 0, 1 << 30], ""),  # a quarter, but for a rounding
    ],
)
def test_a_rotation_that_is_no_quarter_turn_is_told(
    matrix: list[int], told: str, scene: Image.Image, tmp_path: Path, prepare: Callable[..., Any], convert: Any
) -> None:
    """It was left out without a word."""
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *scene.size, "yuv444p"
        stream.set_display_matrix(matrix)
        for _ in range(10):
            output.mux(stream.encode(VideoFrame.from_ndarray(np.asarray(scene), "rgb24")))
        output.mux(stream.encode(None))
    source = read_source(path)
    asked = round(-math.degrees(math.atan2(matrix[1], matrix[0])))
    assert (source.rotation + source.slant - asked) % 360 == 0
    converted = convert(prepare(path))
    still = RecordingContext(
        VideoThumbnailOptions(position="0"), work_dir=tmp_path, input_file=path, output_file=tmp_path / "out.png"
    )
    for outcome in (converted, run_handler(video_thumbnail, still)):
        assert isinstance(outcome, Finished)
        notes = [note for note in outcome.result.get("notes", []) if "only quarter turns are" in note]
        assert notes == ([f"the film asks to be {told}: only quarter turns are"] if told else [])
