import hashlib
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
import pyvips
from PIL import Image, ImageCms

from tasktrail.events.errors import InvalidPath
from tasktrail.handlers import Finished, Outcome, Rejected, Stopped
from tasktrail.handlers.image.limits import MAX_IMAGE_PIXELS, MAX_PILLOW_PIXELS
from tasktrail.handlers.image.thumbnail import image_thumbnail
from tasktrail.handlers.image.thumbnail.estimate import estimate
from tasktrail.handlers.image.thumbnail.options import ImageThumbnailOptions, check
from tasktrail.handlers.image.thumbnail.probe import probe
from tasktrail.testing import RecordingContext, job_for, run_handler

RED, BLUE = (220, 20, 20), (20, 20, 220)

Make: TypeAlias = Callable[..., tuple[Outcome, RecordingContext[ImageThumbnailOptions]]]


@pytest.fixture
def thumbnail(tmp_path: Path) -> Make:
    def make(
        source: Path, suffix: str = ".png", *, stop_after: int | None = None, **options: Any
    ) -> tuple[Outcome, RecordingContext[ImageThumbnailOptions]]:
        context = RecordingContext(
            msgspec.convert(options, ImageThumbnailOptions),
            work_dir=tmp_path / "work",
            input_file=source,
            output_file=tmp_path / f"small{suffix}",
            stop_after=stop_after,
        )
        return run_handler(image_thumbnail, context), context

    return make


def two_halves(size: tuple[int, int] = (400, 200), mode: str = "RGB") -> Image.Image:
    """Make a picture with a red left and a blue right half."""
    picture = Image.new("RGB", size, RED)
    picture.paste(BLUE, (size[0] // 2, 0, *size))
    return picture.convert(mode)


def colour_at(path: Path, x: float, y: float) -> str:
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    pixel = picture.getpixel((int(x * (picture.width - 1)), int(y * (picture.height - 1))))
    assert isinstance(pixel, tuple)
    return "red" if pixel[0] > 150 > pixel[2] else "blue" if pixel[2] > 150 > pixel[0] else repr(pixel)


def bomb(path: Path, side: int) -> Path:
    """Make a tiny PNG whose header claims side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(side * 3 + 1))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


def test_the_result_describes_the_file_that_was_written(thumbnail: Make, tmp_path: Path) -> None:
    two_halves().save(tmp_path / "in.jpg")
    outcome, context = thumbnail(tmp_path / "in.jpg", ".webp", width=100, height=100)
    assert isinstance(outcome, Finished)
    content = context.output_file.read_bytes()
    assert outcome.result == {
        "size": len(content),
        "width": 100,
        "height": 50,
        "format": "webp",
        "codec": "webp",
        "frames": 1,
        "duration": 0.0,
        "source_format": "jpeg",
        "source_width": 400,
        "source_height": 200,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    with Image.open(context.output_file) as written:
        assert (written.size, written.format) == ((100, 50), "WEBP")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fit", ["fit", "fill"])
@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png", ".webp"])
def test_a_photo_is_set_upright_whatever_its_exif_says(
    thumbnail: Make, tmp_path: Path, orientation: int, fit: str, suffix: str
) -> None:
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    upright = two_halves((1200, 600))
    exif = Image.Exif()
    exif[0x0112] = orientation
    (upright if undo is None else upright.transpose(undo)).save(tmp_path / f"in{suffix}", exif=exif)
    outcome, context = thumbnail(tmp_path / f"in{suffix}", width=80, height=40, fit=fit)
    assert isinstance(outcome, Finished)
    assert (outcome.result["width"], outcome.result["height"]) == (80, 40)
    assert (outcome.result["source_width"], outcome.result["source_height"]) == (1200, 600)
    assert colour_at(context.output_file, 0.05, 0.5) == "red"
    assert colour_at(context.output_file, 0.95, 0.5) == "blue"


def test_fill_covers_the_box_and_cuts_the_rest(thumbnail: Make, tmp_path: Path) -> None:
    two_halves((400, 100)).save(tmp_path / "in.png")
    outcome, context = thumbnail(tmp_path / "in.png", width=64, height=64, fit="fill")
    assert isinstance(outcome, Finished)
    assert (outcome.result["width"], outcome.result["height"]) == (64, 64)
    assert (colour_at(context.output_file, 0, 0.5), colour_at(context.output_file, 1, 0.5)) == ("red", "blue")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_crop_takes_the_middle_as_it_is(thumbnail: Make, tmp_path: Path, suffix: str) -> None:
    two_halves((400, 100)).save(tmp_path / f"in{suffix}")
    outcome, context = thumbnail(tmp_path / f"in{suffix}", width=20, height=400, fit="crop")
    assert isinstance(outcome, Finished)
    assert (outcome.result["width"], outcome.result["height"]) == (20, 100)
    assert (colour_at(context.output_file, 0, 0.5), colour_at(context.output_file, 1, 0.5)) == ("red", "blue")


def test_a_small_picture_is_not_enlarged(thumbnail: Make, tmp_path: Path) -> None:
    two_halves((30, 20)).save(tmp_path / "in.png")
    outcome, _ = thumbnail(tmp_path / "in.png", width=300, height=300)
    assert isinstance(outcome, Finished)
    assert (outcome.result["width"], outcome.result["height"]) == (30, 20)


def test_transparency_is_kept_in_png_and_laid_on_the_background_in_jpeg(thumbnail: Make, tmp_path: Path) -> None:
    picture = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    picture.paste((*RED, 255), (0, 0, 50, 100))
    picture.save(tmp_path / "in.png")
    _, context = thumbnail(tmp_path / "in.png", ".png", width=50, height=50)
    with Image.open(context.output_file) as kept:
        assert kept.getpixel((45, 25)) == (0, 0, 0, 0)
    _, context = thumbnail(tmp_path / "in.png", ".jpg", width=50, height=50, background="#1414dc")
    assert (colour_at(context.output_file, 0.1, 0.5), colour_at(context.output_file, 0.9, 0.5)) == ("red", "blue")


@pytest.mark.parametrize(("mode", "clear"), [("RGB", BLUE), ("L", 200), ("1", 1)])
def test_a_colour_that_stands_for_transparency_is_transparent(
    thumbnail: Make, tmp_path: Path, mode: str, clear: Any
) -> None:
    picture = Image.new(mode, (100, 100), 0)
    picture.paste(clear, (50, 0, 100, 100))
    picture.save(tmp_path / "in.png", transparency=clear)
    _, context = thumbnail(tmp_path / "in.png", ".png", width=50, height=50)
    with Image.open(context.output_file) as kept:
        alpha = kept.convert("RGBA").getchannel("A")
    assert (alpha.getpixel((5, 25)), alpha.getpixel((45, 25))) == (255, 0)


def test_of_an_animated_gif_the_first_picture_is_taken(thumbnail: Make, tmp_path: Path) -> None:
    first, second = Image.new("RGB", (60, 60), RED), Image.new("RGB", (60, 60), BLUE)
    first.save(tmp_path / "in.gif", save_all=True, append_images=[second], duration=100)
    outcome, context = thumbnail(tmp_path / "in.gif", width=30, height=30)
    assert colour_at(context.output_file, 0.5, 0.5) == "red"
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == ["only the first of several frames is shown"]


def test_smaller_copies_in_a_tiff_are_no_further_frames(thumbnail: Make, tmp_path: Path) -> None:
    source = tmp_path / "in.tif"
    pyvips.Image.black(600, 400).write_to_file(str(source), tile=True, pyramid=True)
    outcome, _ = thumbnail(source)
    assert isinstance(outcome, Finished)
    assert "notes" not in outcome.result
    two_halves().save(source, save_all=True, append_images=[two_halves()])
    whole = bytearray(source.read_bytes())
    place = 4
    for _ in range(2):  # to where the second page says that no other follows
        (place,) = struct.unpack_from("<I", whole, place)
        place += 2 + 12 * struct.unpack_from("<H", whole, place)[0]
    for following in (0, 1 << 30):
        struct.pack_into("<I", whole, place, following)
        source.write_bytes(whole)
        outcome, _ = thumbnail(source)
        assert isinstance(outcome, Finished)
        assert outcome.result["notes"] == ["only the first of several frames is shown"]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_can_be_written_in_every_format(thumbnail: Make, tmp_path: Path, mode: str, suffix: str) -> None:
    source = two_halves(mode="L" if mode == "I;16" else mode)
    if mode == "I;16":
        source = source.convert("I").point(lambda value: value * 257).convert("I;16")
    source.save(tmp_path / "in.tif")
    outcome, context = thumbnail(tmp_path / "in.tif", suffix, width=40, height=40)
    assert isinstance(outcome, Finished)
    with Image.open(context.output_file) as written:
        written.load()
        assert written.size == (40, 20)


def test_sixteen_bit_grey_keeps_its_brightness(thumbnail: Make, tmp_path: Path) -> None:
    Image.new("I;16", (50, 50), 0x8000).save(tmp_path / "in.png")
    _, context = thumbnail(tmp_path / "in.png")
    with Image.open(context.output_file) as written:
        assert written.getpixel((5, 5)) == 0x80


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif"])
def test_no_metadata_of_the_source_is_left(thumbnail: Make, tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    two_halves().save(tmp_path / "in.jpg", exif=exif, icc_profile=profile, comment=b"where I live", dpi=(300, 300))
    _, context = thumbnail(tmp_path / "in.jpg", suffix)
    with Image.open(context.output_file) as written:
        assert not dict(written.getexif())
        assert "icc_profile" not in written.info
    assert b"where I live" not in context.output_file.read_bytes()


def test_a_broken_colour_profile_does_not_spoil_the_picture(thumbnail: Make, tmp_path: Path) -> None:
    two_halves().save(tmp_path / "in.jpg", icc_profile=b"not a profile")
    outcome, context = thumbnail(tmp_path / "in.jpg")
    assert isinstance(outcome, Finished)
    assert colour_at(context.output_file, 0.1, 0.5) == "red"


def test_what_is_not_an_image_is_rejected(thumbnail: Make, tmp_path: Path) -> None:
    for name, content in {
        "text.jpg": b"hello",
        "empty.png": b"",
        "page.svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "print.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        outcome, context = thumbnail(tmp_path / name)
        assert isinstance(outcome, Rejected)
        assert name in outcome.reason
        assert not context.output_part.exists()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".tif", ".bmp", ".avif"])
def test_a_damaged_picture_is_rejected(thumbnail: Make, tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    Image.effect_noise((200, 100), 80).convert("RGB").save(whole)
    content = whole.read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(content[: len(content) // 2])
    (tmp_path / f"holes{suffix}").write_bytes(content[:200] + bytes(400) + content[600:])
    outcome, _ = thumbnail(tmp_path / f"cut{suffix}")
    assert isinstance(outcome, Rejected)
    assert f"cut{suffix}" in outcome.reason
    outcome, _ = thumbnail(tmp_path / f"holes{suffix}")
    assert isinstance(outcome, Finished | Rejected)


def test_a_bomb_is_refused_from_its_header(thumbnail: Make, tmp_path: Path) -> None:
    """In our own words, and with the same limit however far it is exceeded."""
    for claimed, limit in ((14_000, MAX_PILLOW_PIXELS), (22_000, MAX_PILLOW_PIXELS), (40_000, MAX_IMAGE_PIXELS)):
        outcome, _ = thumbnail(bomb(tmp_path / "bomb.png", claimed))
        assert isinstance(outcome, Rejected)
        assert f"too large: {claimed}x{claimed} pixels; at most {limit:,}" in outcome.reason


def test_a_frame_larger_than_its_picture_is_no_way_round_the_limit(thumbnail: Make, tmp_path: Path) -> None:
    film = [Image.new("P", (8, 8), number) for number in range(2)]
    film[0].save(tmp_path / "in.gif", save_all=True, append_images=film[1:])
    content = (tmp_path / "in.gif").read_bytes()
    place = content.index(b",", 13)
    (tmp_path / "in.gif").write_bytes(content[: place + 5] + b"\xff\xff\xff\xff" + content[place + 9 :])
    outcome, _ = thumbnail(tmp_path / "in.gif")
    assert isinstance(outcome, Rejected)


@pytest.mark.slow
def test_a_huge_jpeg_is_decoded_small(thumbnail: Make, tmp_path: Path) -> None:
    Image.new("L", (20_000, 20_000), 99).save(tmp_path / "in.jpg")
    seen = probe(job_for(ImageThumbnailOptions(), tmp_path / "in.jpg", tmp_path / "out.png"))
    assert seen.memory < 200_000_000
    assert isinstance(thumbnail(tmp_path / "in.jpg")[0], Finished)
    outcome, _ = thumbnail(tmp_path / "in.jpg", fit="crop")
    assert isinstance(outcome, Rejected)
    assert f"at most {MAX_PILLOW_PIXELS:,}" in outcome.reason


@pytest.mark.parametrize(("mode", "value"), [("F", 0.5), ("I", 100_000)])
def test_a_tiff_of_numbers_is_no_picture(thumbnail: Make, tmp_path: Path, mode: str, value: float) -> None:
    """Heights or temperatures: as grey values they are black or white all over, and the task would complete."""
    Image.new(mode, (40, 40), value).save(tmp_path / "heights.tif")
    outcome, _ = thumbnail(tmp_path / "heights.tif")
    assert isinstance(outcome, Rejected)
    assert "numbers, not a picture" in outcome.reason


def test_a_missing_input_is_an_error_that_may_pass(thumbnail: Make, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        thumbnail(tmp_path / "nowhere.png")


def test_an_unknown_suffix_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidPath, match=r"\.webp"):
        check(job_for(ImageThumbnailOptions(), "/in.png", "/out.xyz"))


def test_it_goes_home_when_asked(thumbnail: Make, tmp_path: Path) -> None:
    two_halves().save(tmp_path / "in.png")
    outcome, context = thumbnail(tmp_path / "in.png", stop_after=0)
    assert isinstance(outcome, Stopped)
    assert not context.output_file.exists()


@pytest.mark.parametrize(
    "options", [{"width": 0}, {"height": 9000}, {"fit": "stretch"}, {"quality": 101}, {"background": "red"}, {"w": 1}]
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, ImageThumbnailOptions)


def test_the_estimate_grows_with_the_input_up_to_the_pixel_limit() -> None:
    small, large, huge = (
        estimate(job_for(ImageThumbnailOptions(), "/in.jpg", "/out.jpg", size=size))
        for size in (10_000, 2_000_000, 10**12)
    )
    assert small.memory < large.memory < huge.memory < 500_000_000
    assert small.seconds < large.seconds < huge.seconds


def test_the_estimate_counts_what_the_encoder_of_an_avif_takes(tmp_path: Path) -> None:
    """With less memory it fails with an error of its own."""
    Image.new("RGB", (40, 20)).save(tmp_path / "in.png")
    options = ImageThumbnailOptions(width=8192, height=8192, fit="fill")
    png, avif = (probe(job_for(options, tmp_path / "in.png", tmp_path / f"out.{kind}")) for kind in ("png", "avif"))
    assert avif.memory - png.memory >= 30 * 8192**2


def test_importing_the_type_does_not_load_pillow() -> None:
    script = "import sys, tasktrail.handlers.image.thumbnail; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
