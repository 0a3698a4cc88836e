"""One picture through Pillow, for the formats that libvips does not have."""

from typing import Any

from PIL.Image import Exif

from ...contract import TaskContext
from ..opening import MAX_PILLOW_PIXELS, open_picture
from ..shaping import EXIF_ORIENTATION, Size
from ..writing import write_picture
from .errors import StopAskedError
from .options import ImageConvertOptions
from .shape import shape


def convert_still_with_pillow(context: TaskContext[ImageConvertOptions], kind: str) -> Size:
    """Write the first picture of the input to `output_part`; its width and height."""
    options = context.options
    with open_picture(context.input_file, MAX_PILLOW_PIXELS) as image:
        image.load()
        exif = image.getexif()
    if context.should_stop():
        raise StopAskedError
    context.progress(50, f"converting {image.width}x{image.height} to {kind.lower()}")
    picture = shape(image, options)
    kept: dict[str, Any] = {name: picture.info[name] for name in ("icc_profile",) if name in picture.info}
    if options.metadata == "keep" and exif:
        kept["exif"] = _upright_exif(exif)
    write_picture(picture, context.output_part, kind, quality=options.quality, background=options.background, **kept)
    return picture.size


def _upright_exif(exif: Exif) -> bytes:
    """The picture was set upright: its tag must not turn it again."""
    exif.pop(EXIF_ORIENTATION, None)
    return exif.tobytes()
