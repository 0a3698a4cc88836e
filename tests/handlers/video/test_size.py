"""A requested size: the file has at most that many bytes, and not many fewer."""

import itertools
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from conversions import digest

from tasktrail.events.errors import InvalidOptions
from tasktrail.handlers import Finished, Rejected
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.options import MAX_CRF, USUAL_CRF, VideoConvertOptions
from tasktrail.handlers.video.convert.quality import FINEST_CRF
from tasktrail.handlers.video.convert.size import Sized, factor_range, first_pass, next_pass, next_sampled
from tasktrail.testing import SimulatedCrash, job_for

FILM: dict[str, Any] = {"options": {"bf": "2", "g": "25"}, "seconds": 9}


# --- The search ---


def passes_of(codec: str, asked: int, beside: int, film: Callable[[float], float], error: float) -> list[Sized]:
    """Return the passes over a film whose samples give a little too much or too little."""
    bounds = factor_range(codec, USUAL_CRF[codec], FINEST_CRF[codec], MAX_CRF[codec])
    room = max(1, asked - beside)
    sampled: list[Sized] = []
    while (crf := next_sampled(sampled, room, bounds)) is not None:
        sampled.append(Sized(crf, max(1, int(film(crf) * error))))
    following: float | None = first_pass(sampled, room, bounds)
    passes: list[Sized] = []
    while following is not None:
        passes.append(Sized(following, int(film(following)), beside))
        following = next_pass(sampled, passes, asked, bounds)
    return passes


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1"])
def test_whatever_the_film_the_last_pass_fits_and_two_are_mostly_enough(codec: str) -> None:
    chance = np.random.default_rng(5)
    counts = []
    for _ in range(300):
        halved_by, bend = chance.uniform(4, 14), chance.uniform(-0.0005, 0.001)
        whole = 10 ** chance.uniform(6, 10)

        def film(crf: float, whole: float = whole, by: float = halved_by, bend: float = bend) -> float:
            return float(whole * 2 ** -(crf / by + bend * crf**2))

        asked = int(film(chance.uniform(12, 45)))
        passes = passes_of(codec, asked, 0, film, chance.uniform(0.7, 1.4))
        assert passes[-1].size <= asked
        if codec in ("h264", "h265"):
            assert passes[-1].size >= 0.89 * asked
        counts.append(len(passes))
    assert max(counts) <= 6
    assert sum(counts) / len(counts) < 2.6


def test_a_size_that_is_beyond_the_codec_ends_at_its_bounds() -> None:
    def film(crf: float) -> float:
        return 1e6 * 2 ** (-crf / 6)

    assert [made.crf for made in passes_of("h264", 100, 0, film, 1.0)] == [51]
    assert [made.crf for made in passes_of("h264", 10_000_000, 0, film, 1.0)] == [1]


def test_a_film_whose_size_hardly_depends_on_the_rate_factor_comes_to_an_end() -> None:
    chance = np.random.default_rng(6)
    for asked in (900_000, 1_000_000, 1_100_000):
        passes = passes_of("h264", asked, 0, lambda crf: 1_000_000 - 100 * crf + chance.normal(0, 2000), 1.0)
        assert len(passes) < 12
        assert passes[-1].size <= asked or passes[-1].crf == 51


# --- Conversions ---


@pytest.mark.parametrize(
    ("output", "asked", "options"),
    [
        ("out.mp4", 250_000, {}),
        ("out.mkv", 200_000, {"video_codec": "h265", "preset": "ultrafast", "audio_codec": "mp3"}),
        ("out.webm", 250_000, {"preset": "ultrafast"}),
        ("out.mp4", 250_000, {"video_codec": "av1", "preset": "ultrafast"}),
        ("out.mkv", 90_000, {"start": 2, "end": 6, "audio_bitrate": 32_000}),
    ],
)
def test_the_file_has_at_most_so_many_bytes_with_all_that_is_in_it(
    output: str,
    asked: int,
    options: dict[str, Any],
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
) -> None:
    context = prepare(clips(**FILM), output, target_size=asked, segment_seconds=3, **options)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    size = context.output_part.stat().st_size if context.output_part.exists() else context.output_file.stat().st_size
    said = outcome.result["passes"]
    assert outcome.result["size"] == size == said["reached"]
    assert said["asked"] == asked
    assert 0.9 * asked <= size <= asked
    assert said["passes"][-1] == [said["crf"], size]


TWO_PASSES: dict[str, Any] = {"video_bitrate": 100_000, "passes": 2, "preset": "ultrafast"}


def test_two_passes_give_the_picture_the_rate_of_bits(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(clips(**FILM), **TWO_PASSES)
    said = convert(context).result["passes"]
    assert said["asked"] == 100_000 * 9 / 8
    assert 0.95 * said["asked"] <= said["reached"] <= said["asked"]
    told = [percent for percent, _ in context.reports]
    assert all(before <= after for before, after in itertools.pairwise(told))
    assert told[-1] == 100


@pytest.mark.slow
def test_a_kill_at_any_checkpoint_of_any_pass_gives_the_same_file(
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasktrail.handlers.video.convert.fitting.covered", lambda *_: 0.5)  # so that two are needed
    how = {"segment_seconds": 2, "segments_at_once": 2, **TWO_PASSES}
    film = clips(options={"g": "25"})
    whole = prepare(film, "whole.mp4", **how)
    first = convert(whole)
    assert len(first.result["passes"]["passes"]) > 1
    for number in range(1, len(whole.checkpoints), 2):
        shutil.rmtree(whole.work_dir)
        killed = prepare(film, f"{number}.mp4", crash_after=number, **how)
        with pytest.raises(SimulatedCrash):
            convert(killed)
        resumed = killed.resumed()
        assert convert(resumed).result == first.result
        assert len(resumed.checkpoints) == len(whole.checkpoints) - number
        assert digest(resumed.output_file) == digest(whole.output_file)


@pytest.mark.slow
def test_the_file_is_the_same_however_many_segments_are_encoded_at_once(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    made = set()
    for at_once in (1, 3):
        context = prepare(clips(**FILM), f"{at_once}.mp4", target_size=250_000, segments_at_once=at_once)
        assert isinstance(convert(context), Finished)
        made.add(digest(context.output_file))
        shutil.rmtree(context.work_dir)
    assert len(made) == 1


def test_the_ffmpeg_program_keeps_the_size_too(
    clips: Callable[..., Path], install: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    install()
    context = prepare(clips(**FILM), target_size=250_000, backend="ffmpeg", segment_seconds=4)
    assert convert(context).result["size"] <= 250_000


def test_a_size_that_is_too_small_is_refused_with_the_smallest_that_would_do(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    outcome = convert(prepare(clips(**FILM), target_size=20_000))
    assert isinstance(outcome, Rejected)
    told = re.search(r"target_size 20000 is too small: the smallest .* is (?:about )?(\d+) bytes", outcome.reason)
    assert told
    enough = convert(prepare(clips(**FILM), target_size=round(1.05 * int(told[1]))))
    assert isinstance(enough, Finished)


def test_a_size_that_is_larger_than_the_finest_film_is_no_reason_to_go_on(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    said = convert(prepare(clips(**FILM), target_size=50_000_000)).result["passes"]
    assert [crf for crf, _ in said["passes"]] == [1]


# --- What is refused ---


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target_size": 100_000, "crf": 20}, "target_size excludes"),
        ({"target_size": 100_000, "quality": "ssim:0.98"}, "target_size excludes"),
        ({"target_size": 100_000, "video_bitrate": 100_000}, "target_size excludes"),
        ({"target_size": 100_000, "encoder": "nvenc"}, "encoder software"),
        ({"passes": 2}, "need a video_bitrate"),
        ({"passes": 3, "video_bitrate": 100_000}, "passes"),
    ],
)
def test_a_size_that_cannot_be_meant_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=says):
        msgspec.convert(options, VideoConvertOptions)


def test_a_copied_picture_has_the_size_that_it_has() -> None:
    assert video_convert.check
    with pytest.raises(InvalidOptions, match="target_size"):
        video_convert.check(job_for(VideoConvertOptions(video_codec="copy", target_size=10**6), "/in.mp4", "/out.mp4"))


def test_the_estimate_knows_the_passes() -> None:
    def estimate(**options: Any) -> Any:
        chosen = msgspec.convert(options, VideoConvertOptions)
        return video_convert.expected(job_for(chosen, "/in.mp4", "/out.mp4", size=100_000_000))

    once, twice = estimate(), estimate(target_size=10_000_000)
    assert twice.seconds > 2 * once.seconds - 1
    assert twice.temp < once.temp
