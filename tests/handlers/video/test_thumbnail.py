"""The thumbnail of a video is the right picture, and looks right."""

import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
from av.video.frame import PictureType
from PIL import Image

from tasktrail.events.errors import InvalidPath
from tasktrail.handlers import Finished, Stopped
from tasktrail.handlers.video.thumbnail import video_thumbnail
from tasktrail.handlers.video.thumbnail.options import VideoThumbnailOptions, parse_position
from tasktrail.testing import RecordingContext, job_for, run_handler, task_type_of

BARS = (2.0, 4.0, 6.0)


@pytest.fixture
def shoot(tmp_path: Path) -> Callable[..., tuple[Finished, Path]]:
    """Make a thumbnail; return the outcome and the file."""

    def make(source: Path, output: str = "out.png", **options: Any) -> tuple[Finished, Path]:
        given = msgspec.convert(options, VideoThumbnailOptions)
        context = RecordingContext(given, work_dir=tmp_path / "work", input_file=source, output_file=tmp_path / output)
        outcome = run_handler(video_thumbnail, context)
        assert isinstance(outcome, Finished)
        return outcome, context.output_file

    return make


def grey(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"), dtype=float)


def frame_at(source: Path, number: int) -> np.ndarray[Any, Any]:
    """Return the frame by FFmpeg alone, in grey."""
    with av.open(str(source)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == number:
                return np.asarray(Image.fromarray(frame.to_ndarray(format="rgb24")).convert("L"), dtype=float)
    raise AssertionError(number)


@pytest.mark.parametrize(
    ("position", "number"), [(0, 0), (2, 50), (1.02, 26), ("50%", 50), ("0:03", 75), (99, 99), ("100%", 99)]
)
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_the_frame_at_a_position_is_that_frame(
    *, suffix: str, position: Any, number: int, clips: Callable[..., Path], shoot: Callable[..., Any]
) -> None:
    source = clips(suffix=suffix, options={"g": "30", "bf": "3"}, audio="")
    outcome, path = shoot(source, position=position)
    distances = {other: np.abs(grey(path) - frame_at(source, other)).mean() for other in (number, number ^ 1)}
    assert distances[number] < 2
    assert distances[number] < distances[number ^ 1]
    assert outcome.result["source_position"] == pytest.approx(number / 25, abs=0.001)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(".jpg", "JPEG"), (".jpeg", "JPEG"), (".png", "PNG"), (".webp", "WEBP"), (".avif", "AVIF"), (".gif", "GIF")],
)
def test_every_picture_format_is_written_and_described(
    suffix: str, kind: str, clips: Callable[..., Path], shoot: Callable[..., Any]
) -> None:
    outcome, path = shoot(clips(), f"out{suffix}", position=1, width=80)
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == (kind, (80, 60))
    assert outcome.result == {
        "size": path.stat().st_size,
        "width": 80,
        "height": 60,
        "frames": 1,
        "duration": 0.0,
        "codec": kind.lower(),
        "source_position": 1.0,
        "source_duration": pytest.approx(4, abs=0.05),
        "source_codec": "h264",
        "source_width": 160,
        "source_height": 120,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "format": kind.lower(),
    }


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (160, 120)),
        ({"width": 40, "height": 40}, (40, 30)),
        ({"width": 50, "height": 50, "fit": "fill"}, (50, 50)),
        ({"width": 320, "height": 100, "fit": "fill"}, (320, 100)),
    ],
)
def test_the_box_is_kept_and_fit_never_enlarges(
    options: dict[str, Any], size: tuple[int, int], clips: Callable[..., Path], shoot: Callable[..., Any]
) -> None:
    _, path = shoot(clips(), position=0, **options)
    with Image.open(path) as picture:
        assert picture.size == size


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_video_gives_an_upright_picture(
    rotation: int, clips: Callable[..., Path], shoot: Callable[..., Any]
) -> None:
    source = clips(audio="", rotation=rotation, seconds=1)
    _, path = shoot(source, position=0)
    turned = np.rot90(frame_at(source, 0), rotation // 90)
    assert grey(path).shape == turned.shape
    assert np.abs(grey(path) - turned).mean() < 3


@pytest.mark.parametrize(("aspect", "size"), [("4/3", (213, 120)), ("1/2", (160, 240))])
def test_pixels_that_are_not_square_are_made_square(
    aspect: str, size: tuple[int, int], clips: Callable[..., Path], shoot: Callable[..., Any]
) -> None:
    source = clips(audio="", options={"x264-params": f"sar={aspect}"}, seconds=1)
    _, path = shoot(source, position=0)
    with Image.open(path) as picture:
        assert picture.size == size


@pytest.mark.parametrize(
    ("tags", "colour"),
    [
        ((1, 1), (255, 23, 0)),
        ((1, 2), (255, 35, 11)),
        ((6, 1), (252, 0, 0)),
        ((2, 0), (252, 0, 0)),
    ],
)
def test_matrix_and_range_give_the_colours_that_players_show(
    tags: tuple[int, int], colour: tuple[int, int, int], plain: Callable[..., Path], shoot: Callable[..., Any]
) -> None:
    """The same stored values (81, 90, 240) mean another red under each; untagged and small means BT.601."""
    _, path = shoot(plain(tags), position=0)
    with Image.open(path) as picture:
        seen = np.asarray(picture.convert("RGB"))[30, 30].astype(int)
    assert np.abs(seen - colour).max() <= 4


@pytest.fixture
def plain(tmp_path: Path) -> Callable[..., Path]:
    """Make a short film of one stored colour, tagged with this matrix and range."""

    def film(tags: tuple[int, int] = (2, 0)) -> Path:
        path = tmp_path / "plain.mkv"
        with av.open(str(path), "w") as output:
            stream = output.add_stream("libx264", rate=25, options={"crf": "1"})
            stream.codec_context.colorspace, stream.codec_context.color_range = tags
            stream.width = stream.height = 64
            for _ in range(3):
                frame = av.VideoFrame(64, 64, "yuv420p")
                for plane, value in zip(frame.planes, (81, 90, 240), strict=True):
                    plane.update(bytes([value]) * plane.buffer_size)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        return path

    return film


@pytest.fixture
def fades(tmp_path: Path) -> Path:
    """Make black for two seconds, blurred for two, sharp for two, white for two."""
    path = tmp_path / "fades.mp4"
    with av.open("testsrc2=size=320x240:rate=10:duration=1", format="lavfi") as test:
        sharp = next(test.decode(video=0)).reformat(format="yuv420p")
    blurred = sharp.reformat(width=16, height=12).reformat(width=320, height=240)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(80):
            second = number / 10
            level = 16 if second < BARS[0] else 235
            blank = av.VideoFrame(320, 240, "yuv420p")
            for plane, value in zip(blank.planes, (level, 128, 128), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame = blank if not BARS[0] <= second < BARS[2] else blurred if second < BARS[1] else sharp
            frame.pts, frame.time_base = number, Fraction(1, 10)
            frame.pict_type = PictureType.NONE
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def test_the_best_frame_is_neither_black_nor_white_nor_blurred(fades: Path, shoot: Callable[..., Any]) -> None:
    outcome, path = shoot(fades)
    assert BARS[1] <= outcome.result["source_position"] < BARS[2]
    assert grey(path).std() > 40


def test_a_film_of_black_alone_still_gives_a_picture(plain: Callable[..., Path], shoot: Callable[..., Any]) -> None:
    outcome, _ = shoot(plain(), candidates=5)
    assert outcome.result["width"] == 64


def test_it_stops_when_asked(clips: Callable[..., Path], tmp_path: Path) -> None:
    for stop_after in (0, 1, 40):
        context = RecordingContext(
            VideoThumbnailOptions(),
            work_dir=tmp_path / "work",
            input_file=clips(),
            output_file=tmp_path / "out.jpg",
            stop_after=stop_after,
        )
        assert isinstance(run_handler(video_thumbnail, context), Stopped)
        assert context.stops_asked == stop_after + 1
        assert not context.output_part.exists()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(0, 0), (12.5, 12.5), ("12.5", 12.5), ("1:02", 62), ("1:02:03.5", 3723.5), ("25%", 50), (" 100 % ", 200)],
)
def test_positions_are_read_as_people_write_them(text: Any, seconds: float) -> None:
    assert parse_position(text).seconds(200) == seconds


@pytest.mark.parametrize("text", [-1, float("inf"), float("nan"), "", "-5", "101%", "1:2:3:4", "middle", "1e5"])
def test_what_is_no_position_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="position"):
        parse_position(text)


@pytest.mark.parametrize("options", [{"position": "middle"}, {"width": 0}, {"fit": "stretch"}, {"size": 3}])
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, VideoThumbnailOptions)


def test_a_suffix_that_no_picture_has_is_refused_when_the_command_comes() -> None:
    check = task_type_of(video_thumbnail).check
    assert check is not None
    check(job_for(VideoThumbnailOptions(), "/in.mp4", "/out.PNG"))
    with pytest.raises(InvalidPath, match=r"out\.mp4"):
        check(job_for(VideoThumbnailOptions(), "/in.mp4", "/out.mp4"))
