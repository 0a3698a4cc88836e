"""The last frame is shown as long as in the source: an encoder cannot know, since no frame follows it."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image, ImageDraw

from tasktrail.handlers import Finished
from tasktrail.testing import SimulatedCrash

SHOWN = (0.1, 0.2, 0.3, 0.4, 0.5)


@pytest.fixture
def growing(tmp_path: Path) -> Path:
    """Make a gif of five frames, each shown longer than the one before."""
    frames = []
    for number in range(len(SHOWN)):
        frame = Image.new("RGB", (64, 48), "white")
        ImageDraw.Draw(frame).rectangle((10 * number, 5, 10 * number + 12, 40), fill=(40 * number, 0, 100))
        frames.append(frame)
    path = tmp_path / "growing.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[round(1000 * time) for time in SHOWN])
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_every_frame_is_shown_as_long_as_in_the_source(
    suffix: str, growing: Path, prepare: Callable[..., Any], convert: Callable[..., Any], look: Any
) -> None:
    context = prepare(growing, f"out{suffix}")
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    seen = look(context.output_file)
    ends = [*seen.times, outcome.result["duration"]]
    assert [float(after - before) for before, after in pairwise(ends)] == pytest.approx(SHOWN, abs=0.001)
    assert seen.duration == pytest.approx(sum(SHOWN), abs=0.001)
    assert outcome.result["source_duration"] == 1.5


@pytest.mark.parametrize("crash_after", [1, 2])
def test_it_is_so_after_a_crash(
    crash_after: int, growing: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    whole = prepare(growing, segment_seconds=0.5)
    convert(whole)
    assert len(whole.checkpoints) >= 2
    for path in whole.work_dir.iterdir():
        path.unlink()
    expected = whole.output_file.read_bytes()
    broken = prepare(growing, segment_seconds=0.5, crash_after=crash_after)
    with pytest.raises(SimulatedCrash):
        convert(broken)
    again = broken.resumed()
    convert(again)
    assert again.output_file.read_bytes() == expected


def test_a_video_of_equal_frames_gets_equal_samples(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(clips(audio=""))
    convert(context)
    with av.open(str(context.output_file)) as container:
        stream = container.streams.video[0]
        durations = {(packet.duration or 0) * packet.time_base for packet in container.demux(stream) if packet.size}
        assert durations == {Fraction(1, 25)}
        assert stream.average_rate == 25
