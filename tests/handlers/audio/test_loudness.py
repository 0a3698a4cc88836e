"""Loudness by EBU R128: reached, with peaks below the limit, reported before and after, and measured only once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.audio.frame import AudioFrame
from sounds import hear, lively, tone, write

from tasktrail.handlers import Finished, Outcome
from tasktrail.handlers.audio.convert import audio_convert
from tasktrail.handlers.media.loudness import Loudness, first_level, measured, next_level
from tasktrail.handlers.media.sound_shape import Gain
from tasktrail.testing import SimulatedCrash, run_handler


def told(outcome: Outcome) -> dict[str, Any]:
    assert isinstance(outcome, Finished), outcome
    return outcome.result


def test_the_meter_gives_what_the_standard_says_of_its_own_test_tone(tmp_path: Path) -> None:
    """EBU Tech 3341, case 1: a sine of 1000 Hz at -23 dBFS in both channels is -23 LUFS."""
    wave = tone(20.0, rate=48000, hertz=1000.0, peak=10 ** (-23 / 20))
    wave[1] = wave[0]
    heard = hear(write(tmp_path / "in.wav", wave, rate=48000, codec="pcm_s24le", form="s32")).loudness
    assert heard.integrated == pytest.approx(-23.0, abs=0.1)
    assert heard.true_peak == pytest.approx(-23.0, abs=0.2)


@pytest.mark.parametrize("suffix", [".mp3", ".m4a", ".opus", ".flac", ".wav"])
@pytest.mark.parametrize("target", [-23, -16])
def test_the_result_measures_as_asked_and_its_peaks_stay_below_the_limit(
    target: int, suffix: str, tmp_path: Path, convert: Callable[..., Any]
) -> None:
    for name, wave in (("calm", tone(3.0)), ("lively", lively())):
        source = write(tmp_path / f"in-{name}.wav", wave)
        output, outcome = convert(source, f"{name}{suffix}", loudness=target)
        result, found = told(outcome), hear(output).loudness
        assert found.integrated == pytest.approx(target, abs=0.5)
        assert found.true_peak <= -0.9
        assert result["loudness"] == found.fields()
        assert result["source_loudness"]["integrated"] == pytest.approx(hear(source).loudness.integrated, abs=0.2)


def test_where_no_peak_is_in_the_way_all_samples_are_multiplied_and_nothing_else(
    tmp_path: Path, convert: Callable[..., Any]
) -> None:
    source = write(tmp_path / "in.wav", tone(), codec="pcm_f32le")
    output, outcome = convert(source, "out.wav", loudness=-20)
    before, after = hear(source).wave, hear(output).wave
    assert np.allclose(after, before * 10 ** (told(outcome)["gain"] / 20), atol=1e-3)
    assert told(outcome)["notes"] == []


def test_the_limit_of_peaks_may_be_another(tmp_path: Path, convert: Callable[..., Any]) -> None:
    source = write(tmp_path / "in.wav", lively())
    output, outcome = convert(source, "out.flac", loudness=-10, true_peak=-6)
    assert hear(output).loudness.true_peak <= -5.9
    assert any("peaks were held down" in note for note in told(outcome)["notes"])


@pytest.mark.parametrize("suffix", [".mp3", ".flac"])
def test_silence_is_not_made_louder_and_that_is_told(suffix: str, tmp_path: Path, convert: Callable[..., Any]) -> None:
    silent, short = np.zeros((2, 88200), np.float32), tone(0.2)
    for name, wave in (("silent", silent), ("short", short)):
        _, outcome = convert(write(tmp_path / f"{name}.wav", wave), f"{name}{suffix}", loudness=-16)
        result = told(outcome)
        assert result["notes"] == ["not made louder: it is silent, or too short or too quiet to be measured"]
        assert result["source_loudness"]["integrated"] is None


def test_tags_of_the_old_loudness_are_left_out(tmp_path: Path, convert: Callable[..., Any]) -> None:
    tags = {"title": "t", "replaygain_track_gain": "-3 dB"}
    source = write(tmp_path / "in.flac", tone(), codec="flac", tags=tags)
    output, outcome = convert(source, "out.flac", loudness=-20)
    assert "replaygain_track_gain" not in hear(output).tags
    assert told(outcome)["notes"] == ["tags of the old loudness are left out: replaygain_track_gain"]
    output, _ = convert(source, "kept.mp3")
    assert hear(output).tags["replaygain_track_gain"] == "-3 dB"


@pytest.mark.slow
def test_what_was_measured_is_not_measured_again_and_the_file_is_the_same(
    tmp_path: Path, prepare: Callable[..., Any]
) -> None:
    source = write(tmp_path / "in.wav", lively())
    whole = prepare(source, "whole.mp3", loudness=-16)
    assert isinstance(run_handler(audio_convert, whole), Finished)
    assert len(whole.checkpoints) > 1
    for number in range(1, len(whole.checkpoints) + 1):
        context = prepare(source, "out.mp3", loudness=-16, crash_after=number)
        with pytest.raises(SimulatedCrash):
            run_handler(audio_convert, context)
        again = context.resumed()
        assert isinstance(run_handler(audio_convert, again), Finished)
        assert "measuring" not in [message for _, message in again.reports]
        assert again.output_file.read_bytes() == whole.output_file.read_bytes()
    percents = [percent for percent, _ in whole.reports]
    assert percents == sorted(percents)


def test_a_checkpoint_of_another_file_is_worth_nothing(tmp_path: Path, prepare: Callable[..., Any]) -> None:
    source = write(tmp_path / "in.wav", tone())
    context = prepare(source, "out.wav", loudness=-16, crash_after=1)
    with pytest.raises(SimulatedCrash):
        run_handler(audio_convert, context)
    write(source, tone(peak=0.05))
    outcome = run_handler(audio_convert, context.resumed())
    assert told(outcome)["loudness"]["integrated"] == pytest.approx(-16, abs=0.2)


def test_the_limiter_comes_only_where_peaks_would_be_too_high() -> None:
    assert first_level(Loudness(-20.0, 3.0, -6.0), -16, -1) == Gain(4.0, None)
    assert first_level(Loudness(-20.0, 3.0, -4.0), -16, -1) == Gain(4.0, -1.1)


def test_a_level_is_changed_until_it_is_near_enough() -> None:
    assert next_level(Gain(4.0, None), Loudness(-16.1, 3.0, -1.5), -16, -1, 1) is None
    assert next_level(Gain(4.0, None), Loudness(-16.5, 3.0, -1.5), -16, -1, 1) == Gain(4.5, None)
    assert next_level(Gain(4.0, None), Loudness(-16.0, 3.0, -0.5), -16, -1, 1) == Gain(4.0, -1.55)
    # When both conflict, peaks count more than loudness.
    assert next_level(Gain(4.0, -1.1), Loudness(-18.0, 3.0, -1.1), -16, -1, 6) is None
    assert next_level(Gain(4.0, -1.1), Loudness(-18.0, 3.0, -0.5), -16, -1, 6) == Gain(4.0, -1.9)
    assert next_level(Gain(4.0, -1.1), Loudness(-18.0, 3.0, -0.5), -16, -1, 8) is None


def test_a_peak_without_end_is_told_as_a_number() -> None:
    values = np.full((1, 48000), 0.1)
    values[0, 500] = np.inf
    frame = AudioFrame.from_ndarray(values, "dbl", "mono")
    frame.sample_rate = 48000
    assert measured([frame]).true_peak == 120
