"""Task types for tests: well-behaved, broken, and hostile. Imported by workers, never by the product."""

from tasktrail.handlers import TaskContext, handler


@handler("noop", needs_input=False, needs_output=False)
def noop(_context: TaskContext) -> None:
    """Do nothing."""
