"""Draws pages of a document. The input is untrusted: sizes and counts are limited, and no other file is read."""

from ...contract import Bounds, TaskType, media
from .estimate import estimate
from .options import DocumentPreviewOptions, check

document_preview = TaskType(
    name="document_preview",
    summary=(
        "Draw pages of a PDF, an office document or a text as a picture, a contact sheet, a tiff or a zip of pictures."
    ),
    run="tasktrail.handlers.document.preview.run:run",
    probe="tasktrail.handlers.document.preview.probe:probe",
    checkup="tasktrail.handlers.document.checkup:checkup",
    options=DocumentPreviewOptions,
    estimate=estimate,
    check=check,
    resumable=True,
    needs_input=True,
    accepts=("document",),
    needs_output=True,
    bounds=Bounds(),
    output_suffix=".png",
    packages=media("PIL", "pypdfium2", "markdown_it"),
)
