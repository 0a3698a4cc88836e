"""Ten bits, high dynamic range, colour tags, interlaced pictures and hardware encoders."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from av.video.stream import VideoStream

from tasktrail.handlers import Finished, Rejected
from tasktrail.handlers.video.thumbnail import video_thumbnail
from tasktrail.handlers.video.thumbnail.options import VideoThumbnailOptions
from tasktrail.testing import RecordingContext, SimulatedCrash, run_handler

BT709, BT2020, PQ, HLG = 1, 9, 16, 18


@pytest.fixture
def deep(tmp_path: Path) -> Callable[..., Path]:
    """Make a ten-bit ramp from dark to light, with these primaries, transfer and matrix."""

    def film(primaries: int, transfer: int, matrix: int) -> Path:
        path = tmp_path / "deep.mkv"
        with av.open(str(path), "w") as output:
            stream = output.add_stream("libx265", rate=25, options={"x265-params": "log-level=none", "crf": "4"})
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = 256, 64, "yuv420p10le"
            context = stream.codec_context
            context.color_primaries, context.color_trc, context.colorspace = primaries, transfer, matrix
            luma = np.tile(np.linspace(64, 940, 256).astype(np.uint16), (64, 1))
            for _ in range(30):
                frame = av.VideoFrame(256, 64, "yuv420p10le")
                for plane, values in zip(
                    frame.planes,
                    (luma, np.full((32, 128), 512, np.uint16), np.full((32, 128), 512, np.uint16)),
                    strict=True,
                ):
                    rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
                    rows[:, : plane.width] = values
                    plane.update(rows.tobytes())
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        return path

    return film


def first_frame(path: Path) -> Any:
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


def levels(path: Path) -> int:
    """Return the number of brightness levels in the first frame."""
    return len(np.unique(first_frame(path).to_ndarray()[:64, :256]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "output", "pixel_format", "notes"),
    [
        ("h265", "out.mp4", "yuv420p10le", []),
        ("av1", "out.mkv", "yuv420p10le", []),
        ("h264", "out.mp4", "yuv420p", ["10 bits a colour became 8"]),
    ],
)
def test_ten_bits_are_kept_where_the_codec_can(
    *, codec: str, output: str, pixel_format: str, notes: list[str], deep: Any, prepare: Any, convert: Any
) -> None:
    context = prepare(deep(BT709, BT709, BT709), output, video_codec=codec, crf=5)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == notes
    frame = first_frame(context.output_file)
    assert frame.format.name == pixel_format
    assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (BT709, BT709, BT709)
    assert (levels(context.output_file) > 230) == (pixel_format == "yuv420p10le")


@pytest.mark.slow
@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_high_dynamic_range_keeps_its_tags_in_ten_bits(transfer: int, deep: Any, prepare: Any, convert: Any) -> None:
    context = prepare(deep(BT2020, transfer, BT2020), video_codec="h265")
    outcome = convert(context)
    assert outcome.result["notes"] == []
    frame = first_frame(context.output_file)
    assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (BT2020, transfer, BT2020)


@pytest.mark.slow
@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_high_dynamic_range_becomes_standard_in_eight_bits(
    transfer: int, deep: Any, prepare: Any, convert: Any
) -> None:
    context = prepare(deep(BT2020, transfer, BT2020), video_codec="h264", crf=5)
    outcome = convert(context)
    assert outcome.result["notes"] == [
        "10 bits a colour became 8",
        "high dynamic range became standard (BT.709), tones mapped from a peak of 1000 cd/m²",
    ]
    frame = first_frame(context.output_file)
    assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (BT709, BT709, BT709)
    ramp = frame.to_ndarray()[32, :256].astype(int)
    assert ramp[0] < 30
    assert ramp[-1] > 200
    assert (np.diff(ramp) >= -2).all()


@pytest.mark.slow
def test_a_thumbnail_of_high_dynamic_range_is_a_picture_for_plain_screens(deep: Any, tmp_path: Path) -> None:
    context = RecordingContext(
        VideoThumbnailOptions(position=0),
        work_dir=tmp_path / "work",
        input_file=deep(BT2020, PQ, BT2020),
        output_file=tmp_path / "out.png",
    )
    assert isinstance(run_handler(video_thumbnail, context), Finished)
    shown = first_frame(context.output_file).to_ndarray(format="gray")
    assert shown[32, 0] < 10
    assert shown[32, 250] > 200


@pytest.fixture
def combed(tmp_path: Path) -> Path:
    """Make a bar that moves between the two fields of each frame, as from an old camera."""
    path = tmp_path / "combed.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"x264-params": "tff=1", "crf": "8", "g": "20"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        for number in range(60):
            frame = av.VideoFrame(160, 128, "yuv420p")
            rows = np.full((128, frame.planes[0].line_size), 40, np.uint8)
            for field in (0, 1):
                left = (4 * number + 2 * field) % 120
                rows[field::2, left : left + 24] = 200
            frame.planes[0].update(rows.tobytes())
            for plane in frame.planes[1:]:
                plane.update(b"\x80" * plane.buffer_size)
            frame.pict_type = PictureType.NONE
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def combing(path: Path) -> float:
    """Return how much a row differs from both of its neighbours, over all frames."""
    with av.open(str(path)) as container:
        frames = np.stack([frame.to_ndarray()[:128, :160].astype(int) for frame in container.decode(video=0)])
    middle = frames[:, 1:-1]
    return float(np.minimum(abs(middle - frames[:, :-2]), abs(middle - frames[:, 2:])).mean())


def test_interlaced_pictures_are_made_whole_or_named(combed: Path, prepare: Any, convert: Any, look: Any) -> None:
    kept, whole = prepare(combed, "kept.mp4", deinterlace="never"), prepare(combed, "whole.mp4")
    assert convert(kept).result["notes"] == ["interlaced pictures kept as they are, without the flag"]
    outcome = convert(whole)
    assert outcome.result["notes"] == ["deinterlaced"]
    assert combing(whole.output_file) < combing(kept.output_file) / 4
    assert look(whole.output_file).times == look(kept.output_file).times
    assert outcome.result["frames"] == 60


def test_deinterlacing_resumes_to_the_same_file(combed: Path, prepare: Any, convert: Any) -> None:
    """A picture needs the frame before it, also where an attempt begins."""
    whole = prepare(combed, segment_seconds=0.5)
    convert(whole)
    expected = hashlib.sha256(whole.output_file.read_bytes()).hexdigest()
    assert len(whole.checkpoints) >= 3
    for number in range(1, len(whole.checkpoints)):
        for path in [whole.output_file, *whole.work_dir.iterdir()]:
            path.unlink()
        context = prepare(combed, segment_seconds=0.5, crash_after=number)
        with pytest.raises(SimulatedCrash):
            convert(context)
        assert isinstance(convert(context.resumed()), Finished)
        assert hashlib.sha256(whole.output_file.read_bytes()).hexdigest() == expected


def test_a_picture_too_small_to_be_made_of_two_is_left_as_it_is(tmp_path: Path, prepare: Any, convert: Any) -> None:
    tiny = tmp_path / "tiny.mkv"
    with av.open(str(tiny), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 2, 2, "yuv420p"
        for _ in range(3):
            output.mux(stream.encode(av.VideoFrame(2, 2, "yuv420p")))
        output.mux(stream.encode(None))
    outcome = convert(prepare(tiny, deinterlace="always"))
    assert "deinterlaced" not in outcome.result["notes"]
    assert outcome.result["frames"] == 3


@pytest.mark.parametrize(("encoder", "codec"), [("nvenc", "vp9"), ("amf", "h264")])
def test_hardware_that_is_not_there_is_refused_with_a_remedy(
    encoder: str, codec: str, clips: Callable[..., Path], prepare: Any, convert: Any
) -> None:
    outcome = convert(prepare(clips(), encoder=encoder, video_codec=codec))
    assert isinstance(outcome, Rejected)
    assert f"{codec}_{encoder}" in outcome.reason
    assert "software" in outcome.reason


@pytest.mark.parametrize(("pixels", "finer"), [("yuv420p", False), ("yuv422p", True), ("yuv444p", True)])
def test_colours_that_become_coarser_are_noted(
    *, pixels: str, finer: bool, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    outcome = convert(prepare(clips(pixel_format=pixels, seconds=1, audio=""), preset="ultrafast"))
    assert outcome.result["notes"] == ["colours finer than 4:2:0 became 4:2:0"] * finer
