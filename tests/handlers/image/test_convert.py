"""`image_convert`: files written by libvips are read by Pillow, and the reverse."""

import hashlib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
import pyvips
from PIL import Image, ImageChops, ImageCms, ImageColor, ImageSequence, ImageStat, features

from tasktrail.events.errors import InvalidOptions, InvalidPath
from tasktrail.handlers import Finished, Outcome, Rejected, Stopped, Unusable
from tasktrail.handlers.image.convert import image_convert
from tasktrail.handlers.image.convert import options as convert_options
from tasktrail.handlers.image.convert.metadata import add_to_tiff
from tasktrail.handlers.image.convert.options import ImageConvertOptions
from tasktrail.handlers.image.convert.probe import probe
from tasktrail.handlers.image.opening import READ_FORMATS
from tasktrail.handlers.image.thumbnail import image_thumbnail
from tasktrail.handlers.image.thumbnail.options import ImageThumbnailOptions
from tasktrail.testing import RecordingContext, SimulatedCrash, job_for, run_handler

RED, BLUE = (220, 20, 20), (20, 20, 220)
FRAMES = 12

Context: TypeAlias = RecordingContext[ImageConvertOptions]
Prepare: TypeAlias = Callable[..., Context]
Convert: TypeAlias = Callable[..., tuple[Outcome, Context]]


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    def make(source: Path, output: str, *, stop_after: int | None = None, **options: Any) -> Context:
        return RecordingContext(
            msgspec.convert(options, ImageConvertOptions),
            work_dir=tmp_path / f"work-{output}",
            input_file=source,
            output_file=tmp_path / output,
            stop_after=stop_after,
        )

    return make


@pytest.fixture
def convert(prepare: Prepare) -> Convert:
    def make(source: Path, output: str, **more: Any) -> tuple[Outcome, Context]:
        context = prepare(source, output, **more)
        return run_handler(image_convert, context), context

    return make


def two_halves(size: tuple[int, int] = (400, 200)) -> Image.Image:
    picture = Image.new("RGB", size, RED)
    picture.paste(BLUE, (size[0] // 2, 0, *size))
    return picture


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    two_halves().save(tmp_path / "in.png")
    return tmp_path / "in.png"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Make a GIF of twelve frames, each a little redder, shown for 50 ms."""
    frames = [Image.new("RGB", (120, 60), (20 * number, 0, 255 - 20 * number)) for number in range(FRAMES)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:], duration=50, loop=0)
    return tmp_path / "film.gif"


def is_near(pixel: Any, wanted: tuple[int, ...], slack: int = 40) -> bool:
    return all(abs(found - expected) <= slack for found, expected in zip(pixel[:3], wanted, strict=True))


@pytest.mark.parametrize("suffix", sorted(convert_options.CONVERT_FORMATS))
def test_every_format_shows_the_same_picture(convert: Convert, halves: Path, suffix: str) -> None:
    outcome, context = convert(halves, f"out{suffix}")
    assert isinstance(outcome, Finished)
    with Image.open(context.output_file) as opened:
        picture = opened.convert("RGB")
    assert picture.size == (400, 200)
    assert is_near(picture.getpixel((10, 100)), RED)
    assert is_near(picture.getpixel((390, 100)), BLUE)
    content = context.output_file.read_bytes()
    assert outcome.result["sha256"] == hashlib.sha256(content).hexdigest()
    assert outcome.result["size"] == len(content)
    assert (outcome.result["width"], outcome.result["height"]) == (400, 200)


@pytest.mark.parametrize("source", [".jpg", ".png", ".webp", ".gif", ".tif", ".bmp", ".avif"])
def test_every_format_is_read(convert: Convert, tmp_path: Path, source: str) -> None:
    two_halves().save(tmp_path / f"in{source}")
    outcome, context = convert(tmp_path / f"in{source}", "out.png")
    assert isinstance(outcome, Finished)
    image = pyvips.Image.new_from_file(str(context.output_file))
    assert is_near(image.getpoint(10, 100), RED)
    assert is_near(image.getpoint(390, 100), BLUE)


@pytest.mark.parametrize("source", [".png", ".bmp"])  # one goes through libvips, one through Pillow
@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"width": 100}, (100, 50)),
        ({"height": 100}, (200, 100)),
        ({"width": 100, "height": 100}, (100, 50)),
        ({"width": 100, "height": 100, "fit": "fill"}, (100, 100)),
        ({"width": 100, "height": 60, "fit": "crop"}, (100, 60)),
        ({"width": 1000, "height": 60, "fit": "crop"}, (400, 60)),
        ({"width": 800}, (400, 200)),
        ({"width": 800, "enlarge": True}, (800, 400)),
        ({"width": 800, "height": 800, "fit": "fill"}, (800, 800)),
    ],
)
def test_sizes(convert: Convert, tmp_path: Path, source: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    two_halves().save(tmp_path / f"in{source}")
    outcome, context = convert(tmp_path / f"in{source}", "out.png", **options)
    assert isinstance(outcome, Finished)
    with Image.open(context.output_file) as picture:
        assert picture.size == size
        assert is_near(picture.convert("RGB").getpixel((2, size[1] // 2)), RED)
        assert is_near(picture.convert("RGB").getpixel((size[0] - 2, size[1] // 2)), BLUE)


@pytest.mark.parametrize("options", [{}, {"width": 50}])
@pytest.mark.parametrize("metadata", ["strip", "keep"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_the_picture_is_upright_whatever_becomes_of_its_metadata(
    convert: Convert, tmp_path: Path, orientation: int, metadata: str, options: dict[str, Any], suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a holiday"
    turn = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    stored = two_halves() if turn[orientation] is None else two_halves().transpose(turn[orientation])  # type: ignore[arg-type]
    stored.save(tmp_path / f"in{suffix}", exif=exif, quality=95)
    _, context = convert(tmp_path / f"in{suffix}", "out.jpg", metadata=metadata, **options)
    with Image.open(context.output_file) as picture:
        assert picture.width == 2 * picture.height
        assert is_near(picture.convert("RGB").getpixel((2, 2)), RED)
        kept = picture.getexif()
    assert kept.get(0x0112, 1) == 1
    assert (kept.get(0x010E) == "a holiday") == (metadata == "keep")


ARTIST, COPYRIGHT, MAKER, ORIENTATION, GPS, EXIF = 0x013B, 0x8298, 0x010F, 0x0112, 0x8825, 0x8769
LATITUDE, TAKEN = 2, 0x9003


def holiday() -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif.update({ARTIST: "Ann", COPYRIGHT: "(c) Ann", MAKER: "Camera"})
    exif.get_ifd(GPS).update({1: "N", LATITUDE: (48.0, 8.0, 15.5)})
    exif.get_ifd(EXIF)[TAKEN] = "2020:01:02 03:04:05"
    return exif


STILL_ONLY = {".jpg", ".heic"}
SOURCES, OUTPUTS = (".jpg", ".png", ".webp", ".tif", ".heic"), (".jpg", ".png", ".webp", ".avif", ".tif", ".heic")


@pytest.mark.parametrize(
    ("frames", "source", "suffix"),
    [
        (frames, source, suffix)
        for frames, source, suffix in product((1, 2), SOURCES, OUTPUTS)
        if frames == 1 or STILL_ONLY.isdisjoint((source, suffix))
    ],
)
def test_metadata_goes_with_the_picture_from_any_format_to_any(
    convert: Convert, tmp_path: Path, source: str, suffix: str, frames: int
) -> None:
    """A tiff mixes its tags with those of its layout: neither library reads them out of it or writes them to it."""
    more: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (40, 40), RED)]} if frames > 1 else {}
    path = tmp_path / f"in{source}"
    assert "HEIF" in READ_FORMATS
    Image.new("RGB", (40, 40)).save(path, format="HEIF" if source == ".heic" else None, exif=holiday(), **more)
    if source == ".tif":  # Pillow writes the tags, but not the directories
        add_to_tiff(path, holiday().tobytes())
    outcome, context = convert(path, f"out{suffix}", metadata="keep")
    assert isinstance(outcome, Finished)
    further = ["not carried over: what tags say of further pages"] if source == ".tif" and frames > 1 else []
    if source != ".tif" and suffix == ".tif" and frames > 1:
        further = ["it no longer moves: tiff cannot hold how long a frame is shown"]
    assert outcome.result.get("notes", []) == further
    with Image.open(context.output_file) as picture:
        assert getattr(picture, "n_frames", 1) == frames
        exif = picture.getexif()
        assert (exif[ARTIST], exif[COPYRIGHT], exif[MAKER]) == ("Ann", "(c) Ann", "Camera")
        assert exif.get_ifd(GPS)[LATITUDE] == (48, 8, 15.5)
        assert exif.get_ifd(EXIF)[TAKEN] == "2020:01:02 03:04:05"
        assert exif.get(ORIENTATION, 1) == 1
        for frame in ImageSequence.Iterator(picture):
            frame.load()
    if suffix == ".tif":
        assert pyvips.Image.new_from_file(str(context.output_file), fail_on="warning").avg() >= 0


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("source", [".jpg", ".png", ".webp"])
def test_broken_metadata_does_not_spoil_the_picture(convert: Convert, tmp_path: Path, source: str, suffix: str) -> None:
    tags = bytearray(holiday().tobytes())
    for place in range(14, len(tags), 5):
        tags[place] ^= 0xA5
    two_halves().save(tmp_path / f"in{source}", exif=bytes(tags))
    outcome, _ = convert(tmp_path / f"in{source}", f"out{suffix}", metadata="keep")
    assert isinstance(outcome, Finished)


def test_the_notes_name_metadata_that_the_format_cannot_hold(convert: Convert, tmp_path: Path) -> None:
    two_halves().save(tmp_path / "in.jpg", exif=holiday(), comment=b"at the sea", xmp=b"<x/>")
    for suffix, lost in ((".gif", "gif: EXIF, GPS, XMP, comments"), (".webp", "webp: comments")):
        outcome, _ = convert(tmp_path / "in.jpg", f"out{suffix}")
        assert isinstance(outcome, Finished)
        assert outcome.result["notes"] == [f"not kept in {lost}"]
    outcome, _ = convert(tmp_path / "in.jpg", "stripped.jpg", metadata="strip")
    assert isinstance(outcome, Finished)
    assert "notes" not in outcome.result


def test_pages_of_different_sizes_make_no_animation(convert: Convert, tmp_path: Path) -> None:
    Image.new("L", (40, 20)).save(tmp_path / "in.tif", save_all=True, append_images=[Image.new("L", (20, 40))])
    for suffix in (".webp", ".gif", ".png", ".avif"):
        outcome, _ = convert(tmp_path / "in.tif", f"out{suffix}")
        assert isinstance(outcome, Rejected)
        assert "different sizes" in outcome.reason
    assert isinstance(convert(tmp_path / "in.tif", "out.tif")[0], Finished)


def test_a_profile_is_applied_or_kept_as_asked(convert: Convert, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.new("LAB", (40, 40), (128, 200, 128)).save(tmp_path / "in.tif", icc_profile=profile)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    two_halves().save(tmp_path / "in.jpg", icc_profile=srgb)
    _, kept = convert(tmp_path / "in.jpg", "kept.jpg", profile="keep")
    _, applied = convert(tmp_path / "in.jpg", "applied.jpg", profile="srgb")
    with Image.open(kept.output_file) as picture:
        assert picture.info["icc_profile"] == srgb
    with Image.open(applied.output_file) as picture:
        assert "icc_profile" not in picture.info


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "avif"])
def test_a_profile_that_cannot_be_used_is_named(kind: str, convert: Convert, tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number, (mode, profile) in enumerate((("RGB", b"not a profile"), ("L", srgb))):
        two_halves().convert(mode).save(tmp_path / "in.jpg", icc_profile=profile)
        outcome, _ = convert(tmp_path / "in.jpg", f"{number}.{kind}")
        assert isinstance(outcome, Finished)
        if mode == "RGB" or kind not in ("webp", "avif"):  # these have no grey, so that it is converted
            assert outcome.result["notes"] == [
                "its colour profile is left out: it is damaged, or for other colours than it has"
            ]


def test_transparent_parts_get_the_background_in_a_jpeg(convert: Convert, tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "in.png")
    _, context = convert(tmp_path / "in.png", "out.jpg", background="#20c040")
    with Image.open(context.output_file) as picture:
        assert is_near(picture.getpixel((20, 20)), (0x20, 0xC0, 0x40), 8)


@pytest.mark.parametrize("options", [{}, {"width": 20}, {"profile": "keep"}])
@pytest.mark.parametrize("background", ["#ffffff", "#20c040"])
@pytest.mark.parametrize("kind", ["rgb16", "grey16", "b-w"])
def test_every_kind_of_transparent_picture_gets_the_background(
    convert: Convert, tmp_path: Path, kind: str, background: str, options: dict[str, Any]
) -> None:
    """Sixteen bits were blended with an eight-bit colour, which is black there; grey was blended with black."""
    bands, depth = 4 if kind == "rgb16" else 2, "uchar" if kind == "b-w" else "ushort"
    clear = pyvips.Image.black(40, 40, bands=bands).cast(depth)
    clear.copy(interpretation=kind).write_to_file(str(tmp_path / "in.png"))
    _, context = convert(tmp_path / "in.png", "out.jpg", background=background, **options)
    with Image.open(context.output_file) as picture:
        assert is_near(picture.convert("RGB").getpixel((5, 5)), ImageColor.getrgb(background), 8)


def coloured_noise() -> Image.Image:
    return Image.merge("RGB", [Image.effect_noise((64, 64), 80) for _ in range(3)])


@pytest.mark.parametrize("source", [".png", ".bmp"])  # one is read by libvips, one by Pillow
@pytest.mark.parametrize("suffix", [".webp", ".avif", ".png", ".tif"])
def test_lossless_keeps_every_pixel(convert: Convert, tmp_path: Path, source: str, suffix: str) -> None:
    noise = coloured_noise()
    noise.save(tmp_path / f"in{source}")
    _, context = convert(tmp_path / f"in{source}", f"out{suffix}", lossless=True)
    with Image.open(context.output_file) as picture:
        assert picture.convert("RGB").tobytes() == noise.tobytes()


@pytest.mark.parametrize("suffix", [".webp", ".png", ".tif"])
def test_lossless_animations_keep_every_pixel(convert: Convert, tmp_path: Path, suffix: str) -> None:
    noises = [coloured_noise() for _ in range(3)]
    noises[0].save(tmp_path / "in.png", save_all=True, append_images=noises[1:], duration=100)
    _, context = convert(tmp_path / "in.png", f"out{suffix}", lossless=True)
    with Image.open(context.output_file) as picture:
        frames = [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(picture)]
    assert frames == [noise.tobytes() for noise in noises]


def test_an_animation_that_avif_cannot_keep_lossless_is_rejected(convert: Convert, film: Path) -> None:
    outcome, _ = convert(film, "out.avif", lossless=True)
    assert isinstance(outcome, Rejected)
    assert "webp" in outcome.reason
    outcome, _ = convert(film, "out.avif", lossless=True, frames="first")
    assert isinstance(outcome, Finished)


@pytest.mark.parametrize("options", [{}, {"width": 30}])
def test_a_tiff_that_libvips_cannot_decode_is_read_by_pillow(
    convert: Convert, tmp_path: Path, options: dict[str, Any]
) -> None:
    assert "libtiff" in features.get_supported()
    two_halves().save(tmp_path / "in.tif", compression="lzma")
    outcome, context = convert(tmp_path / "in.tif", "out.png", **options)
    assert isinstance(outcome, Finished)
    with Image.open(context.output_file) as picture:
        middle = picture.height // 2
        assert is_near(picture.convert("RGB").getpixel((2, middle)), RED)
        assert is_near(picture.convert("RGB").getpixel((picture.width - 2, middle)), BLUE)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".avif", ".tif"])
def test_an_animation_keeps_its_frames_and_their_times(convert: Convert, film: Path, suffix: str) -> None:
    outcome, context = convert(film, f"out{suffix}", width=60)
    assert isinstance(outcome, Finished)
    assert outcome.result["frames"] == FRAMES
    with Image.open(context.output_file) as picture:
        frames = [
            (frame.convert("RGB").getpixel((30, 15)), frame.info.get("duration"))
            for frame in ImageSequence.Iterator(picture)
        ]
        assert picture.size == (60, 30)
    assert len(frames) == FRAMES
    for number, (pixel, duration) in enumerate(frames):
        assert is_near(pixel, (20 * number, 0, 255 - 20 * number))
        assert suffix == ".tif" or duration == 50


def test_the_result_says_that_frames_were_left_out(convert: Convert, film: Path) -> None:
    for output, options in (("out.jpg", {}), ("out.webp", {"frames": "first"})):
        outcome, _ = convert(film, output, **options)
        assert isinstance(outcome, Finished)
        assert outcome.result["frames"] == 1
        assert str(FRAMES) in outcome.result["notes"][0]


@pytest.mark.parametrize(
    ("kind", "output", "options", "note"),
    [
        ("rgb16", "out.avif", {}, "16 bits a channel became 12"),
        ("grey16", "out.jpg", {}, "16 bits a channel became 8"),
        ("rgb16", "out.bmp", {}, "16 bits a channel became 8"),
        ("rgb16", "out.png", {"width": 20}, None),
        ("rgb16", "out.png", {}, None),
        ("rgb16", "out.png", {"depth": "8"}, None),
        ("grey16", "out.tif", {}, None),
        ("cmyk", "out.png", {"profile": "keep"}, "CMYK became RGB: png has no inks"),
        ("cmyk", "out.png", {"profile": "srgb"}, None),
        ("cmyk", "out.jpg", {"profile": "keep"}, None),
        ("cmyk", "out.jpg", {"width": 20}, None),
    ],
)
def test_the_result_says_that_depth_or_inks_were_lost(
    convert: Convert, tmp_path: Path, kind: str, output: str, options: dict[str, Any], note: str | None
) -> None:
    bands, depth = {"rgb16": 3, "grey16": 1, "cmyk": 4}[kind], "uchar" if kind == "cmyk" else "ushort"
    source = tmp_path / ("in.jpg" if kind == "cmyk" else "in.png")
    pyvips.Image.black(40, 40, bands=bands).cast(depth).copy(interpretation=kind).write_to_file(str(source))
    outcome, _ = convert(source, output, **options)
    assert isinstance(outcome, Finished)
    assert outcome.result.get("notes") == ([note] if note else None)


def test_what_only_libvips_can_read_again_is_written(convert: Convert, tmp_path: Path) -> None:
    grey = pyvips.Image.black(40, 40, bands=2).cast("ushort").copy(interpretation="grey16")
    grey.write_to_file(str(tmp_path / "in.png"))
    outcome, context = convert(tmp_path / "in.png", "out.tif", metadata="keep")
    assert isinstance(outcome, Finished)
    assert pyvips.Image.new_from_file(str(context.output_file)).format == "ushort"


@pytest.mark.parametrize("prefix", range(1, FRAMES + 2))
def test_resumed_from_every_frame_it_gives_the_same_file(
    prepare: Prepare, film: Path, prefix: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasktrail.handlers.pieces.SAVE_EVERY", 0.0)
    whole = prepare(film, "whole.webp")
    run_handler(image_convert, whole)
    killed = prepare(film, "killed.webp")
    killed.crash_after = min(prefix, FRAMES)
    with pytest.raises(SimulatedCrash):
        run_handler(image_convert, killed)
    again = killed.resumed()
    assert isinstance(run_handler(image_convert, again), Finished)
    assert again.output_file.read_bytes() == whole.output_file.read_bytes()
    made = [checkpoint.processed_frames for checkpoint in again.checkpoints]
    assert made == list(range(min(prefix, FRAMES) + 1, FRAMES + 1))


def test_a_damaged_frame_is_made_again(prepare: Prepare, film: Path) -> None:
    whole, killed = prepare(film, "whole.webp"), prepare(film, "killed.webp")
    run_handler(image_convert, whole)
    killed.crash_after = 1
    with pytest.raises(SimulatedCrash):
        run_handler(image_convert, killed)
    next(killed.work_dir.glob("frame-*.png")).write_bytes(b"nonsense")
    run_handler(image_convert, killed.resumed())
    assert killed.output_file.read_bytes() == whole.output_file.read_bytes()


@pytest.mark.parametrize("output", ["out.webp", "out.png"])
def test_it_goes_home_when_asked(convert: Convert, film: Path, halves: Path, output: str) -> None:
    for source in (film, halves):
        outcome, context = convert(source, output, stop_after=0)
        assert isinstance(outcome, Stopped)
        assert not context.output_file.exists()
        assert not context.output_part.exists()


def test_a_large_picture_is_left_in_the_middle(convert: Convert, tmp_path: Path) -> None:
    Image.effect_noise((3000, 3000), 80).save(tmp_path / "in.png")
    outcome, context = convert(tmp_path / "in.png", "out.webp", stop_after=1)
    assert isinstance(outcome, Stopped)
    assert not context.output_part.exists()


@pytest.mark.parametrize("options", [{}, {"width": 50}])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".tif", ".bmp", ".avif"])
def test_a_damaged_picture_is_rejected(convert: Convert, tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    Image.effect_noise((300, 300), 80).convert("RGB").save(tmp_path / f"in{suffix}")
    content = (tmp_path / f"in{suffix}").read_bytes()
    (tmp_path / f"in{suffix}").write_bytes(content[: len(content) // 2])
    outcome, context = convert(tmp_path / f"in{suffix}", "out.png", **options)
    assert isinstance(outcome, Rejected)
    assert f"in{suffix}" in outcome.reason
    assert not context.output_file.exists()


@pytest.mark.parametrize("source", [".png", ".bmp", ".gif"])  # through libvips, through Pillow, frame by frame
@pytest.mark.parametrize(
    ("suffix", "most"), [(".webp", "16,383"), (".avif", "16,384"), (".jpg", "65,500"), (".heic", "4,208")]
)
def test_a_picture_too_long_for_the_format_is_refused_with_its_limit(
    convert: Convert, tmp_path: Path, source: str, suffix: str, most: str
) -> None:
    strip = Image.new("L", (65_535, 2))
    more: dict[str, Any] = {"save_all": True, "append_images": [Image.new("L", strip.size, 9)]}
    strip.save(tmp_path / f"in{source}", **(more if source == ".gif" else {}))
    outcome, context = convert(tmp_path / f"in{source}", f"out{suffix}")
    assert isinstance(outcome, Rejected)
    assert f"only {most} a side" in outcome.reason
    assert "take png or tiff" in outcome.reason
    assert not context.output_part.exists()
    assert isinstance(convert(tmp_path / f"in{source}", f"out{suffix}", width=4000, frames="first")[0], Finished)


@pytest.mark.parametrize(
    ("source", "output", "most"),
    [(".png", "out.png", "512,000,000"), (".png", "out.bmp", "178,956,970"), (".bmp", "out.png", "178,956,970")],
)
def test_a_picture_is_made_no_larger_than_one_that_is_read_may_be(
    convert: Convert, tmp_path: Path, source: str, output: str, most: str
) -> None:
    path = tmp_path / f"in{source}"
    two_halves().save(path)
    options = ImageConvertOptions(width=40_000, enlarge=True)
    with pytest.raises(Unusable, match="would be made larger, to 800,000,000 pixels"):
        probe(job_for(options, path, tmp_path / output))
    outcome, _ = convert(path, output, width=40_000, enlarge=True)
    assert isinstance(outcome, Rejected)
    assert f"at most {most}" in outcome.reason


@pytest.mark.parametrize(
    ("name", "mode", "size"),
    [
        *((name, "RGB", size) for name in ("in.bmp", "in.png", "in.jpg") for size in ((4, 65_000), (65_000, 4))),
        ("in.png", "I;16", (4, 65_000)),
    ],
)
def test_a_long_narrow_picture_fills_its_box_without_being_enlarged_as_a_whole(
    name: str, mode: str, size: tuple[int, int], convert: Convert, tmp_path: Path
) -> None:
    """It would have 2,600 million pixels. What is beside its middle is white."""
    white, colour = ((255,) * 3, RED) if mode == "RGB" else (65_535, 0x4E4E)
    picture = Image.new(mode, size, white)
    left, top = size[0] // 2 - 100, size[1] // 2 - 100
    picture.paste(colour, (left, top, left + 200, top + 200))
    picture.save(tmp_path / name)
    outcome, context = convert(tmp_path / name, "out.png", width=400, height=300, fit="fill")
    assert isinstance(outcome, Finished)
    with Image.open(context.output_file) as written:
        assert written.size == (400, 300)
        for place in ((200, 150), (0, 0), (399, 299)):
            found = written.getpixel(place)
            assert is_near(found, RED) if mode == "RGB" else found == colour


def test_a_picture_that_is_fitted_is_read_once(
    convert: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvips gets a JPEG as bytes, which stay in memory while it works."""
    read: list[Path] = []
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path)
        return read_bytes(path)

    two_halves().save(tmp_path / "in.jpg")
    monkeypatch.setattr(Path, "read_bytes", counted)
    outcome, _ = convert(tmp_path / "in.jpg", "out.png", width=100)
    assert isinstance(outcome, Finished)
    assert read.count(tmp_path / "in.jpg") == 1


@pytest.mark.parametrize(
    ("source", "output"),
    [*product(["anim.gif"], ["png", "webp", "avif", "gif"]), ("still.bmp", "png"), ("still.bmp", "gif")],
)
def test_progress_never_goes_back(source: str, output: str, convert: Convert, tmp_path: Path) -> None:
    """Pillow reads the frames of some formats twice, and libvips counts from the beginning when Pillow has read."""
    if source == "anim.gif":
        frames = [Image.new("RGB", (40, 40), (30 * number, 0, 0)) for number in range(6)]
        frames[0].save(tmp_path / source, save_all=True, append_images=frames[1:])
    else:
        Image.linear_gradient("L").resize((1500, 1500)).convert("RGB").save(tmp_path / source)
    outcome, context = convert(tmp_path / source, f"out.{output}")
    assert isinstance(outcome, Finished)
    percents = [percent for percent, _ in context.reports]
    assert percents == sorted(percents)
    assert percents[-1] > (70 if source == "anim.gif" else 0)  # libvips reports a still picture as often as it likes


@pytest.mark.parametrize(
    ("output", "most"), [("webp", 50), pytest.param("avif", 50, marks=pytest.mark.slow), ("gif", 75), ("png", 100)]
)
def test_what_is_encoded_when_all_is_read_is_not_done_by_then(
    output: str, most: int, convert: Convert, tmp_path: Path
) -> None:
    """A large picture stood at 100 % while its encoder, which reports nothing, had all of its work before it."""
    noise = Image.effect_noise((1500, 1500), 90)
    Image.merge("RGB", (noise, noise.rotate(90), noise.rotate(180))).save(tmp_path / "in.png")
    outcome, context = convert(tmp_path / "in.png", f"out.{output}")
    assert isinstance(outcome, Finished)
    percents = [percent for percent, words in context.reports if words.startswith("converting")]
    assert most / 2 < max(percents) <= most


@pytest.mark.parametrize("packing", ["raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_a_tiff_in_ycbcr_keeps_its_colours(packing: str, convert: Convert, tmp_path: Path) -> None:
    """libvips takes the bytes for RGB, unless the TIFF holds a JPEG."""
    mode = "RGB" if packing == "jpeg" else "YCbCr"
    two_halves().convert(mode).save(tmp_path / "in.tif", compression=packing)
    outcome, context = convert(tmp_path / "in.tif", "out.png", width=200)
    assert isinstance(outcome, Finished)
    with Image.open(context.output_file) as picture:
        assert is_near(picture.getpixel((50, 50)), RED)
        assert is_near(picture.getpixel((150, 50)), BLUE)


@pytest.mark.parametrize(("mode", "value"), [("F", 0.5), ("I", 100_000)])
def test_a_tiff_of_numbers_is_no_picture(convert: Convert, tmp_path: Path, mode: str, value: float) -> None:
    Image.new(mode, (40, 40), value).save(tmp_path / "heights.tif")
    outcome, _ = convert(tmp_path / "heights.tif", "out.png")
    assert isinstance(outcome, Rejected)
    assert "numbers, not a picture" in outcome.reason


@pytest.mark.parametrize("name", ["-in.png", "in[page=1].png", "in%d.png", "@in.png", "http:in.png", "in.png[n=-1]"])
def test_odd_names_are_plain_files(convert: Convert, tmp_path: Path, name: str) -> None:
    two_halves().save(tmp_path / name, format="PNG")
    outcome, context = convert(tmp_path / name, f"out-{name.rstrip(']').partition('[n')[0]}", width=40)
    assert isinstance(outcome, Finished)
    with Image.open(context.output_file) as picture:
        assert picture.size == (40, 20)


def test_what_cannot_work_is_refused_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(output: str, **options: Any) -> None:
        convert_options.check(job_for(msgspec.convert(options, ImageConvertOptions), "/in.png", output))

    with pytest.raises(InvalidPath, match=r"\.webp"):
        check("/out.xyz")
    with pytest.raises(InvalidOptions, match="width and height"):
        check("/out.png", fit="fill", width=10)
    with pytest.raises(InvalidOptions, match="at most 512,000,000"):
        check("/out.png", fit="fill", width=65_535, height=65_535)
    with pytest.raises(InvalidOptions, match="lossless"):
        check("/out.jpg", lossless=True)
    check("/out.heic")
    monkeypatch.setattr("tasktrail.handlers.image.convert.options.has_heic", lambda: False)
    with pytest.raises(InvalidPath, match="pillow-heif"):
        check("/out.heic")


def test_heic_is_written_and_read(convert: Convert, halves: Path) -> None:
    outcome, context = convert(halves, "out.heic")
    assert isinstance(outcome, Finished)
    back, again = convert(context.output_file, "back.png")
    assert isinstance(back, Finished)
    with Image.open(again.output_file) as picture:
        assert is_near(picture.convert("RGB").getpixel((10, 100)), RED)


def test_a_probe_sees_size_and_frames(halves: Path, film: Path) -> None:
    options = ImageConvertOptions()
    seen = probe(job_for(options, halves, "/out.png")).basis
    assert seen == {"format": "PNG", "width": 400, "height": 200, "frames": 1}
    assert probe(job_for(options, film, "/out.webp")).basis["frames"] == FRAMES
    assert features.check("avif")  # the tests above rely on this


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
@pytest.mark.parametrize(("repeats", "plays"), [(None, 1), (0, 0), (1, 2), (4, 5)])
def test_an_animation_plays_as_often_as_before(
    convert: Convert, tmp_path: Path, suffix: str, repeats: int | None, plays: int
) -> None:
    """A gif says how often it is repeated, or nothing; the others how often it plays."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    said: dict[str, Any] = {} if repeats is None else {"loop": repeats}
    frames[0].save(tmp_path / "in.gif", save_all=True, append_images=frames[1:], **said)
    _, context = convert(tmp_path / "in.gif", f"out{suffix}")
    with Image.open(context.output_file) as picture:
        assert picture.info.get("loop") == (repeats if suffix == ".gif" else plays)
    _, context = convert(context.output_file, "back.gif")
    with Image.open(context.output_file) as picture:
        assert picture.info.get("loop") == repeats


def test_an_avif_that_cannot_say_how_often_it_plays_is_told(convert: Convert, film: Path, tmp_path: Path) -> None:
    outcome, _ = convert(film, "out.avif")
    assert isinstance(outcome, Finished)
    assert "notes" not in outcome.result, "this one plays for ever"
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "in.gif", save_all=True, append_images=frames[1:], loop=2)
    outcome, _ = convert(tmp_path / "in.gif", "out.avif")
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == ["it plays for ever, and not 3 times: avif cannot hold the number"]


@pytest.mark.parametrize(("suffix", "grid"), [(".gif", 10), (".webp", 1), (".png", 1), (".avif", 1)])
@pytest.mark.parametrize("each", [1000 / 30, 1000 / 24, 15.5])
def test_errors_of_rounded_times_do_not_add_up(
    convert: Convert, tmp_path: Path, each: float, suffix: str, grid: int
) -> None:
    frames = [Image.new("RGB", (8, 8), (20 * number, 0, 0)) for number in range(12)]
    frames[0].save(tmp_path / "in.png", save_all=True, append_images=frames[1:], duration=each)
    outcome, context = convert(tmp_path / "in.png", f"out{suffix}")
    with Image.open(context.output_file) as picture:
        shown: list[float] = []
        for frame in ImageSequence.Iterator(picture):
            frame.load()  # some formats report it only then
            shown.append(frame.info["duration"])
    assert len(shown) == 12
    assert sum(shown) == pytest.approx(12 * each, abs=grid / 2 + 0.1)
    assert max(shown) - min(shown) <= grid
    assert isinstance(outcome, Finished)
    assert outcome.result["duration"] == pytest.approx(sum(shown) / 1000)


def test_frames_that_are_too_short_for_a_gif_do_not_make_it_longer(convert: Convert, tmp_path: Path) -> None:
    """A frame lasts at least a hundredth of a second; the next longer one makes up for it."""
    frames = [Image.new("RGB", (8, 8), (20 * number, 0, 0)) for number in range(5)]
    times = [3, 3, 3, 100, 50]
    frames[0].save(tmp_path / "in.png", save_all=True, append_images=frames[1:], duration=times)
    outcome, context = convert(tmp_path / "in.png", "out.gif")
    assert isinstance(outcome, Finished)
    with Image.open(context.output_file) as picture:
        assert [frame.info["duration"] for frame in ImageSequence.Iterator(picture)] == [10, 10, 10, 80, 50]
    assert outcome.result["duration"] == pytest.approx(0.16)


def test_a_frame_that_is_shown_longer_than_a_gif_can_say_is_refused(convert: Convert, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (20 * number, 0, 0)) for number in range(2)]
    frames[0].save(tmp_path / "in.png", save_all=True, append_images=frames[1:], duration=[655_360, 100])
    outcome, _ = convert(tmp_path / "in.png", "out.gif")
    assert isinstance(outcome, Rejected)
    assert outcome.reason == (
        "in.png shows a frame for more than 655.35 s, which a gif cannot say: take webp, png or avif, or frames=first"
    )


def test_a_tiff_that_cannot_say_how_long_frames_are_shown_is_told(convert: Convert, film: Path) -> None:
    outcome, context = convert(film, "out.tif")
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == ["it no longer moves: tiff cannot hold how long a frame is shown"]
    outcome, _ = convert(context.output_file, "again.tif")
    assert isinstance(outcome, Finished)
    assert "notes" not in outcome.result


def test_the_hidden_picture_of_an_animated_png_stays_hidden(convert: Convert, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "in.png", save_all=True, append_images=frames[1:], default_image=True)
    outcome, context = convert(tmp_path / "in.png", "out.webp", lossless=True)
    assert isinstance(outcome, Finished)
    assert (outcome.result["source_frames"], outcome.result["frames"]) == (2, 2)
    assert outcome.result["notes"] == ["not carried over: the picture that stands for the animation"]
    with Image.open(context.output_file) as picture:
        assert picture.convert("RGB").getpixel((0, 0)) == (0, 0, 255)
    outcome, context = convert(tmp_path / "in.png", "out.bmp")
    with Image.open(context.output_file) as picture:
        assert picture.getpixel((0, 0)) == (255, 0, 0)


def test_a_gif_that_was_cut_between_two_frames_says_so(convert: Convert, film: Path, tmp_path: Path) -> None:
    """It can be read, and only lacks the remaining frames."""
    content = film.read_bytes()
    cuts = [place for place in range(len(content)) if content.startswith(b"\0!\xf9\x04", place)]
    path = tmp_path / "cut.gif"
    path.write_bytes(content[: cuts[5] + 1])

    outcome, _ = convert(path, "out.webp")

    assert isinstance(outcome, Finished)
    assert outcome.result["source_frames"] < FRAMES
    assert outcome.result["notes"] == ["the source was cut: the end of the gif is missing"]


@pytest.mark.parametrize("behind", [b"", b"\0", b"some more"], ids=["nothing", "zero", "text"])
def test_a_gif_that_is_whole_is_not_said_to_be_cut(convert: Convert, film: Path, tmp_path: Path, behind: bytes) -> None:
    path = tmp_path / "more.gif"
    path.write_bytes(film.read_bytes() + behind)

    outcome, _ = convert(path, "out.webp")

    assert isinstance(outcome, Finished)
    assert not [note for note in outcome.result.get("notes", ()) if "cut" in note]


@pytest.mark.parametrize("suffix", ["gif", "tiff", "png", "webp", "avif"])
def test_an_animation_that_was_cut_anywhere_is_refused_or_says_so(
    convert: Convert, tmp_path: Path, suffix: str
) -> None:
    """Never by a cryptic error of the library, and never silently with fewer frames."""
    frames = [Image.effect_noise((40, 30), 90).convert("RGB") for _ in range(4)]
    path = tmp_path / f"in.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    content = path.read_bytes()
    for part in range(1, 40):
        path.write_bytes(content[: len(content) * part // 40])
        outcome, _ = convert(path, f"{part}.webp")
        assert isinstance(outcome, Rejected | Finished)
        assert isinstance(outcome, Rejected) or "cut" in str(outcome.result.get("notes")), part


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_a_photo_with_a_preview_or_a_depth_map_behind_it_is_one_picture(
    convert: Convert, tmp_path: Path, suffix: str
) -> None:
    """Many cameras and phones write such files. They were taken for animations of different sizes, and refused."""
    two_halves().save(
        tmp_path / "in.jpg", format="MPO", save_all=True, append_images=[Image.new("L", (50, 25))], exif=holiday()
    )
    outcome, context = convert(tmp_path / "in.jpg", f"out{suffix}")
    assert isinstance(outcome, Finished)
    assert (outcome.result["source_format"], outcome.result["source_frames"]) == ("jpeg", 1)
    assert outcome.result["notes"] == ["further pictures in the jpeg are not kept: 1"]
    with Image.open(context.output_file) as picture:
        assert picture.size == (200, 400)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".tif", ".gif"])
def test_of_several_stills_in_a_heif_the_primary_one_is_taken(convert: Convert, tmp_path: Path, suffix: str) -> None:
    """They were taken for an animation, which showed all of them."""
    shots = [Image.new("RGB", size, colour) for size, colour in (((64, 48), BLUE), ((80, 40), RED))]
    shots[0].save(tmp_path / "in.heic", format="HEIF", save_all=True, append_images=shots[1:], primary_index=1)
    outcome, context = convert(tmp_path / "in.heic", f"out{suffix}")
    assert isinstance(outcome, Finished)
    assert (outcome.result["source_frames"], outcome.result["frames"]) == (1, 1)
    assert "further pictures in the heif are not kept: 1" in outcome.result["notes"]
    with Image.open(context.output_file) as picture:
        assert picture.size == (80, 40)
        assert getattr(picture, "n_frames", 1) == 1
        assert is_near(picture.convert("RGB").getpixel((40, 20)), RED)


@pytest.mark.parametrize("size", [{}, {"width": 40}], ids=["whole", "small"])
@pytest.mark.parametrize("profile", ["none", "broken", "inks"])
def test_inks_have_the_same_colours_in_a_conversion_and_in_a_thumbnail(
    convert: Convert, tmp_path: Path, profile: str, size: dict[str, int]
) -> None:
    """Before, one used a profile and the other arithmetic, with another intent."""
    inks = Image.merge("CMYK", [Image.linear_gradient("L").rotate(90 * turn).resize((80, 80)) for turn in range(4)])
    usual = bytes(pyvips.Operation.call("profile_load", "cmyk"))
    kept: dict[str, Any] = {"none": {}, "broken": {"icc_profile": b"none"}, "inks": {"icc_profile": usual}}[profile]
    inks.save(tmp_path / "in.tif", **kept)
    outcome, context = convert(tmp_path / "in.tif", "out.png", **size)
    assert isinstance(outcome, Finished)
    small = RecordingContext(
        ImageThumbnailOptions(width=size.get("width", 80), height=80),
        work_dir=tmp_path,
        input_file=tmp_path / "in.tif",
        output_file=tmp_path / "small.png",
    )
    assert isinstance(run_handler(image_thumbnail, small), Finished)
    with Image.open(context.output_file) as whole, Image.open(small.output_file) as thumbnail:
        assert thumbnail.size == whole.size
        assert max(ImageStat.Stat(ImageChops.difference(whole, thumbnail)).mean) < 2
