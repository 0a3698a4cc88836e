"""Two functions, one of which uses the results of the other."""

from typing import Any

from tasktrail import TaskContext, task


@task
def measure(text: str) -> int:
    """How long a text is."""
    return len(text)


@task
def add_up(context: TaskContext[Any]) -> int:
    """Add up what was measured."""
    return sum(context.dependencies.values())
