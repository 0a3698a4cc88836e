"""Re-encode a video, segment by segment, so that a killed task goes on where it was."""

from ...contract import Estimate, Job, Outcome, TaskContext, handler, media
from ..estimate import FILM_BOUNDS
from ..program import state
from .estimate import estimate
from .options import VideoConvertOptions, check


def probe(job: Job[VideoConvertOptions]) -> Estimate:
    """A better estimate, from the input's header and first frames."""
    from .run import look  # noqa: PLC0415 - FFmpeg is loaded where the work is done, not in the service

    return look(job)


@handler(
    "video_convert",
    options=VideoConvertOptions,
    needs_input=True,
    needs_output=True,
    estimate=estimate,
    check=check,
    probe=probe,
    checkup="tasktrail.handlers.video.checkup:checkup",
    resumable=True,
    bounds=FILM_BOUNDS,
    programs=state,
    output_suffix=".mp4",
    preload=("tasktrail.handlers.video.convert.run",),
    packages=media("av"),
)
def video_convert(context: TaskContext[VideoConvertOptions]) -> Outcome:
    """Convert a video to mp4, mov, mkv or webm; resumes after the last finished segment."""
    from .run import convert  # noqa: PLC0415 - as above

    return convert(context)


__all__ = ["VideoConvertOptions", "video_convert"]
