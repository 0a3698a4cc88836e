"""One picture through libvips, which holds only the rows it works on where the format lets it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pyvips

from ...contract import TaskContext
from ...faults import disk_fault, text_of, writing
from ...media.formats import MAX_PIXELS, check_sides
from ..opening import blame_picture, open_picture
from ..shaping import Size, lies_sideways
from .errors import StopAskedError
from .metadata import add_exif, telling_exif
from .options import ImageConvertOptions

pyvips.block_untrusted_set(state=True)  # loaders that run programs or follow references inside the file
pyvips.cache_set_max(0)  # each task has another picture, and an open file is a held one

_HUGE = 10_000_000
"""Stands for no limit on one side of the box."""
_EXIF = "exif-data"
_MAPPED = (b"\xff\xd8\xff", b"GIF8", b"RIFF")
"""How files begin that libvips maps: JPEG, GIF, WebP."""
_HEAD = 8
_INTENT = "perceptual"
"""What is done with colours that sRGB has not: as for a photo on a screen, and as Pillow does it in thumbnails."""
_MIRRORED = 2
"""Up to here, an EXIF orientation leaves the rows in their order, and they need not be held."""
_READ_SHARE = 0.5
"""Of the progress, where the picture is read as a whole before it is written."""

Hold: TypeAlias = Callable[[pyvips.Image], pyvips.Image]
"""Takes a picture that is streamed into memory, so that its pixels can be asked for in any order."""


class VipsCannotError(Exception):
    """libvips cannot read the picture, or not write it; its words. Whose fault that is, they do not tell."""


def convert_still(
    context: TaskContext[ImageConvertOptions], kind: str, orientation: int, *, inks: bool = False
) -> Size:
    """Write the first picture of the input to `output_part`, turned upright by `orientation`; its width and height.

    `inks` says that it is CMYK.

    Raises VipsCannotError, or OSError.
    """
    share = 0.0

    def hold(picture: pyvips.Image) -> pyvips.Image:
        nonlocal share
        share = _READ_SHARE
        with _stoppable(context, picture, f"reading {picture.width}x{picture.height}", (0.0, share)) as watched:
            return watched.copy_memory()

    with _words_of_libvips():
        picture = shaped(context.input_file, context.options, orientation, hold, inks=inks)
    if context.options.metadata == "keep" and not picture.get_typeof(_EXIF):
        picture = _with_exif(picture, context.input_file)
    return write_still(context, picture, kind, (share, 1 - share))


def write_still(
    context: TaskContext[ImageConvertOptions], picture: pyvips.Image, kind: str, part: tuple[float, float] = (0.0, 1.0)
) -> Size:
    """Write a picture that is in shape to `output_part`; its width and height. Raises VipsCannotError, or OSError.

    `part` is where this work begins in the whole, and how much of it it is.
    """
    check_sides((picture.width, picture.height), kind)
    with _words_of_libvips():
        if kind == "JPEG" and picture.hasalpha():
            picture = _on_paper(picture, context.options.background)
        _write(context, picture, kind, part)
    if kind == "TIFF" and context.options.metadata == "keep" and picture.get_typeof(_EXIF):
        with writing(context.output_part):
            add_exif(context.output_part, picture.get(_EXIF))
    return picture.width, picture.height


def shaped(
    path: Path, options: ImageConvertOptions, orientation: int, hold: Hold, *, inks: bool = False
) -> pyvips.Image:
    """The picture upright, in its size and colours; as far as it can be, not yet decoded.

    libvips is told the orientation: it takes it from fewer places than Pillow, and would leave some pictures lying.
    """
    resized = options.fit != "crop" and (options.width is not None or options.height is not None)
    profile = {"output_profile": "srgb"} if options.colour == "srgb" else {}
    usual = {"input_profile": "cmyk"} if profile and inks else {}
    if resized:
        thumbnail, source = _source(path, "thumbnail")
        box = (options.width or _HUGE, options.height or _HUGE)
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


def _upright(picture: pyvips.Image, orientation: int, hold: Hold) -> pyvips.Image:
    """Turned, and without the tag that says so. A picture that is streamed gives its rows in their order alone."""
    if orientation > _MIRRORED:
        picture = hold(picture)
    picture = picture.copy()
    picture.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    return picture.autorot()


def _source(path: Path, operation: str) -> tuple[Any, Any]:
    """The way that an operation begins with a file, and what it is given.

    Never its name: libvips would read options out of one that ends in brackets. Where it would map the file into memory
    it is given the bytes, for it would die if the file were cut, and the worker with it.
    """
    with path.open("rb") as file:
        mapped = file.read(_HEAD).startswith(_MAPPED)
    if mapped:
        return getattr(pyvips.Image, f"{operation}_buffer"), path.read_bytes()
    return getattr(pyvips.Image, f"{operation}_source"), pyvips.Source.new_from_file(os.fspath(path))


def _with_exif(picture: pyvips.Image, path: Path) -> pyvips.Image:
    """With what libvips does not read: the tags of a TIFF."""
    with open_picture(path, MAX_PIXELS) as image, blame_picture(path):
        exif = telling_exif(image)
    if exif:
        picture = picture.copy()
        picture.set_type(pyvips.GValue.blob_type, _EXIF, exif)
    return picture


def _to_srgb(picture: pyvips.Image) -> pyvips.Image:
    """By its own profile; inks that no profile describes, by the usual one."""
    how = {"depth": 16 if picture.format == "ushort" else 8, "intent": _INTENT}
    if picture.get_typeof("icc-profile-data"):
        try:
            return picture.icc_transform("srgb", embedded=True, **how)
        except pyvips.Error:  # a broken profile says nothing about the pixels
            pass
    return picture.icc_transform("srgb", input_profile="cmyk", **how) if picture.interpretation == "cmyk" else picture


def _on_paper(picture: pyvips.Image, background: str) -> pyvips.Image:
    """Without transparency. In 8 bits first: the colour of the paper is told in 8, whatever the picture has."""
    paper = list(bytes.fromhex(background[1:]))
    if picture.bands < 3 and len(set(paper)) == 1:  # noqa: PLR2004 - grey on grey stays grey
        return picture.colourspace("b-w").flatten(background=paper[:1])
    return picture.colourspace("srgb").flatten(background=paper)


def _middle(picture: pyvips.Image, options: ImageConvertOptions) -> pyvips.Image:
    width = min(picture.width, options.width or picture.width)
    height = min(picture.height, options.height or picture.height)
    return picture.extract_area((picture.width - width) // 2, (picture.height - height) // 2, width, height)


def _write(
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


@contextmanager
def _stoppable(
    context: TaskContext[ImageConvertOptions], picture: pyvips.Image, words: str, part: tuple[float, float]
) -> Iterator[pyvips.Image]:
    """A view of the picture: whoever computes it inside tells how far it is. Raises StopAskedError if asked to end."""
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
            raise StopAskedError from error
        raise
    if asked:  # too late to be noticed
        raise StopAskedError


def _saver(kind: str, options: ImageConvertOptions) -> tuple[str, dict[str, Any]]:
    """The save operation and its parameters."""
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
def _words_of_libvips() -> Iterator[None]:
    try:
        yield
    except pyvips.Error as error:
        lines = [line.strip() for line in text_of(error).splitlines() if line.strip()]
        raise VipsCannotError(lines[-1] if lines else "without a word") from error
