"""A part of a film that is spread over nodes; `video_convert` joins them."""

from ...contract import TaskType, media
from ..convert.spread import VideoPartOptions
from ..estimate import VIDEO_BOUNDS
from ..program import program_lines
from .estimate import estimate
from .options import check

video_part = TaskType(
    name="video_part",
    summary="Encode one part of a film, which video_convert then joins; made by --spread.",
    run="tasktrail.handlers.video.convert.run:run_part",
    probe="tasktrail.handlers.video.part.probe:probe",
    checkup="tasktrail.handlers.video.checkup:checkup",
    options=VideoPartOptions,
    estimate=estimate,
    check=check,
    resumable=True,
    needs_input=True,
    needs_output=True,
    hashes_input=False,
    bounds=VIDEO_BOUNDS,
    programs=program_lines,
    packages=media("av"),
)
