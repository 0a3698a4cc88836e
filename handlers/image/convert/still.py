"""Convert one picture: with libvips where it can, because it holds only the rows it works on; else with Pillow."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pyvips
from PIL import Image

from ...contract import StopAsked, TaskContext, Unusable
from ...io_errors import disk_fault, error_text, writing
from ...media.damage import unreadable
from ...media.formats import check_sides
from ...media.pictures import write_picture
from ..limits import MAX_IMAGE_PIXELS, MAX_PILLOW_PIXELS
from ..opening import blame_picture, open_picture
from ..shaping import PixelSize, lies_sideways, middle, orientation_of, plain_mode, scaled, to_srgb, upright
from .estimate import NO_BOX, ImageHeader
from .metadata import add_exif, metadata_for_pillow, telling_exif
from .options import ImageConvertOptions

pyvips.block_untrusted_set(state=True)  # loaders that run programs or follow references inside the file
pyvips.cache_set_max(0)  # each task has another picture, and an open file is a held one

_VIPS_READS = frozenset({"JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"})
_EXIF = "exif-data"
_MAPPED = (b"\xff\xd8\xff", b"GIF8", b"RIFF")
"""How files begin that libvips maps into memory: JPEG, GIF, WebP."""
_HEAD = 8
_INTENT = "perceptual"
"""How colours are treated that sRGB does not have: as for a photo on a screen, and as Pillow does in thumbnails."""
_MIRRORED = 2
"""EXIF orientations up to this one leave the rows in their order, so that they need not be held."""
_READ_SHARE = 0.5
"""The share of the progress that reading takes, if the whole picture is read before it is written."""
_VIPS_MODES = {"L": "b-w", "RGB": "srgb", "RGBA": "srgb", "CMYK": "cmyk"}
"""Pillow's modes → what libvips calls them."""
_VIPS_FIELDS = {"icc_profile": "icc-profile-data", "exif": "exif-data", "xmp": "xmp-data"}
"""Pillow's names of metadata → those of libvips."""

Hold: TypeAlias = Callable[[pyvips.Image], pyvips.Image]
"""Takes a picture that is streamed into memory, so that its pixels can be asked for in any order."""


class VipsCannotError(Exception):
    """libvips cannot read or write the picture. The text is its own and does not say whose fault that is."""


def convert_still(context: TaskContext[ImageConvertOptions], kind: str, header: ImageHeader) -> PixelSize:
    """Write the first picture of the input to `output_part`; its width and height.

    Pillow tries again what libvips refuses, and has the last word.

    Raises:
        Unusable: the picture cannot be read or written.
        OSError: the disk's fault.
        StopAsked: somebody wants the attempt to end.
    """
    if header.format not in _VIPS_READS or kind == "HEIF" or _coloured_wrongly(header):
        return _convert_with_pillow(context, kind)
    try:
        return _convert_with_vips(context, kind, header)
    except VipsCannotError as error:
        context.output_part.unlink(missing_ok=True)
        if header.pixels > MAX_PILLOW_PIXELS:
            raise unreadable(context.input_file, "libvips", str(error)) from error
        return _convert_with_pillow(context, kind)


def _coloured_wrongly(header: ImageHeader) -> bool:
    """Whether libvips would give the outer pixels wrong colours: libheif does, of a turned AVIF with an odd side."""
    odd = header.width % 2 or header.height % 2
    return header.format == "AVIF" and header.orientation != 1 and bool(odd) and header.pixels <= MAX_PILLOW_PIXELS


def _convert_with_vips(context: TaskContext[ImageConvertOptions], kind: str, header: ImageHeader) -> PixelSize:
    share = 0.0

    def hold(picture: pyvips.Image) -> pyvips.Image:
        nonlocal share
        share = _READ_SHARE
        with _stoppable(context, picture, f"reading {picture.width}x{picture.height}", (0.0, share)) as watched:
            return watched.copy_memory()

    with _words_of_libvips():
        picture = shaped(context.input_file, context.options, header.left, hold, inks=header.inks)
    if context.options.metadata == "keep" and not picture.get_typeof(_EXIF):
        picture = _with_exif(picture, context.input_file)
    return _write_with_vips(context, picture, kind, (share, 1 - share))


def _convert_with_pillow(context: TaskContext[ImageConvertOptions], kind: str) -> PixelSize:
    """Read with Pillow. libvips writes what it can."""
    options = context.options
    with open_picture(context.input_file, MAX_PILLOW_PIXELS) as image, blame_picture(context.input_file):
        image.load()
        metadata = metadata_for_pillow(image) if options.metadata == "keep" else {}
    context.check_stop()
    context.progress(50, f"converting {image.width}x{image.height} to {kind.lower()}")
    picture = shaped_by_pillow(image, options)
    kept = metadata | {name: picture.info[name] for name in ("icc_profile",) if name in picture.info}
    if kind != "HEIF":
        try:
            return _write_with_vips(context, _for_vips(picture, kept), kind)
        except VipsCannotError as error:
            raise Unusable(
                f"{context.input_file.name} can be read, but libvips cannot write it as {kind.lower()} ({error}): "
                "take another format"
            ) from error
    check_sides(picture.size, kind)
    write_picture(picture, context.output_part, kind, quality=options.quality, background=options.background, **kept)
    return picture.size


def shaped(
    path: Path, options: ImageConvertOptions, orientation: int, hold: Hold, *, inks: bool = False
) -> pyvips.Image:
    """The picture by libvips: upright, in its new size and colours; as far as possible, not yet decoded.

    libvips is given the orientation, because it looks for it in fewer places than Pillow and would leave some pictures
    lying. `inks` says that the picture is CMYK.
    """
    resized = options.fit != "crop" and (options.width is not None or options.height is not None)
    profile = {"output_profile": "srgb"} if options.colour == "srgb" else {}
    usual = {"input_profile": "cmyk"} if profile and inks else {}
    if resized:
        thumbnail, source = _source(path, "thumbnail")
        box = (options.width or NO_BOX, options.height or NO_BOX)
        width, height = box[::-1] if lies_sideways(orientation) else box
        small = thumbnail(
            source,
            width,
            height=height,
            size="both" if options.enlarge or options.fit == "fill" else "down",
            crop="centre" if options.fit == "fill" else "none",
            no_rotate=True,
            intent=_INTENT,
            option_string="fail_on=error",  # for the loader, which is not given the parameter of that name
            **profile,
            **usual,
        )
        return _upright(small, orientation, hold)
    load, source = _source(path, "new_from")
    picture = _upright(load(source, "", access="sequential", fail_on="error"), orientation, hold)
    if profile:
        picture = _to_srgb(picture)
    if options.fit == "crop":
        picture = _middle(picture, options)
    return picture


def shaped_by_pillow(picture: Image.Image, options: ImageConvertOptions) -> Image.Image:
    """A decoded picture, upright, in its new size and colours. Its profile stays in `info` where it is to be kept."""
    orientation = orientation_of(picture)
    profile = picture.info.get("icc_profile")
    plain = plain_mode(picture)
    box = (options.width or NO_BOX, options.height or NO_BOX)
    if lies_sideways(orientation):
        box = box[::-1]
    turned = upright(_sized(plain, box, options), orientation)
    if options.colour == "srgb":
        return to_srgb(turned, profile)
    turned.info = {"icc_profile": profile} if profile else {}
    return turned


def _sized(picture: Image.Image, box: PixelSize, options: ImageConvertOptions) -> Image.Image:
    if options.width is None and options.height is None:
        return picture
    if options.fit == "crop":
        return middle(picture, box)
    whole = scaled(picture.size, box, options.fit, enlarge=options.enlarge)
    if whole != picture.size:
        picture = picture.resize(whole, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return middle(picture, box) if options.fit == "fill" else picture


def _for_vips(picture: Image.Image, kept: dict[str, bytes]) -> pyvips.Image:
    """The same picture as libvips holds it."""
    bands = len(picture.getbands())
    image = pyvips.Image.new_from_memory(picture.tobytes(), picture.width, picture.height, bands, "uchar")
    image = image.copy(interpretation=_VIPS_MODES[picture.mode])
    for name, data in kept.items():
        if name in _VIPS_FIELDS:
            image.set_type(pyvips.GValue.blob_type, _VIPS_FIELDS[name], data)
    return image


def _source(path: Path, operation: str) -> tuple[Any, Any]:
    """The form in which an operation takes a file, and the file in that form.

    It is never the file's name: libvips would read options out of one that ends in brackets. A file that libvips would
    map into memory is given as bytes, because the worker would die if a mapped file were cut.
    """
    with path.open("rb") as file:
        mapped = file.read(_HEAD).startswith(_MAPPED)
    if mapped:
        return getattr(pyvips.Image, f"{operation}_buffer"), path.read_bytes()
    return getattr(pyvips.Image, f"{operation}_source"), pyvips.Source.new_from_file(os.fspath(path))


def _upright(picture: pyvips.Image, orientation: int, hold: Hold) -> pyvips.Image:
    """The picture turned, without the tag that says so. A streamed picture gives its rows only in their order."""
    if orientation > _MIRRORED:
        picture = hold(picture)
    picture = picture.copy()
    picture.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    return picture.autorot()


def _with_exif(picture: pyvips.Image, path: Path) -> pyvips.Image:
    """The picture with the tags of a TIFF, which libvips does not read."""
    with open_picture(path, MAX_IMAGE_PIXELS) as image, blame_picture(path):
        exif = telling_exif(image)
    if exif:
        picture = picture.copy()
        picture.set_type(pyvips.GValue.blob_type, _EXIF, exif)
    return picture


def _to_srgb(picture: pyvips.Image) -> pyvips.Image:
    """Converted by the picture's own profile. Inks that no profile describes are taken for the usual ones."""
    how = {"depth": 16 if picture.format == "ushort" else 8, "intent": _INTENT}
    if picture.get_typeof("icc-profile-data"):
        try:
            return picture.icc_transform("srgb", embedded=True, **how)
        except pyvips.Error:  # a broken profile says nothing about the pixels
            pass
    return picture.icc_transform("srgb", input_profile="cmyk", **how) if picture.interpretation == "cmyk" else picture


def _middle(picture: pyvips.Image, options: ImageConvertOptions) -> pyvips.Image:
    width = min(picture.width, options.width or picture.width)
    height = min(picture.height, options.height or picture.height)
    return picture.extract_area((picture.width - width) // 2, (picture.height - height) // 2, width, height)


def _write_with_vips(
    context: TaskContext[ImageConvertOptions], picture: pyvips.Image, kind: str, part: tuple[float, float] = (0.0, 1.0)
) -> PixelSize:
    """Write a picture that is in shape to `output_part`; its width and height. Raises VipsCannotError, or OSError.

    `part` is where writing begins in the whole work, and its share of it.
    """
    check_sides((picture.width, picture.height), kind)
    with _words_of_libvips():
        if kind == "JPEG" and picture.hasalpha():
            picture = _on_paper(picture, context.options.background)
        _save_with_vips(context, picture, kind, part)
    if kind == "TIFF" and context.options.metadata == "keep" and picture.get_typeof(_EXIF):
        with writing(context.output_part):
            add_exif(context.output_part, picture.get(_EXIF))
    return picture.width, picture.height


def _on_paper(picture: pyvips.Image, background: str) -> pyvips.Image:
    """The picture without transparency. It gets 8 bits first, because the paper's colour is given in 8 bits."""
    paper = list(bytes.fromhex(background[1:]))
    if picture.bands < 3 and len(set(paper)) == 1:  # noqa: PLR2004 - grey on grey stays grey
        return picture.colourspace("b-w").flatten(background=paper[:1])
    return picture.colourspace("srgb").flatten(background=paper)


def _save_with_vips(
    context: TaskContext[ImageConvertOptions], picture: pyvips.Image, kind: str, part: tuple[float, float]
) -> None:
    options = context.options
    target = pyvips.Target.new_to_file(os.fspath(context.output_part))
    save, parameters = _saver(kind, options)
    keep = "all" if options.metadata == "keep" else "icc" if options.colour == "keep" else "none"
    words = f"converting {picture.width}x{picture.height} to {kind.lower()}"
    with _stoppable(context, picture, words, part) as watched:
        try:
            getattr(watched, save)(target, keep=keep, **parameters)
        except pyvips.Error as error:
            fault = disk_fault(error, context.output_part)
            if fault is None:
                raise
            raise fault from error


def _saver(kind: str, options: ImageConvertOptions) -> tuple[str, dict[str, Any]]:
    """The name of libvips' save operation, and its parameters."""
    match kind:
        case "JPEG":
            return "jpegsave_target", {"Q": options.quality, "optimize_coding": True}
        case "PNG":
            return "pngsave_target", {}
        case "WEBP":
            return "webpsave_target", {"Q": options.quality, "lossless": options.lossless}
        case "AVIF":
            return "heifsave_target", {"Q": options.quality, "lossless": options.lossless, "compression": "av1"}
        case "TIFF":
            return "tiffsave_target", {"compression": "deflate", "predictor": "horizontal"}
        case _:
            return "gifsave_target", {}


@contextmanager
def _stoppable(
    context: TaskContext[ImageConvertOptions], picture: pyvips.Image, words: str, part: tuple[float, float]
) -> Iterator[pyvips.Image]:
    """A copy of the picture that reports progress while it is computed inside, and stops when that is asked for.

    Raises StopAsked only after libvips has returned: an exception must not pass through its callback.
    """
    watched = picture.copy()  # the signal must not be on a picture that others share
    watched.set_progress(True)
    asked = False

    def tick(image: pyvips.Image, progress: Any) -> None:
        nonlocal asked
        context.progress(100 * part[0] + part[1] * progress.percent, words)
        if not asked and context.should_stop():
            asked = True
            image.set_kill(True)

    watched.signal_connect("eval", tick)
    try:
        yield watched
    except (pyvips.Error, OSError) as error:
        if asked:
            raise StopAsked from error
        raise
    if asked:  # too late for libvips to notice
        raise StopAsked


@contextmanager
def _words_of_libvips() -> Iterator[None]:
    """Turn libvips' errors into VipsCannotError with the last line that it says."""
    try:
        yield
    except pyvips.Error as error:
        lines = [line.strip() for line in error_text(error).splitlines() if line.strip()]
        raise VipsCannotError(lines[-1] if lines else "without a word") from error
