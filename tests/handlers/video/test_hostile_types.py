"""Untrusted input to every video type: refused or processed, within limits, without touching another file."""

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import msgspec
import pytest
from av.video.frame import PictureType

from tasktrail.handlers import Finished, Rejected
from tasktrail.handlers.video import opening
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.frames import UndecodableError
from tasktrail.handlers.video.preview import video_preview
from tasktrail.handlers.video.thumbnail import video_thumbnail
from tasktrail.testing import RecordingContext, run_handler, task_type_of

TYPES = {
    "thumbnail": (video_thumbnail, ".png", {}),
    "sheet": (video_preview, ".jpg", {"columns": 2, "rows": 2}),
    "scenes": (video_preview, ".gif", {"positions": "scenes", "clips": 2, "clip_seconds": 0.2, "width": 64}),
    "convert": (video_convert, ".mp4", {"preset": "ultrafast"}),
}
NAMES = [
    "-i",
    "%03d.mp4",
    "@list",
    "new\nline.mp4",
    "http:x.mp4",
    "file:in.mp4",
    "concat:a|b",
    "pipe:0",
    "a'b\"c;$(id)",
]


@pytest.fixture(params=TYPES)
def work(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Run one of the types on a file; the output's stem may be chosen."""
    handler, suffix, options = TYPES[request.param]

    def run(source: Path, stem: str = "out") -> Any:
        folder = tmp_path / "results"
        folder.mkdir(exist_ok=True)
        context = RecordingContext(
            msgspec.convert(options, task_type_of(handler).options),
            work_dir=tmp_path / "work",
            input_file=source,
            output_file=folder / f"{stem}{suffix}",
        )
        outcome = run_handler(handler, context)
        assert isinstance(outcome, Finished) == context.output_file.is_file()
        return outcome

    return run


def test_odd_names_are_plain_files(work: Any, clips: Callable[..., Path], tmp_path: Path) -> None:
    content = clips(seconds=0.4, audio="").read_bytes()
    for number, name in enumerate(NAMES):
        source = tmp_path / f"odd{number}" / name
        source.parent.mkdir()
        source.write_bytes(content)
        assert isinstance(work(source, stem=f"{name}-out"), Finished)
        assert [path.name for path in source.parent.iterdir()] == [name]
    results = sorted(path.stem for path in (tmp_path / "results").iterdir())
    assert results == sorted(f"{name}-out" for name in NAMES)


def test_playlists_are_refused(work: Any, clips: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "secret.ts").write_bytes(clips(suffix=".ts").read_bytes())
    texts = {
        "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:4,\nsecret.ts\n#EXT-X-ENDLIST\n",
        "list.mp4": "ffconcat version 1.0\nfile secret.ts\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        outcome = work(tmp_path / name)
        assert isinstance(outcome, Rejected)
        assert name in outcome.reason


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_broken_bytes_are_done_or_refused_by_name(
    seed: int, work: Any, clips: Callable[..., Path], tmp_path: Path
) -> None:
    chance = random.Random(seed)
    suffix = (".mp4", ".mkv", ".ts", ".avi")[seed]
    content = bytearray(clips(suffix=suffix, options={"g": "10"}, seconds=2, audio="mp3").read_bytes())
    for _ in range(60):
        content[chance.randrange(len(content))] = chance.randrange(256)
    if seed % 2:
        del content[len(content) * 3 // 4 :]
    source = tmp_path / f"broken{suffix}"
    source.write_bytes(content)
    try:
        outcome = work(source)
    except UndecodableError as error:
        assert source.name in str(error)  # noqa: PT017 - either way out is right
        return
    assert isinstance(outcome, Finished | Rejected)


def test_a_side_beyond_all_measure_is_refused_from_the_header(
    work: Any, clips: Callable[..., Path], tmp_path: Path
) -> None:
    content = clips(suffix=".gif", codec="gif", audio="", pixel_format="rgb8").read_bytes()
    for width, height in ((65000, 20), (20, 65000), (60000, 60000)):
        (tmp_path / "bomb.gif").write_bytes(content[:6] + struct.pack("<HH", width, height) + content[10:])
        assert isinstance(work(tmp_path / "bomb.gif"), Rejected)


@pytest.mark.slow
def test_a_picture_that_grows_behind_its_header_is_not_decoded(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header says 64 x 48; from the eleventh frame on the stream itself says 640 x 480."""
    monkeypatch.setattr(opening, "MAX_FRAME_PIXELS", 100_000)
    source = tmp_path / "grows.ts"
    with av.open(str(tmp_path / "small.ts"), "w") as small:
        _write(small, 64, 48, 0)
    with av.open(str(tmp_path / "large.ts"), "w") as large:
        _write(large, 640, 480, 10)
    source.write_bytes((tmp_path / "small.ts").read_bytes() + (tmp_path / "large.ts").read_bytes())
    outcome = work(source)
    assert isinstance(outcome, Finished)
    assert outcome.result.get("frames", 0) <= 11


def _write(output: Any, width: int, height: int, first: int) -> None:
    stream = output.add_stream("libx264", rate=10, options={"g": "5"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    with av.open(f"testsrc2=size={width}x{height}:rate=10:duration=1", format="lavfi") as test:
        for number, frame in enumerate(test.decode(video=0), first):
            shown = frame.reformat(format="yuv420p")
            shown.pts, shown.pict_type = number, PictureType.NONE
            output.mux(stream.encode(shown))
    output.mux(stream.encode(None))
