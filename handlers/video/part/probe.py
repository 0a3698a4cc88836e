"""Estimates a part from the input's header and first frames."""

from ...contract import Estimate, Job
from ..convert.probe import probe as probe_film
from ..convert.spread import VideoPartOptions
from ..source import info_of, read_source
from .estimate import estimate_for
from .options import film_job


def probe(job: Job[VideoPartOptions]) -> Estimate:
    """Estimate from the video's real size and length. Raises Unusable if it cannot be converted as requested."""
    probe_film(film_job(job))
    return estimate_for(job, info_of(read_source(job.input_file)))
