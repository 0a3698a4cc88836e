"""Make a small picture of an image. Untrusted input: few formats, a pixel limit, nothing of the source's metadata kept.

The service imports this file; the work, and Pillow with it, stands in `pictures.py`.
"""

from ..contract import Finished, Rejected, Stopped, TaskContext, handler
from .thumbnail_options import ImageThumbnailOptions, check, estimate


@handler("image_thumbnail", options=ImageThumbnailOptions, estimate=estimate, check=check)
def image_thumbnail(context: TaskContext[ImageThumbnailOptions]) -> Finished | Stopped | Rejected:
    """Make a small jpeg, png, webp, avif or gif of an image."""
    from .pictures import make_thumbnail  # noqa: PLC0415 - Pillow is loaded where the work is done, not in the service

    return make_thumbnail(context)
