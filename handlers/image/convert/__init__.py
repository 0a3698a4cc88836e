"""Turn an image into another one: format, size, colour, metadata; animations and many pages frame by frame."""

from ...contract import Bounds, Estimate, Job, Outcome, TaskContext, handler
from ...packages import media
from .costs import estimate
from .options import ImageConvertOptions, check


def _probe(job: Job[ImageConvertOptions]) -> Estimate:
    from .convert import probe  # noqa: PLC0415 - see below

    return probe(job)


@handler(
    "image_convert",
    options=ImageConvertOptions,
    needs_input=True,
    needs_output=True,
    estimate=estimate,
    check=check,
    probe=_probe,
    checkup="tasktrail.handlers.image.checkup:checkup",
    resumable=True,
    bounds=Bounds(),
    preload=("tasktrail.handlers.image.convert.convert",),
    packages=media("PIL", "pyvips"),
)
def image_convert(context: TaskContext[ImageConvertOptions]) -> Outcome:
    """Convert an image to jpeg, png, webp, avif, tiff, gif or heic; resizes, crops, keeps animations."""
    from .convert import convert  # noqa: PLC0415 - libvips and Pillow are loaded where the work is done

    return convert(context)


__all__ = ["ImageConvertOptions", "image_convert"]
