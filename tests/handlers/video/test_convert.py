"""The result is what was requested."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter
from av.video.stream import VideoStream
from conversions import saved_by
from full_films import SIDE_BY_SIDE, SPHERICAL, marked

from tasktrail.events.errors import InvalidOptions, InvalidPath, TasktrailError
from tasktrail.handlers import Finished, Rejected
from tasktrail.handlers.contract import Unusable
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.options import VideoConvertOptions, choose_target
from tasktrail.handlers.video.convert.picture import PixelFormat, Shaper
from tasktrail.handlers.video.frames import frames_after
from tasktrail.handlers.video.preview import video_preview
from tasktrail.handlers.video.preview.options import VideoPreviewOptions
from tasktrail.handlers.video.source import read_source
from tasktrail.handlers.video.thumbnail import video_thumbnail
from tasktrail.handlers.video.thumbnail.options import VideoThumbnailOptions
from tasktrail.testing import RecordingContext, job_for, run_handler, task_type_of


def brightness(frame: VideoFrame, left: float, top: float) -> float:
    """Return the mean luma of the ninth of the picture that begins there."""
    plane = frame.reformat(format="gray").planes[0]
    rows, columns = frame.height // 3, frame.width // 3
    x, y = int(left * frame.width), int(top * frame.height)
    data = bytes(plane)
    spot = [data[(y + row) * plane.line_size + x + column] for row in range(rows) for column in range(columns)]
    return sum(spot) / len(spot)


@pytest.mark.parametrize(
    ("output", "options", "video", "audio"),
    [
        ("out.mp4", {}, "h264", "aac"),
        ("out.mov", {"video_codec": "h265"}, "hevc", "aac"),
        ("out.webm", {}, "vp9", "opus"),
        ("out.mkv", {"video_codec": "av1", "preset": "ultrafast", "audio_codec": "mp3"}, "av1", "mp3"),
        ("out.m4v", {"video_codec": "h264", "audio_codec": "opus", "video_bitrate": 100_000}, "h264", "opus"),
    ],
)
def test_codecs_and_containers(
    *,
    output: str,
    options: dict[str, Any],
    video: str,
    audio: str,
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    look: Callable[..., Any],
) -> None:
    context = prepare(clips(), output, **options)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    seen = look(context.output_file)
    assert seen.codec == video
    with av.open(str(context.output_file)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name.startswith(audio)
    assert (len(seen.times), seen.corrupt) == (100, 0)
    assert seen.duration == pytest.approx(4, abs=0.06)
    gaps = {after - before for before, after in zip(seen.times, seen.times[1:], strict=False)}
    assert gaps == {Fraction(1, 25)}
    assert seen.samples == pytest.approx(4 * 48000, abs=3000)


def test_the_result_describes_the_file(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(clips())
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    content = context.output_file.read_bytes()
    assert outcome.result == {
        "size": len(content),
        "width": 160,
        "height": 120,
        "duration": pytest.approx(4, abs=0.03),
        "frames": 100,
        "format": "mp4",
        "codec": "h264",
        "source_width": 160,
        "source_height": 120,
        "source_duration": pytest.approx(4, abs=0.03),
        "source_codec": "h264",
        "audio_codec": "aac",
        "audio_copied": True,
        "audio_tracks": 1,
        "attachments": 0,
        "subtitles": 0,
        "segments": 5,
        "sha256": hashlib.sha256(content).hexdigest(),
        "notes": [],
    }


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"width": 81}, (80, 60)),
        ({"height": 90}, (120, 90)),
        ({"scale": 0.3}, (48, 36)),
        ({"width": 100, "height": 100}, (100, 100)),
        ({"max_width": 80}, (80, 60)),
        ({"max_height": 31}, (40, 30)),
        ({"max_width": 100, "max_height": 60}, (80, 60)),
        ({"max_width": 1920, "max_height": 1080}, (160, 120)),
    ],
)
def test_sizes_are_even_and_keep_the_shape(
    *,
    options: dict[str, Any],
    size: tuple[int, int],
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    look: Callable[..., Any],
) -> None:
    context = prepare(clips(audio=""), **options)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert look(context.output_file).size == size == (outcome.result["width"], outcome.result["height"])


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"width": 17, "height": 33}, ["width 17 became 16, height 33 became 32: sides have to be even"]),
        ({"width": 81}, ["width 81 became 80: sides have to be even"]),
        ({"height": 100}, []),
        ({"scale": 0.3}, []),
        ({"max_height": 31}, []),
        ({"max_width": 1920}, []),
    ],
)
def test_a_side_that_was_asked_for_and_not_made_is_told(
    *, options: dict[str, Any], note: list[str], clips: Callable[..., Path], prepare: Any, convert: Any
) -> None:
    assert convert(prepare(clips(audio="", seconds=1), **options)).result["notes"] == note


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format"),
    [(".webm", "libvpx-vp9", "yuva420p"), (".mov", "qtrle", "argb"), (".mov", "prores_ks", "yuva444p10le")],
)
@pytest.mark.parametrize("alpha", [40, 255])
def test_transparency_is_told_when_it_is_dropped(
    *, suffix: str, codec: str, pixel_format: str, alpha: int, tmp_path: Path, prepare: Any, convert: Any
) -> None:
    """VP9 stores it as a second picture, which marks the file even where everything is opaque."""
    source = tmp_path / f"in{suffix}"
    pixels = np.full((48, 64, 4), 255, np.uint8)
    pixels[:, :20, 3] = alpha
    with av.open(str(source), "w") as output:
        stream = output.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        for _ in range(5):
            output.mux(stream.encode(VideoFrame.from_ndarray(pixels, "rgba").reformat(format=pixel_format)))
        output.mux(stream.encode(None))
    outcomes = [convert(prepare(source))]
    stills: Any = ((video_thumbnail, VideoThumbnailOptions()), (video_preview, VideoPreviewOptions()))
    for handler, options in stills:
        still: Any = RecordingContext(
            options, work_dir=tmp_path / "stills", input_file=source, output_file=tmp_path / "out.png"
        )
        outcomes.append(run_handler(handler, still))
    told = ["transparency dropped" in outcome.result.get("notes", []) for outcome in outcomes]
    assert told == 3 * [alpha < 255 or codec == "libvpx-vp9"]


@pytest.mark.parametrize(("options", "kept"), [({}, True), ({"video_codec": "h265"}, False)])
def test_closed_captions_are_kept_or_told(
    *, options: dict[str, Any], kept: bool, tmp_path: Path, prepare: Any, convert: Any
) -> None:
    """Television carries them in the picture, and h265 came without them and without a note."""
    source, captions = tmp_path / "in.mkv", b"\0\0\1\xb2GA94\3\x41\xff\xfc\x94\x20\xff"
    with av.open(str(source), "w") as output:
        stream = output.add_stream("mpeg2video", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.max_b_frames = 64, 64, "yuv420p", 0
        pictures = [VideoFrame.from_ndarray(np.full((96, 64), 128, np.uint8), "yuv420p") for _ in range(50)]
        for packet in [packet for picture in (*pictures, None) for packet in stream.encode(picture)]:
            header, slices, rest = bytes(packet).partition(b"\0\0\1\1")
            written = av.Packet(header + captions + slices + rest)
            written.stream, written.time_base = stream, packet.time_base
            written.pts, written.dts, written.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
            output.mux(written)
    context = prepare(source, **options)
    told = "closed captions dropped: only h264 by the built-in backend keeps them"
    outcome = convert(context)
    assert isinstance(outcome, Finished), outcome
    assert (told in outcome.result["notes"]) == (not kept)
    with av.open(str(context.output_file)) as made:
        assert all((frame.side_data.get("A53_CC") is not None) == kept for frame in made.decode(video=0))


@pytest.mark.parametrize(("codec", "stereoscopic"), [("h264", True), ("h265", False)])
def test_the_marks_that_a_spherical_film_loses_are_noted(
    *, codec: str, stereoscopic: bool, clips: Callable[..., Path], prepare: Any, convert: Any, tmp_path: Path
) -> None:
    source = marked(clips(audio="", seconds=1), tmp_path / "in.mp4", SPHERICAL + SIDE_BY_SIDE)
    context = prepare(source, video_codec=codec)
    notes = ["no longer marked as spherical (360 degrees): players show it flat"]
    lost = "no longer marked as stereoscopic: only h264 by the built-in backend keeps it"
    assert convert(context).result["notes"] == [*notes, *([] if stereoscopic else [lost])]
    made = read_source(context.output_file)
    assert (made.spherical, made.stereoscopic) == (False, stereoscopic)


@pytest.mark.parametrize("segment_seconds", [0.5, 600])
def test_frames_are_the_same_however_it_is_cut(
    segment_seconds: float,
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    look: Callable[..., Any],
) -> None:
    source = clips(suffix=".mkv", options={"bf": "3", "g": "30"}, uneven=True)
    context = prepare(source, segment_seconds=segment_seconds)
    assert isinstance(convert(context), Finished)
    original, result = look(source), look(context.output_file)
    assert [time - original.times[0] for time in original.times] == [time - result.times[0] for time in result.times]


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_segment_of_one_frame_is_written(
    codec: str,
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    look: Callable[..., Any],
) -> None:
    """x265 invents decoding times when it gets fewer frames than it reorders."""
    context = prepare(clips(audio="", uneven=True), video_codec=codec, segment_seconds=0.5)
    source = read_source(context.input_file)
    moments = [moment for moment, _ in frames_after(source, None)]
    convert(context)
    data = msgspec.to_builtins(saved_by(context))
    plan = {**data["plan"], "cuts": [*moments[1:4], moments[6], moments[20], moments[-1]]}
    for part in context.work_dir.iterdir():
        part.unlink()
    context.checkpoint = msgspec.structs.replace(context.checkpoint, data={**data, "plan": plan, "segments": []})
    again = context.resumed()
    assert isinstance(convert(again), Finished)
    frames = [segment.frames for segment in saved_by(again).segments]
    assert frames == [1, 1, 1, 3, 14, len(moments) - 21, 1]
    seen = look(again.output_file)
    assert (len(seen.times), seen.corrupt) == (len(moments), 0)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_phone_video_comes_out_upright(
    rotation: int,
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    look: Callable[..., Any],
) -> None:
    source = clips(audio="", rotation=rotation, seconds=1)
    context = prepare(source)
    convert(context)
    lying, upright = look(source), look(context.output_file)
    assert upright.size == ((160, 120) if rotation == 180 else (120, 160))
    # Where the upper left corner of the stored picture is shown, by FFmpeg's own use of the angle.
    spot = {90: (0, 2 / 3), 180: (2 / 3, 2 / 3), 270: (2 / 3, 0)}[rotation]
    corner = brightness(lying.first, 0, 0)
    assert brightness(upright.first, *spot) == pytest.approx(corner, abs=3)
    assert brightness(upright.first, 0, 0) != pytest.approx(corner, abs=3)
    assert upright.first.rotation == 0


def test_pixels_that_are_not_square_stay_so(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = clips(audio="", options={"x264-params": "sar=4/3"}, seconds=1)
    for options, aspect in (({"width": 80}, Fraction(4, 3)), ({"width": 80, "height": 60}, Fraction(1))):
        context = prepare(source, **options)
        convert(context)
        with av.open(str(context.output_file)) as container:
            assert (container.streams.video[0].sample_aspect_ratio or 1) == aspect


def test_full_range_becomes_limited_range_of_the_same_brightness(clips: Callable[..., Path], tmp_path: Path) -> None:
    source = read_source(clips())
    _, limited = next(frames_after(source, None))
    full = VideoReformatter().reformat(limited, format="yuv420p", dst_color_range=ColorRange.JPEG)
    assert bytes(full.planes[0]) != bytes(limited.planes[0])
    shaped = Shaper(source, VideoConvertOptions(), PixelFormat(), tmp_path, 1).shape(full)
    assert shaped.color_range == ColorRange.MPEG
    assert brightness(shaped, 0, 0.6) == pytest.approx(brightness(limited, 0, 0.6), abs=1)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_cuts_are_keyframes_of_the_source_and_the_encoder_chooses_its_own_inside(
    suffix: str, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(clips(suffix=suffix, options={"bf": "3", "g": "8", "sc_threshold": "0"}, audio=""))
    convert(context)
    source = read_source(context.input_file)
    keys = [moment for moment, frame in frames_after(source, None) if frame.key_frame]
    segments = saved_by(context).segments
    assert len(keys) >= 12
    assert {segment.first for segment in segments} < set(keys)
    with av.open(str(context.output_file)) as container:
        assert sum(packet.is_keyframe for packet in container.demux(video=0)) == len(segments) == 4


def test_frames_that_repeat_a_time_are_left_out(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    twice = tmp_path / "twice.mp4"
    with av.open(str(clips(audio=""))) as source, av.open(str(twice), "w") as output:
        track = output.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.pts is not None and packet.dts is not None:
                packet.stream = track
                packet.pts += 512 * (packet.pts // 512 in (77, 87, 97))
                output.mux(packet)
    context = prepare(twice)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert outcome.result["frames"] == 97


def test_a_cover_picture_is_not_taken_for_the_video(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    song = tmp_path / "song.mp4"
    done = prepare(clips())
    convert(done)
    with (
        av.open(str(done.work_dir / "sound-1.mp4")) as sound,
        av.open(str(clips(suffix=".avi", codec="mjpeg", pixel_format="yuvj420p", audio="", seconds=1))) as cover,
        av.open(str(song), "w") as output,
    ):
        picture = output.add_stream_from_template(cover.streams.video[0], opaque=True)
        picture.disposition = Disposition.attached_pic
        track = output.add_stream_from_template(sound.streams.audio[0])
        packets: list[av.Packet[Any]] = [next(cover.demux(video=0)), *sound.demux(audio=0)]
        for packet in packets:
            if packet.size:
                packet.stream = track if packet.stream.type == "audio" else picture
                output.mux(packet)
    outcome = convert(prepare(song, "other.mp4"))
    assert isinstance(outcome, Rejected)
    assert "no moving picture" in outcome.reason


def test_sound_keeps_its_place_beside_the_picture(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], look: Callable[..., Any]
) -> None:
    source = clips(suffix=".ts")
    context = prepare(source)
    convert(context)
    original, result = look(source), look(context.output_file)
    assert original.times[0] - original.sound_begins > 0.01
    assert float(result.times[0] - result.sound_begins) == pytest.approx(
        float(original.times[0] - original.sound_begins), abs=0.001
    )


def test_sound_can_be_left_out(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], look: Callable[..., Any]
) -> None:
    context = prepare(clips(), audio_codec="none")
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert outcome.result["audio_codec"] == ""
    assert look(context.output_file).samples == 0


def test_pcm_in_matroska_is_understood(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], look: Callable[..., Any]
) -> None:
    """Its channel layout has no name there."""
    context = prepare(clips(suffix=".mkv", audio="pcm_s16le"), "out.webm")
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == ["sound of pcm_s16le became opus"]
    seen = look(context.output_file)
    assert seen.samples == pytest.approx(4 * 48000, abs=3000)
    assert seen.duration == pytest.approx(4, abs=0.06)


def test_damage_costs_only_its_own_pictures_and_sounds(
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    look: Callable[..., Any],
    tmp_path: Path,
) -> None:
    content = bytearray(clips(suffix=".ts", options={"g": "12"}).read_bytes())
    for place in range(50_000, len(content), 40_000):
        content[place : place + 700] = bytes(700)
    (tmp_path / "damaged.ts").write_bytes(content)
    context = prepare(tmp_path / "damaged.ts", audio_codec="aac")
    assert isinstance(convert(context), Finished)
    seen = look(context.output_file)
    assert 80 <= len(seen.times) <= 100
    assert 150_000 <= seen.samples <= 195_000


def test_progress_rises_to_the_end_and_says_where_it_is(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(clips())
    convert(context)
    percents = [percent for percent, _ in context.reports]
    assert percents == sorted(percents)
    assert percents[0] < 1
    assert 99 < percents[-1] <= 100
    messages = [message for _, message in context.reports]
    assert messages[0] == "sound, 0 s"  # although the first packet of AAC lies before the beginning
    assert any(message.startswith("encoding segment 3 of 5, ") and message.endswith(" fps") for message in messages)
    assert messages[-1] == "joining"


@pytest.mark.parametrize(
    ("output", "options", "error", "hint"),
    [
        ("out.webm", {"video_codec": "h264"}, InvalidOptions, "vp9"),
        ("out.webm", {"audio_codec": "aac"}, InvalidOptions, "opus"),
        ("out.mov", {"video_codec": "av1"}, InvalidOptions, "h265"),
        ("out.mp4", {"crf": 52}, InvalidOptions, "Lower"),
        ("out.wmv", {}, InvalidPath, r"\.mkv"),
    ],
)
def test_what_does_not_go_together_is_refused_when_the_command_comes(
    output: str, options: dict[str, Any], error: type[TasktrailError], hint: str
) -> None:
    check = task_type_of(video_convert).check
    assert check is not None
    with pytest.raises(error) as raised:
        check(job_for(msgspec.convert(options, VideoConvertOptions), "/in.mp4", f"/{output}"))
    assert re.search(hint, raised.value.advice)
    check(job_for(VideoConvertOptions(), "/in.mp4", "/OUT.MKV"))


def test_what_auto_stands_for_decides_how_far_crf_goes() -> None:
    check = task_type_of(video_convert).check
    assert check is not None
    check(job_for(VideoConvertOptions(crf=60), "/in.mp4", "/out.webm"))
    with pytest.raises(InvalidOptions, match="crf of h264 goes up to 51, not 60"):
        check(job_for(VideoConvertOptions(crf=60), "/in.mp4", "/out.mp4"))


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 0.5, "width": 100},
        {"max_width": 100, "scale": 0.5},
        {"max_height": 100, "height": 100},
        {"crf": 20, "video_bitrate": 100_000},
        {"width": 8},
        {"preset": "placebo"},
        {"segment_seconds": 0.1},
        {"colour": "red"},
        {"audio_codec": "copy", "audio_bitrate": 64_000},
        {"audio_codec": "copy", "audio_channels": "mono"},
        {"audio_track": 0},
        {"encoder": "vaapi"},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, VideoConvertOptions)


def test_hevc_is_another_name_for_h265() -> None:
    one, other = (choose_target(VideoConvertOptions(video_codec=name), Path("/a.mp4")) for name in ("h265", "hevc"))
    assert one == other


def test_importing_the_type_does_not_load_ffmpeg() -> None:
    script = "import sys, tasktrail.handlers.video.convert; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_picture_that_the_encoder_does_not_take_is_rejected_with_its_size(
    tmp_path: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    with av.open(str(tmp_path / "tiny.mkv"), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 2, "yuv420p"
        for _ in range(3):
            output.mux(stream.encode(av.VideoFrame(64, 2, "yuv420p")))
        output.mux(stream.encode(None))
    outcome = convert(prepare(tmp_path / "tiny.mkv", video_codec="h265"))
    assert isinstance(outcome, Rejected)
    assert "64x2" in outcome.reason
    assert "libx265" in outcome.reason


@pytest.mark.parametrize("backend", ["builtin", "ffmpeg"])
def test_pictures_that_x265_falls_over_are_refused_and_so_by_the_look_into_the_input(
    *, backend: str, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], install: Any
) -> None:
    """It writes beyond its memory, which killed the worker."""
    install()
    options: dict[str, Any] = {"video_codec": "h265", "crop": "48:64:0:0", "backend": backend}
    outcome = convert(prepare(clips(audio=""), **options))
    assert isinstance(outcome, Rejected)
    assert outcome.reason == (
        "in.mp4: a picture of 48x64 is too small for the encoder of h265: "
        "take another video_codec, or a width of 50 or more"
    )
    job = job_for(VideoConvertOptions(**options), clips(audio=""), "/out.mp4")
    with pytest.raises(Unusable, match="too small for the encoder"):
        video_convert.probe_input(job)


@pytest.mark.parametrize(("tagged", "primaries", "matrix"), [(2, 2, 1), (6, 1, 1), (9, 9, 9)])
def test_pictures_of_red_green_and_blue_get_a_matrix_and_say_which(
    *,
    tagged: int,
    primaries: int,
    matrix: int,
    tmp_path: Path,
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
) -> None:
    """They got that of BT.601 without a tag, so players showed other colours in high definition."""
    red = np.zeros((96, 160, 3), np.uint8)
    red[..., 0] = 200
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "bgr0"
        stream.codec_context.color_primaries, stream.codec_context.colorspace = primaries, tagged
        for _ in range(3):
            output.mux(stream.encode(VideoFrame.from_ndarray(red, "rgb24")))
        output.mux(stream.encode(None))
    context = prepare(path, crf=1)
    assert isinstance(convert(context), Finished)
    with av.open(str(context.output_file)) as container:
        frame = next(container.decode(video=0))
        assert container.streams.video[0].codec_context.colorspace == matrix
    share = {1: 0.2126, 9: 0.2627}[matrix]
    assert bytes(frame.planes[0])[0] == pytest.approx(16 + 219 * share * 200 / 255, abs=1)
