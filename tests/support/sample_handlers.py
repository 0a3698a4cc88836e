"""Task types for tests: well-behaved, broken, and hostile. Imported by workers, never by the product."""

from typing import Any

from tasktrail.handlers import TaskContext, handler


@handler("noop", needs_input=False, needs_output=False)
def noop(_context: TaskContext[Any]) -> None:
    """Do nothing."""
