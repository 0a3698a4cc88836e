"""Re-encodes a video, segment by segment, so that a killed task continues where it was."""

from ...contract import TaskType, media
from ...errors import PartMissing
from ..estimate import VIDEO_BOUNDS
from ..program import program_lines
from .estimate import estimate
from .options import VideoConvertOptions, check
from .spread import part_files

video_convert = TaskType(
    name="video_convert",
    summary="Convert a video to mp4, mov, mkv or webm; resumes after the last finished segment.",
    run="tasktrail.handlers.video.convert.run:run",
    probe="tasktrail.handlers.video.convert.probe:probe",
    checkup="tasktrail.handlers.video.checkup:checkup",
    check_result="tasktrail.handlers.video.convert.result_check:check_result",
    options=VideoConvertOptions,
    estimate=estimate,
    check=check,
    resumable=True,
    needs_input=True,
    accepts=("video",),
    needs_output=True,
    carries_manifest=True,
    bounds=VIDEO_BOUNDS,
    programs=program_lines,
    output_suffix=".mp4",
    uses_up=part_files,
    retry_on=(PartMissing,),
    packages=media("av"),
)
