"""Draw a 3-D model. The service imports this file; the work, with trimesh and Embree, is loaded in the worker."""

from pathlib import Path

from ..contract import Estimate, Outcome, TaskContext, handler
from .options import ModelPreviewOptions, check
from .sizing import estimate, estimate_for


@handler(
    "model_preview",
    options=ModelPreviewOptions,
    estimate=estimate,
    check=check,
    probe=lambda options, path: probe(options, path),  # noqa: PLW0108 - it stands below
    resumable=True,
    grace=0.5,
)
def model_preview(context: TaskContext[ModelPreviewOptions]) -> Outcome:
    """Draw a 3-D model: one picture, a sheet of several views, or a turntable animation."""
    from .course import draw_model  # noqa: PLC0415 - loaded where the work is done, not in the service

    return draw_model(context)


def probe(options: ModelPreviewOptions, path: Path) -> Estimate:
    """Count the faces from the header or by a cheap look. Raises Unusable for what can never be drawn."""
    from .counting import count  # noqa: PLC0415 - runs in the worker

    return estimate_for(options, count(path))
