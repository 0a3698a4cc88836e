"""A type that lets other programs go first: loading it says so, for all of its attempts."""

import os
from typing import Any

from tasktrail.handlers import TaskContext, handler

os.nice(1)


@handler("polite", needs_input=False, needs_output=False)
def polite(_context: TaskContext[Any]) -> dict[str, int]:
    """Tell how the attempt is ranked."""
    return {"nice": os.nice(0)}
