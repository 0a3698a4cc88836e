"""A requested quality: the rate factor is found on samples, and the result reports the measurements."""

import itertools
import shutil
from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
from av.video.frame import VideoFrame
from conversions import BFRAMES, at_checkpoint, digest

from tasktrail.events.errors import InvalidOptions
from tasktrail.handlers import Finished, Rejected, Stopped
from tasktrail.handlers.contract import Unusable
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.meters import Likeness, combined, open_meter
from tasktrail.handlers.video.convert.options import VideoConvertOptions
from tasktrail.handlers.video.convert.quality import Tried, best_tried, next_crf, samples_of, sampling_of
from tasktrail.handlers.video.program import metrics
from tasktrail.testing import job_for, run_handler

FILM: dict[str, Any] = {"options": {"bf": "2", "g": "25"}, "seconds": 9}
TWO_SAMPLES = 2
WITHOUT_VMAF = "if '-filters' in sys.argv: sys.exit()\nos.execv(real, [real, *sys.argv[1:]])\n"


# --- The search ---


def search(
    curve: Callable[[int], float], asked: float, usual: int = 23, finest: int = 1, coarsest: int = 51
) -> list[Tried]:
    tried: list[Tried] = []
    while (crf := next_crf(tried, asked, usual, finest, coarsest)) is not None:
        tried.append(Tried(crf, curve(crf)))
    return tried


CURVES: dict[str, Callable[[int], float]] = {
    "straight": lambda crf: 100 - crf,
    "bent": lambda crf: 100 - crf**2 / 30,
    "a cliff": lambda crf: 99.0 if crf < 20 else 10.0,
    "steps": lambda crf: 100 - crf // 7 * 7,
}


@pytest.mark.parametrize("name", CURVES)
def test_the_search_finds_the_highest_rate_factor_that_reaches_what_is_asked(name: str) -> None:
    curve = CURVES[name]
    for asked in range(30, 100):
        tried = search(curve, asked)
        assert len({one.crf for one in tried}) == len(tried) <= 12
        good = [crf for crf in range(1, 52) if curve(crf) >= asked]
        best = best_tried(tried, asked)
        assert (best.crf if best else None) == (max(good) if good else None)


def test_a_usual_curve_takes_few_steps() -> None:
    counts = [len(search(CURVES["bent"], asked)) for asked in range(70, 98)]
    assert max(counts) <= 7
    assert sum(counts) / len(counts) <= 5


def test_scores_that_do_not_fall_evenly_end_the_search_all_the_same() -> None:
    noise = np.random.default_rng(7)
    for _ in range(200):
        tried = search(lambda crf: 100 - crf + float(noise.normal(0, 8)), 70.0)
        best = best_tried(tried, 70.0)
        assert len({one.crf for one in tried}) == len(tried)
        assert best is None or best.score >= 70


# --- The samples ---


@pytest.mark.parametrize(("seconds", "count", "length"), [(0.5, 1, 0.5), (9, 2, 4), (60, 4, 4), (3600, 30, 4)])
def test_samples_are_spread_over_the_film_and_do_not_overlap(seconds: float, count: int, length: float) -> None:
    assert sampling_of(seconds) == (count, length)
    start, end = 1000, 1000 + round(90_000 * seconds)
    keys = range(start, end, 300_000)
    samples = samples_of(start, end, 1 / 90_000, keys)
    assert len(samples) == count
    assert samples[0].after >= start - 1
    assert samples[-1].until < end
    assert all(before.until <= after.after for before, after in itertools.pairwise(samples))
    at_keys = [sample.after + 1 in keys for sample in samples]
    assert all(at_keys) or seconds == 9


# --- The meters ---


def noisy(strength: int, count: int = 6, size: tuple[int, int] = (160, 120)) -> list[tuple[VideoFrame, VideoFrame]]:
    noise = np.random.default_rng(3)
    pairs = []
    source = f"testsrc2=size={size[0]}x{size[1]}:rate=25:duration={count / 25}"
    with av.open(source, "r", format="lavfi") as container:
        for number, frame in enumerate(container.decode(video=0)):
            reference = frame.reformat(format="yuv420p")
            pixels = reference.to_ndarray().astype(np.int16)
            pixels += noise.integers(-strength, strength + 1, pixels.shape, dtype=np.int16) * (number % 2)
            made = VideoFrame.from_ndarray(np.clip(pixels, 0, 255).astype(np.uint8), format="yuv420p")
            pairs.append((reference, made))
    return pairs


@pytest.mark.parametrize(("metric", "best"), [("ssim", 1.0), ("xpsnr", 100.0)])
def test_the_same_picture_has_the_best_score_and_more_noise_a_lower_one(
    metric: str, best: float, tmp_path: Path
) -> None:
    meter = open_meter(metric, 1)
    scores = [
        combined(metric, [meter.measure(noisy(strength), tmp_path / "report", lambda: None)]) for strength in (0, 4, 20)
    ]
    assert scores[0] == best
    assert scores[0] > scores[1] > scores[2] > 0


def test_what_is_no_number_is_no_score() -> None:
    with pytest.raises(Unusable, match="have no ssim: give crf"):
        combined("ssim", [Likeness((1.0,), 3), Likeness((nan,), 3)])


@pytest.mark.parametrize(
    ("quality", "shaped", "said"),
    [
        (
            "ssim:0.9",
            {"crop": "160:16:0:0", "width": 128},
            "128x12 is too small to measure ssim: give crf",
        ),
        (
            "xpsnr:30",
            {"crop": "16:120:0:0", "height": 90},
            "12x90 is too small to measure xpsnr: give crf",
        ),
        (
            "xpsnr:30",
            {"crop": "44:46:0:0"},
            "44x46 is too small to measure xpsnr: give crf or ssim",
        ),
    ],
)
def test_pictures_that_are_too_small_to_be_measured_are_refused_and_so_by_the_look_into_the_input(
    *, quality: str, shaped: dict[str, Any], said: str, clips: Any, prepare: Any, convert: Any
) -> None:
    """The filter of xpsnr divided by zero, which killed the worker; that of ssim gave no number, taken for the best."""
    film = clips(seconds=1, audio="")
    options = {"quality": quality, **shaped}
    refused = convert(prepare(film, **options))
    assert isinstance(refused, Rejected)
    assert said in refused.reason
    with pytest.raises(Unusable, match="too small to measure"):
        video_convert.probe_input(job_for(VideoConvertOptions(**options), film, "/out.mp4"))


@pytest.mark.parametrize(("quality", "crop"), [("ssim:0.5", "16:16:0:0"), ("xpsnr:5", "46:46:0:0")])
def test_the_smallest_pictures_that_can_be_measured_are(
    *, quality: str, crop: str, clips: Any, prepare: Any, convert: Any
) -> None:
    outcome = convert(prepare(clips(seconds=1, audio=""), quality=quality, crop=crop))
    assert isinstance(outcome, Finished)
    assert outcome.result["quality"]["reached"] >= float(quality.partition(":")[2])


def test_two_halves_have_the_xpsnr_of_the_whole(tmp_path: Path) -> None:
    """As the filter itself sums up a film: equal pictures count, although their decibels are infinite."""
    meter = open_meter("xpsnr", 1)
    likeness = meter.measure(noisy(6), tmp_path / "report", lambda: None)
    other = Likeness(tuple(0.0 for _ in likeness.means), 6)
    score = combined("xpsnr", [likeness])
    assert combined("xpsnr", [likeness, likeness]) == pytest.approx(score)
    assert combined("xpsnr", [likeness, other]) == pytest.approx(score + 6.0206, abs=0.001)  # half the distance
    assert combined("xpsnr", [other]) == 100


# --- Conversions ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quality", "output", "options"),
    [
        ("ssim:0.97", "out.mp4", {}),
        ("xpsnr:36.5", "out.mkv", {"video_codec": "h265", "preset": "ultrafast"}),
        ("ssim:0.9", "out.webm", {"preset": "ultrafast"}),
        ("ssim:0.97", "out.mp4", {"video_codec": "av1", "preset": "ultrafast"}),
    ],
)
def test_the_result_is_that_of_the_crf_that_was_found(
    quality: str,
    output: str,
    options: dict[str, Any],
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
) -> None:
    asked = prepare(clips(**FILM), output, quality=quality, **options)
    outcome = convert(asked)
    assert isinstance(outcome, Finished)
    said = outcome.result["quality"]
    metric, _, value = quality.partition(":")
    assert (said["metric"], said["asked"]) == (metric, float(value))
    assert (said["samples"], said["sample_seconds"]) == (TWO_SAMPLES, 4)
    assert said["by"].startswith("PyAV ")
    scores = dict(map(tuple, said["tried"]))
    assert scores[said["crf"]] == said["reached"] >= said["asked"]
    assert scores[said["crf"] + 1] < said["asked"]
    assert not list(asked.work_dir.glob("sample-*"))
    shutil.rmtree(asked.work_dir)
    given = prepare(clips(**FILM), f"given-{output}", crf=said["crf"], **options)
    convert(given)
    assert digest(asked.output_file) == digest(given.output_file)


@pytest.mark.slow
def test_a_kill_at_any_checkpoint_measures_nothing_again_and_gives_the_same_file(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    whole = prepare(clips(**FILM), "whole.mp4", quality="ssim:0.97", segments_at_once=3, segment_seconds=4)
    first = convert(whole)
    tries = len(first.result["quality"]["tried"])
    assert tries >= 3
    for number in range(len(whole.checkpoints)):
        resumed = at_checkpoint(whole, number, tmp_path / f"from{number}")
        (resumed.work_dir / "sample-00000").mkdir()
        (resumed.work_dir / "sample-00000" / "segment-00000.part").write_bytes(b"cut off")
        outcome = convert(resumed)
        assert outcome.result["quality"] == first.result["quality"]
        assert digest(resumed.output_file) == digest(whole.output_file)
        assert len(resumed.checkpoints) == len(whole.checkpoints) - number - 1


@pytest.mark.slow
def test_the_search_is_the_same_however_many_samples_are_measured_at_once(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    made = []
    for at_once in (1, 3):
        context = prepare(clips(**FILM), f"{at_once}.mp4", quality="xpsnr:38", segments_at_once=at_once)
        made.append((convert(context).result["quality"], digest(context.output_file)))
        shutil.rmtree(context.work_dir)
        told = [percent for percent, _ in context.reports]
        assert all(before <= after for before, after in itertools.pairwise(told))
        assert any(message.startswith("trying crf 23 on samples") for _, message in context.reports)
    assert made[0] == made[1]


def test_it_compares_with_the_frames_that_the_encoder_gets(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    """With frames from elsewhere in the film, or of another shape, no crf would come near the value."""
    shaped = {"crop": "80:120:20:10", "max_width": 60, "pad": "100:100", "frame_rate": 10, "deinterlace": "always"}
    context = prepare(clips(**FILM), start=1.3, end=8, rotate=90, quality="ssim:0.99", **shaped)
    outcome = convert(context)
    assert outcome.result["quality"]["reached"] >= 0.99
    assert outcome.result["duration"] == pytest.approx(6.7, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [{"suffix": ".ts", "options": {"g": "40"}}, {"options": {"g": "1000"}, "audio": ""}])
def test_a_film_without_an_index_or_with_one_keyframe_is_sampled_too(
    recipe: dict[str, Any], clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    outcome = convert(prepare(clips(**{**FILM, **recipe}), quality="ssim:0.95"))
    assert outcome.result["quality"]["samples"] == TWO_SAMPLES


@pytest.mark.slow
def test_what_no_crf_reaches_is_refused_with_what_the_finest_gives(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(clips(**FILM), quality="xpsnr:99")
    outcome = convert(context)
    assert isinstance(outcome, Rejected)
    assert "xpsnr 99 is beyond h264: on the samples crf 1, its finest, gives xpsnr " in outcome.reason
    assert not context.output_part.exists()


def test_what_every_crf_reaches_is_made_with_the_coarsest(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    said = convert(prepare(clips(**FILM), quality="ssim:0.01")).result["quality"]
    assert said["crf"] == 51
    assert said["reached"] > 0.01


def test_a_stop_in_the_search_leaves_nothing_behind(clips: Callable[..., Path], prepare: Callable[..., Any]) -> None:
    context = prepare(clips(**FILM), quality="ssim:0.97", stop_after=60, segments_at_once=2)
    assert isinstance(run_handler(video_convert, context), Stopped)
    assert not list(context.work_dir.iterdir())


# --- What is refused ---


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"quality": "ssim:0.98", "crf": 20}, "excludes crf"),
        ({"quality": "ssim:0.98", "video_bitrate": 100_000}, "excludes crf"),
        ({"quality": "ssim:0.98", "encoder": "nvenc"}, "encoder software"),
        ({"quality": "ssim:98"}, "goes up to 1, not 98"),
        ({"quality": "vmaf:0"}, "above 0"),
        ({"quality": "psnr:40"}, "regex"),
        ({"quality": "vmaf:"}, "regex"),
    ],
)
def test_a_quality_that_cannot_be_meant_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=says):
        msgspec.convert(options, VideoConvertOptions)


def check(**options: Any) -> None:
    assert video_convert.check
    video_convert.check(job_for(VideoConvertOptions(**options), "/in.mp4", "/out.mp4"))


def test_a_copied_picture_has_no_quality_to_ask_for() -> None:
    with pytest.raises(InvalidOptions, match="quality"):
        check(quality="ssim:0.98", video_codec="copy")


# --- VMAF, by the program ---


def test_vmaf_is_refused_without_a_program_that_has_it_and_says_what_there_is(
    install: Callable[..., Path],
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidOptions, match="it is not there") as refused:
        check(quality="vmaf:95")
    assert refused.value.field == "options.quality"
    assert "libvmaf" in refused.value.advice
    assert "quality=xpsnr:42" in refused.value.advice
    install(WITHOUT_VMAF)
    with pytest.raises(InvalidOptions, match="is built without libvmaf"):
        check(quality="vmaf:95")
    check(quality="xpsnr:42")
    outcome = convert(prepare(clips(), quality="vmaf:95"))
    assert isinstance(outcome, Rejected)
    assert "without libvmaf" in outcome.reason


@pytest.mark.slow
def test_vmaf_is_measured_by_the_program_which_sees_no_file_of_ours(
    clips: Callable[..., Path],
    install: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    install(
        "with open(os.environ['TOLD'], 'a') as told: print(*sys.argv[1:], sep='\\n', file=told)\n"
        "os.execv(real, [real, *sys.argv[1:]])\n"
    )
    check(quality="vmaf:90")
    context = prepare(clips(options=BFRAMES, seconds=0.4), quality="vmaf:90")
    said = convert(context).result["quality"]
    scores = dict(map(tuple, said["tried"]))
    assert scores[said["crf"]] == said["reached"] >= 90 > scores[said["crf"] + 1]
    assert "libvmaf" in said["by"]
    told = (tmp_path / "told").read_text().splitlines()
    assert not [line for line in told if line.startswith("/") or "file:" in line]
    assert {told[at + 1] for at, line in enumerate(told) if line == "-i"} == {"pipe:0"}


def test_vmaf_of_the_same_picture_is_near_its_best(install: Callable[..., Path], tmp_path: Path) -> None:
    install()
    meter = open_meter("vmaf", 2)
    same, worse = (
        combined("vmaf", [meter.measure(noisy(strength, 3), tmp_path / "report.json", lambda: None)])
        for strength in (0, 30)
    )
    assert same > 97
    assert worse < same - 5
    assert not (tmp_path / "report.json").exists()
    assert meter.measure([], tmp_path / "report.json", lambda: None) == Likeness((), 0)


def test_a_program_that_fails_in_a_comparison_fails_the_attempt_by_name(
    clips: Callable[..., Path], install: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    install(
        "if '-i' not in sys.argv: os.execv(real, [real, *sys.argv[1:]])\n"
        "sys.stderr.write('no memory left')\nsys.exit(7)"
    )
    context = prepare(clips(seconds=1), quality="vmaf:90")
    with pytest.raises(RuntimeError, match="no memory left"):
        convert(context)
    assert not list(context.work_dir.iterdir())


def test_people_are_told_which_metrics_there_are(install: Callable[..., Path]) -> None:
    assert "vmaf needs an ffmpeg with libvmaf" in metrics(None)
    install()
    assert video_convert.programs
    assert "vmaf of this ffmpeg" in video_convert.programs()[1]


def test_the_estimate_knows_the_search() -> None:
    def seconds(**options: Any) -> float:
        chosen = msgspec.convert(options, VideoConvertOptions)
        return video_convert.expected(job_for(chosen, "/in.mp4", "/out.mp4", size=100_000_000)).seconds

    assert seconds() < seconds(quality="ssim:0.98") < seconds(quality="vmaf:95")
