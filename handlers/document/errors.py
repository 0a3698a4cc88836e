"""What ends an attempt at a document, besides `Unusable`."""


class StopAskedError(Exception):
    """Somebody wants the attempt to end. Does not leave the handler: it becomes `Stopped`."""


class OfficeFailedError(RuntimeError):
    """LibreOffice ended without a PDF."""
