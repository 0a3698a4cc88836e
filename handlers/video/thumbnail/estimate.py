"""Estimates the needs of a thumbnail. No media library here: the service imports this."""

from ...contract import Estimate, Job
from ...media.estimate import AVIF_ENCODER, fitted_pixels, written_bytes
from ...media.formats import format_of
from ..estimate import ASSUMED, VideoInfo, reading_memory, reading_seconds, tone_memory
from .options import VideoThumbnailOptions

_SMOOTHNESS = 0.93
"""Frames of films have a little less detail than photographs."""


def estimate(job: Job[VideoThumbnailOptions]) -> Estimate:
    """Guess from the file size."""
    return estimate_for(job, ASSUMED.of_size(job.input_size))


def estimate_for(job: Job[VideoThumbnailOptions], video: VideoInfo) -> Estimate:
    """Estimate from the facts about the video."""
    options = job.options
    box = fitted_pixels((video.width, video.height), (options.width, options.height), options.fit)
    frames = 1 if options.where else options.candidates
    kind = format_of(job.output_file)
    writing = (12 + (AVIF_ENCODER if kind == "AVIF" else 0)) * box
    return Estimate(
        memory=int(reading_memory(video) + writing + (tone_memory(box) if video.high_range else 0)),
        temp=written_bytes(kind, box, quality=options.quality, calm=_SMOOTHNESS),
        seconds=0.2 + frames * reading_seconds(video) + box / 15e6,
        basis=video.basis(),
    )
