"""Facts about a video found before the work: with as little decoding as possible, and once."""

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tasktrail.handlers.video import source as module
from tasktrail.handlers.video.frames import pick_frames, spread
from tasktrail.handlers.video.source import read_source
from tasktrail.testing import SimulatedCrash

CLIPS: dict[str, dict[str, Any]] = {
    "b-frames": {"options": {"bf": "3", "g": "30"}},
    "no b-frames": {"suffix": ".mov", "options": {"bf": "0"}, "audio": ""},
    "open groups": {"suffix": ".mkv", "options": {"g": "20", "x264-params": "open-gop=1:bframes=3:scenecut=0"}},
    "uneven": {"suffix": ".mkv", "options": {"bf": "3"}, "uneven": True},
    "neither index nor length": {"suffix": ".mkv", "container": {"live": "1"}},
    "in fragments": {"container": {"movflags": "frag_keyframe+empty_moov"}, "options": {"g": "20"}},
    "rotated": {"rotation": 90, "audio": ""},
    "webm": {"suffix": ".webm", "codec": "libvpx-vp9", "options": {"cpu-used": "8", "g": "30"}, "audio": "libopus"},
    "one frame": {"seconds": 0.04, "audio": ""},
}


def frames_decoded(monkeypatch: pytest.MonkeyPatch, path: Path) -> int:
    """Return how many frames a probe takes out of the decoder."""
    count = 0
    frames = module._frames

    def counted(*arguments: Any) -> Any:
        nonlocal count
        for frame in frames(*arguments):
            count += 1
            yield frame

    with monkeypatch.context() as patch:
        patch.setattr(module, "_frames", counted)
        read_source(path)
    return count


@pytest.mark.parametrize("name", CLIPS)
def test_a_brief_look_finds_what_a_long_one_finds(
    name: str, clips: Callable[..., Path], look: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = Path(shutil.copy(clips(**CLIPS[name]), tmp_path))
    assert frames_decoded(monkeypatch, path) == 1
    brief = read_source(path)
    path.touch()
    monkeypatch.setattr(module, "_KEEP_TIMES", ())
    assert frames_decoded(monkeypatch, path) == min(60, len(look(path).times))
    assert read_source(path) == brief


def test_pictures_out_of_order_whose_times_rise_are_decoded_to_see_which_times_are_right(
    clips: Callable[..., Path], tmp_path: Path
) -> None:
    source, wrong = clips(options={"bf": "3", "g": "30"}, audio=""), tmp_path / "wrong.mp4"
    with av.open(str(source)) as container, av.open(str(wrong), "w") as output:
        track = output.add_stream_from_template(container.streams.video[0], opaque=True)
        for packet in container.demux(video=0):
            if packet.dts is not None:
                packet.stream = track
                packet.pts = packet.dts
                output.mux(packet)
    assert read_source(source).clock == "pts"
    assert read_source(wrong).clock == "dts"


def test_a_file_is_looked_at_again_only_when_it_has_changed(clips: Callable[..., Path], tmp_path: Path) -> None:
    path = Path(shutil.copy(clips(audio=""), tmp_path / "in.mp4"))
    first = read_source(path)
    assert read_source(path) is first
    shutil.copy(clips(rotation=90, audio=""), path)
    assert read_source(path).rotation == 90


def test_an_index_that_calls_every_picture_a_keyframe_is_not_believed(clips: Callable[..., Path], look: Any) -> None:
    path = clips(suffix=".mpg", codec="mpeg2video", options={"bf": "2", "g": "25"}, audio="")
    source, decoded = read_source(path), 0

    def tick() -> None:
        nonlocal decoded
        decoded += 1

    found = list(pick_frames(source, spread(source, 20), tick))
    assert len({moment for moment, _ in found}) == 20
    assert decoded <= len(look(path).times)


@pytest.mark.parametrize(
    "recipe",
    [
        {"uneven": True, "seconds": 2.52, "options": {"bf": "3"}, "audio": ""},
        {"uneven": True, "seconds": 2.52, "options": {"bf": "3"}, "suffix": ".ts", "audio": ""},
        {"suffix": ".mpg", "codec": "mpeg2video", "audio": "mp2"},
        {"suffix": ".mkv"},
        {"suffix": ".mkv", "container": {"live": "1"}},
        {"suffix": ".flv"},
        {"suffix": ".wmv", "codec": "wmv2", "audio": "libmp3lame"},
    ],
    ids=lambda recipe: f"{recipe.get('suffix', '.mp4')}{'-uneven' if 'uneven' in recipe else ''}",
)
def test_a_video_ends_behind_its_last_frame_whatever_the_header_says(
    recipe: dict[str, Any], clips: Callable[..., Path], look: Any
) -> None:
    """Where decoding times lag behind, an mp4 header ends before the last frame; other headers include the sound."""
    path = clips(**recipe)
    source, times = read_source(path), look(path).times
    assert source.seconds == pytest.approx(float(times[-1] - times[0]) + 0.04, abs=0.002)
    assert float(source.last_shown * source.time_base) == pytest.approx(0.04, abs=0.001)


def test_a_film_whose_size_changes_midway_has_the_size_of_its_first_picture(
    clips: Callable[..., Path], tmp_path: Path, prepare: Callable[..., Any], convert: Any
) -> None:
    """As a camera or a television channel does it. The decoder has passed the change when the beginning was read.

    A conversion stretches what follows, and says so, also after a crash.
    """
    path = tmp_path / "changes.ts"
    with (
        av.open(str(clips(suffix=".ts", audio="", seconds=1))) as first,
        av.open(str(path), "w") as output,
        av.open("testsrc=size=80x80:rate=25:duration=2", "r", format="lavfi") as later,
    ):
        track = output.add_stream_from_template(first.streams.video[0], opaque=True)
        end = 0
        for packet in first.demux(video=0):
            if packet.size and packet.pts is not None and packet.duration:
                end = max(end, packet.pts + packet.duration)
                packet.stream = track
                output.mux(packet)
        encoder = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt = 80, 80, "yuv420p"
        encoder.time_base, encoder.options = Fraction(1, 25), {"bf": "0"}
        for frame in [*later.decode(video=0), None]:
            for packet in encoder.encode(frame.reformat(format="yuv420p") if frame else None):
                assert packet.pts is not None
                packet.pts = packet.dts = end + int(packet.pts * Fraction(1, 25) * 90_000)
                packet.time_base, packet.stream = Fraction(1, 90_000), track
                output.mux(packet)
    source = read_source(path)
    assert (source.width, source.height) == (160, 120)
    context = prepare(path, segment_seconds=1, crash_after=2)
    with pytest.raises(SimulatedCrash):
        convert(context)
    result = convert(context.resumed()).result
    assert (result["width"], result["height"]) == (160, 120)
    told = "50 pictures have another size than the first, and are stretched to it"
    assert told in result["notes"]
    assert told in convert(prepare(path, "part.mp4", crop="160:60:0:0")).result["notes"]
