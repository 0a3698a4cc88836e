"""The result of every type describes the output in the same words, and an independent look confirms it."""

import hashlib
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import av
import msgspec
import numpy as np
import pypdfium2
import pytest
from PIL import Image, ImageDraw, ImageSequence
from sounds import hear, tone, write

from tasktrail.handlers import Finished
from tasktrail.handlers.audio.convert import audio_convert
from tasktrail.handlers.document.convert import document_convert
from tasktrail.handlers.document.preview import document_preview
from tasktrail.handlers.image.convert import image_convert
from tasktrail.handlers.image.thumbnail import image_thumbnail
from tasktrail.handlers.model.preview import model_preview
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.preview import video_preview
from tasktrail.handlers.video.thumbnail import video_thumbnail
from tasktrail.testing import RecordingContext, run_handler, task_type_of

COMMON = {"size", "sha256", "format", "codec", "width", "height", "frames", "duration"}
OWN = {
    "audio_convert": {"copied", "sample_rate", "channels", "bitrate", "loudness", "gain", "notes"},
    "image_thumbnail": set(),
    "image_convert": {"notes"},
    "video_thumbnail": {"notes"},
    "video_preview": {"kind", "notes"},
    "video_convert": {"audio_codec", "audio_copied", "audio_tracks", "subtitles", "attachments", "segments", "notes"},
    "document_convert": {"pages", "notes"},
    "document_preview": {"pages", "files", "renderer"},
    "model_preview": {"notes"},
}
"""What a type reports about its output beyond the common fields."""
SOUNDS = {"mp3", "m4a", "opus", "ogg", "flac", "wav"}
FILMS = {"mp4": "h264", "mkv": "hevc", "webm": "vp9"}
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "types.md"


class Case(NamedTuple):
    """One way to an output."""

    handler: Any
    source: str
    output: str
    options: Mapping[str, Any] = MappingProxyType({})


CASES = (
    *(Case(audio_convert, "tone.wav", f"out.{suffix}", {"loudness": -20}) for suffix in sorted(SOUNDS)),
    Case(audio_convert, "tone.wav", "copied.wav"),
    Case(audio_convert, "tone.wav", "out.png", {"width": 90, "height": 30}),
    Case(image_thumbnail, "still.png", "out.jpg", {"width": 50}),
    Case(image_convert, "still.png", "out.tif"),
    Case(image_convert, "moving.gif", "out.webp", {"width": 40}),
    Case(image_convert, "moving.gif", "out.gif", {"width": 40}),
    Case(image_convert, "moving.gif", "out.tiff"),
    Case(image_convert, "moving.gif", "out.png", {"frames": "first"}),
    Case(video_thumbnail, "film.mp4", "out.webp", {"width": 60}),
    Case(video_preview, "film.mp4", "out.jpg", {"columns": 2, "rows": 2, "width": 64}),
    Case(video_preview, "film.mp4", "out.gif", {"clips": 2, "clip_seconds": 0.5, "fps": 12, "width": 64}),
    Case(video_preview, "film.mp4", "out.webp", {"kind": "animation", "clips": 2, "fps": 7, "width": 65}),
    Case(video_preview, "film.mp4", "out.mp4", {"clips": 2, "fps": 7, "width": 65}),
    Case(video_convert, "film.mp4", "out.mp4", {"width": 80, "preset": "ultrafast"}),
    Case(video_convert, "film.mp4", "out.mkv", {"video_codec": "h265", "preset": "ultrafast"}),
    Case(video_convert, "film.mp4", "out.webm", {"preset": "ultrafast"}),
    Case(document_convert, "pages.pdf", "out.pdf", {"pages": "2"}),
    Case(document_convert, "pages.pdf", "whole.pdf"),
    Case(document_preview, "pages.md", "out.png", {"width": 100}),
    Case(document_preview, "pages.md", "out.tiff", {"width": 100, "pages": "all"}),
    Case(document_preview, "pages.md", "out.zip", {"width": 100, "pages": "all", "page_format": "jpeg"}),
    Case(document_preview, "pages.md", "out.avif", {"width": 100, "pages": "all"}),
    Case(model_preview, "tetra.off", "out.png", {"width": 80, "height": 60}),
    Case(model_preview, "tetra.off", "out.gif", {"kind": "turntable", "frames": 5, "width": 80, "height": 60}),
    Case(model_preview, "tetra.off", "out.webp", {"kind": "turntable", "frames": 5, "width": 80, "height": 60}),
    Case(model_preview, "tetra.off", "out.mp4", {"kind": "turntable", "frames": 5, "width": 80, "height": 60}),
)


class Seen(NamedTuple):
    """What a decoder finds."""

    format: str
    codec: str
    size: tuple[int, int]
    frames: int
    duration: float


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    frames = [_picture(number) for number in range(6)]
    frames[0].save(folder / "still.png")
    frames[0].save(folder / "pages.pdf", save_all=True, append_images=frames[1:3])
    # Two frames are equal: encoders merge them, and the result has to know.
    film = [frames[0], frames[1], frames[1], *frames[2:]]
    film[0].save(folder / "moving.gif", save_all=True, append_images=film[1:], duration=130)
    write(folder / "tone.wav", tone(2.0, rate=48000), rate=48000)
    (folder / "pages.md").write_text("# Title\n\n" + "A line of text.\n\n" * 90)
    (folder / "tetra.off").write_text("OFF\n4 4 6\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n")
    with av.open(str(folder / "film.mp4"), "w") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 120, 80, "yuv420p"
        for number in range(40):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(_picture(number)), "rgb24")))
        output.mux(stream.encode(None))
    return folder


def _picture(number: int) -> Image.Image:
    picture = Image.new("RGB", (120, 80), (200, 220, 240))
    ImageDraw.Draw(picture).rectangle((3 * number % 100, 20, 3 * number % 100 + 20, 60), fill=(200, 6 * number, 20))
    return picture


def _look(path: Path) -> Seen:
    form = {"jpg": "jpeg", "tif": "tiff"}.get(path.suffix[1:], path.suffix[1:])
    if form in FILMS:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            codec, size = stream.codec_context.name, (stream.width, stream.height)
            return Seen(
                form, codec, size, len(list(container.decode(stream))), (container.duration or 0) / av.time_base
            )
    if form in SOUNDS:
        heard = hear(path)
        return Seen(form, heard.codec, (0, 0), 0, heard.wave.shape[1] / heard.rate)
    if form == "pdf":
        with pypdfium2.PdfDocument(path) as pdf:
            assert len(pdf) in (1, 3)
        return Seen(form, form, (0, 0), 0, 0.0)
    if form == "zip":
        with zipfile.ZipFile(path) as archive:
            pages = [Image.open(BytesIO(archive.read(name))) for name in archive.namelist()]
        return Seen(form, str(pages[0].format).lower(), pages[0].size, len(pages), 0.0)
    with Image.open(path) as picture:
        times = [frame.info.get("duration", 0) for frame in _loaded(picture)]
        times = times if len(times) > 1 else [0]  # Pillow gives a still avif a duration of one second
        return Seen(
            str(picture.format).lower(), str(picture.format).lower(), picture.size, len(times), sum(times) / 1000
        )


def _loaded(picture: Image.Image) -> Any:
    for frame in ImageSequence.Iterator(picture):
        frame.load()  # only then a webp says how long it is shown
        yield frame


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{task_type_of(case.handler).name}-{case.output}")
def test_the_result_says_of_the_output_what_a_decoder_finds_in_it(case: Case, sources: Path, tmp_path: Path) -> None:
    kind = task_type_of(case.handler)
    context: RecordingContext[Any] = RecordingContext(
        msgspec.convert(dict(case.options), kind.options),
        work_dir=tmp_path / "work",
        input_file=sources / case.source,
        output_file=tmp_path / case.output,
    )
    outcome = run_handler(case.handler, context)
    assert isinstance(outcome, Finished)
    assert outcome.message, "its last progress would stay as its message, such as `reading photo.jpg`"
    result, seen = outcome.result, _look(context.output_file)
    content = context.output_file.read_bytes()
    assert (result["size"], result["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert result["format"] == seen.format
    assert {"h265": "hevc"}.get(result["codec"], result["codec"]) == seen.codec.removeprefix("lib")
    assert (result["width"], result["height"]) == seen.size
    assert result["frames"] == seen.frames
    assert result["duration"] == pytest.approx(seen.duration, abs=0.022)  # the last packet of aac is heard out
    plays = seen.format in SOUNDS or (seen.frames > 1 and seen.format in {*FILMS, "gif", "webp"})
    assert (result["duration"] > 0) == plays
    _check_names(kind.name, result)


def _check_names(kind: str, result: dict[str, Any]) -> None:
    """Check that entries about the input say so, and that the reference has every name."""
    assert {name for name in result if not name.startswith("source_")} - COMMON <= OWN[kind]
    section = REFERENCE.read_text().partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
    told = section.partition("Result: ")[2]
    assert [name for name in result.keys() - COMMON if f"`{name}`" not in told] == []
