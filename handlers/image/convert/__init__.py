"""Converts images: format, size, colour, metadata; animations and multi-page files frame by frame."""

from ...contract import Bounds, TaskType, media
from .estimate import estimate
from .options import ImageConvertOptions, check

image_convert = TaskType(
    name="image_convert",
    summary="Convert an image to jpeg, png, webp, avif, tiff, gif or heic; resizes, crops, keeps animations.",
    run="tasktrail.handlers.image.convert.run:run",
    probe="tasktrail.handlers.image.convert.probe:probe",
    checkup="tasktrail.handlers.image.checkup:checkup",
    check_result="tasktrail.handlers.image.convert.result_check:check_result",
    options=ImageConvertOptions,
    estimate=estimate,
    check=check,
    resumable=True,
    needs_input=True,
    accepts=("image",),
    needs_output=True,
    carries_manifest=True,
    bounds=Bounds(),
    packages=media("PIL", "pyvips"),
)
