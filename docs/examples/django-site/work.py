"""The work itself: a function that is a task type."""

from tasktrail import TaskContext, task


@task
def count_words(context: TaskContext[None], text: str) -> int:
    """Count the words of a text."""
    words = len(text.split())
    context.progress(50, f"{words} words")
    return words
