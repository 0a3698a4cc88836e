"""Makes one picture of a video: the frame at a position, or the best of several."""

from ...contract import TaskType, media
from ..estimate import VIDEO_BOUNDS
from .estimate import estimate
from .options import VideoThumbnailOptions, check

video_thumbnail = TaskType(
    name="video_thumbnail",
    summary="Make a picture of a video: the frame at a position, or the best of several.",
    run="tasktrail.handlers.video.thumbnail.run:run",
    probe="tasktrail.handlers.video.thumbnail.probe:probe",
    checkup="tasktrail.handlers.video.checkup:checkup",
    options=VideoThumbnailOptions,
    estimate=estimate,
    check=check,
    needs_input=True,
    hashes_input=False,
    accepts=("video",),
    needs_output=True,
    bounds=VIDEO_BOUNDS,
    output_suffix=".jpg",
    preload=("tasktrail.handlers.video.scoring",),
    packages=media("av", "numpy", "PIL"),
)
