"""`loudness` of `video_convert`: each sound track gets the requested loudness, measured before and after."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import msgspec
import pytest
from full_films import Beside, Tone, make
from sounds import hear

from tasktrail.events.errors import InvalidOptions
from tasktrail.handlers import Finished
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.options import VideoConvertOptions
from tasktrail.testing import SimulatedCrash, job_for

TONES = [
    Tone(title="Main", tags={"replaygain_track_gain": "-3 dB"}),
    Tone(1000, language="deu", codec="ac3", title="Comments"),
]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a film with two sound tracks."""
    return make(tmp_path_factory.mktemp("loud") / "in.mkv", TONES, [], Beside())


def heard(film: Path, track: int, folder: Path) -> Any:
    """Return the loudness of one track, decoded and measured."""
    alone = folder / f"track-{track}.mka"
    with av.open(str(film)) as source, av.open(str(alone), "w", format="matroska") as target:
        stream = source.streams.audio[track]
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    return hear(alone).loudness


@pytest.mark.parametrize("output", ["out.mp4", "out.webm"])
def test_every_track_is_as_loud_as_asked_and_the_result_says_what_was_measured(
    output: str, film: Path, tmp_path: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(film, output, preset="ultrafast", loudness=-20)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    result = outcome.result
    assert result["audio_copied"] is False
    assert [len(result[name]) for name in ("loudness", "source_loudness", "gain")] == [2, 2, 2]
    for track in (0, 1):
        found = heard(context.output_file, track, tmp_path)
        assert found.integrated == pytest.approx(-20, abs=0.5)
        assert found.true_peak <= -0.9
        assert result["loudness"][track]["integrated"] == pytest.approx(found.integrated, abs=0.2)
        before = heard(film, track, tmp_path)
        assert result["source_loudness"][track]["integrated"] == pytest.approx(before.integrated, abs=0.2)
    assert "tags of the old loudness of sound track 1 are left out: replaygain_track_gain" in result["notes"]


@pytest.mark.slow
def test_a_picture_that_is_copied_may_have_its_sound_made_louder_and_the_limit_of_peaks_holds(
    film: Path, tmp_path: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(film, video_codec="copy", loudness=-12, true_peak=-9, audio_track=2)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert heard(context.output_file, 0, tmp_path).true_peak <= -8.5
    assert any("sound track 2: peaks were held down" in note for note in outcome.result["notes"])
    assert outcome.result["source_codec"] == outcome.result["codec"]


def test_only_the_wanted_part_is_measured(
    tmp_path: Path, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(clips(seconds=4), loudness=-30, start=1.5, end=3)
    outcome = convert(context)
    assert outcome.result["loudness"][0]["integrated"] == pytest.approx(-30, abs=0.5)
    assert outcome.result["duration"] == pytest.approx(1.5, abs=0.1)
    assert heard(context.output_file, 0, tmp_path).integrated == pytest.approx(-30, abs=0.5)


def test_silence_stays_as_it_is_and_is_named(
    tmp_path: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = make(tmp_path / "in.mkv", [Tone(0)], [], Beside())
    outcome = convert(prepare(source, loudness=-16))
    assert outcome.result["loudness"][0]["integrated"] is None
    assert "sound not made louder: it is silent, or too short or too quiet to be measured" in outcome.result["notes"]


def test_an_attempt_that_goes_on_tells_the_same_and_makes_the_same_file(
    film: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    whole = prepare(film, preset="ultrafast", loudness=-20, segments_at_once=1)
    wanted = convert(whole).result
    expected = whole.output_file.read_bytes()
    for path in [whole.output_file, *whole.work_dir.iterdir()]:
        path.unlink()
    context = prepare(film, preset="ultrafast", loudness=-20, segments_at_once=1, crash_after=2)
    with pytest.raises(SimulatedCrash):
        convert(context)
    assert convert(context.resumed()).result == wanted
    assert context.output_file.read_bytes() == expected


def test_progress_never_goes_back(film: Path, prepare: Callable[..., Any], convert: Callable[..., Any]) -> None:
    context = prepare(film, video_codec="copy", loudness=-20)
    convert(context)
    percents = [percent for percent, _ in context.reports]
    assert percents == sorted(percents)


def test_options_that_cannot_go_together_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="audio_codec copy cannot be combined with"):
        msgspec.convert({"audio_codec": "copy", "loudness": -16}, VideoConvertOptions)
    check = video_convert.check
    assert check
    for options, message in (
        ({"audio_codec": "none", "loudness": -16}, "without sound"),
        ({"true_peak": -3}, "without loudness"),
    ):
        with pytest.raises(InvalidOptions, match=message):
            check(job_for(msgspec.convert(options, VideoConvertOptions), "/in.mkv", "/out.mp4"))
