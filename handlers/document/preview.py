"""Pictures of the pages of a document. Untrusted input: every size and count is limited, nothing outside is read.

The service imports this file; the work, and the libraries with it, stands in `course.py`.
"""

from ..contract import Bounds, Estimate, Job, Outcome, TaskContext, handler
from ..packages import media
from .estimate import estimate
from .options import DocumentPreviewOptions, check


def probe(job: Job[DocumentPreviewOptions]) -> Estimate:
    """A better estimate, from the document's kind, its pages and their sizes. Raises Unusable."""
    from .look import look  # noqa: PLC0415 - the libraries are loaded in the worker, not in the service

    return look(job)


@handler(
    "document_preview",
    options=DocumentPreviewOptions,
    needs_input=True,
    needs_output=True,
    estimate=estimate,
    check=check,
    probe=probe,
    checkup="tasktrail.handlers.document.checkup:checkup",
    resumable=True,
    bounds=Bounds(),
    output_suffix=".png",
    preload=("tasktrail.handlers.document.look", "tasktrail.handlers.document.course"),
    packages=media("PIL", "pypdfium2"),
)
def document_preview(context: TaskContext[DocumentPreviewOptions]) -> Outcome:
    """Draw pages of a PDF, an office document or a text as a picture, a contact sheet, a tiff or a zip of pictures."""
    from .course import preview  # noqa: PLC0415 - as above

    return preview(context)


__all__ = ["DocumentPreviewOptions", "document_preview", "probe"]
