"""The estimate of a task is a little more than what it needs, however long the sound is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sounds import lively, tone, write

from tasktrail.handlers.audio.convert import audio_convert
from tasktrail.handlers.audio.convert.options import AudioConvertOptions
from tasktrail.testing import job_for

HOME = "tasktrail.handlers.audio.convert:audio_convert"


def test_a_look_tells_the_figures_or_refuses(tmp_path: Path) -> None:
    source = write(tmp_path / "in.wav", tone(3.0))
    found = audio_convert.probe_input(job_for(AudioConvertOptions(), source, "/out.mp3"))
    assert found.basis == {"duration": 3.0, "sample_rate": 44100, "channels": 2}
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(ValueError, match=r"text\.wav"):
        audio_convert.probe_input(job_for(AudioConvertOptions(), tmp_path / "text.wav", "/out.mp3"))


@pytest.mark.parametrize("output", ["/out.mp3", "/out.flac", "/out.wav", "/out.png"])
def test_the_guess_without_a_look_grows_with_the_file_but_stays_sane(output: str) -> None:
    small, large = (
        audio_convert.expected(job_for(AudioConvertOptions(), "/in.mp3", output, size=size))
        for size in (10_000, 400_000_000)
    )
    assert small.seconds < large.seconds
    assert 60e6 < small.memory <= large.memory < 500e6
    assert small.temp <= large.temp < 20 * 400_000_000


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".mp3", {}),
        (".m4a", {"loudness": -16}),
        (".opus", {}),
        (".flac", {}),
        (".wav", {"bits": "float"}),
        (".png", {}),
    ],
)
def test_a_run_stays_under_the_estimate_and_not_far_below(
    suffix: str, options: dict[str, Any], run_attempt: Callable[..., Any], tmp_path: Path
) -> None:
    source, output = write(tmp_path / "in.wav", lively(20.0)), tmp_path / f"out{suffix}"
    job = job_for(msgspec.convert(options, AudioConvertOptions), source, output)
    estimate = audio_convert.probe_input(job)
    done = run_attempt(HOME, source, output, options)
    assert done.ended == "Finished"
    assert done.peak <= estimate.memory <= 3 * done.peak
    assert output.stat().st_size <= estimate.temp


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "options"), [(".flac", {"loudness": -16}), (".png", {})])
def test_memory_does_not_grow_with_the_length(
    suffix: str, options: dict[str, Any], run_attempt: Callable[..., Any], tmp_path: Path
) -> None:
    peaks = []
    for seconds in (10.0, 200.0):
        source = write(tmp_path / f"{seconds}.wav", np.tile(lively(10.0, 8000), round(seconds / 10)), rate=8000)
        peaks.append(run_attempt(HOME, source, tmp_path / f"out{seconds}{suffix}", options).peak)
    assert peaks[1] < peaks[0] + 12_000_000
