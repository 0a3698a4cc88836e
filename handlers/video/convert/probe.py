"""Estimates a conversion from the input's header and first frames."""

import msgspec

from ...contract import Estimate, Job
from ..source import info_of, read_source
from .copied_picture import refuse_uncopyable
from .estimate import estimate_for
from .options import VideoConvertOptions, choose_target, holds_aspect
from .picture import refuse_if_no_room, refuse_if_too_small
from .reshaping import reshaped, wanted_part


def probe(job: Job[VideoConvertOptions]) -> Estimate:
    """Estimate from the video's real size and length. Raises Unusable if it cannot be converted as requested."""
    source, target = read_source(job.input_file), choose_target(job.options, job.output_file)
    wanted_part(source, job.options)
    if target.copied:
        refuse_uncopyable(source, target)
    else:
        shaped = msgspec.structs.replace(reshaped(source, job.options), squared=not holds_aspect(target))
        refuse_if_no_room(shaped, job.options)
        refuse_if_too_small(shaped, job.options, target)
    return estimate_for(job, info_of(source))
