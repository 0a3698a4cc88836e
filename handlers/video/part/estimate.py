"""Estimates the needs of a part. No media library here: the service imports this."""

from math import ceil

import msgspec

from ...contract import Estimate, Job
from ..convert.estimate import estimate_for as estimate_of_film
from ..convert.estimate import pieces_of
from ..convert.spread import VideoPartOptions
from ..estimate import ASSUMED, VideoInfo
from .options import film_job


def estimate(job: Job[VideoPartOptions]) -> Estimate:
    """Guess from the file size."""
    return estimate_for(job, ASSUMED.of_size(job.input_size))


def estimate_for(job: Job[VideoPartOptions], video: VideoInfo) -> Estimate:
    """The longest part's share of the whole film's estimate. Memory is the same: it has as many encoders."""
    film, pieces = estimate_of_film(film_job(job), video), pieces_of(film_job(job), video)
    share = ceil(pieces / (job.options.parts or 1)) / pieces
    return msgspec.structs.replace(film, temp=int(film.temp * share), seconds=film.seconds * share)
