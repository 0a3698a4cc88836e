"""Makes a PDF of a document. The input is untrusted: it is inspected before LibreOffice opens it in the sandbox."""

from ...contract import Bounds, TaskType, media
from .estimate import estimate
from .options import DocumentConvertOptions, check

document_convert = TaskType(
    name="document_convert",
    summary="Make a PDF of an office document, a text or Markdown; or of some pages of one, or of a PDF.",
    run="tasktrail.handlers.document.convert.run:run",
    probe="tasktrail.handlers.document.convert.probe:probe",
    checkup="tasktrail.handlers.document.checkup:checkup",
    options=DocumentConvertOptions,
    estimate=estimate,
    check=check,
    resumable=True,
    needs_input=True,
    accepts=("document",),
    needs_output=True,
    bounds=Bounds(),
    output_suffix=".pdf",
    packages=media("PIL", "pypdfium2", "markdown_it"),
)
