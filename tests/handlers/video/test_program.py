"""The machine's ffmpeg program, where it is asked for: what it gets, and which of its results are accepted."""

import itertools
import os
import re
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any

import av
import msgspec
import psutil
import pytest

from tasktrail import TaskService
from tasktrail.config.settings import Config
from tasktrail.events.errors import InvalidOptions
from tasktrail.handlers import Finished, Job, Rejected, Stopped
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.options import HARDWARE_REMEDY, VideoConvertOptions
from tasktrail.handlers.video.convert.program_encoder import ProgramFailedError
from tasktrail.handlers.video.program import examine_program, program_lines
from tasktrail.handlers.video.source import read_source
from tasktrail.testing import run_handler, task_type_of

BFRAMES = {"bf": "3", "g": "30"}

PASS_ON = "if '-i' not in sys.argv: os.execv(real, [real, *sys.argv[1:]])\n"
"""Answer questions as the real program does."""
WITHIN = 20.0
HANG = PASS_ON + "import time\nopen(os.environ['STARTED'], 'w').write(str(os.getpid()))\ntime.sleep(1000)\n"


def check(source: Path, output: str = "out.mp4", **options: Any) -> None:
    """Run the check that is made when the command arrives."""
    found = task_type_of(video_convert).check
    assert found is not None
    wanted = msgspec.convert({"backend": "ffmpeg", **options}, VideoConvertOptions)
    found(Job(options=wanted, input_file=source, output_file=source.with_name(output)))


@pytest.mark.parametrize(
    ("output", "options", "video", "audio"),
    [
        ("out.mp4", {"audio_bitrate": 96_000}, "h264", "aac"),
        ("out.mov", {"video_codec": "h265"}, "hevc", "aac"),
        ("out.webm", {}, "vp9", "opus"),
        ("out.mkv", {"video_codec": "av1", "preset": "ultrafast", "audio_codec": "mp3"}, "av1", "mp3"),
        ("out.m4v", {"video_bitrate": 100_000, "scale": 0.5}, "h264", "aac"),
    ],
)
def test_it_encodes_every_codec_with_the_frames_and_times_of_the_builtin_backend(
    *,
    output: str,
    options: dict[str, Any],
    video: str,
    audio: str,
    clips: Callable[..., Path],
    install: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    look: Callable[..., Any],
) -> None:
    install()
    source = clips(options=BFRAMES)
    builtin = prepare(source, f"builtin-{output}", **options)
    convert(builtin)
    (builtin.work_dir).rename(builtin.work_dir.with_name("other"))
    context = prepare(source, output, backend="ffmpeg", **options)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert "encoded by the program ffmpeg" in " ".join(outcome.result["notes"])
    seen, expected = look(context.output_file), look(builtin.output_file)
    assert (seen.codec, seen.size, seen.times, seen.corrupt) == (video, expected.size, expected.times, 0)
    assert seen.samples == pytest.approx(expected.samples, abs=3000)
    with av.open(str(context.output_file)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name.startswith(audio)
    assert {path.suffix for path in context.work_dir.iterdir()} == {".mp4", ".index"}


def test_ten_bits_colours_and_the_shape_of_pixels_reach_the_result(
    clips: Callable[..., Path], install: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    install()
    coded = "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:sar=5"
    source = clips(codec="libx265", pixel_format="yuv420p10le", options={"x265-params": coded}, seconds=2, audio="")
    assert read_source(source).pixel_aspect == Fraction(40, 33)
    context = prepare(source, video_codec="h265", backend="ffmpeg")
    assert isinstance(convert(context), Finished)
    found = read_source(context.output_file)
    assert (found.depth, found.colour, found.pixel_aspect) == (10, (9, 16, 9), Fraction(40, 33))


@pytest.mark.parametrize("name", ["-i.mp4", "100%d.mp4", "http:..x.mp4", "two\nlines.mp4", "concat:a|b.mp4"])
def test_names_are_names_and_nothing_else(
    name: str,
    clips: Callable[..., Path],
    install: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    tmp_path: Path,
) -> None:
    install()
    folder = tmp_path / name.removesuffix(".mp4")
    folder.mkdir()
    source = folder / name
    source.symlink_to(clips(seconds=1))
    context = prepare(source, f"out{name}", backend="ffmpeg")
    context.work_dir = folder / name.removesuffix(".mp4")
    context.work_dir.mkdir()
    assert isinstance(convert(context), Finished)
    assert {path.name for path in folder.iterdir()} == {name, context.work_dir.name}


def test_it_is_told_no_name_but_that_of_its_own_piece(
    clips: Callable[..., Path],
    install: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    monkeypatch.setenv("FFREPORT", f"file={tmp_path}/report.log")
    install(
        "with open(os.environ['TOLD'], 'a') as told: print(*sys.argv[1:], sep='\\n', file=told)\n"
        "os.execv(real, [real, *sys.argv[1:]])\n"
    )
    context = prepare(clips(), backend="ffmpeg")
    assert isinstance(convert(context), Finished)
    told = (tmp_path / "told").read_text().splitlines()
    assert {line for line in told if "/" in line and "setsar" not in line} == {
        f"file:{context.work_dir}/segment-{number:05}.part" for number in range(5)
    }
    assert {told[at + 1] for at, line in enumerate(told) if line == "-i"} == {"pipe:0"}
    assert not (tmp_path / "report.log").exists()


def test_without_the_program_the_command_is_refused_with_what_to_install(
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidOptions) as refused:
        check(clips())
    assert refused.value.field == "options.backend"
    assert "apt install ffmpeg" in refused.value.advice
    assert program_lines()[0] == "ffmpeg: not installed"
    outcome = convert(prepare(clips(), backend="ffmpeg"))
    assert isinstance(outcome, Rejected)
    assert "apt install ffmpeg" in outcome.reason


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("sys.exit(1)", "it cannot be run"),
        ("print('hello')", "it does not answer as ffmpeg does"),
        ("print('ffmpeg version 4.4.2-0ubuntu1\\nlibavutil      56. 70.100 / 56. 70.100')", "4.4.2-0ubuntu1 is older"),
    ],
)
def test_a_program_that_is_of_no_use_is_refused_with_the_reason(
    script: str, says: str, clips: Callable[..., Path], install: Callable[..., Path]
) -> None:
    install(script)
    with pytest.raises(InvalidOptions, match=says):
        check(clips())
    assert says in program_lines()[0]


def test_an_encoder_that_the_program_lacks_is_refused_by_name(
    clips: Callable[..., Path], install: Callable[..., Path]
) -> None:
    install()
    check(clips())
    with pytest.raises(InvalidOptions, match="has no encoder h264_videotoolbox") as refused:
        check(clips(), encoder="videotoolbox")
    assert refused.value.field == "options.encoder"
    with pytest.raises(InvalidOptions, match="has no encoder libfdk_aac"):
        check(clips(), audio_encoder="libfdk_aac")
    with pytest.raises(InvalidOptions, match=r"aac does not go into \.webm"):
        check(clips(), "out.webm", audio_encoder="libfdk_aac")


@pytest.mark.parametrize(
    "options",
    [
        {"encoder": "vaapi"},
        {"audio_encoder": "libfdk_aac"},
        {"audio_encoder": "libfdk_aac", "backend": "ffmpeg", "audio_codec": "opus"},
    ],
)
def test_options_that_need_the_program_are_refused_without_it(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="encoder"):
        msgspec.convert(options, VideoConvertOptions)


@pytest.mark.skipif(os.path.exists("/dev/dri"), reason="this machine may have the hardware")  # noqa: PTH110 - one look
@pytest.mark.parametrize("encoder", ["vaapi", "nvenc"])
def test_hardware_that_is_not_there_is_named_before_work_begins(
    encoder: str,
    clips: Callable[..., Path],
    install: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
) -> None:
    install()
    context = prepare(clips(), backend="ffmpeg", encoder=encoder)
    outcome = convert(context)
    assert isinstance(outcome, Rejected)
    assert re.search(rf"encoder h264_{encoder} finds no device \(.+\): {re.escape(HARDWARE_REMEDY)}", outcome.reason)
    assert "\n" not in outcome.reason
    assert not list(context.work_dir.iterdir())


def test_of_what_ffmpeg_says_about_missing_hardware_the_first_line_is_told(
    clips: Callable[..., Path], install: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    """Its messages depend on the driver and on libva, so a script prints them."""
    install(PASS_ON + r"sys.stderr.write('[device @ 0x55d1] It is not there.\nSo nothing works.\n'); sys.exit(1)")
    outcome = convert(prepare(clips(), backend="ffmpeg", encoder="vaapi"))
    assert isinstance(outcome, Rejected)
    assert "finds no device (It is not there): " in outcome.reason


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (
            "at = len(sys.argv) - 1\nos.execv(real, [real, *sys.argv[1:at], '-vframes', '12', sys.argv[at]])",
            "12 frames of",
        ),
        ("sys.stderr.write('no memory left')\nsys.exit(7)", "ended with 7 at segment-00000: no memory left"),
        ("os.kill(os.getpid(), 9)", "ended with -9 at segment-00000: it said nothing"),
    ],
)
def test_what_the_program_did_wrong_fails_by_name_and_leaves_no_piece(
    *,
    script: str,
    says: str,
    clips: Callable[..., Path],
    install: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    install(PASS_ON + script)
    context = prepare(clips(audio=""), backend="ffmpeg")
    with pytest.raises(ProgramFailedError, match=says):
        convert(context)
    assert ("no memory left" in capfd.readouterr().err) == ("no memory left" in says), "the attempt's output has it"
    assert not list(context.work_dir.iterdir())
    assert not context.output_part.exists()


@pytest.mark.parametrize(("segment_seconds", "stop_after"), [(1.0, 30), (10.0, 45)])
def test_a_program_that_hangs_is_killed_when_the_attempt_is_to_stop(
    *,
    segment_seconds: float,
    stop_after: int,
    clips: Callable[..., Path],
    install: Callable[..., Path],
    prepare: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("STARTED", str(tmp_path / "started"))
    install(HANG)
    # More questions than there are frames in a segment, or in the pipe: it waits for the end, or for room.
    context = prepare(clips(audio=""), backend="ffmpeg", segment_seconds=segment_seconds, stop_after=stop_after)
    assert isinstance(run_handler(video_convert, context), Stopped)
    assert not psutil.pid_exists(int((tmp_path / "started").read_text()))
    assert not list(context.work_dir.iterdir())


def test_progress_tells_segment_and_speed_and_never_falls(
    clips: Callable[..., Path], install: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    install()
    context = prepare(clips(), backend="ffmpeg")
    convert(context)
    told = [percent for percent, _ in context.reports]
    assert all(before <= after for before, after in itertools.pairwise(told))
    assert any("encoding segment 2 of 5, " in message and message.endswith(" fps") for _, message in context.reports)


def test_types_says_what_the_program_is_and_has(install: Callable[..., Path]) -> None:
    path = install()
    line, _ = task_type_of(video_convert).programs()  # type: ignore[misc] # it has the function
    assert line.startswith(f"ffmpeg: {path}, version ")
    assert "h264_vaapi" in line
    assert examine_program(path).hardware


def test_a_build_without_the_usual_encoder_is_refused_when_the_command_arrives(
    clips: Callable[..., Path], install: Callable[..., Path]
) -> None:
    install(
        "import subprocess\nsays = subprocess.check_output([real, *sys.argv[1:]], text=True)\n"
        "print(says.replace('libx264 ', 'absent '))"
    )
    with pytest.raises(InvalidOptions, match="has no encoder libx264") as refused:
        check(clips())
    assert refused.value.field == "options.backend"


@pytest.mark.slow
def test_cancelled_in_the_service_it_is_gone_with_its_worker(
    clips: Callable[..., Path], install: Callable[..., Path], tmp_path: Path
) -> None:
    started = tmp_path / "started"
    install(HANG.replace("os.environ['STARTED']", repr(str(started))))  # a worker gets no foreign variables
    # In a sandbox the program could not report here that it has started, and would have another pid.
    with TaskService.open(tmp_path / "data", config=Config(workers=1, sandbox="off")) as service:
        task_id = service.create_task(
            type="video_convert",
            input_file=str(clips(audio="")),
            output_file=str(tmp_path / "out.mp4"),
            options={"backend": "ffmpeg"},
        )
        deadline = time.monotonic() + 60
        while not (started.exists() and started.read_text()):
            assert time.monotonic() < deadline
            Event().wait(0.005)  # not a busy loop: the service needs the CPU
        program = int(started.read_text())
        assert os.getpgid(program) != os.getpgid(0)
        service.cancel_task(task_id)
        deadline = time.monotonic() + WITHIN
        while psutil.pid_exists(program):
            assert time.monotonic() < deadline
            Event().wait(0.005)
        assert service.get_task(task_id).status == "cancelled"
    assert not (tmp_path / "out.mp4").exists()
