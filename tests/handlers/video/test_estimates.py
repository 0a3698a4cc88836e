"""The estimate of a task is a little more than what it needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasktrail.handlers.contract import resolve
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.estimate import estimate_for
from tasktrail.handlers.video.convert.options import VideoConvertOptions
from tasktrail.handlers.video.estimate import TrackInfo, VideoInfo
from tasktrail.handlers.video.preview import video_preview
from tasktrail.handlers.video.thumbnail import video_thumbnail
from tasktrail.testing import job_for, task_type_of


@pytest.mark.parametrize("handler", [video_thumbnail, video_preview, video_convert])
def test_a_look_tells_the_figures_or_refuses(handler: Any, clips: Callable[..., Path], tmp_path: Path) -> None:
    task_type = task_type_of(handler)
    options, output = task_type.options(), "/out.mp4" if handler is video_convert else "/out.webp"
    found = task_type.probe_input(job_for(options, clips(), output))
    assert found.basis == {"width": 160, "height": 120, "duration": 4.0, "rate": 25.0, "frames": 100}
    guess = task_type.expected(job_for(options, clips(), output))
    assert found.memory < guess.memory
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"text\.mp4"):
        task_type.probe_input(job_for(options, tmp_path / "text.mp4", output))


@pytest.mark.parametrize("handler", [video_thumbnail, video_preview, video_convert])
def test_the_guess_without_a_look_grows_with_the_file_but_stays_sane(handler: Any) -> None:
    task_type = task_type_of(handler)
    output = "/out.mp4" if handler is video_convert else "/out.webp"
    small, large = (
        task_type.expected(job_for(task_type.options(), "/in.mp4", output, size=size))
        for size in (10_000, 4_000_000_000)
    )
    assert small.seconds < large.seconds
    assert 60e6 < small.memory <= large.memory < 2e9
    assert small.temp <= large.temp < 4 * 4_000_000_000


def test_deeper_and_larger_pictures_need_more() -> None:
    task_type = task_type_of(video_convert)

    def memory(**options: Any) -> int:
        chosen = msgspec.convert(options, task_type.options)
        return task_type.expected(job_for(chosen, "/in.mp4", "/out.mp4", size=10_000_000)).memory

    assert memory(height=360) < memory(height=1080) < memory(height=2160)
    assert memory(preset="ultrafast") < memory(preset="slow")
    assert memory(video_codec="h265", height=240) > memory(video_codec="h264", height=240)


@pytest.mark.parametrize(
    ("options", "measured"),
    [
        ({"video_codec": "h265"}, 2_977_000_000),
        ({"video_codec": "h265", "preset": "ultrafast"}, 3_041_000_000),
        ({}, 2_456_000_000),
        ({"preset": "ultrafast"}, 1_170_000_000),
    ],
)
def test_ten_frames_of_a_huge_picture_need_what_was_measured_on_them(options: dict[str, Any], measured: int) -> None:
    """An encoder allocates room for more frames than there are."""
    huge = VideoInfo(width=7680, height=4320, duration=1.0, rate=10.0, gop=10.0, sounds=())
    job = job_for(msgspec.convert(options, VideoConvertOptions), "/in.mp4", "/out.mkv", size=500_000)
    assert 0.95 * measured < estimate_for(job, huge).memory < 3.1 * measured


@pytest.mark.parametrize(("output", "measured"), [("/out.mp4", 244_000_000), ("/out.mkv", 86_000_000)])
@pytest.mark.parametrize("codec", ["auto", "copy"])
def test_the_index_of_a_film_of_a_day_needs_what_was_measured_on_it(output: str, measured: int, codec: Any) -> None:
    day = VideoInfo(width=16, height=16, duration=86_400.0, rate=25.0, sounds=())
    job = job_for(VideoConvertOptions(video_codec=codec), "/in.mp4", output, size=500_000_000)
    assert measured < estimate_for(job, day).memory < 3 * measured
    with_sound = msgspec.structs.replace(day, sounds=(TrackInfo(),))
    assert estimate_for(job, with_sound).memory > estimate_for(job, day).memory


@pytest.mark.parametrize(
    ("home", "suffix", "options"),
    [
        ("thumbnail:video_thumbnail", ".jpg", {}),
        ("preview:video_preview", ".webp", {"columns": 5, "rows": 5}),
        ("convert:video_convert", ".mp4", {"preset": "superfast", "segment_seconds": 1}),
        ("convert:video_convert", ".mkv", {"video_codec": "h265", "preset": "ultrafast"}),
    ],
)
def test_a_run_stays_under_the_estimate_and_not_far_below(
    *,
    home: str,
    suffix: str,
    options: dict[str, Any],
    clips: Callable[..., Path],
    run_attempt: Callable[..., Any],
    tmp_path: Path,
) -> None:
    home = f"tasktrail.handlers.video.{home}"
    task_type = task_type_of(resolve(home))
    source, output = clips(audio=""), tmp_path / f"out{suffix}"
    estimate = task_type.probe_input(job_for(msgspec.convert(options, task_type.options), source, output))
    done = run_attempt(home, source, output, options)
    assert done.ended == "Finished"
    assert done.peak <= estimate.memory <= 3 * done.peak
    kept = sum(path.stat().st_size for path in Path(f"{output}.work").iterdir())
    assert kept + output.stat().st_size <= estimate.temp
