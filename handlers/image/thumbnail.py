"""Make a small picture of an image. Untrusted input: few formats, a pixel limit, nothing of the source's metadata kept.

The service imports this file; the work, and Pillow with it, stands in `thumbnails.py`.
"""

from ..contract import Bounds, Estimate, Finished, Job, Stopped, TaskContext, handler
from ..packages import media
from .thumbnail_options import ImageThumbnailOptions, check, estimate


def _probe(job: Job[ImageThumbnailOptions]) -> Estimate:
    from .thumbnails import probe_picture  # noqa: PLC0415 - see below

    return probe_picture(job)


@handler(
    "image_thumbnail",
    options=ImageThumbnailOptions,
    needs_input=True,
    needs_output=True,
    estimate=estimate,
    check=check,
    probe=_probe,
    checkup="tasktrail.handlers.image.checkup:checkup",
    bounds=Bounds(),
    output_suffix=".jpg",
    preload=("tasktrail.handlers.image.thumbnails",),
    packages=media("PIL"),
)
def image_thumbnail(context: TaskContext[ImageThumbnailOptions]) -> Finished | Stopped:
    """Make a small jpeg, png, webp, avif or gif of an image."""
    from .thumbnails import make_thumbnail  # noqa: PLC0415 - Pillow is loaded where the work is done, not in the service

    return make_thumbnail(context)
