"""A better estimate of a conversion, from the input's header and first frames."""

from ...contract import Estimate, Job
from ..source import info_of, read_source
from .copied_picture import refuse_uncopyable
from .estimate import estimate_for
from .options import VideoConvertOptions, choose_target


def probe(job: Job[VideoConvertOptions]) -> Estimate:
    """Estimate from the video's real size and length. Raises Unusable where it cannot be converted as is asked."""
    source, target = read_source(job.input_file), choose_target(job.options, job.output_file)
    if target.copied:
        refuse_uncopyable(source, target)
    return estimate_for(job, info_of(source))
