"""`image_convert` keeps metadata, colour profile and bits of a picture, as its options say."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import pyvips
from PIL import Image, ImageStat, PngImagePlugin

from tasktrail.events.errors import InvalidOptions
from tasktrail.handlers import Finished, Rejected
from tasktrail.handlers.image.convert import image_convert, palette
from tasktrail.handlers.image.convert import options as convert_options
from tasktrail.handlers.image.convert.metadata import metadata_of, photoshop_block
from tasktrail.handlers.image.convert.options import ImageConvertOptions
from tasktrail.testing import RecordingContext, job_for, run_handler

IPTC = b"\x1c\x02\x19\x00\x07holiday"
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="sea">'
    b"<xmp:Thumbnails><rdf:Alt>SECRET</rdf:Alt></xmp:Thumbnails></rdf:Description></x:xmpmeta>"
)
ALL = [".jpg", ".png", ".tif", ".webp", ".avif", ".gif", ".bmp", ".heic"]

Convert = Callable[..., tuple[dict[str, Any], Path]]


@pytest.fixture
def convert(tmp_path: Path) -> Convert:
    def make(source: Path, output: str, **options: Any) -> tuple[dict[str, Any], Path]:
        context = RecordingContext(
            msgspec.convert(options, ImageConvertOptions),
            work_dir=tmp_path / "work",
            input_file=source,
            output_file=tmp_path / output,
        )
        outcome = run_handler(image_convert, context)
        assert isinstance(outcome, Finished), outcome
        return outcome.result, context.output_file

    return make


def ramp(bands: int, *, deep: bool = False) -> pyvips.Image:
    """Make a picture with every value, so that lost bits show."""
    row = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    values = np.stack([row, row.T, row[::-1], row[:, ::-1]][:bands], axis=-1)
    names = {1: ("b-w", "grey16"), 3: ("srgb", "rgb16"), 4: ("srgb", "rgb16")}
    picture = pyvips.Image.new_from_array(np.ascontiguousarray(values if deep else (values >> 8).astype(np.uint8)))
    return picture.copy(interpretation=names[bands][deep])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Make a JPEG with all metadata of a camera and a program; its preview shows parts that may have been cut away."""
    exif = Image.Exif()
    exif[0x010E] = "a holiday"
    exif[0x013B] = "Ann"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 15.5)})
    picture = pyvips.Image.new_from_memory(Image.new("RGB", (80, 40), "red").tobytes(), 80, 40, 3, "uchar")
    picture = picture.copy(interpretation="srgb")
    small = Image.new("RGB", (16, 8), "blue")
    small.save(tmp_path / "small.jpg")
    blobs = {
        "exif-data": exif.tobytes(),
        "xmp-data": XMP,
        "iptc-data": photoshop_block(IPTC),
        "jpeg-thumbnail-data": (tmp_path / "small.jpg").read_bytes(),
    }
    for name, data in blobs.items():
        picture.set_type(pyvips.GValue.blob_type, name, data)
    picture.set_type(pyvips.GValue.gint_type, "orientation", 6)
    picture.jpegsave(str(tmp_path / "in.jpg"), keep="all")
    assert (tmp_path / "small.jpg").read_bytes() in (tmp_path / "in.jpg").read_bytes()
    return tmp_path / "in.jpg"


@pytest.mark.parametrize("suffix", ALL)
def test_what_the_format_can_hold_is_kept_and_the_rest_is_noted(convert: Convert, photo: Path, suffix: str) -> None:
    result, path = convert(photo, f"out{suffix}")
    noted = [name for note in result.get("notes", ()) for name in note.partition(": ")[2].split(", ")]
    with Image.open(path) as picture:
        assert picture.size == (40, 80), "it is upright"
        exif, xmp = picture.getexif(), metadata_of(picture).xmp
        assert (2 in exif.get_ifd(0x8825)) == ("GPS" not in noted)
    assert (exif.get(0x013B) == "Ann") == ("EXIF" not in noted)
    assert (b"sea" in xmp) == ("XMP" not in noted)
    assert (IPTC in path.read_bytes()) == ("IPTC" not in noted)
    lost = {".jpg": [], ".tif": [], ".gif": ["EXIF", "GPS", "IPTC", "XMP"], ".bmp": ["EXIF", "GPS", "IPTC", "XMP"]}
    assert noted == lost.get(suffix, ["IPTC"])
    assert exif.get(0x0112, 1) == 1
    assert b'Orientation="6"' not in xmp, "or others would turn it again"


@pytest.mark.parametrize("options", [{"width": 20}, {"width": 20, "height": 20, "fit": "crop"}, {}])
@pytest.mark.parametrize("suffix", ALL)
def test_no_preview_outlives_the_picture_that_it_shows(
    convert: Convert, photo: Path, suffix: str, options: dict[str, Any]
) -> None:
    """The preview of a cropped picture still showed what had been cut away."""
    _, path = convert(photo, f"out{suffix}", **options)
    content = path.read_bytes()
    assert (photo.parent / "small.jpg").read_bytes() not in content
    assert b"SECRET" not in content


@pytest.mark.parametrize("suffix", ALL)
def test_strip_leaves_nothing_that_tells_of_place_or_author(convert: Convert, photo: Path, suffix: str) -> None:
    result, path = convert(photo, f"out{suffix}", metadata="strip")
    assert "notes" not in result, "it was asked for"
    content = path.read_bytes()
    for told in (b"Ann", b"holiday", b"sea", IPTC, b"SECRET", (photo.parent / "small.jpg").read_bytes()):
        assert told not in content
    with Image.open(path) as picture:
        assert picture.size == (40, 80)
        assert not picture.getexif().get_ifd(0x8825)


@pytest.mark.parametrize("way", [[".tif", ".jpg"], [".jpg", ".tif", ".jpg"]])
def test_iptc_goes_from_a_jpeg_to_a_tiff_and_back(convert: Convert, photo: Path, way: list[str]) -> None:
    for number, suffix in enumerate(way):
        _, photo = convert(photo, f"out{number}{suffix}")
    with Image.open(photo) as picture:
        assert picture.info["photoshop"][0x0404] == IPTC


def test_comments_go_from_a_png_to_a_jpeg_and_back(convert: Convert, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "in.jpg", comment=b"at the sea")
    _, png = convert(tmp_path / "in.jpg", "out.png")
    with Image.open(png) as picture:
        assert picture.info["Comment"] == "at the sea"
    _, jpeg = convert(png, "back.jpg")
    with Image.open(jpeg) as picture:
        assert picture.info["comment"] == b"at the sea"
        picture.load()
    _, stripped = convert(png, "bare.jpg", metadata="strip")
    assert b"sea" not in stripped.read_bytes()


def test_a_picture_that_tells_nothing_gets_no_metadata(convert: Convert, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "in.jpg")
    _, path = convert(tmp_path / "in.jpg", "out.jpg")
    assert b"Exif" not in path.read_bytes()


def profile_of(path: Path) -> bytes | None:
    with Image.open(path) as picture:
        found: bytes | None = picture.info.get("icc_profile")
        return found


@pytest.mark.parametrize("options", [{}, {"width": 30}])
@pytest.mark.parametrize("suffix", [suffix for suffix in ALL if suffix not in (".gif", ".bmp")])
def test_pixels_and_profile_stay_unless_srgb_is_asked_for(
    convert: Convert, tmp_path: Path, suffix: str, options: dict[str, Any]
) -> None:
    wide = bytes(pyvips.Operation.call("profile_load", "p3"))
    Image.new("RGB", (60, 60), (200, 40, 40)).save(tmp_path / "in.png", icc_profile=wide)
    result, kept = convert(tmp_path / "in.png", f"kept{suffix}", **options)
    _, plain = convert(tmp_path / "in.png", f"srgb{suffix}", profile="srgb", **options)
    assert "notes" not in result
    assert (profile_of(kept), profile_of(plain)) == (wide, None)
    with Image.open(kept) as left, Image.open(plain) as right:
        assert abs(left.convert("RGB").getpixel((9, 9))[0] - 200) < 4  # type: ignore[index]  # it is RGB
        assert right.convert("RGB").getpixel((9, 9))[0] > 210  # type: ignore[index]  # it is RGB


@pytest.mark.parametrize("suffix", [".gif", ".bmp"])
def test_a_format_without_profiles_gets_srgb(convert: Convert, tmp_path: Path, suffix: str) -> None:
    wide = bytes(pyvips.Operation.call("profile_load", "p3"))
    Image.new("RGB", (60, 60), (200, 40, 40)).save(tmp_path / "in.png", icc_profile=wide)
    _, path = convert(tmp_path / "in.png", f"out{suffix}")
    with Image.open(path) as picture:
        assert picture.convert("RGB").getpixel((9, 9))[0] > 210  # type: ignore[index]  # it is RGB


@pytest.mark.parametrize("options", [{}, {"width": 30}])
def test_inks_stay_where_the_format_has_them_and_become_srgb_elsewhere(
    convert: Convert, tmp_path: Path, options: dict[str, Any]
) -> None:
    inks = bytes(pyvips.Operation.call("profile_load", "cmyk"))
    Image.new("CMYK", (60, 60), (200, 40, 40, 10)).save(tmp_path / "in.tif", icc_profile=inks)
    for suffix in (".jpg", ".tif"):
        result, path = convert(tmp_path / "in.tif", f"out{suffix}", **options)
        assert "notes" not in result
        assert profile_of(path) == inks
        with Image.open(path) as picture:
            assert picture.mode == "CMYK"
    for suffix in (".png", ".webp", ".heic"):
        result, path = convert(tmp_path / "in.tif", f"out{suffix}", **options)
        assert [note.partition(":")[0] for note in result["notes"]] == ["CMYK became RGB"]
        asked, srgb = convert(tmp_path / "in.tif", f"srgb{suffix}", profile="srgb", **options)
        assert "notes" not in asked
        with Image.open(path) as left, Image.open(srgb) as right:
            assert ImageStat.Stat(left).mean == pytest.approx(ImageStat.Stat(right).mean, abs=1)


def test_grey_by_a_profile_is_srgb_in_a_format_that_has_no_grey(convert: Convert, tmp_path: Path) -> None:
    """Its values were treated as those of sRGB."""
    Image.new("L", (40, 40), 100).save(tmp_path / "in.png", icc_profile=linear_grey())
    _, kept = convert(tmp_path / "in.png", "kept.png")
    with Image.open(kept) as picture:
        assert (picture.mode, picture.getpixel((9, 9)), picture.info["icc_profile"]) == ("L", 100, linear_grey())
    for suffix in (".webp", ".avif"):
        _, path = convert(tmp_path / "in.png", f"out{suffix}")
        with Image.open(path) as picture:
            assert abs(picture.convert("L").getpixel((9, 9)) - 168) < 5  # type: ignore[operator]  # it is grey


def linear_grey() -> bytes:
    """Make a linear colour profile of grey: half the value is half the light."""
    white = struct.pack(">4s4x3l", b"XYZ ", 0xF6D6, 0x10000, 0xD32D)
    curve = struct.pack(">4s4xLHH", b"curv", 1, 0x100, 0)
    begin = 128 + 4 + 2 * 12
    tags = struct.pack(">L4sLL4sLL", 2, b"wtpt", begin, 20, b"kTRC", begin + 20, 14)
    size = begin + len(white) + len(curve)
    head = struct.pack(
        ">L4sL4s4s4s12x4s28x3l", size, b"", 0x02400000, b"mntr", b"GRAY", b"XYZ ", b"acsp", 0xF6D6, 0x10000, 0xD32D
    )
    return head.ljust(128, b"\0") + tags + white + curve


@pytest.mark.parametrize("options", [{}, {"width": 256, "height": 256, "fit": "crop"}, {"profile": "srgb"}])
@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_stay_to_the_last(
    convert: Convert, tmp_path: Path, suffix: str, bands: int, options: dict[str, Any]
) -> None:
    ramp(bands, deep=True).pngsave(str(tmp_path / "in.png"))
    result, path = convert(tmp_path / "in.png", f"out{suffix}", **options)
    assert "notes" not in result
    written = pyvips.Image.new_from_file(str(path))
    assert written.format == "ushort"
    assert (written - ramp(bands, deep=True)).abs().max() == 0


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_sixteen_bits_stay_when_the_picture_is_resized(convert: Convert, tmp_path: Path, bands: int) -> None:
    """They became eight, and grey became RGB."""
    ramp(bands, deep=True).pngsave(str(tmp_path / "in.png"))
    result, path = convert(tmp_path / "in.png", "out.png", width=100, height=50, fit="fill")
    assert "notes" not in result
    written = pyvips.Image.new_from_file(str(path))
    assert (written.format, written.bands, written.width, written.height) == ("ushort", bands, 100, 50)
    assert len(set(written.extract_band(0).numpy().ravel().tolist())) > 256


@pytest.mark.parametrize("bits", [10, 12])
def test_an_avif_keeps_its_bits(convert: Convert, tmp_path: Path, bits: int) -> None:
    ramp(3, deep=True).heifsave(str(tmp_path / "in.avif"), compression="av1", bitdepth=bits, effort=0)
    result, again = convert(tmp_path / "in.avif", "again.avif")
    assert "notes" not in result
    assert pyvips.Image.new_from_file(str(again)).get("bits-per-sample") == bits
    result, png = convert(tmp_path / "in.avif", "out.png")
    assert "notes" not in result
    assert pyvips.Image.new_from_file(str(png)).format == "ushort"
    assert convert(tmp_path / "in.avif", "out.jpg")[0]["notes"] == [f"{bits} bits a channel became 8"]


def test_eight_bits_become_sixteen_and_sixteen_eight_where_that_is_asked_for(convert: Convert, tmp_path: Path) -> None:
    ramp(3).pngsave(str(tmp_path / "in.png"))
    _, deep = convert(tmp_path / "in.png", "deep.tif", depth="16")
    found = pyvips.Image.new_from_file(str(deep))
    assert (found.format, found.max()) == ("ushort", 65_535)
    result, back = convert(deep, "back.png", depth="8")
    assert "notes" not in result, "it was asked for"
    assert (pyvips.Image.new_from_file(str(back)) - ramp(3)).abs().max() == 0


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".gif", ".bmp", ".heic"])
def test_sixteen_bits_are_refused_where_the_format_has_none(suffix: str) -> None:
    with pytest.raises(InvalidOptions, match="16 bits") as refused:
        convert_options.check(job_for(ImageConvertOptions(depth="16"), "/in.png", f"/out{suffix}"))
    assert refused.value.field == "options.depth"


def test_sixteen_bits_of_several_frames_are_refused(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / "in.tif", save_all=True, append_images=pages[1:])
    context = RecordingContext(
        ImageConvertOptions(depth="16"),
        work_dir=tmp_path / "work",
        input_file=tmp_path / "in.tif",
        output_file=tmp_path / "out.tif",
    )
    outcome = run_handler(image_convert, context)
    assert isinstance(outcome, Rejected)
    assert "frames=first" in outcome.reason


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_palette_holds_the_very_colours_whatever_the_strips(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(palette, "_STRIP", 130)
    picture = in_colours(250, clear=True).convert(mode)
    exact = palette.exact_palette(picture)
    assert exact is not None
    assert exact.convert(mode).tobytes() == picture.tobytes()
    assert palette.exact_palette(in_colours(257)) is None, "each strip has fewer, and all together one too many"


def in_colours(count: int, *, clear: bool = False) -> Image.Image:
    """Make a picture of that many colours, each with a neighbour that is nearly the same."""
    numbers = np.random.default_rng(count).integers(0, count, (40, 60))
    values = np.stack([numbers // 2 % 256, numbers % 2 + 7, numbers * 0, numbers * 0 + 255], axis=-1).astype(np.uint8)
    if clear:
        values[:9, :9] = 0
    return Image.fromarray(values)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("clear", [False, True])
def test_the_colours_of_a_gif_are_exact_where_it_can_hold_them(
    convert: Convert,
    tmp_path: Path,
    frames: int,
    clear: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Its writers chose nearby colours, and mixed them."""
    pictures = [in_colours(250 + number, clear=clear) for number in range(frames)]
    more: dict[str, Any] = {"save_all": True, "append_images": pictures[1:]} if frames > 1 else {}
    pictures[0].save(tmp_path / "in.png", **more)
    result, path = convert(tmp_path / "in.png", "out.gif")
    assert "notes" not in result
    with Image.open(path) as picture:
        for number, asked in enumerate(pictures):
            picture.seek(number)
            assert picture.convert("RGBA").tobytes() == asked.tobytes()


@pytest.mark.parametrize("frames", [1, 3])
def test_colours_that_a_gif_cannot_hold_are_told(convert: Convert, tmp_path: Path, frames: int) -> None:
    pictures = [in_colours(300 + number) for number in range(frames)]
    more: dict[str, Any] = {"save_all": True, "append_images": pictures[1:]} if frames > 1 else {}
    pictures[0].save(tmp_path / "many.png", **more)
    half = in_colours(9)
    half.putpixel((0, 0), (9, 9, 9, 128))
    half.save(tmp_path / "half.png")
    of = " of 3 frames" if frames > 1 else ""
    told = [f"the colours{of} became 256, opaque or clear: a gif has no others"]
    assert convert(tmp_path / "many.png", "out.gif")[0]["notes"] == told
    assert convert(tmp_path / "half.png", "out.gif")[0]["notes"] == [told[0].replace(of, "")]


def test_a_gif_is_never_asked_to_lose_nothing() -> None:
    with pytest.raises(InvalidOptions, match="no lossless form"):
        convert_options.check(job_for(ImageConvertOptions(lossless=True), "/in.png", "/out.gif"))


# --- No larger than needed ---


def noisy(size: tuple[int, int]) -> Image.Image:
    """A picture like a photo: smooth, with noise in its lowest bits."""
    across = np.linspace(0, 180, size[0])[None, :] + np.linspace(0, 60, size[1])[:, None]
    noise = np.random.default_rng(1).normal(0, 2, (size[1], size[0], 3))
    return Image.fromarray(np.clip(across[..., None] + noise, 0, 255).astype(np.uint8))


def pixels(picture: Image.Image) -> Any:
    return np.asarray(picture.convert("RGBA"))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_png_of_a_photo_is_no_larger_than_its_source(mode: str, convert: Convert, tmp_path: Path) -> None:
    source = tmp_path / "photo.png"
    noisy((600, 400)).convert(mode).save(source)
    _, target = convert(source, "out.png")
    assert target.stat().st_size < 1.1 * source.stat().st_size


@pytest.mark.parametrize("suffix", [".png", ".gif", ".tif", ".bmp"])
@pytest.mark.parametrize("clear", [None, 3, bytes(range(0, 240, 16))])
def test_a_png_keeps_the_palette(suffix: str, clear: int | bytes | None, convert: Convert, tmp_path: Path) -> None:
    """With the colours that are clear, or half clear."""
    source, unheld = tmp_path / f"in{suffix}", suffix == ".gif" and isinstance(clear, bytes)
    told: dict[str, Any] = {} if clear is None or unheld else {"transparency": clear}
    noisy((300, 200)).quantize(16).save(source, **told)
    _, target = convert(source, "out.png")
    with Image.open(source) as before, Image.open(target) as after:
        assert after.mode == "P"
        assert np.array_equal(pixels(after), pixels(before))
    png = tmp_path / "as.png"
    with Image.open(source) as before:
        before.save(png)
    assert target.stat().st_size <= png.stat().st_size + 100


@pytest.mark.parametrize("options", [{"width": 100}, {"depth": "8"}, {"profile": "srgb"}])
def test_a_palette_is_left_where_other_colours_may_be_needed(
    options: dict[str, Any], convert: Convert, tmp_path: Path
) -> None:
    noisy((300, 200)).quantize(16).save(tmp_path / "in.png")
    with Image.open(convert(tmp_path / "in.png", "out.png", **options)[1]) as after:
        assert after.mode == "RGB"


def test_a_picture_with_a_palette_is_turned_and_cut_and_keeps_its_metadata(convert: Convert, tmp_path: Path) -> None:
    exif, texts = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x0112], exif[0x013B] = 6, "Ada"
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    texts.add_text("Comment", "sea")
    drawn = noisy((300, 200)).quantize(16)
    drawn.save(tmp_path / "in.png", exif=exif, pnginfo=texts, dpi=(300, 300))
    result, target = convert(tmp_path / "in.png", "out.png", width=150, height=250, fit="crop")
    assert "notes" not in result
    assert (result["width"], result["height"]) == (150, 250)
    with Image.open(target) as after:
        cut = drawn.transpose(Image.Transpose.ROTATE_270).crop((25, 25, 175, 275))
        assert np.array_equal(pixels(after), pixels(cut))
        assert after.getexif()[0x013B] == "Ada"
        assert (after.info["Comment"], b"sea" in after.info["xmp"]) == ("sea", True)
        assert b"SECRET" not in target.read_bytes()


@pytest.mark.parametrize(
    ("suffix", "mode", "bits"),
    [(".png", "1", 1), (".tif", "1", 1), (".bmp", "1", 1), (".png", "L", 2), (".png", "L", 4)],
)
def test_a_scan_of_few_bits_keeps_them(suffix: str, mode: str, bits: int, convert: Convert, tmp_path: Path) -> None:
    most, source = 2**bits - 1, tmp_path / f"in{suffix}"
    grey = noisy((300, 200)).convert("L").point(lambda value: round(value / 255 * most) * 255 // most).convert(mode)
    if mode == "L":
        grey.point(lambda value: value * most // 255).save(source, bits=bits)
    else:
        grey.save(source, **({"compression": "group4"} if suffix == ".tif" else {}))
    result, target = convert(source, "out.png")
    assert "notes" not in result
    assert target.read_bytes()[24] == bits, "bits a pixel, in the header"
    with Image.open(target) as after, Image.open(source) as before:
        assert np.array_equal(pixels(after), pixels(before))
        assert np.array_equal(pixels(after), pixels(grey))


def test_a_scan_that_becomes_smaller_is_grey(convert: Convert, tmp_path: Path) -> None:
    Image.effect_noise((300, 200), 90).convert("1").save(tmp_path / "in.png")
    with Image.open(convert(tmp_path / "in.png", "out.png", width=100)[1]) as after:
        assert len(after.getcolors() or ()) > 100
