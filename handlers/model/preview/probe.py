"""Estimates a drawing from the number of the model's faces."""

from ...contract import Estimate, Job
from ..counting import count_faces
from .estimate import estimate_for
from .options import ModelPreviewOptions


def probe(job: Job[ModelPreviewOptions]) -> Estimate:
    """Count the faces from the header or by a cheap scan. Raises Unusable if the model can never be drawn."""
    return estimate_for(job, count_faces(job.input_file))
