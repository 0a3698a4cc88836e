"""`tune` and `profile`: the settings of the h264 and h265 encoders besides quality and speed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from conversions import digest

from tasktrail.events.errors import InvalidOptions
from tasktrail.handlers import Finished
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.options import VideoConvertOptions
from tasktrail.testing import job_for


@pytest.mark.parametrize(
    ("codec", "tune"),
    [
        *(("h264", tune) for tune in ("film", "animation", "grain", "stillimage", "fastdecode", "zerolatency")),
        *(("h265", tune) for tune in ("animation", "grain", "fastdecode", "zerolatency")),
    ],
)
def test_a_tune_reaches_the_encoder(
    codec: str, tune: str, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = clips(audio="", seconds=2)
    made: set[str] = set()
    for options in ({}, {"tune": tune}):
        context = prepare(source, f"{len(made)}.mp4", video_codec=codec, preset="faster", **options)
        assert isinstance(convert(context), Finished)
        made.add(digest(context.output_file))
    assert len(made) == 2


@pytest.mark.parametrize(
    ("codec", "profile", "depth", "said", "notes"),
    [
        ("h264", "baseline", 8, "Constrained Baseline", []),
        ("h264", "main", 8, "Main", []),
        ("h264", "high", 8, "High", []),
        ("h265", "main", 8, "Main", []),
        ("h265", "main", 10, "Main", ["10 bits a colour became 8"]),
        ("h265", "main10", 8, "Main 10", []),
        ("h265", "main10", 10, "Main 10", []),
    ],
)
@pytest.mark.parametrize("backend", ["builtin", "ffmpeg"])
def test_the_file_has_the_profile_that_is_asked_for(
    *,
    codec: str,
    profile: str,
    depth: int,
    said: str,
    notes: list[str],
    backend: str,
    install: Callable[..., Path],
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
) -> None:
    if backend == "ffmpeg":
        install()
    deep = {"codec": "libx265", "pixel_format": "yuv420p10le", "options": {"x265-params": "log-level=none"}}
    source = clips(audio="", seconds=1, **(deep if depth > 8 else {}))
    context = prepare(source, video_codec=codec, profile=profile, backend=backend)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert [note for note in outcome.result["notes"] if "ffmpeg" not in note] == notes
    with av.open(str(context.output_file)) as container:
        assert container.streams.video[0].codec_context.profile == said


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({"video_codec": "h265", "tune": "film"}, "tune", "it has: animation, grain, fastdecode, zerolatency"),
        ({"video_codec": "vp9", "tune": "grain"}, "tune", "it has: none"),
        ({"video_codec": "h264", "profile": "main10"}, "profile", "it has: baseline, main, high"),
        ({"video_codec": "av1", "profile": "main"}, "profile", "it has: none"),
        ({"encoder": "nvenc", "tune": "film"}, "tune", "no effect with a hardware encoder"),
        ({"video_codec": "copy", "profile": "main"}, "profile", "no effect while video_codec is copy"),
    ],
)
def test_what_the_encoder_does_not_have_is_refused_when_the_task_is_created(
    options: dict[str, Any], field: str, message: str
) -> None:
    assert video_convert.check
    with pytest.raises(InvalidOptions, match=message) as refused:
        video_convert.check(job_for(VideoConvertOptions(**options), "/in.mp4", "/out.mp4"))
    assert refused.value.field == f"options.{field}"
