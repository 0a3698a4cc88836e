"""A better estimate of a conversion, from the input's headers."""

from ...contract import Estimate, Job
from .estimate import estimate_for
from .options import AudioConvertOptions
from .source import read_sound


def probe(job: Job[AudioConvertOptions]) -> Estimate:
    """Estimate from how long the sound says that it is. Raises Unusable."""
    return estimate_for(job, read_sound(job.input_file, job.options.track).info())
