"""A type with low priority: its module lowers the priority when it is loaded, for all of its attempts."""

import os
from typing import Any

from tasktrail.handlers import TaskContext, handler

os.nice(1)


@handler("polite", needs_input=False, needs_output=False)
def polite(_context: TaskContext[Any]) -> dict[str, int]:
    """Return the priority of the attempt."""
    return {"nice": os.nice(0)}
