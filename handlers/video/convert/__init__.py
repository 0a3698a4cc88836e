"""Re-encode a video, segment by segment, so that a killed task goes on where it was."""

from ...contract import Outcome, TaskContext, handler
from .options import VideoConvertOptions, estimate


@handler("video_convert", options=VideoConvertOptions, estimate=estimate, resumable=True, grace=2.0)
def video_convert(context: TaskContext[VideoConvertOptions]) -> Outcome:
    """Convert a video to mp4, mov, mkv or webm; resumes after the last finished segment."""
    from .convert import convert  # noqa: PLC0415 - FFmpeg is loaded where the work is done, not in the service

    return convert(context)


__all__ = ["VideoConvertOptions", "video_convert"]
