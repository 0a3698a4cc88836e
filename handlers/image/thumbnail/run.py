"""Makes a thumbnail: decodes no more than needed, scales, sets upright, converts to sRGB, writes."""

from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

from ...contract import Finished, TaskContext, Unusable
from ...media.formats import format_of
from ...media.pictures import write_picture
from ...media.result import output_fields
from ..limits import MAX_IMAGE_PIXELS, MAX_PILLOW_PIXELS, check_pixels
from ..opening import blame_picture, format_in, open_picture, pages_in
from ..shaping import PixelSize, lies_sideways, middle, orientation_of, plain_mode, scaled, to_srgb, upright
from .options import ImageThumbnailOptions

_DRAFT_MARGIN = 2
"""A JPEG is decoded at least this many times larger than wanted, so that a good filter does the last step."""


def run(context: TaskContext[ImageThumbnailOptions]) -> Finished:
    """Write the thumbnail to `context.output_part`.

    Raises:
        Unusable: the input is not a readable picture.
        OSError: a file cannot be read or written for a reason other than the picture.
        StopAsked: the attempt must end.
    """
    options = context.options
    kind = format_of(context.output_file)
    context.progress(0, f"reading {context.input_file.name}")
    with open_picture(context.input_file, MAX_IMAGE_PIXELS) as image, blame_picture(context.input_file):
        picture = _decode(image, options, context.input_file)
    context.check_stop()
    context.progress(60, f"scaling {picture.width}x{picture.height}")
    small = to_srgb(upright(_shrink(picture, options), picture.orientation), picture.profile)
    context.progress(80, f"writing {kind.lower()}")
    write_picture(small, context.output_part, kind, quality=options.quality, background=options.background)
    result = _describe(context.output_part, small, picture, kind)
    return Finished(result=result, message=f"{small.width}x{small.height} pixels")


def draft(image: ImageFile, box: PixelSize, fit: str, name: str) -> None:
    """Make Pillow decode a JPEG no larger than needed. Raises Unusable if it is still too large."""
    if fit != "crop":
        over_box = scaled(image.size, box, fit)
        image.draft(None, (over_box[0] * _DRAFT_MARGIN, over_box[1] * _DRAFT_MARGIN))
    check_pixels(name, image.size, MAX_PILLOW_PIXELS)


def box_as_stored(options: ImageThumbnailOptions, orientation: int) -> PixelSize:
    """The wanted box, turned the way the picture is stored."""
    return (options.height, options.width) if lies_sideways(orientation) else (options.width, options.height)


class _Picture(NamedTuple):
    """A decoded picture, still in its stored orientation; width and height are those of the whole upright picture."""

    image: Image.Image
    width: int
    height: int
    orientation: int
    profile: bytes | None
    format: str
    animated: bool


def _has_several(image: ImageFile, path: Path) -> bool:
    """Whether it has further frames or pages. The smaller copies in a TIFF are none."""
    if not getattr(image, "is_animated", False):
        return False
    try:
        return pages_in(image, path) > 1
    except Unusable:  # the first one can be shown all the same
        return True


def _decode(image: ImageFile, options: ImageThumbnailOptions, path: Path) -> _Picture:
    """Decode the first picture of the file, no larger than needed."""
    width, height = image.size
    orientation = orientation_of(image)
    animated = _has_several(image, path)
    draft(image, box_as_stored(options, orientation), options.fit, path.name)
    image.load()
    if lies_sideways(orientation):
        width, height = height, width
    return _Picture(image, width, height, orientation, image.info.get("icc_profile"), format_in(image), animated)


def _shrink(picture: _Picture, options: ImageThumbnailOptions) -> Image.Image:
    box = box_as_stored(options, picture.orientation)
    whole = plain_mode(picture.image)
    if options.fit == "crop":
        return middle(whole, box)
    if options.fit == "fill":
        return ImageOps.fit(whole, box, Image.Resampling.LANCZOS)
    return whole.resize(scaled(whole.size, box, "fit"), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _describe(path: Path, small: Image.Image, picture: _Picture, kind: str) -> dict[str, Any]:
    result = output_fields(path, kind.lower(), width=small.width, height=small.height) | {
        "source_format": picture.format.lower(),
        "source_width": picture.width,
        "source_height": picture.height,
    }
    if picture.animated:
        result["notes"] = ["only the first of several frames is shown"]
    return result
