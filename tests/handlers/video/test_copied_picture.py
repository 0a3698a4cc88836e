"""`video_codec=copy`: the picture is moved to another container exactly as it is."""

from collections.abc import Callable
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from conversions import SOURCES, at_checkpoint, digest
from full_films import SIDE_BY_SIDE, SPHERICAL, Tone, dolby, make, marked
from properties import differences
from trimmed_films import trimmed, with_edits

from tasktrail.events.errors import InvalidOptions
from tasktrail.handlers import Finished, Rejected
from tasktrail.handlers.contract import Unusable
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.options import CONTAINERS, VideoConvertOptions
from tasktrail.handlers.video.source import read_source
from tasktrail.testing import job_for

COPY = {"video_codec": "copy", "preset": "veryfast", "segment_seconds": None}
ENCODERS = {
    "hevc": "libx265",
    "h264": "libx264",
    "av1": "libsvtav1",
    "vp9": "libvpx-vp9",
    "vp8": "libvpx",
    "prores": "prores_ks",
    "flv1": "flv",
    "theora": "libtheora",
}
"""FFmpeg's name of a codec → the name of its encoder, where it differs."""
PIXELS = {"prores": "yuv422p10le", "mjpeg": "yuvj420p", "qtrle": "rgb24", "png": "rgb24"}
NOT_WRITTEN = {"dnxhd", "theora"}
"""Codecs that the library has no encoder for, or none for such small pictures."""


def pictures(path: Path) -> list[tuple[Fraction, str]]:
    """Return each decoded picture, and its time after the first."""
    with av.open(str(path)) as container:
        frames = [frame for frame in container.decode(video=0) if frame.time_base is not None]
    times = [(frame.pts or 0) * frame.time_base for frame in frames if frame.time_base]
    looks = [sha256(frame.to_ndarray().tobytes()).hexdigest() for frame in frames]
    return [(time - times[0], look) for time, look in zip(times, looks, strict=True)]


def same(before: Path, after: Path) -> bool:
    """Check that both show the same pictures at the same times, to a millisecond, which is Matroska's resolution."""
    one, other = pictures(before), pictures(after)
    assert [look for _, look in one] == [look for _, look in other]
    return all(abs(then - now) <= Fraction(1, 1000) for (then, _), (now, _) in zip(one, other, strict=True))


NEVER_COPIED = ("times that jump back", "animation", "windows media")


@pytest.mark.parametrize("name", [name for name in SOURCES if name not in NEVER_COPIED])
def test_every_kind_of_source_shows_the_same_pictures_at_the_same_times(
    name: str, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = clips(**SOURCES[name])
    context = prepare(source, "out.mkv", **COPY)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert same(source, context.output_file)
    assert outcome.result["frames"] == len(pictures(source))
    assert outcome.result["codec"] == outcome.result["source_codec"]
    told = "program", "exact times of sound", "sound of mp2 became aac"
    assert [note for note in outcome.result["notes"] if not any(each in note for each in told)] == []


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(suffix, codec) for suffix in CONTAINERS for codec in CONTAINERS[suffix].copied_video if suffix != ".m4v"],
)
def test_every_codec_that_is_named_goes_into_the_container(
    *,
    suffix: str,
    codec: str,
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
) -> None:
    if codec in NOT_WRITTEN:
        pytest.skip("there is no encoder to make a source with")
    into = {"qtrle": ".mov", "png": ".mov", "prores": ".mov"}.get(codec, ".mkv")
    source = clips(
        suffix=into,
        codec=ENCODERS.get(codec, codec),
        audio="",
        seconds=1,
        pixel_format=PIXELS.get(codec, "yuv420p"),
    )
    context = prepare(source, f"out{suffix}", **COPY)
    assert isinstance(convert(context), Finished)
    assert same(source, context.output_file)
    with av.open(str(source)) as before, av.open(str(context.output_file)) as after:
        assert after.streams.video[0].codec_context.name == before.streams.video[0].codec_context.name
        if codec == "prores" and suffix == ".mov":
            assert after.streams.video[0].codec_context.codec_tag == before.streams.video[0].codec_context.codec_tag
        if codec == "hevc" and suffix in (".mp4", ".mov"):
            assert after.streams.video[0].codec_context.codec_tag == "hvc1"


@pytest.mark.parametrize("rotation", [90, 180])
@pytest.mark.parametrize("output", ["out.mp4", "out.mov", "out.mkv"])
def test_rotation_stays_a_word_or_is_noted(
    *,
    rotation: int,
    output: str,
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
) -> None:
    source = clips(audio="", rotation=rotation, seconds=1)
    context = prepare(source, output, **COPY)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    with av.open(str(source)) as before, av.open(str(context.output_file)) as after:
        kept = next(before.decode(video=0)).rotation == next(after.decode(video=0)).rotation
    lost = [note for note in outcome.result["notes"] if "rotation" in note]
    assert kept is (lost == [])
    assert kept or output == "out.mkv"
    assert outcome.result["width"] == (120 if rotation == 90 else 160)


@pytest.mark.parametrize("output", ["out.mp4", "out.mkv"])
def test_marks_of_dolby_vision_and_of_spherical_films_are_kept(
    output: str, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    plain = clips(codec="libx265", options={"x265-params": "log-level=none"}, audio="", seconds=1)
    source = marked(plain, tmp_path / "in.mp4", dolby(8, 4) + SPHERICAL + SIDE_BY_SIDE)
    context = prepare(source, output, **COPY)
    assert convert(context).result["notes"] == []
    made = read_source(context.output_file)
    assert (made.spherical, made.stereoscopic) == (True, True)
    assert dolby(8, 4)[8:16] in context.output_file.read_bytes()


@pytest.mark.skipif(av.__version__.startswith("18."), reason="PyAV 18 does not tell that a film is of Dolby Vision")
def test_a_mov_that_loses_dolby_vision_says_so(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    plain = clips(codec="libx265", options={"x265-params": "log-level=none"}, audio="", seconds=1)
    outcome = convert(prepare(marked(plain, tmp_path / "in.mp4", dolby(8, 4)), "out.mov", **COPY))
    assert outcome.result["notes"] == ["no longer marked as Dolby Vision: mp4 and mkv keep the mark"]


def test_all_else_is_kept_as_when_the_picture_is_encoded(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.mkv", [Tone(), Tone(1000, codec="flac", language="deu")], [("subrip", "eng")])
    context = prepare(source, "out.mkv", **COPY)
    assert isinstance(convert(context), Finished)
    assert differences(source, context.output_file) == {}
    context = prepare(source, "out.mov", **COPY)
    assert convert(context).result["audio_codec"] == "aac"
    assert {name.partition(" ")[0] for name in differences(source, context.output_file)} == {
        "audio",
        "subtitle",
        "video",
    }


def test_a_kill_costs_no_sound_that_was_done_and_the_file_is_the_same(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.mkv", [Tone(), Tone(1000, codec="flac")])
    whole = prepare(source, "out.mp4", **COPY, audio_bitrate=64_000)
    assert isinstance(convert(whole), Finished)
    assert len(whole.checkpoints) == 2
    for number in range(2):
        resumed = at_checkpoint(whole, number, tmp_path / f"from{number}")
        assert isinstance(convert(resumed), Finished)
        assert digest(resumed.output_file) == digest(whole.output_file)
        assert len(resumed.checkpoints) == 1 - number


def test_a_container_that_cannot_hold_the_picture_is_refused_and_so_by_the_look_into_the_input(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    refused = convert(prepare(clips(), "out.webm", **COPY))
    assert isinstance(refused, Rejected)
    assert refused.reason == (
        "in.mp4: a picture of h264 cannot be copied into webm: "
        "write .mp4 or .m4v or .mov or .mkv, or leave video_codec at auto"
    )
    job = job_for(VideoConvertOptions(video_codec="copy"), clips(), str(tmp_path / "out.webm"))
    with pytest.raises(Unusable, match="cannot be copied into webm"):
        video_convert.probe_input(job)


@pytest.mark.parametrize("output", ["out.mkv", "out.mp4"])
def test_nobody_is_sent_to_another_container_that_cannot_hold_it_either(
    output: str, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    refused = convert(prepare(clips(**SOURCES["windows media"]), output, **COPY))
    assert isinstance(refused, Rejected)
    form = "matroska" if output == "out.mkv" else "mp4"
    assert refused.reason.endswith(f": a picture of wmv2 cannot be copied into {form}: leave video_codec at auto")


def test_pictures_whose_moments_are_not_told_are_refused(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    refused = convert(prepare(clips(**SOURCES["times that jump back"]), "out.mkv", **COPY))
    assert isinstance(refused, Rejected)
    assert "does not say when its pictures are shown" in refused.reason


def test_what_comes_before_the_first_keyframe_is_left_out_and_noted(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.ts"
    with (
        av.open(str(clips(audio="", options={"g": "20", "bf": "0"}, suffix=".ts"))) as source,
        av.open(str(cut), "w") as output,
    ):
        track = output.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in [packet for packet in source.demux(video=0) if packet.size][5:]:
            packet.stream = track
            output.mux(packet)
    context = prepare(cut, "out.mkv", **COPY)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == [
        "15 pictures before the first keyframe dropped: nothing can be shown of them",
        "name of the program, if it has one, dropped",
    ]
    assert len(pictures(context.output_file)) == outcome.result["frames"] == 80


@pytest.mark.parametrize(("output", "begin"), [("out.mp4", 1.2), ("out.mp4", 1.24), ("out.mov", 1.28)])
def test_what_an_edit_list_hides_stays_hidden(
    *, output: str, begin: float, clips: Callable[..., Path], look: Any, prepare: Any, convert: Any, tmp_path: Path
) -> None:
    source = trimmed(clips(options={"g": "50"}), tmp_path / "in.mp4", begin)
    context = prepare(source, output, **COPY)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    before, after = look(source), look(context.output_file)
    assert same(source, context.output_file)
    assert outcome.result["notes"] == []
    assert outcome.result["frames"] == len(after.times) == round((4 - begin) * 25)
    assert (after.times[0], after.sound_begins, after.samples) == (0, before.sound_begins, before.samples)
    assert after.duration == pytest.approx(4 - begin, abs=0.03)


def test_a_mkv_can_hide_no_picture_which_is_noted_and_gets_no_hidden_sound(
    clips: Callable[..., Path], look: Any, prepare: Any, convert: Any, tmp_path: Path
) -> None:
    source = trimmed(clips(options={"g": "50"}), tmp_path / "in.mp4", 1.2)
    context = prepare(source, "out.mkv", **COPY)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    after = look(context.output_file)
    assert outcome.result["notes"] == [
        "begins 1.200 s before the picture that the source shows first: a copied picture can only begin at a keyframe"
    ]
    assert outcome.result["frames"] == len(after.times) == 100
    assert after.times[0] == 0
    assert after.sound_begins == pytest.approx(1.2, abs=0.03)


@pytest.mark.parametrize("audio", ["aac", "vorbis"])
def test_hidden_sound_is_not_copied_beside_a_picture_that_is_encoded(
    *, audio: str, clips: Callable[..., Path], look: Any, prepare: Any, convert: Any, tmp_path: Path
) -> None:
    source = trimmed(
        clips(options={"g": "50"}, audio=audio, audio_options={"strict": "experimental"}), tmp_path / "in.mp4", 1.2
    )
    context = prepare(source, "out.mkv")
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert outcome.result["audio_copied"]
    after = look(context.output_file)
    assert after.duration == pytest.approx(2.8, abs=0.05)
    assert float(after.times[0]) - after.sound_begins == pytest.approx(0, abs=0.03)


def test_what_is_hidden_behind_the_end_is_left_out(
    clips: Callable[..., Path], look: Any, prepare: Any, convert: Any, tmp_path: Path
) -> None:
    source = with_edits(clips(), tmp_path / "in.mp4", [(2000, 1024)], [(2000, 1024)])
    context = prepare(source, "out.mkv", **COPY)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    before, after = look(source), look(context.output_file)
    assert after.duration == pytest.approx(2, abs=0.15)
    assert len(before.times) == 50
    assert 50 <= outcome.result["frames"] == len(after.times) <= 53  # the last ones need the ones after them


def test_a_film_whose_edit_list_hides_something_between_is_refused(
    clips: Callable[..., Path], prepare: Any, convert: Any, tmp_path: Path
) -> None:
    film = clips(audio="", options={"g": "10"})
    source = with_edits(film, tmp_path / "in.mp4", [(1000, 1024), (1000, 1024 + 2 * 12800 + 4 * 512)])
    refused = convert(prepare(source, "out.mp4", **COPY))
    assert isinstance(refused, Rejected)
    assert refused.reason.endswith("hides pictures between others, so they cannot be copied: leave video_codec at auto")


def test_times_that_jump_far_back_are_refused(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    one = clips(audio="", suffix=".ts", options={"bf": "0"}, seconds=3).read_bytes()
    (tmp_path / "two.ts").write_bytes(one + one)
    refused = convert(prepare(tmp_path / "two.ts", "out.mkv", **COPY))
    assert isinstance(refused, Rejected)
    assert "jump back by 3.0 s" in refused.reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("width", 80), ("height", 80), ("scale", 0.5), ("max_width", 80), ("max_height", 80), ("crf", 20)),
        *(("video_bitrate", 100_000), ("preset", "slow"), ("encoder", "nvenc"), ("deinterlace", "always")),
        *(("segment_seconds", 2.0), ("segments_at_once", 2)),
    ],
)
def test_what_needs_encoding_is_refused_when_the_task_is_created(name: str, value: Any) -> None:
    options = VideoConvertOptions(**{"video_codec": "copy", name: value})
    assert video_convert.check
    with pytest.raises(InvalidOptions) as refused:
        video_convert.check(job_for(options, "/in.mp4", "/out.mp4"))
    assert refused.value.field == f"options.{name}"


def test_the_estimate_is_of_reading_and_writing_only(clips: Callable[..., Path]) -> None:
    copied, encoded = (
        video_convert.probe_input(job_for(VideoConvertOptions(video_codec=codec), clips(), "/out.mp4"))
        for codec in ("copy", "h264")
    )
    assert copied.seconds < encoded.seconds
    assert copied.memory < encoded.memory
    assert copied.temp > clips().stat().st_size


def test_transparency_that_is_a_picture_of_its_own_is_copied_where_it_can_be_said(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = tmp_path / "in.webm"
    pixels = np.full((48, 64, 4), 255, np.uint8)
    pixels[:, :20, 3] = 40
    with av.open(str(source), "w") as output:
        stream = output.add_stream("libvpx-vp9", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuva420p"
        for _ in range(5):
            output.mux(stream.encode(VideoFrame.from_ndarray(pixels, "rgba").reformat(format="yuva420p")))
        output.mux(stream.encode(None))

    def copied(path: Path, name: str) -> tuple[list[str], bool, Path]:
        context = prepare(path, name, **COPY)
        notes = convert(context).result["notes"]
        return notes, read_source(context.output_file).transparent, context.output_file

    notes, kept, matroska = copied(source, "out.mkv")
    assert (notes, kept) == ([], True)
    with av.open(str(source)) as before, av.open(str(matroska)) as after:
        sides = [
            [[bytes(side) for side in packet.iter_sidedata()] for packet in container.demux(video=0) if packet.size]
            for container in (before, after)
        ]
    assert sides[0] == sides[1]
    assert any(sides[0])
    assert copied(matroska, "back.webm")[:2] == ([], True)
    assert copied(source, "out.mp4")[:2] == (
        ["transparency of the picture dropped: mp4 has no place for it"],
        False,
    )
