"""Shows the content of a video: a sheet of frames, or a short animation."""

from ...contract import TaskType, media
from ..estimate import VIDEO_BOUNDS
from .estimate import estimate
from .options import VideoPreviewOptions, check

video_preview = TaskType(
    name="video_preview",
    summary="Make a contact sheet or a short animation of a video; resumes after the last finished frame.",
    run="tasktrail.handlers.video.preview.run:run",
    probe="tasktrail.handlers.video.preview.probe:probe",
    checkup="tasktrail.handlers.video.checkup:checkup",
    options=VideoPreviewOptions,
    estimate=estimate,
    check=check,
    resumable=True,
    needs_input=True,
    hashes_input=False,
    accepts=("video",),
    needs_output=True,
    bounds=VIDEO_BOUNDS,
    output_suffix=".jpg",
    packages=media("av", "numpy", "PIL"),
)
