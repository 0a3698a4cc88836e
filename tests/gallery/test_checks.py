"""The gallery's checks find a planted fault, and nothing without one."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from checks import check
from likeness import compare
from PIL import Image, ImageChops, ImageOps
from sounds import hear, tone, write

SIZE = 160, 120


def picture(number: int = 0) -> Image.Image:
    """Make something to see, another picture for each number."""
    first, second = Image.radial_gradient("L"), Image.linear_gradient("L").rotate(20 * number)
    return Image.merge("RGB", (first, second, ImageChops.invert(first))).resize(SIZE)


def saved(path: Path, *frames: Image.Image) -> dict[str, Any]:
    """Write them, and return the entries of a true result."""
    frames[0].save(path, save_all=len(frames) > 1, append_images=frames[1:])
    return {"width": SIZE[0], "height": SIZE[1], "frames": len(frames)}


def test_a_sound_is_decoded_and_measured_by_another(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    path = write(tmp_path / "a.wav", tone(2.0))
    result = {"duration": 2.0, "loudness": {"integrated": hear(path).loudness.integrated}}
    assert check(path, result) == []
    assert check(path, result | {"duration": 2.5}) == ["ffmpeg hears 2.000 s, the result says 2.5"]
    assert "LUFS, the result says -23" in check(path, result | {"loudness": {"integrated": -23}})[0]


def film(path: Path, numbers: list[int]) -> dict[str, Any]:
    """Make a film of these pictures, lossless, and its true result."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number in numbers:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture(number)), format="rgb24")))
        out.mux(stream.encode(None))
    return {"width": SIZE[0], "height": SIZE[1], "frames": len(numbers)}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tif", ".gif"])
def test_a_true_picture_passes_and_a_false_size_does_not(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"one{suffix}"
    result = saved(path, picture())
    assert check(path, result) == []
    assert check(path, result | {"width": 161}) != []


def test_an_empty_picture_is_seen(tmp_path: Path) -> None:
    assert check(tmp_path / "a.png", saved(tmp_path / "a.png", Image.new("RGB", SIZE))) == ["the picture shows nothing"]


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_a_missing_frame_and_frames_that_stand_still_are_seen(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"many{suffix}"
    result = saved(path, *map(picture, range(5)))
    assert check(path, result) == []
    assert len(check(path, result | {"frames": 6})) == 2
    still = saved(path, *(picture() for _ in range(7)), picture(1))
    assert check(path, still) != []


def test_an_archive_with_a_page_too_few_is_seen(tmp_path: Path) -> None:
    path, page = tmp_path / "pages.zip", tmp_path / "page.png"
    picture().save(page)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(page, "page-001.png")
    assert check(path, {"pages": 1}) == []
    assert check(path, {"pages": 2}) != []


def test_a_film_with_a_wrong_count_a_broken_end_or_one_picture_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    result = film(path, list(range(12)))
    assert check(path, result) == []
    assert check(path, result | {"frames": 11}) != []
    still = film(tmp_path / "still.mkv", [3] * 12)
    assert check(tmp_path / "still.mkv", still) == ["nothing moves in it"]
    path.write_bytes(path.read_bytes()[:-2000])
    assert check(path, result) != []


@pytest.mark.parametrize(
    "change", [ImageOps.mirror, ImageOps.invert, lambda _: picture(4)], ids=["mirrored", "inverted", "another"]
)
def test_a_picture_of_something_else_is_seen(tmp_path: Path, change: Callable[[Image.Image], Image.Image]) -> None:
    source, output = tmp_path / "in.png", tmp_path / "out.png"
    plain = ImageOps.fit(picture(1).rotate(10), SIZE)
    result = saved(source, plain)
    saved(output, plain)
    assert compare("image_convert", source, output, result, {}) == []
    saved(output, change(plain))
    assert compare("image_convert", source, output, result, {}) != []


def test_another_frame_than_the_one_that_was_told_is_seen(tmp_path: Path) -> None:
    source, output = tmp_path / "in.mkv", tmp_path / "out.png"
    film(source, list(range(10)))
    result = saved(output, picture(5)) | {"source_position": 0.5}
    assert compare("video_thumbnail", source, output, result, {}) == []
    assert compare("video_thumbnail", source, output, result | {"source_position": 0.1}, {}) != []


def test_a_film_of_something_else_or_with_a_frame_less_is_seen(tmp_path: Path) -> None:
    source, output = tmp_path / "in.mkv", tmp_path / "out.mkv"
    film(source, list(range(10)))
    result = film(output, list(range(10)))
    assert compare("video_convert", source, output, result, {}) == []
    result = film(output, [*range(9), 0][::-1])
    assert compare("video_convert", source, output, result, {}) != []
    result = film(output, list(range(9)))
    assert compare("video_convert", source, output, result, {}) == ["the source has 10 frames, the result 9"]
