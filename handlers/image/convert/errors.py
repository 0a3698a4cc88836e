"""How work in the middle of a library call says that it was asked to end."""


class StopAskedError(Exception):
    """Somebody wants the attempt to end. Does not leave the handler: it becomes `Stopped`."""
