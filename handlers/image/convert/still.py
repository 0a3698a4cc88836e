"""Converts one picture: with libvips where possible, which holds only the rows it works on; otherwise with Pillow."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec
import pyvips
from PIL import Image, ImageOps

from ...contract import StopAsked, TaskContext, Unusable
from ...io_errors import disk_fault, error_text, writing
from ...media.damage import unreadable
from ...media.formats import check_sides
from ...media.pictures import save, write_picture
from ..limits import MAX_IMAGE_PIXELS, MAX_PILLOW_PIXELS
from ..opening import blame_picture, open_picture
from ..shaping import PixelSize, lies_sideways, middle, orientation_of, plain_mode, scaled, to_srgb, upright
from .estimate import NO_BOX, ImageHeader
from .metadata import NO_METADATA, KeptMetadata, add_to_jpeg, add_to_tiff, for_pillow, metadata_of, photoshop_block
from .options import PILLOW_WRITES, VIPS_READS, ImageConvertOptions, bits_written
from .palette import exact_palette, fewer_colours

pyvips.block_untrusted_set(state=True)  # loaders that run programs or follow references inside the file
pyvips.cache_set_max(0)  # each task has another picture, and the cache would keep files open

_WITHOUT_PROFILE = frozenset({"GIF", "BMP"})
HOLDS_INKS = frozenset({"JPEG", "TIFF"})
_NEVER_GREY = frozenset({"WEBP", "AVIF"})
_EXIF, _ICC = "exif-data", "icc-profile-data"
_BYTE = 8
_PREVIEW = ("exif-ifd1-", "jpeg-thumbnail-data")
"""Beginnings of libvips' names for the small preview in EXIF. Without these fields it writes none."""
_REPLACED = ("xmp-data", "iptc-data", "photoshop-data", "png-comment-", "gif-comment")
"""Beginnings of its names for fields that `KeptMetadata` replaces."""
_MAPPED = (b"\xff\xd8\xff", b"GIF8", b"RIFF")
"""First bytes of files that libvips maps into memory: JPEG, GIF, WebP."""
_HEAD = 8
_INTENT = "perceptual"
"""How colours outside of sRGB are treated: as for a photo on a screen, and as Pillow does in thumbnails."""
_MIRRORED = 2
"""EXIF orientations up to this one keep the order of rows, so that the rows need not be held."""
_SHALLOW = {"grey16": "b-w", "cmyk": "cmyk"}
"""libvips' names for pictures of 16 bits per channel → its names with 8 bits; RGB otherwise."""
_OVERHANG = 4
"""How many times larger than its box a picture may become that fills it, before it is cut."""
_BORDER = 8
"""Pixels beside the middle that are kept for the filter."""
_READ_SHARE = 0.5
"""The share of the progress for reading, if the whole picture is read before it is written."""
_ENCODED_WHOLE = frozenset({"WEBP", "AVIF", "GIF"})
"""Formats that are encoded when libvips has read all, and reports nothing more."""
_MM_IN_AN_INCH = 25.4
_CHECKING = 0.99
"""The share of the progress that is done before the result is checked."""
_VIPS_MODES = {"L": "b-w", "RGB": "srgb", "RGBA": "srgb", "CMYK": "cmyk"}
"""Pillow's modes → libvips' names for them."""


class WrittenStill(NamedTuple):
    """The facts about a written picture."""

    size: PixelSize
    """Width and height."""
    seconds: float = 0.0
    """Playing time."""
    lost: tuple[str, ...] = ()
    """Notes on what the format could not hold of the pixels or the animation."""


Hold: TypeAlias = Callable[[pyvips.Image], pyvips.Image]
"""Loads a streamed picture into memory, so that its pixels can be read in any order."""


class VipsCannotError(Exception):
    """libvips cannot read or write the picture. The text is libvips' own, and does not say what is at fault."""


def convert_still(context: TaskContext[ImageConvertOptions], kind: str, header: ImageHeader) -> WrittenStill:
    """Write the first picture of the input to `output_part`.

    If libvips refuses it, Pillow tries again, and its result counts.

    Raises:
        Unusable: the picture cannot be read or written.
        OSError: the disk is at fault.
        StopAsked: the attempt must end.
    """
    options = holdable(context.options, header, kind)
    bits = bits_written(options, kind, header.bits)
    if header.grey_bits < _BYTE and kind == "PNG" and options.depth == "auto" and not _is_resized(options):
        bits = header.grey_bits
    if kind == "PNG" and _keeps_palette(options, header):
        return _convert_with_palette(context, options)
    by_pillow = _BYTE if header.bits > _BYTE else bits  # Pillow decodes at most 8, and the notes must say so
    if header.format not in VIPS_READS or kind in PILLOW_WRITES or _coloured_wrongly(header):
        return _convert_with_pillow(context, options, kind, by_pillow)
    try:
        return _convert_with_vips(context, options, kind, header, bits)
    except VipsCannotError as error:
        context.output_part.unlink(missing_ok=True)
        if header.pixels > MAX_PILLOW_PIXELS:
            raise unreadable(context.input_file, "libvips", str(error)) from error
        return _convert_with_pillow(context, options, kind, by_pillow)


def holdable(
    options: ImageConvertOptions, header: ImageHeader, kind: str, *, several: bool = False
) -> ImageConvertOptions:
    """The options, with profile `srgb` if the output cannot hold the pixels together with their own profile.

    `several` frames are RGB or grey until they are put together.
    """
    inks = header.inks and (several or kind not in HOLDS_INKS)
    if kind in _WITHOUT_PROFILE or inks or (header.grey_profile and kind in _NEVER_GREY):
        return msgspec.structs.replace(options, profile="srgb")
    return options


def _keeps_palette(options: ImageConvertOptions, header: ImageHeader) -> bool:
    """Whether the pixels stay numbers of colours, which take a third of the room."""
    if not header.palette or header.pixels > MAX_PILLOW_PIXELS or _is_resized(options):
        return False
    return options.depth == "auto" and options.profile == "keep"


def _is_resized(options: ImageConvertOptions) -> bool:
    return options.fit != "crop" and (options.width is not None or options.height is not None)


def _coloured_wrongly(header: ImageHeader) -> bool:
    """Whether libvips would give pixels wrong colours, as libheif does outside in a turned odd-sized AVIF."""
    if header.brightness_apart:
        return True
    odd = header.width % 2 or header.height % 2
    return header.format == "AVIF" and header.orientation != 1 and bool(odd) and header.pixels <= MAX_PILLOW_PIXELS


def _convert_with_vips(
    context: TaskContext[ImageConvertOptions], options: ImageConvertOptions, kind: str, header: ImageHeader, bits: int
) -> WrittenStill:
    share = 0.0

    def hold(picture: pyvips.Image) -> pyvips.Image:
        nonlocal share
        share = _READ_SHARE
        with _stoppable(context, picture, f"reading {picture.width}x{picture.height}", (0.0, share)) as watched:
            return watched.copy_memory()

    with _words_of_libvips():
        picture = shaped_still(
            context.input_file, options, header.left, hold, inks=header.inks, deep=min(bits, header.bits) > _BYTE
        )
    kept = NO_METADATA
    if options.metadata == "keep" and header.tells:
        with open_picture(context.input_file, MAX_IMAGE_PIXELS) as image, blame_picture(context.input_file):
            kept = metadata_of(image)
    return _write_with_vips(context, options, picture, kind, bits, kept, (share, 1 - share))


def _convert_with_palette(context: TaskContext[ImageConvertOptions], options: ImageConvertOptions) -> WrittenStill:
    """Write a PNG with the palette of the source, which Pillow keeps: libvips reads colours, and chooses a palette."""
    with open_picture(context.input_file, MAX_PILLOW_PIXELS) as image, blame_picture(context.input_file):
        image.load()
        kept = metadata_of(image) if options.metadata == "keep" else NO_METADATA
        picture = upright(image, orientation_of(image))
    context.check_stop()
    context.progress(100 * _READ_SHARE, f"converting {picture.width}x{picture.height} to png")
    if options.fit == "crop":
        picture = middle(picture, (options.width or picture.width, options.height or picture.height))
    check_sides(picture.size, "PNG")
    save(picture, context.output_part, "PNG", **for_pillow(kept, "PNG"))
    return WrittenStill(picture.size)


def _convert_with_pillow(
    context: TaskContext[ImageConvertOptions], options: ImageConvertOptions, kind: str, bits: int
) -> WrittenStill:
    """Read with Pillow, and write with libvips if possible."""
    with open_picture(context.input_file, MAX_PILLOW_PIXELS) as image, blame_picture(context.input_file):
        image.load()
        kept = metadata_of(image) if options.metadata == "keep" else NO_METADATA
    context.check_stop()
    context.progress(100 * _READ_SHARE, f"converting {image.width}x{image.height} to {kind.lower()}")
    picture = shaped_by_pillow(image, options)
    if kind not in PILLOW_WRITES:
        try:
            return _write_with_vips(
                context, options, _for_vips(picture), kind, bits, kept, (_READ_SHARE, 1 - _READ_SHARE)
            )
        except VipsCannotError as error:
            raise Unusable(
                f"{context.input_file.name} can be read, but libvips cannot write it as {kind.lower()} ({error}): "
                "take another format"
            ) from error
    check_sides(picture.size, kind)
    told = for_pillow(kept, kind) | {name: picture.info[name] for name in ("icc_profile",) if name in picture.info}
    write_picture(picture, context.output_part, kind, quality=options.quality, background=options.background, **told)
    return WrittenStill(picture.size)


def shaped_still(
    path: Path,
    options: ImageConvertOptions,
    orientation: int,
    hold: Hold,
    *,
    inks: bool = False,
    deep: bool = False,
) -> pyvips.Image:
    """The picture by libvips: upright, in its new size and colours; as far as possible, not yet decoded.

    libvips is given the orientation: it looks in fewer places than Pillow, and would leave some pictures on their side.
    `inks`: the picture is CMYK. `deep`: it has more than 8 bits per channel, and keeps them.
    """
    resized = _is_resized(options)
    profile = {"output_profile": "srgb"} if options.profile == "srgb" else {}
    usual = {"input_profile": "cmyk"} if profile and inks else {}
    if resized and not deep and not (inks and not profile):  # `thumbnail` would make them RGB of 8 bits
        box = (options.width or NO_BOX, options.height or NO_BOX)
        width, height = box[::-1] if lies_sideways(orientation) else box
        how = {
            "height": height,
            "size": "both" if options.enlarge or options.fit == "fill" else "down",
            "crop": "centre" if options.fit == "fill" else "none",
            "no_rotate": True,
            "intent": _INTENT,
            **profile,
            **usual,
        }
        if options.fit == "fill":
            picture = _loaded(path)
            cut = _without_overhang(picture, (width, height))
            if cut is not picture:
                return _upright(cut.thumbnail_image(width, **how), orientation, hold)
            del picture, cut  # they may hold the whole file
        thumbnail, source = _source(path, "thumbnail")
        # `option_string` is for the loader, which does not get the parameter of that name.
        return _upright(thumbnail(source, width, option_string="fail_on=error", **how), orientation, hold)
    picture = _upright(_loaded(path), orientation, hold)
    if profile:
        picture = _to_srgb(picture)
    if options.fit == "crop":
        return _middle(picture, options)
    return _resized(picture, options) if resized else picture


def _loaded(path: Path) -> pyvips.Image:
    """The stored picture, which gives its rows in order."""
    load, source = _source(path, "new_from")
    return load(source, "", access="sequential", fail_on="error")


def _without_overhang(picture: pyvips.Image, box: PixelSize) -> pyvips.Image:
    """The middle that is to fill the box, and a little more, if the picture is enlarged and far longer; else all of it.

    libvips computes each row before the middle in its new size, and a picture that is enlarged has very many of them.
    """
    over = scaled((picture.width, picture.height), box, "fill")
    if over[0] <= picture.width or over[0] * over[1] <= _OVERHANG * box[0] * box[1]:
        return picture
    longest = [
        math.ceil(side * part / whole) + _BORDER for side, part, whole in zip(_size(picture), box, over, strict=True)
    ]
    # The middle stays where it is: the same number of pixels goes on both sides.
    beside = [max(0, side - long) // 2 for side, long in zip(_size(picture), longest, strict=True)]
    return picture.extract_area(*beside, picture.width - 2 * beside[0], picture.height - 2 * beside[1])


def _size(picture: pyvips.Image) -> PixelSize:
    return picture.width, picture.height


def _resized(picture: pyvips.Image, options: ImageConvertOptions) -> pyvips.Image:
    """The picture in its new size, with its depth and its inks."""
    box = (options.width or NO_BOX, options.height or NO_BOX)
    picture = _without_overhang(picture, box) if options.fit == "fill" else picture
    size = scaled((picture.width, picture.height), box, options.fit, enlarge=options.enlarge)
    if size != (picture.width, picture.height):
        form, alpha = picture.format, picture.hasalpha()
        picture = picture.premultiply() if alpha else picture
        picture = picture.resize(size[0] / picture.width, vscale=size[1] / picture.height)
        picture = (picture.unpremultiply() if alpha else picture).cast(form)
    return _middle(picture, options) if options.fit == "fill" else picture


def shaped_by_pillow(picture: Image.Image, options: ImageConvertOptions) -> Image.Image:
    """A decoded picture, upright, in its new size and colours. If its profile is kept, it stays in `info`."""
    orientation = orientation_of(picture)
    profile = picture.info.get("icc_profile")
    plain = plain_mode(picture)
    box = (options.width or NO_BOX, options.height or NO_BOX)
    if lies_sideways(orientation):
        box = box[::-1]
    turned = upright(_sized(plain, box, options), orientation)
    if options.profile == "srgb":
        return to_srgb(turned, profile)
    turned.info = {"icc_profile": profile} if profile else {}
    return turned


def _sized(picture: Image.Image, box: PixelSize, options: ImageConvertOptions) -> Image.Image:
    if options.width is None and options.height is None:
        return picture
    if options.fit == "crop":
        return middle(picture, box)
    if options.fit == "fill":  # cut first: of a long, narrow picture the whole would be many times the box
        return ImageOps.fit(picture, box, Image.Resampling.LANCZOS)
    whole = scaled(picture.size, box, options.fit, enlarge=options.enlarge)
    if whole == picture.size:
        return picture
    return picture.resize(whole, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _for_vips(picture: Image.Image) -> pyvips.Image:
    """The same picture and profile as a libvips image."""
    bands = len(picture.getbands())
    image = pyvips.Image.new_from_memory(picture.tobytes(), picture.width, picture.height, bands, "uchar")
    image = image.copy(interpretation=_VIPS_MODES[picture.mode])
    if profile := picture.info.get("icc_profile"):
        image.set_type(pyvips.GValue.blob_type, _ICC, profile)
    return image


def _source(path: Path, operation: str) -> tuple[Any, Any]:
    """The variant of an operation that reads a file, and its argument.

    The argument is never the file's name: libvips would read options from a name that ends in brackets. A file that
    libvips would map into memory is passed as bytes, because the worker would die if a mapped file were cut.
    """
    with path.open("rb") as file:
        mapped = file.read(_HEAD).startswith(_MAPPED)
    if mapped:
        return getattr(pyvips.Image, f"{operation}_buffer"), path.read_bytes()
    return getattr(pyvips.Image, f"{operation}_source"), pyvips.Source.new_from_file(os.fspath(path))


def _upright(picture: pyvips.Image, orientation: int, hold: Hold) -> pyvips.Image:
    """The picture turned upright, without its orientation tag. A streamed picture gives its rows only in order."""
    if orientation > _MIRRORED:
        picture = hold(picture)
    picture = picture.copy()
    picture.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    return picture.autorot()


def _with_metadata(picture: pyvips.Image, kept: KeptMetadata, kind: str) -> pyvips.Image:
    """The picture with the metadata that the format can hold; EXIF that libvips has read stays as it is."""
    picture = picture.copy()
    for name in picture.get_fields():
        if name.startswith((*_PREVIEW, *_REPLACED)):
            picture.remove(name)
    if kept.resolution:
        picture = picture.copy(xres=kept.resolution[0] / _MM_IN_AN_INCH, yres=kept.resolution[1] / _MM_IN_AN_INCH)
    blobs = {"xmp-data": kept.xmp, "iptc-data": photoshop_block(kept.iptc) if kind == "JPEG" else b""}
    if not picture.get_typeof(_EXIF):  # it reads none from a TIFF
        blobs[_EXIF] = kept.exif
    for name, data in blobs.items():
        if data:
            picture.set_type(pyvips.GValue.blob_type, name, data)
    for number, (keyword, text) in enumerate(kept.comments):
        picture.set_type(pyvips.GValue.gstr_type, f"png-comment-{number}-{keyword}", text)
    return picture


def _to_srgb(picture: pyvips.Image) -> pyvips.Image:
    """Convert by the picture's own profile. CMYK without a profile counts as the usual inks."""
    how = {"depth": 16 if picture.format == "ushort" else 8, "intent": _INTENT}
    if picture.get_typeof(_ICC):
        try:
            return picture.icc_transform("srgb", embedded=True, **how)
        except pyvips.Error:  # a broken profile says nothing about the pixels
            pass
    return picture.icc_transform("srgb", input_profile="cmyk", **how) if picture.interpretation == "cmyk" else picture


def _middle(picture: pyvips.Image, options: ImageConvertOptions) -> pyvips.Image:
    width = min(picture.width, options.width or picture.width)
    height = min(picture.height, options.height or picture.height)
    return picture.extract_area((picture.width - width) // 2, (picture.height - height) // 2, width, height)


def _in_bits(picture: pyvips.Image, bits: int) -> pyvips.Image:
    """The picture with 8 bits per channel, or with 16 for anything above: libvips has nothing between."""
    if picture.format == "ushort" and bits <= _BYTE:
        return picture.cast("uchar", shift=True).copy(interpretation=_SHALLOW.get(picture.interpretation, "srgb"))
    if picture.format == "uchar" and bits > _BYTE:
        deep = (picture * 257).cast("ushort")
        return deep.copy(interpretation={"b-w": "grey16", "srgb": "rgb16"}.get(picture.interpretation, "cmyk"))
    return picture


def _write_with_vips(
    context: TaskContext[ImageConvertOptions],
    options: ImageConvertOptions,
    picture: pyvips.Image,
    kind: str,
    bits: int,
    kept: KeptMetadata,
    part: tuple[float, float] = (0.0, 1.0),
) -> WrittenStill:
    """Write a shaped picture to `output_part`. Raises VipsCannotError, or OSError.

    `part`: where writing begins within the whole work, and its share of it.
    """
    check_sides((picture.width, picture.height), kind)
    with _words_of_libvips():
        if kind == "JPEG" and picture.hasalpha():
            picture = _on_paper(picture, options.background)
        picture = _in_bits(picture, bits)
        bits = bits if picture.bands == 1 else max(bits, _BYTE)
        if kind == "GIF":
            return _write_gif(context, options, picture, part)
        if kept != NO_METADATA:
            picture = _with_metadata(picture, kept, kind)
        _save_with_vips(context, options, picture, kind, bits, "icc" if kept == NO_METADATA else "all", part)
    if kept != NO_METADATA:
        with writing(context.output_part):
            if kind == "TIFF":
                exif = picture.get(_EXIF) if picture.get_typeof(_EXIF) else b""
                add_to_tiff(context.output_part, exif, kept.iptc)
            elif kind == "JPEG" and kept.comments:
                add_to_jpeg(context.output_part, "\n".join(text for _keyword, text in kept.comments))
    return WrittenStill((picture.width, picture.height))


def _write_gif(
    context: TaskContext[ImageConvertOptions],
    options: ImageConvertOptions,
    picture: pyvips.Image,
    part: tuple[float, float],
) -> WrittenStill:
    """Write it with its exact colours, if they are few; otherwise libvips chooses colours."""
    begin, share = part[0], part[1] / 2
    with _stoppable(context, picture.colourspace("srgb"), "looking at the colours", (begin, share)) as watched:
        held = watched.copy_memory()
    mode, size = "RGBA" if held.hasalpha() else "RGB", (held.width, held.height)
    exact = exact_palette(Image.frombytes(mode, size, held.write_to_memory()))
    if exact is None:
        _save_with_vips(context, options, held, "GIF", _BYTE, "icc", (begin + share, share))
    else:
        save(exact, context.output_part, "GIF", optimize=False)
    return WrittenStill(size, lost=() if exact else (fewer_colours(),))


def decode_still(context: TaskContext[ImageConvertOptions], path: Path) -> None:
    """Decode a picture of any size to its end. Raises VipsCannotError if that fails."""
    with _words_of_libvips():
        load, source = _source(path, "new_from")
        picture = load(source, "", access="sequential", fail_on="error")
        with _stoppable(context, picture, "checking the result", (_CHECKING, 1 - _CHECKING)) as watched:
            watched.avg()


def _on_paper(picture: pyvips.Image, background: str) -> pyvips.Image:
    """The picture without transparency. It gets 8 bits first, because the background's colour has 8 bits."""
    paper = list(bytes.fromhex(background[1:]))
    if picture.bands < 3 and len(set(paper)) == 1:  # noqa: PLR2004 - grey on grey stays grey
        return picture.colourspace("b-w").flatten(background=paper[:1])
    return picture.colourspace("srgb").flatten(background=paper)


def _save_with_vips(
    context: TaskContext[ImageConvertOptions],
    options: ImageConvertOptions,
    picture: pyvips.Image,
    kind: str,
    bits: int,
    keep: str,
    part: tuple[float, float],
) -> None:
    if options.profile == "srgb" and picture.get_typeof(_ICC):  # a file without a profile counts as sRGB
        picture = picture.copy()
        picture.remove(_ICC)
    target = pyvips.Target.new_to_file(os.fspath(context.output_part))
    save, parameters = _saver(kind, options, bits)
    words = f"converting {picture.width}x{picture.height} to {kind.lower()}"
    part = (part[0], part[1] * _READ_SHARE) if kind in _ENCODED_WHOLE else part
    with _stoppable(context, picture, words, part) as watched:
        try:
            getattr(watched, save)(target, keep=keep, **parameters)
        except pyvips.Error as error:
            fault = disk_fault(error, context.output_part)
            if fault is None:
                raise
            raise fault from error


def _saver(kind: str, options: ImageConvertOptions, bits: int) -> tuple[str, dict[str, Any]]:
    """The name of libvips' save operation, and its parameters."""
    match kind:
        case "JPEG":
            return "jpegsave_target", {"Q": options.quality, "optimize_coding": True}
        case "PNG":
            # Without the filters a photo takes half as much again; of few bits a pixel they make more.
            return "pngsave_target", {"filter": "all"} if bits >= _BYTE else {"bitdepth": bits}
        case "WEBP":
            return "webpsave_target", {"Q": options.quality, "lossless": options.lossless}
        case "AVIF":
            usual = {"Q": options.quality, "lossless": options.lossless, "compression": "av1"}
            return "heifsave_target", usual | ({"bitdepth": bits} if bits > _BYTE else {})
        case "TIFF":
            return "tiffsave_target", {"compression": "deflate", "predictor": "horizontal"}
        case _:
            return "gifsave_target", {}


@contextmanager
def _stoppable(
    context: TaskContext[ImageConvertOptions], picture: pyvips.Image, words: str, part: tuple[float, float]
) -> Iterator[pyvips.Image]:
    """A copy of the picture that reports progress while it is computed inside, and stops on request.

    Raises StopAsked only after libvips has returned: an exception must not pass through its callback.
    """
    watched = picture.copy()  # the signal must not be on a shared picture
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
    """Turn libvips' errors into VipsCannotError, with the last line of their text."""
    try:
        yield
    except pyvips.Error as error:
        lines = [line.strip() for line in error_text(error).splitlines() if line.strip()]
        raise VipsCannotError(lines[-1] if lines else "without an error message") from error
