"""Draw a 3-D model. The service imports this file; the work, with trimesh and Embree, is loaded in the worker."""

from ...contract import Bounds, Estimate, Job, Outcome, TaskContext, handler, media
from .estimate import estimate, estimate_for
from .options import ModelPreviewOptions, check


def probe(job: Job[ModelPreviewOptions]) -> Estimate:
    """Count the faces from the header or by a cheap look. Raises Unusable for what can never be drawn."""
    from ..counting import count  # noqa: PLC0415 - the libraries are loaded in the worker, not in the service

    return estimate_for(job, count(job.input_file))


@handler(
    "model_preview",
    options=ModelPreviewOptions,
    needs_input=True,
    needs_output=True,
    estimate=estimate,
    check=check,
    probe=probe,
    resumable=True,
    bounds=Bounds(),
    output_suffix=".png",
    preload=("tasktrail.handlers.model.counting", "tasktrail.handlers.model.preview.run"),
    packages=media("numpy", "PIL", "trimesh"),
)
def model_preview(context: TaskContext[ModelPreviewOptions]) -> Outcome:
    """Draw a 3-D model: one picture, a sheet of several views, or a turntable animation."""
    from .run import draw_model  # noqa: PLC0415 - as above

    return draw_model(context)
