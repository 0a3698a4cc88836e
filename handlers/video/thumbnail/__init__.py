"""One picture of a video: at a position, or the best of several."""

from ...contract import Estimate, Job, Outcome, TaskContext, handler, media
from ..estimate import FILM_BOUNDS
from .estimate import estimate
from .options import VideoThumbnailOptions, check


def probe(job: Job[VideoThumbnailOptions]) -> Estimate:
    """A better estimate, from the input's header and first frames."""
    from .run import look  # noqa: PLC0415 - FFmpeg is loaded where the work is done, not in the service

    return look(job)


@handler(
    "video_thumbnail",
    options=VideoThumbnailOptions,
    needs_input=True,
    needs_output=True,
    estimate=estimate,
    check=check,
    probe=probe,
    checkup="tasktrail.handlers.video.checkup:checkup",
    bounds=FILM_BOUNDS,
    output_suffix=".jpg",
    preload=("tasktrail.handlers.video.thumbnail.run", "tasktrail.handlers.video.scoring"),
    packages=media("av", "numpy", "PIL"),
)
def video_thumbnail(context: TaskContext[VideoThumbnailOptions]) -> Outcome:
    """Make a picture of a video: the frame at a position, or the best of several."""
    from .run import make_thumbnail  # noqa: PLC0415 - as above

    return make_thumbnail(context)


__all__ = ["VideoThumbnailOptions", "video_thumbnail"]
