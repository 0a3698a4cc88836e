"""A failed write is the disk's fault, whichever library notices it."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from tasktrail.handlers import Unusable
from tasktrail.handlers.document.preview import document_preview
from tasktrail.handlers.image.convert import image_convert
from tasktrail.handlers.image.thumbnail import image_thumbnail
from tasktrail.handlers.io_errors import disk_fault, writing
from tasktrail.testing import RecordingContext, run_handler, task_type_of

ROOM = 20_000
Run = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def work(handler: Any, source: Path, output: Path, **options: Any) -> None:
        given = msgspec.convert(options, task_type_of(handler).options)
        context = RecordingContext(given, work_dir=tmp_path / "work", input_file=source, output_file=output)
        run_handler(handler, context)

    return work


@pytest.fixture
def little_room() -> Iterator[None]:
    """Limit every file to `ROOM` bytes, which acts like a full disk without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def noise(path: Path, frames: int = 1) -> Path:
    pictures = [Image.effect_noise((300, 300), 90) for _ in range(frames)]
    more: dict[str, Any] = {"save_all": True, "append_images": pictures[1:]} if frames > 1 else {}
    pictures[0].convert("L").save(path, **more)
    return path


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """Make sources: one for libvips, one for Pillow, one read frame by frame, and one of several pages."""
    (tmp_path / "in.txt").write_text("many words, and more of them\n" * 500)
    found = {"vips": noise(tmp_path / "in.png"), "pillow": noise(tmp_path / "in.bmp")}
    return found | {"frames": noise(tmp_path / "in.gif", 3), "pages": tmp_path / "in.txt"}


@pytest.mark.usefixtures("sources", "little_room")
@pytest.mark.parametrize(
    ("handler", "source", "suffixes"),
    [
        (image_convert, "vips", (".jpg", ".png", ".webp", ".avif", ".tif", ".gif")),
        (image_convert, "pillow", (".jpg", ".png", ".webp", ".avif", ".tif", ".gif")),
        (image_convert, "frames", (".png", ".webp", ".tif", ".gif")),
        (image_thumbnail, "vips", (".jpg", ".png", ".webp", ".avif", ".gif")),
        (document_preview, "pages", (".jpg", ".png", ".tif", ".zip")),
    ],
)
def test_a_disk_without_room_is_told_with_the_file_that_does_not_fit(
    run: Run, sources: dict[str, Path], tmp_path: Path, handler: Any, source: str, suffixes: Any
) -> None:
    """Libraries say "unable to write to target", fail on their own partial file, or do not notice at all."""
    options = {"pages": "all"} if source == "pages" else {"quality": 100}
    for suffix in suffixes:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught:
            run(handler, sources[source], tmp_path / f"out{suffix}", **options)
        assert caught.value.errno == errno.EFBIG, suffix
        assert str(tmp_path) in caught.value.filename


@pytest.mark.parametrize("source", ["vips", "pillow", "frames"])
@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".png", ".heic"])
def test_a_folder_that_takes_no_file_is_no_fault_of_the_input(
    run: Run, sources: dict[str, Path], tmp_path: Path, source: str, suffix: str
) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(image_convert, sources[source], tmp_path / "nowhere" / f"out{suffix}")


def test_an_error_while_there_is_room_stays_what_it_is(tmp_path: Path) -> None:
    for error in (ValueError("odd"), OSError("encoder error -2"), Unusable("too large")):
        with pytest.raises(type(error), match=str(error)), writing(tmp_path / "out"):
            raise error


def test_the_reason_is_found_in_what_a_library_says(tmp_path: Path) -> None:
    fault = disk_fault(RuntimeError(f"write error\nunix error: {os.strerror(errno.EDQUOT)}"), tmp_path / "out")
    assert fault is not None
    assert (fault.errno, fault.filename) == (errno.EDQUOT, str(tmp_path / "out"))
