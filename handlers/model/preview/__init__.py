"""Draws a 3-D model. The service imports this; the attempt loads trimesh and Embree."""

from ...contract import Bounds, TaskType, media
from .estimate import estimate
from .options import ModelPreviewOptions, check

model_preview = TaskType(
    name="model_preview",
    summary="Draw a 3-D model: one picture, a sheet of several views, or a turntable animation.",
    run="tasktrail.handlers.model.preview.run:run",
    probe="tasktrail.handlers.model.preview.probe:probe",
    options=ModelPreviewOptions,
    estimate=estimate,
    check=check,
    resumable=True,
    needs_input=True,
    accepts=("model",),
    needs_output=True,
    bounds=Bounds(),
    output_suffix=".png",
    packages=media("numpy", "PIL", "trimesh"),
)
