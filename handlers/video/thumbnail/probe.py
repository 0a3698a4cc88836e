"""Estimates a picture from the input's header and first frames."""

from ...contract import Estimate, Job
from ..source import video_info
from .estimate import estimate_for
from .options import VideoThumbnailOptions


def probe(job: Job[VideoThumbnailOptions]) -> Estimate:
    """Estimate from the video's real size and length. Raises UnusableInputError."""
    return estimate_for(job, video_info(job.input_file))
