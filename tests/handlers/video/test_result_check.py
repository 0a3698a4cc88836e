"""A converted film replaces its original only when it holds everything wanted of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc
from full_films import Beside, Tone, make

from tasktrail.handlers import Finished, Unusable
from tasktrail.handlers.video.convert.result_check import check_result


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an mkv with two sound tracks, subtitles and a font."""
    beside = Beside(attachments={"serif.ttf": ("font/ttf", b"\x00\x01\x00\x00 not much of a font")})
    tones = [Tone(), Tone(1000, language="deu", codec="ac3")]
    return make(tmp_path_factory.mktemp("full") / "in.mkv", tones, [("subrip", "eng")], beside)


@pytest.fixture
def judge(prepare: Callable[..., Any], convert: Callable[..., Any]) -> Callable[..., str]:
    """Convert, change the result, and ask."""

    def judged(source: Path, output: str, meddle: Callable[[Path], object] = lambda _: None, **options: Any) -> str:
        context = prepare(source, output, preset="ultrafast", **options)
        outcome = convert(context)
        assert isinstance(outcome, Finished)
        context.output_part.write_bytes(context.output_file.read_bytes())
        meddle(context.output_part)
        return check_result(context, outcome.result)

    return judged


@pytest.mark.parametrize(
    ("output", "options", "said"),
    [
        ("out.mkv", {}, ""),
        ("out.mkv", {"video_codec": "copy"}, ""),
        ("out.mkv", {"start": 0.5, "end": 2.0, "frame_rate": 12.5}, ""),
        ("out.mkv", {"audio_codec": "none", "subtitles": "none"}, ""),
        ("out.mkv", {"audio_track": 2}, ""),
        ("out.mp4", {"subtitles": "none"}, ""),
        ("out.mkv", {"burn_subtitles": 1}, ""),
        ("out.mp4", {}, "the result has 0 of 1 attachments"),
    ],
)
def test_what_was_not_asked_to_be_left_out_has_to_be_there(
    judge: Callable[..., str], full: Path, output: str, options: dict[str, Any], said: str
) -> None:
    assert judge(full, output, **options) == said


def _cut(part: Path) -> None:
    data = part.read_bytes()
    part.write_bytes(data[: len(data) * 2 // 3])


def _damage(part: Path) -> None:
    data = bytearray(part.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    part.write_bytes(data)


@pytest.mark.parametrize("meddle", [_cut, _damage])
def test_a_result_that_is_not_whole_is_found(judge: Callable[..., str], full: Path, meddle: Any) -> None:
    try:
        said = judge(full, "out.mkv", meddle)
    except Unusable as error:
        said = str(error)
    assert said


def test_an_original_that_is_damaged_stays(judge: Callable[..., str], full: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mkv"
    damaged.write_bytes(full.read_bytes())
    _damage(damaged)
    assert judge(damaged, "out.mkv")


def test_an_original_whose_last_pictures_are_damaged_stays(
    judge: Callable[..., str], clips: Callable[..., Path], damage: Callable[..., Path]
) -> None:
    film = damage(clips(audio=""), picture=[99])
    assert judge(film, "out.mp4") == "1 packet of the original cannot be decoded, and is not in the result"


@pytest.mark.parametrize(
    ("colour", "options", "said"),
    [
        ("bt2020:smpte2084", {"video_codec": "h265"}, ""),
        ("bt2020:smpte2084", {}, "the result has lost the high dynamic range; hdr=sdr says that this is meant"),
        ("bt2020:smpte2084", {"hdr": "sdr"}, ""),
        ("bt709:bt709", {}, "10 bits a channel became 8: a codec or profile of more keeps them"),
    ],
)
def test_range_and_bits_are_not_lost_unasked(
    judge: Callable[..., str], tmp_path: Path, colour: str, options: dict[str, Any], said: str
) -> None:
    primaries, transfer = colour.split(":")
    film = tmp_path / "deep.mkv"
    with av.open(str(film), "w") as output:
        stream = output.add_stream("libx265", rate=25, options={"x265-params": "log-level=error"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p10le"
        stream.codec_context.color_primaries = ColorPrimaries[primaries.upper()].value
        stream.codec_context.color_trc = ColorTrc[transfer.upper()].value
        for _ in range(10):
            frame = VideoFrame(160, 120, "yuv420p10le")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert judge(film, "out.mkv", **options) == said
