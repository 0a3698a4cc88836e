"""A sheet or an animation shows the right frames, and a killed task continues with those it has."""

import hashlib
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
from PIL import Image

from tasktrail.events.errors import InvalidOptions, InvalidPath
from tasktrail.handlers import Finished, Rejected, Stopped, pieces
from tasktrail.handlers.video.preview import output, video_preview
from tasktrail.handlers.video.preview.options import VideoPreviewOptions
from tasktrail.handlers.video.preview.output import clock
from tasktrail.handlers.video.preview.plan import spread_over
from tasktrail.testing import RecordingContext, SimulatedCrash, job_for, run_handler, task_type_of

SMALL = {"columns": 3, "rows": 2, "width": 64, "gap": 2, "timestamps": False}
HOME = "tasktrail.handlers.video.preview:video_preview"


@pytest.fixture
def preview(tmp_path: Path) -> Callable[..., RecordingContext[VideoPreviewOptions]]:
    """Make a context for a preview, with the options given by name."""

    def context(source: Path, output: str = "out.png", **options: Any) -> RecordingContext[VideoPreviewOptions]:
        how = {name: options.pop(name) for name in ("stop_after", "crash_after") if name in options}
        return RecordingContext(
            msgspec.convert({**SMALL, **options}, VideoPreviewOptions),
            work_dir=tmp_path / "work",
            input_file=source,
            output_file=tmp_path / output,
            **how,
        )

    return context


@pytest.fixture
def each_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save a checkpoint after every piece."""
    monkeypatch.setattr(pieces, "SAVE_EVERY", 0.0)


def finished(context: RecordingContext[Any]) -> dict[str, Any]:
    outcome = run_handler(video_preview, context)
    assert isinstance(outcome, Finished)
    return outcome.result


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def small_frame(source: Path, number: int) -> np.ndarray[Any, Any]:
    with av.open(str(source)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == number:
                return np.asarray(
                    Image.fromarray(frame.to_ndarray(format="rgb24")).convert("L").resize((64, 48)), dtype=float
                )
    raise AssertionError(number)


def test_the_sheet_shows_the_frames_of_its_positions_in_order(clips: Callable[..., Path], preview: Any) -> None:
    source = clips(options={"g": "30", "bf": "3"})
    context = preview(source)
    result = finished(context)
    assert (result["width"], result["height"]) == (3 * 64 + 4 * 2, 2 * 48 + 3 * 2)
    wanted = [4 * (2 * number + 1) / 12 for number in range(6)]
    assert result["source_positions"] == [math.ceil(position * 25) / 25 for position in wanted]
    with Image.open(context.output_file) as sheet:
        assert sheet.getpixel((0, 0)) == (16, 16, 16)
        for number, position in enumerate(result["source_positions"]):
            left, top = 2 + (number % 3) * 66, 2 + (number // 3) * 50
            tile = np.asarray(sheet.convert("L").crop((left, top, left + 64, top + 48)), dtype=float)
            shown = round(position * 25)
            near = [np.abs(tile - small_frame(source, other)).mean() for other in (shown, shown - 5, shown + 5)]
            assert near[0] < 6
            assert near[0] == min(near)


def test_positions_and_stamps_are_those_of_the_frames_that_were_taken(
    clips: Callable[..., Path], look: Any, preview: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames may lie far apart, so the requested times say little about the shown ones. They survive a crash."""
    monkeypatch.setattr(pieces, "SAVE_EVERY", 0.0)
    stamps: list[float] = []

    def stamp(seconds: float) -> str:
        stamps.append(seconds)
        return clock(seconds)

    monkeypatch.setattr(output, "clock", stamp)
    source = clips(uneven=True)
    broken = preview(source, crash_after=3, timestamps=True, columns=8)
    with pytest.raises(SimulatedCrash):
        run_handler(video_preview, broken)
    result = finished(broken.resumed())
    times = {round(float(time), 3) for time in look(source).times}
    assert set(result["source_positions"]) <= times
    assert [round(stamp, 3) for stamp in stamps] == result["source_positions"]


def test_a_single_frame_is_shown_with_its_own_position_each_time(clips: Callable[..., Path], preview: Any) -> None:
    assert finished(preview(clips(seconds=0.04, audio="")))["source_positions"] == [0.0] * 6


def test_timestamps_and_header_are_written(clips: Callable[..., Path], preview: Any, tmp_path: Path) -> None:
    plain, stamped = preview(clips(), "plain.png"), preview(clips(), "stamped.png", timestamps=True, header=True)
    finished(plain)
    shutil.rmtree(tmp_path / "work")
    finished(preview(clips(), "stamped.png", timestamps=True, header=True))
    with Image.open(plain.output_file) as without, Image.open(stamped.output_file) as sheet:
        top = sheet.height - without.height
        assert top > 20
        assert np.asarray(sheet.convert("L").crop((0, 0, sheet.width, top))).max() > 200
        corner = (40, top + 38, 66, top + 50)
        below = sheet.crop(corner)
        assert below.tobytes() != without.crop((40, 38, 66, 50)).tobytes()
        assert np.asarray(below.convert("L")).max() > 200


def test_what_the_font_of_the_header_lacks_is_a_question_mark(
    clips: Callable[..., Path], preview: Any, tmp_path: Path
) -> None:
    sheets: list[bytes] = []
    for name in ("Füße", "F??e"):
        film = shutil.copy(clips(), tmp_path / f"{name}.mp4")
        context = preview(film, f"{len(sheets)}.png", header=True)
        finished(context)
        sheets.append(context.output_file.read_bytes())
        shutil.rmtree(tmp_path / "work")
    assert sheets[0] == sheets[1]


@pytest.mark.parametrize(("suffix", "kind"), [(".gif", "auto"), (".webp", "animation"), (".mp4", "auto")])
def test_animations_have_the_frames_and_the_length_asked_for(
    suffix: str, kind: str, clips: Callable[..., Path], preview: Any
) -> None:
    context = preview(clips(), f"out{suffix}", kind=kind, clips=3, clip_seconds=0.5, fps=10)
    result = finished(context)
    assert (result["frames"], result["duration"], result["kind"]) == (15, 1.5, "animation")
    assert (result["width"], result["height"]) == (64, 48)
    if suffix == ".mp4":
        with av.open(str(context.output_file)) as container:
            assert len(list(container.decode(video=0))) == 15
            assert (container.duration or 0) / av.time_base == pytest.approx(1.5, abs=0.02)
        return
    with Image.open(context.output_file) as picture:
        assert getattr(picture, "n_frames", 1) == 15
        picture.seek(14)
        picture.load()
        assert picture.info["duration"] == 100


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_sheets_are_written_in_every_format(suffix: str, clips: Callable[..., Path], preview: Any) -> None:
    context = preview(clips(), f"out{suffix}")
    result = finished(context)
    assert result["kind"] == "sheet"
    assert result["sha256"] == digest(context.output_file)
    assert result["size"] == context.output_file.stat().st_size
    with Image.open(context.output_file) as picture:
        assert picture.size == (result["width"], result["height"])


@pytest.fixture
def three_scenes(tmp_path: Path) -> Path:
    """Make a dark scene of one second, a grey one of four, a light one of one; the encoder chooses the keyframes."""
    path = tmp_path / "scenes.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height = 160, 120
        for number in range(60):
            level = 40 if number < 10 else 120 if number < 50 else 220
            frame = av.VideoFrame(160, 120, "yuv420p")
            for plane, value in zip(frame.planes, (level, 128, 128), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def test_scenes_get_a_frame_each_before_any_gets_two(three_scenes: Path, preview: Any) -> None:
    even = finished(preview(three_scenes, "even.png", columns=3, rows=1, positions="even"))
    aware = finished(preview(three_scenes, "aware.png", columns=3, rows=1, positions="scenes"))
    assert min(even["source_positions"]) >= 1
    first, second, third = aware["source_positions"]
    assert first < 1 <= second < 5 <= third


def test_frames_are_spread_over_scenes_by_their_length() -> None:
    assert spread_over([0, 100, 900], 1000, 3) == [50, 500, 950]
    assert spread_over([0, 100, 900], 1000, 1) == [500]
    assert spread_over([0, 100, 900], 1000, 5) == [50, 233, 500, 766, 950]
    assert spread_over([0], 0, 2) == [0, 0]


@pytest.mark.slow
@pytest.mark.usefixtures("each_saved")
@pytest.mark.parametrize(
    ("output", "options"),
    [
        ("out.jpg", {"timestamps": True, "positions": "scenes"}),
        ("out.gif", {"clips": 2, "clip_seconds": 0.3}),
        ("out.webp", {"kind": "animation", "clips": 2, "clip_seconds": 0.4}),
        ("out.mp4", {"clips": 2, "clip_seconds": 0.4}),
    ],
)
def test_resuming_from_any_checkpoint_gives_the_same_file(
    *, output: str, options: dict[str, Any], clips: Callable[..., Path], preview: Any
) -> None:
    source = clips(suffix=".mkv", options={"g": "40", "bf": "3"})
    whole = preview(source, output, **options)
    count = len(finished(whole)["source_positions"])
    expected, saved = digest(whole.output_file), len(whole.checkpoints)
    assert saved == count >= 6
    for number in range(1, saved + 1):
        shutil.rmtree(whole.work_dir)
        whole.output_file.unlink()
        broken = preview(source, output, crash_after=number, **options)
        with pytest.raises(SimulatedCrash):
            run_handler(video_preview, broken)
        (broken.work_dir / f"frame-{number:05}.part").write_bytes(b"cut off")
        again = broken.resumed()
        finished(again)
        assert digest(again.output_file) == expected, f"from checkpoint {number}"
        assert len(again.checkpoints) == count - number
        assert not list(again.work_dir.glob("*.part"))


@pytest.mark.usefixtures("each_saved")
@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_a_damaged_frame_is_made_again_and_no_other(harm: str, clips: Callable[..., Path], preview: Any) -> None:
    first = preview(clips())
    finished(first)
    expected = digest(first.output_file)
    victim = first.work_dir / "frame-00002.tif"
    if harm == "gone":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    (first.work_dir / "plan.json").write_bytes(b'{"moments": [1')
    again = first.resumed()
    finished(again)
    assert digest(again.output_file) == expected
    assert [checkpoint.processed_frames for checkpoint in again.checkpoints] == [6]


@pytest.mark.usefixtures("each_saved")
def test_other_options_start_anew(clips: Callable[..., Path], preview: Any) -> None:
    first = preview(clips(), crash_after=4)
    with pytest.raises(SimulatedCrash):
        run_handler(video_preview, first)
    other = preview(clips(), width=32)
    other.checkpoint = first.checkpoint
    finished(other)
    assert len(other.checkpoints) == 6


@pytest.mark.slow
@pytest.mark.parametrize("output", ["out.png", "out.gif"])
def test_it_goes_home_when_asked_and_leaves_no_output(output: str, clips: Callable[..., Path], preview: Any) -> None:
    whole = preview(clips(), output)
    finished(whole)
    asked = whole.stops_asked
    for stop_after in (0, 5, asked // 2, asked - 1):
        shutil.rmtree(whole.work_dir)
        context = preview(clips(), output, stop_after=stop_after)
        assert isinstance(run_handler(video_preview, context), Stopped)
        assert context.stops_asked == stop_after + 1
        assert not context.output_part.exists()
        assert not list(context.work_dir.glob("*.part"))


def test_progress_rises_to_the_end(clips: Callable[..., Path], preview: Any) -> None:
    context = preview(clips(), positions="scenes")
    finished(context)
    percents = [percent for percent, _ in context.reports]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    messages = [message for _, message in context.reports]
    assert messages[1].startswith("looking for scenes")
    assert "frame 3 of 6" in messages
    assert messages[-1] == "writing png"


@pytest.mark.parametrize(
    ("output", "kind", "error", "hint"),
    [
        ("out.bmp", "auto", InvalidPath, r"out\.bmp"),
        ("out.mp4", "sheet", InvalidOptions, r"\.mp4"),
        ("out.jpg", "animation", InvalidOptions, r"\.jpg"),
        ("out.gif", "sheet", InvalidOptions, r"\.gif"),
    ],
)
def test_what_does_not_go_together_is_refused_when_the_command_comes(
    output: str, kind: Any, error: type[Exception], hint: str
) -> None:
    check = task_type_of(video_preview).check
    assert check is not None
    with pytest.raises(error, match=hint):
        check(job_for(VideoPreviewOptions(kind=kind), "/in.mp4", f"/{output}"))
    with pytest.raises(InvalidOptions, match="50"):
        check(job_for(VideoPreviewOptions(fps=60), "/in.mp4", "/out.gif"))
    check(job_for(VideoPreviewOptions(kind="animation", fps=60), "/in.mp4", "/out.webp"))


@pytest.mark.parametrize(
    "options",
    [{"clips": 100, "clip_seconds": 60}, {"columns": 20, "rows": 50, "width": 4096}, {"kind": "film"}, {"tiles": 3}],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, VideoPreviewOptions)


def test_a_preview_that_would_be_too_large_is_unusable(clips: Callable[..., Path], preview: Any) -> None:
    tall = clips(audio="", options={"x264-params": "sar=1/16"}, seconds=1)
    outcome = run_handler(video_preview, preview(tall, columns=10, rows=10, width=800))
    assert isinstance(outcome, Rejected)
    assert "pixels" in outcome.reason


def test_a_sheet_that_its_format_cannot_hold_is_refused_before_a_frame_is_taken(
    clips: Callable[..., Path], preview: Any
) -> None:
    context = preview(clips(), output="wide.webp", columns=5, rows=1, width=4096)
    outcome = run_handler(video_preview, context)
    assert isinstance(outcome, Rejected)
    assert "webp cannot hold a picture of 20492x3076 pixels" in outcome.reason
    assert not any("frame" in message for _, message in context.reports)


@pytest.mark.parametrize(("seconds", "text"), [(0, "00:00.0"), (59.94, "00:59.9"), (60, "01:00"), (3723.4, "1:02:03")])
def test_clocks_read_as_on_a_player(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.crash
@pytest.mark.parametrize("seed", range(1))
def test_killed_three_times_it_gives_the_file_of_an_undisturbed_run(
    seed: int, clips: Callable[..., Path], run_attempt: Callable[..., Any], tmp_path: Path
) -> None:
    source, options = clips(), {**SMALL, "positions": "scenes"}
    whole = run_attempt(HOME, source, tmp_path / "whole.jpg", options)
    assert whole.ended == "Finished"
    chance, output = random.Random(seed), tmp_path / "killed.jpg"
    for _ in range(3):
        killed = run_attempt(HOME, source, output, options, kill_at=chance.randint(1, whole.steps // 2))
        assert not killed.ended
        assert not output.exists()
    assert run_attempt(HOME, source, output, options).ended == "Finished"
    assert output.read_bytes() == (tmp_path / "whole.jpg").read_bytes()
