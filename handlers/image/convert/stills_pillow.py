"""One picture that Pillow reads, for the formats that libvips does not have. libvips writes what it can."""

import pyvips
from PIL import Image

from ...contract import TaskContext, Unusable
from ...media.formats import check_sides
from ...media.pictures import write_picture
from ..opening import MAX_PILLOW_PIXELS, blame_picture, open_picture
from ..shaping import Size
from .errors import StopAskedError
from .metadata import metadata_for_pillow
from .options import ImageConvertOptions
from .shape import shape
from .still import VipsCannotError, write_still

_MEANINGS = {"L": "b-w", "RGB": "srgb", "RGBA": "srgb", "CMYK": "cmyk"}
"""Modes of Pillow's → what libvips calls them."""
_FIELDS = {"icc_profile": "icc-profile-data", "exif": "exif-data", "xmp": "xmp-data"}
"""The same of what stands beside the pixels."""


def convert_still_with_pillow(context: TaskContext[ImageConvertOptions], kind: str) -> Size:
    """Write the first picture of the input to `output_part`; its width and height. Raises Unusable, or OSError."""
    options = context.options
    with open_picture(context.input_file, MAX_PILLOW_PIXELS) as image, blame_picture(context.input_file):
        image.load()
        metadata = metadata_for_pillow(image) if options.metadata == "keep" else {}
    if context.should_stop():
        raise StopAskedError
    context.progress(50, f"converting {image.width}x{image.height} to {kind.lower()}")
    picture = shape(image, options)
    kept = metadata | {name: picture.info[name] for name in ("icc_profile",) if name in picture.info}
    if kind != "HEIF":
        try:
            return write_still(context, _for_vips(picture, kept), kind)
        except VipsCannotError as error:
            raise Unusable(
                f"{context.input_file.name} can be read, but libvips cannot write it as {kind.lower()} ({error}): "
                "take another format"
            ) from error
    check_sides(picture.size, kind)
    write_picture(picture, context.output_part, kind, quality=options.quality, background=options.background, **kept)
    return picture.size


def _for_vips(picture: Image.Image, kept: dict[str, bytes]) -> pyvips.Image:
    """The same picture as libvips holds it."""
    bands = len(picture.getbands())
    image = pyvips.Image.new_from_memory(picture.tobytes(), picture.width, picture.height, bands, "uchar")
    image = image.copy(interpretation=_MEANINGS[picture.mode])
    for name, data in kept.items():
        if name in _FIELDS:
            image.set_type(pyvips.GValue.blob_type, _FIELDS[name], data)
    return image
