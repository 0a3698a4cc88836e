"""Makes a small picture of an image. The input is untrusted, and none of its metadata is kept."""

from ...contract import Bounds, TaskType, media
from .estimate import estimate
from .options import ImageThumbnailOptions, check

image_thumbnail = TaskType(
    name="image_thumbnail",
    summary="Make a small jpeg, png, webp, avif or gif of an image.",
    run="tasktrail.handlers.image.thumbnail.run:run",
    probe="tasktrail.handlers.image.thumbnail.probe:probe",
    checkup="tasktrail.handlers.image.checkup:checkup",
    options=ImageThumbnailOptions,
    estimate=estimate,
    check=check,
    needs_input=True,
    accepts=("image",),
    needs_output=True,
    bounds=Bounds(),
    output_suffix=".jpg",
    packages=media("PIL"),
)
