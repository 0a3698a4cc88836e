"""A part of a film, rotated, cropped, padded and with another frame rate: each exactly as requested."""

import shutil
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
from containers import contents_of
from conversions import SOURCES, at_checkpoint, digest
from full_films import Beside, Tone, make

from tasktrail.events.errors import InvalidOptions
from tasktrail.handlers import Finished, Rejected
from tasktrail.handlers.contract import Unusable
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.options import VideoConvertOptions, exact_rate
from tasktrail.testing import job_for

COPY = {"video_codec": "copy", "preset": "veryfast", "segment_seconds": None}


def times(path: Path) -> list[float]:
    """Return the time of each picture, in seconds."""
    with av.open(str(path)) as container:
        return [round(float(frame.time or 0), 3) for frame in container.decode(video=0)]


def looks(path: Path) -> list[np.ndarray[Any, Any]]:
    """Return each picture as grey values."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)]


def alike(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], most: float = 12.0) -> bool:
    return one.shape == other.shape and float(np.abs(one - other).mean()) < most


def heard(path: Path) -> tuple[float, int, float]:
    """Return the start of the sound in seconds, the number of samples, and the loudness."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    sound = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
    return float(frames[0].time or 0), sound.shape[1], float(np.sqrt((sound.astype(float) ** 2).mean()))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make three seconds, with lines at 0.4 to 1.4 and 1.9 to 2.7 and chapters up to 1.4 and from there on."""
    path = tmp_path_factory.mktemp("film") / "in.mkv"
    beside = Beside(chapters=[(0, 1.4, "One"), (1.4, 3, "Two")])
    return make(path, [Tone(), Tone(1000, codec="flac")], [("subrip", "eng")], beside)


# --- start and end ---


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "times that jump back"])
def test_a_part_has_the_frames_that_the_whole_has_there(
    name: str, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = clips(**SOURCES[name])
    whole = prepare(source, "whole.mkv", audio_codec="none")
    convert(whole)
    shutil.rmtree(whole.work_dir)
    part = prepare(source, "part.mkv", audio_codec="none", start=1.3, end=3.1)
    assert isinstance(convert(part), Finished)
    expected = [(time, look) for time, look in zip(times(whole.output_file), looks(whole.output_file), strict=True)]
    expected = [(time, look) for time, look in expected if 1.2995 <= time < 3.0995]
    begin = expected[0][0]
    assert times(part.output_file) == pytest.approx([time - begin for time, _ in expected], abs=0.0021)
    assert all(alike(look, made) for (_, look), made in zip(expected, looks(part.output_file), strict=True))


@pytest.mark.parametrize("output", ["out.mp4", "out.mkv", "out.webm"])
def test_sound_subtitles_and_chapters_are_cut_along(
    output: str, film: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    codec = "opus" if output == "out.webm" else "aac"
    context = prepare(film, output, preset="ultrafast", audio_codec=codec, start=1.0, end=2.2)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert len(times(context.output_file)) == outcome.result["frames"] == 30
    assert outcome.result["duration"] == pytest.approx(1.2, abs=0.06)
    begin, samples, loud = heard(context.output_file)
    assert (begin, samples / 48000) == pytest.approx((0, 1.2), abs=0.045)
    assert loud > 0.05
    assert contents_of(context.output_file).chapters == [(0, "One"), (0.4, "Two")]
    with av.open(str(context.output_file)) as container:
        lines = [
            (round(float(packet.pts * packet.time_base), 1), round(float(packet.duration * packet.time_base), 1))
            for packet in container.demux(subtitles=0)
            if packet.size > 2 and packet.pts is not None and packet.duration is not None
        ]
    assert lines == [(0.0, 0.4), (0.9, 0.3)]


def test_copied_sound_is_cut_at_its_packets(
    film: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(film, "out.mp4", start=1.0, end=2.2)
    outcome = convert(context)
    assert outcome.result["audio_copied"] is True
    begin, samples, _ = heard(context.output_file)
    assert 0 <= begin < 0.03
    assert samples / 48000 == pytest.approx(1.2, abs=0.045)


@pytest.mark.parametrize(
    ("options", "frames"), [({"start": 2.0}, 25), ({"end": 1.0}, 25), ({"start": 0, "end": 99}, 75)]
)
def test_one_bound_is_enough(
    *,
    options: dict[str, Any],
    frames: int,
    film: Path,
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
) -> None:
    outcome = convert(prepare(film, **options))
    assert isinstance(outcome, Finished)
    assert outcome.result["frames"] == frames
    assert outcome.result["source_duration"] == 3.0


def test_a_picture_that_stands_still_where_the_part_ends_is_shown_up_to_there(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = clips(**SOURCES["uneven"], audio="")  # nothing comes between 1.56 and 2.48
    outcome = convert(prepare(source, end=2.0, preset="ultrafast"))
    assert outcome.result["duration"] == pytest.approx(2.0, abs=0.002)


def test_a_rate_stays_even_up_to_the_end_of_a_part(
    film: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(film, frame_rate=29.97, start=0.5, end=2.5)
    assert isinstance(convert(context), Finished)
    with av.open(str(context.output_file)) as container:
        assert container.streams.video[0].average_rate == Fraction(30000, 1001)


def test_nothing_behind_the_start_is_refused_also_by_the_look_into_the_input(
    film: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    refused = convert(prepare(film, start=3.5))
    assert isinstance(refused, Rejected)
    assert refused.reason == "in.mkv is 3.000 s long: nothing of it comes after start 3.5"
    with pytest.raises(Unusable, match="after start"):
        video_convert.probe_input(job_for(VideoConvertOptions(start=3.5), film, "/out.mp4"))


def test_a_track_that_is_silent_in_the_part_is_left_out_and_noted(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    short = tmp_path / "short.mkv"
    with av.open(str(clips(suffix=".mkv"))) as source, av.open(str(short), "w") as output:
        tracks = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        for packet in source.demux():
            if packet.size and (packet.stream.type == "video" or float((packet.pts or 0) * packet.time_base) < 1):
                packet.stream = tracks[packet.stream_index]
                output.mux(packet)
    for codec in ("auto", "aac"):
        outcome = convert(prepare(short, f"{codec}.mp4", start=2, audio_codec=codec))
        assert isinstance(outcome, Finished)
        assert outcome.result["notes"] == ["sound dropped: nothing of it in the part that is wanted"]


def test_a_copied_picture_begins_at_the_keyframe_before_and_says_so(
    film: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(film, "out.mkv", **COPY, start=1.2, end=2.2)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == ["begins 0.200 s before start: a copied picture can only begin at a keyframe"]
    made = looks(context.output_file)
    assert all((before == after).all() for before, after in zip(looks(film)[25:], made[:28], strict=False))
    assert 1.1 < len(made) / 25 < 1.4
    assert heard(context.output_file)[0] < 0.05
    exact = prepare(film, "exact.mkv", **COPY, start=1.0)
    assert convert(exact).result["notes"] == []
    assert convert(exact).result["frames"] == 50


# --- the same file, however it is made ---

PART = {"start": 0.7, "end": 5.3, "crop": "100:80:20:10", "rotate": 90, "pad": "120:160"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [PART, {"frame_rate": 30}, {"frame_rate": 23.976, "start": 0.5}, {"frame_rate": 10}]
)
@pytest.mark.parametrize("keys", ["20", "1000"])
def test_it_is_the_same_file_whatever_is_made_at_once_and_wherever_it_was_killed(
    *,
    options: dict[str, Any],
    keys: str,
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    tmp_path: Path,
) -> None:
    source = clips(options={"g": keys, "bf": "3"}, seconds=6)
    made = set()
    for at_once in (1, 3):
        whole = prepare(source, f"{at_once}.mp4", segments_at_once=at_once, preset="ultrafast", **options)
        assert isinstance(convert(whole), Finished)
        made.add(digest(whole.output_file))
        if at_once == 3:
            for number in range(len(whole.checkpoints)):
                resumed = at_checkpoint(whole, number, tmp_path / f"from{number}")
                assert isinstance(convert(resumed), Finished)
                made.add(digest(resumed.output_file))
        shutil.rmtree(whole.work_dir)
    assert len(made) == 1


# --- rotate, crop, pad ---


@pytest.mark.parametrize("rotate", [90, 180, 270])
@pytest.mark.parametrize("own", [0, 90])
def test_rotate_turns_clockwise_what_players_show(
    rotate: int, own: int, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = clips(audio="", seconds=1, rotation=own)
    plain = prepare(source, "plain.mkv", crf=1)
    convert(plain)
    shutil.rmtree(plain.work_dir)
    turned = prepare(source, "turned.mkv", crf=1, rotate=rotate)
    outcome = convert(turned)
    assert outcome.result["notes"] == (["turned upright by 90 degrees"] if own else [])
    assert alike(np.rot90(looks(plain.output_file)[0], -rotate // 90), looks(turned.output_file)[0], 4)


@pytest.mark.slow
@pytest.mark.parametrize("own", [0, 90, 180, 270])
@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_crop_is_of_the_picture_as_seen(
    own: int, rotate: int, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = clips(audio="", seconds=1, rotation=own)
    plain = prepare(source, "plain.mkv", crf=1, rotate=rotate)
    convert(plain)
    shutil.rmtree(plain.work_dir)
    cropped = prepare(source, "cropped.mkv", crf=1, rotate=rotate, crop="64:48:30:12")
    outcome = convert(cropped)
    assert (outcome.result["width"], outcome.result["height"]) == (64, 48)
    assert alike(looks(plain.output_file)[0][12:60, 30:94], looks(cropped.output_file)[0], 4)


def test_size_follows_crop_and_bars_go_around_it(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(clips(audio="", seconds=1), "out.mkv", crf=1, crop="80:40:0:0", width=40, pad="64:64")
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert (outcome.result["width"], outcome.result["height"]) == (64, 64)
    picture = looks(context.output_file)[0]
    inside = picture[22:42, 12:52]
    assert inside.mean() > 60
    bars = picture.copy()
    bars[20:44, 10:54] = 0
    assert bars.max() < 20


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"crop": "161:16:0:0"}, "in.mp4, as seen, is 160x120: crop 161:16:0:0 does not lie within it"),
        ({"crop": "16:16:150:0"}, "in.mp4, as seen, is 160x120: crop 16:16:150:0 does not lie within it"),
        ({"crop": "16:120:0:0", "rotate": 90}, None),
        ({"crop": "16:160:0:0", "rotate": 90}, None),
        ({"pad": "100:200"}, "larger than pad 100:200: make it smaller with max_width=100 and max_height=200"),
    ],
)
def test_what_does_not_fit_the_picture_is_refused_also_by_the_look_into_the_input(
    *,
    options: dict[str, Any],
    said: str | None,
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
) -> None:
    source = clips(audio="", seconds=1)
    outcome = convert(prepare(source, **options))
    job = job_for(VideoConvertOptions(**options), source, "/out.mp4")
    if said is None:
        assert isinstance(outcome, Finished)
        video_convert.probe_input(job)
        return
    assert isinstance(outcome, Rejected)
    assert said in outcome.reason
    with pytest.raises(Unusable):
        video_convert.probe_input(job)


# --- frame rate ---


@pytest.mark.slow
@pytest.mark.parametrize("source", ["b-frames", "no index", "uneven", "webm", "times that jump back"])
@pytest.mark.parametrize("rate", [10, 25, 29.97, 60])
def test_frames_come_at_the_rate_that_is_asked_for(
    source: str, rate: float, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(clips(**SOURCES[source]), "out.mp4", frame_rate=rate, preset="ultrafast")
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    step = 1 / exact_rate(rate)
    with av.open(str(context.output_file)) as container:
        moments = [(frame.pts or 0) * (frame.time_base or 1) for frame in container.decode(video=0)]
    assert {after - before for before, after in pairwise(moments)} == {step}
    assert outcome.result["frames"] == len(moments) == pytest.approx(4 * rate, abs=2)


@pytest.mark.slow
def test_at_the_rate_of_the_source_each_frame_comes_once(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = clips(**SOURCES["neither index nor length"])
    whole = prepare(source, "whole.mkv", crf=10)
    convert(whole)
    shutil.rmtree(whole.work_dir)
    paced = prepare(source, "paced.mp4", frame_rate=25, crf=10)
    convert(paced)
    assert all(alike(*pair, 6) for pair in zip(looks(whole.output_file), looks(paced.output_file), strict=True))


def test_a_frame_that_is_asked_for_twice_is_the_last_one_shown(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = clips(audio="", seconds=2)
    paced = prepare(source, "paced.mp4", frame_rate=50, crf=1)
    convert(paced)
    whole, made = looks(source), looks(paced.output_file)
    assert len(made) == 100
    for number in range(98):
        assert alike(made[number], whole[(number + 1) // 2], 6)


def test_a_time_that_lies_days_ahead_is_not_filled_with_frames(
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasktrail.handlers.video.convert.pacing.LONGEST_STILL", 2)
    far = tmp_path / "far.mkv"
    with (
        av.open(str(clips(audio="", seconds=2, suffix=".mkv", options={"bf": "0"}))) as source,
        av.open(str(far), "w") as output,
    ):
        track = output.add_stream_from_template(source.streams.video[0], opaque=True)
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            ahead = round(200_000 / packet.time_base) if number >= 25 else 0
            packet.pts, packet.dts = (packet.pts or 0) + ahead, (packet.dts or 0) + ahead
            packet.stream = track
            output.mux(packet)
    context = prepare(far, "out.mkv", frame_rate=10, preset="ultrafast")
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert outcome.result["frames"] == pytest.approx(10 + 20 + 10, abs=2)
    assert times(context.output_file)[-1] > 200_000


def test_rates_that_people_write_short_are_exact() -> None:
    assert [exact_rate(rate) for rate in (23.976, 29.97, 59.94, 25, 12.5, 24.0, 30.0)] == [
        Fraction(24000, 1001),
        Fraction(30000, 1001),
        Fraction(60000, 1001),
        25,
        Fraction(25, 2),
        24,
        30,
    ]


# --- refused at once ---


@pytest.mark.parametrize(
    "options",
    [
        {"start": -1},
        {"end": 0},
        {"start": 5, "end": 5},
        {"crop": "100:100"},
        {"crop": "0:16:0:0"},
        {"crop": "15:16:0:0"},
        {"crop": "a:b:c:d"},
        {"pad": "101:100"},
        {"pad": "10:100"},
        {"pad": "9000:9000"},
        {"rotate": 45},
        {"frame_rate": 0},
        {"frame_rate": 1000},
    ],
)
def test_values_out_of_their_bounds_are_refused_when_the_task_is_created(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        video_convert.options_from(options)


@pytest.mark.parametrize("options", [{"crop": "16:16:0:0"}, {"pad": "200:200"}, {"rotate": 90}, {"frame_rate": 10}])
def test_a_copied_picture_has_no_other_shape(options: dict[str, Any]) -> None:
    assert video_convert.check
    with pytest.raises(InvalidOptions, match="no effect while video_codec is copy"):
        video_convert.check(job_for(VideoConvertOptions(video_codec="copy", **options), "/in.mp4", "/out.mp4"))


def test_the_estimate_follows(clips: Callable[..., Path]) -> None:
    def found(**options: Any) -> Any:
        return video_convert.probe_input(job_for(VideoConvertOptions(**options), clips(seconds=4), "/out.mp4"))

    whole = found()
    assert found(start=2).seconds < whole.seconds
    assert found(start=2).temp < whole.temp
    assert found(end=2).basis == whole.basis
    assert found(frame_rate=60).seconds > whole.seconds > found(frame_rate=5).seconds
    assert found(crop="32:32:0:0").memory < whole.memory < found(pad="640:480").memory


@pytest.mark.parametrize("options", [{}, {"start": 0.2}, {"end": 0.3}])
def test_a_film_shorter_than_half_a_step_of_its_new_rate_has_one_frame(
    *, options: dict[str, Any], clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(clips(seconds=0.4, audio=""), frame_rate=1, **options)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert outcome.result["frames"] == len(times(context.output_file)) == 1


def test_a_part_in_which_no_picture_begins_is_told_from_pictures_that_cannot_be_decoded(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "slides.mkv"
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=25, time_base=Fraction(1, 1000))
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for moment in (0, 5000, 10_000):
            slide = av.VideoFrame(160, 120, "yuv420p")
            slide.pts, slide.time_base = moment, Fraction(1, 1000)
            output.mux(stream.encode(slide))
        output.mux(stream.encode(None))
    refused = convert(prepare(path, start=6, end=9))
    assert isinstance(refused, Rejected)
    assert refused.reason == (
        "no picture of slides.mkv that can be decoded begins at 6 s or later and before 9 s: take an earlier start, or "
        "give frame_rate, which shows the picture before again"
    )
    again = convert(prepare(path, "again.mp4", start=6, end=9, frame_rate=1))
    assert isinstance(again, Finished)
    assert again.result["frames"] == 3
