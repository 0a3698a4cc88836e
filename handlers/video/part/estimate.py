"""The estimate of a part. No media library here: the service imports this."""

import msgspec

from ...contract import Estimate, Job
from ..convert.estimate import estimate_for as estimate_of_film
from ..convert.spread import VideoPartOptions
from ..estimate import ASSUMED, VideoInfo
from .options import film_job


def estimate(job: Job[VideoPartOptions]) -> Estimate:
    """Guess from the size of the file."""
    return estimate_for(job, ASSUMED.of_size(job.input_size))


def estimate_for(job: Job[VideoPartOptions], video: VideoInfo) -> Estimate:
    """Its share of what the whole film would take in one task. Memory is the same: it has as many encoders."""
    alone = film_job(job)
    film = estimate_of_film(
        msgspec.structs.replace(alone, options=msgspec.structs.replace(alone.options, parts=None)), video
    )
    parts = job.options.parts or 1
    return msgspec.structs.replace(film, temp=film.temp // parts, seconds=film.seconds / parts)
