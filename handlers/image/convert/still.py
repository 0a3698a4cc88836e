"""One picture through libvips, which holds only the rows it works on where the format lets it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyvips

from ...contract import TaskContext, Unusable
from ...faults import disk_fault, writing
from ..formats import MAX_PIXELS, check_sides
from ..opening import open_picture
from ..shaping import Size
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


class CannotDecodeError(Unusable):
    """libvips cannot read the picture, or not to its end."""


def convert_still(context: TaskContext[ImageConvertOptions], kind: str) -> Size:
    """Write the first picture of the input to `output_part`; its width and height. Raises CannotDecodeError."""
    with _blamed(context.input_file.name):
        picture = _shaped(context.input_file, context.options)
    if context.options.metadata == "keep" and not picture.get_typeof(_EXIF):
        picture = _with_exif(picture, context.input_file)
    return write_still(context, picture, kind)


def write_still(context: TaskContext[ImageConvertOptions], picture: pyvips.Image, kind: str) -> Size:
    """Write a picture that is in shape to `output_part`; its width and height. Raises CannotDecodeError, or OSError."""
    check_sides((picture.width, picture.height), kind)
    with _blamed(context.input_file.name):
        if kind == "JPEG" and picture.hasalpha():
            picture = _on_paper(picture, context.options.background)
        _write(context, picture, kind)
    if kind == "TIFF" and context.options.metadata == "keep" and picture.get_typeof(_EXIF):
        with writing(context.output_part):
            add_exif(context.output_part, picture.get(_EXIF))
    return picture.width, picture.height


def _shaped(path: Path, options: ImageConvertOptions) -> pyvips.Image:
    resized = options.fit != "crop" and (options.width is not None or options.height is not None)
    profile = {"output_profile": "srgb"} if options.colour == "srgb" else {}
    if resized:
        thumbnail, source = _source(path, "thumbnail")
        return thumbnail(
            source,
            options.width or _HUGE,
            height=options.height or _HUGE,
            size="both" if options.enlarge or options.fit == "fill" else "down",
            crop="centre" if options.fit == "fill" else "none",
            option_string="fail_on=error",  # for the loader, which is not given the parameter of that name
            **profile,
        )
    load, source = _source(path, "new_from")
    picture = load(source, "", access="sequential", fail_on="error").autorot()
    if profile:
        picture = _to_srgb(picture)
    if options.fit == "crop":
        picture = _middle(picture, options)
    return picture


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
    with open_picture(path, MAX_PIXELS) as image:
        exif = telling_exif(image)
    if exif:
        picture = picture.copy()
        picture.set_type(pyvips.GValue.blob_type, _EXIF, exif)
    return picture


def _to_srgb(picture: pyvips.Image) -> pyvips.Image:
    if picture.get_typeof("icc-profile-data"):
        try:
            return picture.icc_transform("srgb", embedded=True, depth=16 if picture.format == "ushort" else 8)
        except pyvips.Error:  # a broken profile says nothing about the pixels
            pass
    return picture.colourspace("srgb") if picture.interpretation == "cmyk" else picture


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


def _write(context: TaskContext[ImageConvertOptions], picture: pyvips.Image, kind: str) -> None:
    options = context.options
    watched = picture.copy()  # a view of its own: the signal must not be on a picture that others share
    watched.set_progress(True)

    asked = False

    def tick(image: pyvips.Image, progress: Any) -> None:
        nonlocal asked
        context.progress(progress.percent, f"converting {picture.width}x{picture.height} to {kind.lower()}")
        if not asked and context.should_stop():
            asked = True
            image.set_kill(True)

    watched.signal_connect("eval", tick)
    target = pyvips.Target.new_to_file(os.fspath(context.output_part))
    save, parameters = _saver(kind, options)
    keep = "all" if options.metadata == "keep" else "icc" if options.colour == "keep" else "none"
    try:
        getattr(watched, save)(target, keep=keep, **parameters)
    except pyvips.Error as error:
        if asked:
            raise StopAskedError from error
        fault = disk_fault(error, context.output_part)
        if fault is None:
            raise
        raise fault from error
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
def _blamed(name: str) -> Iterator[None]:
    """What libvips finds fault with is in the picture, once the disk is out of the question."""
    try:
        yield
    except pyvips.Error as error:
        last = [line for line in str(error).splitlines() if line.strip()][-1].strip()
        raise CannotDecodeError(f"{name} is damaged or cannot be converted: {last}") from error
