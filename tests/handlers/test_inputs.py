"""Rules for every type and any input."""

from pathlib import Path
from typing import Any

import pytest

from tasktrail.handlers import Rejected, Unusable
from tasktrail.handlers.document.preview import document_preview
from tasktrail.handlers.image.convert import image_convert
from tasktrail.handlers.image.thumbnail import image_thumbnail
from tasktrail.handlers.model.preview import model_preview
from tasktrail.testing import RecordingContext, run_handler, task_type_of


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (image_convert, "zero.png"),
        (image_thumbnail, "zero.jpg"),
        (document_preview, "zero.pdf"),
        (document_preview, "zero.docx"),
        (document_preview, "zero.md"),
        (model_preview, "zero.stl"),
        (model_preview, "zero.obj"),
        (model_preview, "zero.glb"),
    ],
)
def test_an_empty_input_is_called_empty(tmp_path: Path, handler: Any, name: str) -> None:
    """Libraries find that it promises 0 faces, is in none of eight formats, or that loading failed with success."""
    (tmp_path / name).touch()
    task_type = task_type_of(handler)
    context = RecordingContext(
        task_type.options(), work_dir=tmp_path / "work", input_file=tmp_path / name, output_file=tmp_path / "out.png"
    )
    assert run_handler(handler, context) == Rejected(reason=f"{name} is empty")
    with pytest.raises(Unusable, match="is empty"):
        task_type.probe_input(context.job)
