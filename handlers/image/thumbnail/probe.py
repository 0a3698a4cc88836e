"""Estimates the needs of `image_thumbnail` from the picture's header."""

from PIL.ImageFile import ImageFile

from ...contract import Estimate, Job
from ...media.estimate import fitted_pixels
from ..limits import MAX_IMAGE_PIXELS
from ..opening import blame_picture, format_in, open_picture, packing_in
from ..shaping import orientation_of
from .estimate import estimate_for
from .options import ImageThumbnailOptions
from .run import box_as_stored, draft

_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes per pixel of a mode in Pillow's memory; all other modes take 4."""
_WEBP_CANVASES = 12
"""Bytes per pixel beside the picture: WebP's decoder has two canvases and returns a copy."""


def probe(job: Job[ImageThumbnailOptions]) -> Estimate:
    """Estimate from the picture's real size. Raises Unusable."""
    options = job.options
    with open_picture(job.input_file, MAX_IMAGE_PIXELS) as image, blame_picture(job.input_file):
        width, height = image.size
        packing = packing_in(image, job.input_size)
        box = box_as_stored(options, orientation_of(image))
        draft(image, box, options.fit, job.input_file.name)
        decoded = image.width * image.height
        pixel_bytes = _pixel_bytes(image)
    pixels = width * height
    written = fitted_pixels((width, height), box, options.fit)
    basis = {"width": width, "height": height, "format": format_in(image)}
    return estimate_for(job, decoded, pixels, written, pixel_bytes=pixel_bytes, packing=packing, basis=basis)


def _pixel_bytes(image: ImageFile) -> int:
    """Bytes of a decoded pixel in the copies held at once: stored, in a plain mode, with alpha multiplied."""
    stored = _STORED.get(image.mode, 4) + (_WEBP_CANVASES if image.format == "WEBP" else 0)
    if image.mode in ("L", "RGB", "CMYK"):
        return stored
    if image.mode == "1":
        return stored + 1
    if image.mode.startswith("I;16"):
        return stored + 8
    plain = 0 if image.mode == "RGBA" else 4
    return stored + plain + (4 if image.has_transparency_data else 0)
