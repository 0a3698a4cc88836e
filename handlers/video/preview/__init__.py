"""A look into a video: a sheet of frames, or a short animation."""

from ...contract import Estimate, Job, Outcome, TaskContext, handler, media
from ..estimate import FILM_BOUNDS
from .estimate import estimate
from .options import VideoPreviewOptions, check


def probe(job: Job[VideoPreviewOptions]) -> Estimate:
    """A better estimate, from the input's header and first frames."""
    from .run import look  # noqa: PLC0415 - FFmpeg is loaded where the work is done, not in the service

    return look(job)


@handler(
    "video_preview",
    options=VideoPreviewOptions,
    needs_input=True,
    needs_output=True,
    estimate=estimate,
    check=check,
    probe=probe,
    checkup="tasktrail.handlers.video.checkup:checkup",
    resumable=True,
    bounds=FILM_BOUNDS,
    output_suffix=".jpg",
    preload=("tasktrail.handlers.video.preview.run",),
    packages=media("av", "numpy", "PIL"),
)
def video_preview(context: TaskContext[VideoPreviewOptions]) -> Outcome:
    """Make a contact sheet or a short animation of a video; resumes after the last finished frame."""
    from .run import make_preview  # noqa: PLC0415 - as above

    return make_preview(context)


__all__ = ["VideoPreviewOptions", "video_preview"]
