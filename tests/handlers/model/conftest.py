"""Small models made with trimesh, and helpers to draw them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pytest
import trimesh
from PIL import Image

from tasktrail.handlers import Finished
from tasktrail.handlers.model.preview import model_preview
from tasktrail.handlers.model.preview.options import ModelPreviewOptions
from tasktrail.testing import RecordingContext, run_handler

Context: TypeAlias = RecordingContext[ModelPreviewOptions]

RED, BLUE = (220, 30, 30, 255), (30, 60, 220, 255)


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., Context]:
    """Make a context for a drawing, small unless the options say otherwise."""

    def context(source: Path, output: str = "out.png", **options: Any) -> Context:
        how = {name: options.pop(name) for name in ("stop_after", "crash_after") if name in options}
        return RecordingContext(
            msgspec.convert({"width": 120, "height": 90, **options}, ModelPreviewOptions),
            work_dir=tmp_path / "work",
            input_file=source,
            output_file=tmp_path / output,
            **how,
        )

    return context


@pytest.fixture
def draw(prepare: Callable[..., Context]) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Draw a model to its end; return the pixels as RGBA, and the result."""

    def drawn(source: Path, output: str = "out.png", **options: Any) -> tuple[Any, dict[str, Any]]:
        context = prepare(source, output, **options)
        outcome = run_handler(model_preview, context)
        assert isinstance(outcome, Finished)
        with Image.open(context.output_file) as picture:
            return np.asarray(picture.convert("RGBA")).astype(int), outcome.result

    return drawn


@pytest.fixture
def ball(tmp_path: Path) -> Path:
    """Make a ball as binary STL."""
    path = tmp_path / "ball.stl"
    trimesh.creation.icosphere(subdivisions=3).export(path)
    return path


@pytest.fixture
def two_boxes() -> trimesh.Trimesh:
    """Make a red box on the left, seen from the front, and a blue one on the right; coloured by face."""
    boxes = []
    for x, colour in ((-1.0, RED), (1.0, BLUE)):
        box = trimesh.creation.box((1, 1, 1), trimesh.transformations.translation_matrix((x, 0, 0)))
        box.visual.face_colors = colour
        boxes.append(box)
    both = trimesh.util.concatenate(boxes)
    assert isinstance(both, trimesh.Trimesh)
    return both
