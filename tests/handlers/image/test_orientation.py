"""All eight orientations, in every format, on both sides of what libvips streams, compared with Pillow by the pixel."""

import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import pyvips
from PIL import Image, ImageOps

from tasktrail.handlers import Finished, Stopped
from tasktrail.handlers.image.convert import image_convert
from tasktrail.handlers.image.convert.options import ImageConvertOptions
from tasktrail.handlers.image.shaping import upright
from tasktrail.handlers.image.thumbnail import image_thumbnail
from tasktrail.handlers.image.thumbnail.options import ImageThumbnailOptions
from tasktrail.testing import RecordingContext, run_handler

ORIENTATION = 0x0112
SIZES = [(40, 30), (41, 513)]
"""libvips keeps some 512 rows of a picture that it streams."""
MORE_SIZES = [(40, 511), (40, 512), (40, 1025), (1025, 40)]


@cache
def photo(width: int, height: int) -> Image.Image:
    """Make a photo with another colour in each corner, fine enough that no wrong row passes."""
    down, across = np.mgrid[0:height, 0:width]
    waves = [
        (np.sin(across / 7 + number) + np.cos(down / 11 - number)) * 30 + slope
        for number, slope in enumerate((150 - 60 * across / width, 90 + 70 * down / height, 60 + 90 * across / width))
    ]
    return Image.fromarray(np.stack(waves, axis=-1).clip(0, 255).astype(np.uint8))


def tags(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def by_pillow(**how: Any) -> Callable[[Image.Image, Path, int], None]:
    def save(picture: Image.Image, path: Path, orientation: int) -> None:
        picture.save(path, exif=tags(orientation).tobytes(), **how)

    return save


def by_libvips(**how: Any) -> Callable[[Image.Image, Path, int], None]:
    """Write formats that Pillow cannot write."""

    def save(picture: Image.Image, path: Path, orientation: int) -> None:
        image = pyvips.Image.new_from_array(np.asarray(picture)).copy()
        image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
        image.write_to_file(str(path), **how)

    return save


def exif_behind_the_pixels(picture: Image.Image, path: Path, orientation: int) -> None:
    """Write EXIF after the pixels, as ImageMagick does."""
    picture.save(path)
    content, data = path.read_bytes(), tags(orientation).tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    path.write_bytes(content[:-12] + chunk + content[-12:])


KINDS: dict[str, tuple[str, Callable[[Image.Image, Path, int], None]]] = {
    "jpeg": (".jpg", by_pillow(quality=95)),
    "progressive jpeg": (".jpg", by_pillow(quality=95, progressive=True)),
    "png": (".png", by_pillow()),
    "interlaced png": (".png", by_libvips(interlace=True)),
    "png, tags behind": (".png", exif_behind_the_pixels),
    "webp": (".webp", by_pillow(lossless=True)),
    "tiff": (".tif", by_pillow()),
    "packed tiff": (".tif", by_pillow(compression="tiff_lzw")),
    "tiff in tiles": (".tif", by_libvips(tile=True, tile_width=16, tile_height=16)),
    "tiff of planes": (".tif", by_pillow(compression="lzma")),
    "avif": (".avif", by_pillow(quality=100)),
    "heic": (".heic", by_pillow(format="HEIF", quality=100)),
}
LOSSY = ("jpeg", "progressive jpeg", "avif", "heic")


def converted(source: Path, folder: Path, **options: Any) -> Image.Image:
    context = RecordingContext(
        msgspec.convert(options, ImageConvertOptions),
        work_dir=folder,
        input_file=source,
        output_file=folder / "out.png",
    )
    outcome = run_handler(image_convert, context)
    assert isinstance(outcome, Finished), outcome
    with Image.open(context.output_file) as picture:
        assert outcome.result["width"], outcome.result["height"] == picture.size
        assert picture.getexif().get(ORIENTATION, 1) == 1
        return picture.convert("RGB")


def assert_same(found: Image.Image, wanted: Image.Image, slack: float) -> None:
    assert found.size == wanted.size
    off = np.abs(np.asarray(found, dtype=np.int16) - np.asarray(wanted.convert("RGB"), dtype=np.int16))
    assert off.max() <= slack


def seen_by_pillow(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        opened.load()
        return ImageOps.exif_transpose(opened)


@pytest.mark.parametrize(
    "size", [*SIZES, *(pytest.param(size, marks=pytest.mark.slow) for size in MORE_SIZES)], ids=str
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_orientation_of_every_format_and_size_comes_upright(tmp_path: Path, kind: str, size: Any) -> None:
    suffix, save = KINDS[kind]
    for orientation in range(1, 9):
        path = tmp_path / f"in{orientation}{suffix}"
        save(photo(*size), path, orientation)
        wanted, slack = seen_by_pillow(path), 6 if kind in LOSSY else 0
        assert_same(wanted, upright(photo(*size), orientation), 40 if kind in LOSSY else 0)
        assert_same(converted(path, tmp_path), wanted, slack)
        box = (wanted.width - 2, wanted.height - 4)
        middle = wanted.crop((1, 2, 1 + box[0], 2 + box[1]))
        assert_same(converted(path, tmp_path, fit="crop", width=box[0], height=box[1]), middle, slack)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_orientation_comes_upright_when_it_is_made_smaller(tmp_path: Path, kind: str) -> None:
    suffix, save = KINDS[kind]
    for orientation in range(1, 9):
        path = tmp_path / f"in{orientation}{suffix}"
        save(photo(320, 1200), path, orientation)
        wanted = seen_by_pillow(path)
        for width, fit in ((wanted.width // 4, "fit"), (60, "fill")):
            height = wanted.height // 4 if fit == "fit" else 60
            small = converted(path, tmp_path, width=width, height=height, fit=fit)
            expected = ImageOps.fit(wanted, (width, height), Image.Resampling.LANCZOS)
            assert small.size == expected.size
            off = np.abs(np.asarray(small, dtype=np.int16) - np.asarray(expected, dtype=np.int16))
            assert off.mean() < 8  # another filter, and a centre that may be off by half a pixel


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_orientation_gives_an_upright_thumbnail(tmp_path: Path, kind: str) -> None:
    suffix, save = KINDS[kind]
    for orientation in range(1, 9):
        path = tmp_path / f"in{orientation}{suffix}"
        save(photo(300, 600), path, orientation)
        wanted = seen_by_pillow(path)
        context = RecordingContext(
            ImageThumbnailOptions(width=150, height=150),
            work_dir=tmp_path,
            input_file=path,
            output_file=tmp_path / "out.png",
        )
        outcome = run_handler(image_thumbnail, context)
        assert isinstance(outcome, Finished)
        assert (outcome.result["source_width"], outcome.result["source_height"]) == wanted.size
        with Image.open(context.output_file) as small:
            expected = wanted.resize(small.size, Image.Resampling.LANCZOS)
            off = np.abs(np.asarray(small.convert("RGB"), dtype=np.int16) - np.asarray(expected, dtype=np.int16))
        assert off.mean() < 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "orientation", [6, *(pytest.param(other, marks=pytest.mark.long) for other in (1, 2, 3, 4, 5, 7, 8))]
)
@pytest.mark.parametrize(
    "kind",
    [
        "jpeg",
        "png",
        "webp",
        *(pytest.param(more, marks=pytest.mark.long) for more in ("interlaced png", "packed tiff")),
    ],
)
def test_a_photo_of_twelve_million_pixels_comes_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    suffix, save = KINDS[kind]
    path = tmp_path / f"in{suffix}"
    save(photo(4000, 3000), path, orientation)
    assert_same(converted(path, tmp_path), seen_by_pillow(path), 6 if kind in LOSSY else 0)


@pytest.mark.parametrize("suffix", [".webp", ".png", ".tif"])
def test_every_frame_comes_upright(tmp_path: Path, suffix: str) -> None:
    frames = [photo(60, 40), ImageOps.invert(photo(60, 40))]
    more: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    for orientation in range(1, 9):
        path = tmp_path / f"in{orientation}{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], exif=tags(orientation), **more)
        context = RecordingContext(
            ImageConvertOptions(), work_dir=tmp_path / f"{orientation}", input_file=path, output_file=tmp_path / "o.png"
        )
        assert isinstance(run_handler(image_convert, context), Finished)
        with Image.open(context.output_file) as picture:
            for number, frame in enumerate(frames):
                picture.seek(number)
                assert_same(picture.convert("RGB"), upright(frame, orientation), 0)


def test_libvips_and_pillow_turn_by_the_same_tag(tmp_path: Path) -> None:
    """By XMP, where EXIF says nothing; and by EXIF, where the two differ."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    photo(40, 600).save(tmp_path / "by-xmp.jpg", xmp=xmp, quality=95)
    photo(40, 600).save(tmp_path / "by-exif.jpg", xmp=xmp, exif=tags(3), quality=95)
    for name in ("by-xmp.jpg", "by-exif.jpg"):
        assert_same(converted(tmp_path / name, tmp_path), seen_by_pillow(tmp_path / name), 6)


@pytest.mark.slow
def test_a_picture_that_must_be_held_can_be_left_in_the_middle(tmp_path: Path) -> None:
    photo(1500, 1500).save(tmp_path / "in.png", exif=tags(6))
    context = RecordingContext(
        ImageConvertOptions(),
        work_dir=tmp_path,
        input_file=tmp_path / "in.png",
        output_file=tmp_path / "out.png",
        stop_after=1,
    )
    assert isinstance(run_handler(image_convert, context), Stopped)
    assert not context.output_part.exists()
