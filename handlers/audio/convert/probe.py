"""Estimates a conversion from the input's headers."""

from ...contract import Estimate, Job
from .estimate import estimate_for
from .options import AudioConvertOptions
from .source import read_sound


def probe(job: Job[AudioConvertOptions]) -> Estimate:
    """Estimate from the duration that the header states. Raises Unusable."""
    return estimate_for(job, read_sound(job.input_file, job.options.track).info())
