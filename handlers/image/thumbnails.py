"""The work of `image_thumbnail`: decode no more than needed, scale, set upright, convert to sRGB, write."""

from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

from ..contract import Estimate, Finished, Job, Stopped, TaskContext
from ..describing import describe
from ..media.estimate import fitted_pixels
from ..media.formats import MAX_PIXELS, format_of
from ..media.pictures import write_picture
from .opening import MAX_PILLOW_PIXELS, blame_picture, check_pixels, format_in, open_picture, packing_in
from .shaping import (
    Size,
    lies_sideways,
    middle,
    orientation_of,
    plain_mode,
    scaled,
    to_srgb,
    upright,
)
from .thumbnail_options import estimate_for

if TYPE_CHECKING:
    from pathlib import Path

    from .thumbnail_options import ImageThumbnailOptions

_DRAFT_MARGIN = 2
"""A JPEG is decoded at least this many times larger than wanted, so that the last step is a good filter."""


def make_thumbnail(context: TaskContext["ImageThumbnailOptions"]) -> Finished | Stopped:
    """Write the thumbnail to `context.output_part`.

    Raises:
        Unusable: the input is no picture that can be read.
        OSError: a file cannot be read or written for a reason that is not the picture's.
    """
    options = context.options
    kind = format_of(context.output_file)
    context.progress(0, f"reading {context.input_file.name}")
    with open_picture(context.input_file, MAX_PIXELS) as image, blame_picture(context.input_file):
        picture = _decode(image, options, context.input_file.name)
    if context.should_stop():
        return Stopped()
    context.progress(60, f"scaling {picture.width}x{picture.height}")
    small = to_srgb(upright(_shrink(picture, options), picture.orientation), picture.profile)
    context.progress(80, f"writing {kind.lower()}")
    write_picture(small, context.output_part, kind, quality=options.quality, background=options.background)
    return Finished(result=_describe(context.output_part, small, picture, kind))


def probe_picture(job: Job["ImageThumbnailOptions"]) -> Estimate:
    """An estimate from the picture's real size."""
    options = job.options
    with open_picture(job.input_file, MAX_PIXELS) as image, blame_picture(job.input_file):
        width, height = image.size
        packing = packing_in(image, job.input_size)
        box = _box(options, orientation_of(image))
        _draft(image, box, options.fit, job.input_file.name)
        decoded = image.width * image.height
        pixel_bytes = _pixel_bytes(image)
    pixels = width * height
    written = fitted_pixels((width, height), box, options.fit)
    basis = {"width": width, "height": height, "format": format_in(image)}
    return estimate_for(job, decoded, pixels, written, pixel_bytes=pixel_bytes, packing=packing, basis=basis)


def _pixel_bytes(image: ImageFile) -> int:
    """Of a decoded pixel in all copies held at once: as stored, in a plain mode, and with alpha multiplied in."""
    stored = _STORED.get(image.mode, 4) + (_WEBP_CANVASES if image.format == "WEBP" else 0)
    if image.mode in ("L", "RGB", "CMYK"):
        return stored
    if image.mode == "1":
        return stored + 1
    if image.mode.startswith("I;16"):
        return stored + 8
    plain = 0 if image.mode == "RGBA" else 4
    return stored + plain + (4 if image.has_transparency_data else 0)


_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes a pixel in Pillow's memory; all other modes have 4."""
_WEBP_CANVASES = 12
"""Its decoder has two, and hands out a copy."""


class _Picture(NamedTuple):
    """A decoded picture, still lying as stored; width and height are those of the whole picture set upright."""

    image: Image.Image
    width: int
    height: int
    orientation: int
    profile: bytes | None
    format: str
    animated: bool


def _decode(image: ImageFile, options: "ImageThumbnailOptions", name: str) -> _Picture:
    """Decode the first picture of the file, no larger than needed."""
    width, height = image.size
    orientation = orientation_of(image)
    animated = bool(getattr(image, "is_animated", False)) and image.format != "MPO"
    _draft(image, _box(options, orientation), options.fit, name)
    image.load()
    if lies_sideways(orientation):
        width, height = height, width
    return _Picture(image, width, height, orientation, image.info.get("icc_profile"), format_in(image), animated)


def _draft(image: ImageFile, box: Size, fit: str, name: str) -> None:
    """Have a JPEG decoded no larger than needed. Raises Unusable when there is too much to decode all the same."""
    if fit != "crop":
        over_box = scaled(image.size, box, fit)
        image.draft(None, (over_box[0] * _DRAFT_MARGIN, over_box[1] * _DRAFT_MARGIN))
    check_pixels(name, image.size, MAX_PILLOW_PIXELS)


def _box(options: "ImageThumbnailOptions", orientation: int) -> Size:
    """The wanted box, turned the way the picture is stored."""
    return (options.height, options.width) if lies_sideways(orientation) else (options.width, options.height)


def _shrink(picture: _Picture, options: "ImageThumbnailOptions") -> Image.Image:
    box = _box(options, picture.orientation)
    whole = plain_mode(picture.image)
    if options.fit == "crop":
        return middle(whole, box)
    if options.fit == "fill":
        return ImageOps.fit(whole, box, Image.Resampling.LANCZOS)
    return whole.resize(scaled(whole.size, box, "fit"), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _describe(path: "Path", small: Image.Image, picture: _Picture, kind: str) -> dict[str, Any]:
    result = describe(path, kind.lower(), width=small.width, height=small.height) | {
        "source_format": picture.format.lower(),
        "source_width": picture.width,
        "source_height": picture.height,
    }
    if picture.animated:
        result["notes"] = ["only the first of several frames is shown"]
    return result
